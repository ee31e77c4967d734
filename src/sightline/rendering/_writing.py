"""The report: one HTML file of what a folder holds, which needs no network and no other file."""

import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sightline._common.checksums import changed, fits
from sightline._common.version import __version__
from sightline._common.words import counted, readable
from sightline._common.written import write_text
from sightline.auditing import CONTROLS, JUDGED
from sightline.errors import InputError
from sightline.methods import as_method, card
from sightline.rendering._audit_page import FIGURES
from sightline.rendering._gallery import Gallery, folders_of, read_text
from sightline.rendering._run_page import MOST, SAMPLE, local_folder, run_at, run_part, runs_of

_CONTROLS = set(CONTROLS)
_NAMED = 12
"""Methods that a sentence may name."""
_NAME = "Name a folder that `sightline explain`, `audit`, `gad`, `run` or `demo` has written."


def write_page(
    folder: str | Path, out: str | Path | None = None, *, side: int | None = None, images: int | None = None
) -> Path:
    """Write one self-contained HTML file of all that a folder and the folders in it hold.

    What `Explanation.save`, `GADExplanation.save`, `Audit.save`, the evaluation of GAD and `sightline run` have written
    is found by itself: explanations and samples of runs become a gallery, audits and evaluations verdicts, curves and
    tables. Of a run that is not finished the page shows what is there.

    Args:
        folder: where to look; also an address of fsspec (`s3://bucket/run`) where a run lies.
        out: the file to write; by default `report.html` in the folder, or in the current one where the run is not on
            this machine.
        side: the longer side of the maps on the page in pixels, at most. By default as large as keeps the maps of the
            page within 16 MB together, up to 1024: six films of 512 px by seven methods are shown whole.
        images: how many images of each run are shown, spread evenly over it; 24 by default, at most 1000.

    Raises:
        InputError: there is nothing to report on, or something cannot be read or written.
    """
    if side is not None and not 16 <= side <= 8192:
        raise InputError(f"The longer side of maps on a page is from 16 to 8192 pixels; got {side}.")
    if images is not None and not 1 <= images <= MOST:
        raise InputError(f"A page shows from 1 to {MOST} images of a run; got {images}.")
    local = local_folder(folder)
    # What is elsewhere can only be a run.
    roots = [] if local is None else [local]
    if local is not None and not local.is_dir():
        raise InputError(f"{local} {'is not a folder' if local.exists() else 'does not exist'}. {_NAME}")
    path = Path(out) if out is not None else (local or Path()) / "report.html"
    gallery = Gallery()
    manifests = [gallery.add(place, str(place.relative_to(root))) for root in roots for place in folders_of(root)]
    audits = [_audit(place) for root in roots for place in sorted(root.rglob("audit.json"))]
    gains = [_gains(place.parent) for root in roots for place in sorted(root.rglob("regions.csv"))]
    places = [(str(place), str(place.relative_to(root))) for root in roots for place in runs_of(root)]
    if local is None:
        places = [(str(folder), str(folder))]
    runs = [run_part(run_at(place), gallery, name, images or SAMPLE) for place, name in places]
    if images is not None and not runs:
        raise InputError(f"{folder} holds no run, of which a number of images could be shown; leave --images out.")
    if not manifests and not audits and not gains and not runs:
        raise InputError(
            f"{folder} holds nothing to report on: no maps with their pictures, no audit, no evaluation, no run. "
            f"{_NAME}"
        )
    told = [*manifests, *(one["manifest"] for one in runs)]
    environment = Environment(
        loader=PackageLoader("sightline.rendering", "page"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["figure"] = _figure
    # A script cannot read what JSON has no words for.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    text = environment.get_template("page.html").render(
        title=_title(told, str(folder) if local is None else local.resolve().name),
        story=_story(manifests, audits, gains, runs),
        notes=list(
            dict.fromkeys(str(note) for one in manifests if "networks" not in one for note in one.get("notes", []))
        ),
        gallery=gallery.payload(side, _failed(audits)) if gallery.sets else None,
        audits=audits,
        gains=gains,
        runs=runs,
        cards=_cards(told, audits),
        settings=[_pretty(m.get("settings", {})) for m in told] + [_pretty(one["settings"]) for one in audits],
        style=_own("page.css"),
        script=_own("page.js"),
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    try:
        write_text(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def _title(manifests: Sequence[dict[str, Any]], name: str) -> str:
    """What was explained, where one model was, and else where it lies."""
    models = {str(one["settings"]["model"]) for one in manifests if "model" in one.get("settings", {})}
    return f"Saliency maps of {models.pop()}" if len(models) == 1 else readable(name) or "report"


def _failed(audits: Sequence[dict[str, Any]]) -> set[str]:
    return {method for one in audits for method in one["counts"]["fail"]}


def _own(name: str) -> Markup:
    """A part of the page that is ours, and so needs no escaping."""
    return Markup((Path(__file__).parent / "page" / name).read_text(encoding="utf-8"))  # noqa: S704


def _table(path: Path) -> pd.DataFrame:
    text = read_text(path)
    try:
        return pd.read_csv(io.StringIO(text))
    except ValueError as error:
        raise InputError(f"{path} cannot be read as a table ({error}).") from error


def _audit(path: Path) -> dict[str, Any]:
    """An audit as the page shows it."""
    text = read_text(path)
    try:
        record = json.loads(text)
        found = _shown(path.parent, record)
        if not fits(record):
            raise ValueError("its checksum does not fit its content")  # noqa: TRY301
        sums = {name: known for name, known in record.get("files", {}).items() if name in _TABLES}
        if others := changed(path.parent, sums):
            raise ValueError(f"{' and '.join(others)} is not what was written with it")  # noqa: TRY301
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no audit, or damaged ({type(error).__name__}: {error}). Audit again.") from error
    return found


_TABLES = ("reasons.csv", "table.csv")


def _shown(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    verdicts, images = record["verdicts"], record["images"]
    reasons, table = (_table(folder / name) for name in _TABLES)
    found = {(row["test"], row["method"]): row for row in reasons.to_dict("records")}
    judged = [
        test for test in next(iter(verdicts.values()), {}) if {said[test] for said in verdicts.values()} != {"reported"}
    ]
    rows = [
        {
            "method": method,
            "control": method in _CONTROLS,
            "cells": [{"said": said[test]} | _found(found.get((test, method))) for test in judged],
            "images": _span(own := [found[test, method] for test in judged if (test, method) in found], "images"),
            "networks": _span(own, "networks"),
        }
        for method, said in verdicts.items()
    ]
    alike = record.get("alike", {})
    counts: dict[str, list[str]] = {"pass": [], "fail": [], "undecided": []}
    for method, said in verdicts.items():
        if method not in _CONTROLS:
            counts[said["overall"]].append(method + (" (alike for different images)" if method in alike else ""))
    return {
        "place": folder.name,
        "images": len(images),
        "meaning": FIGURES,
        "tests": [{"name": test, "rule": record["rules"].get(test) or ""} for test in judged],
        "rows": rows,
        "advice": str(record.get("advice", "")),
        "counts": counts,
        "curves": _curves(table),
        "figures": table.to_dict("records"),
        "columns": list(table.columns),
        "settings": record.get("settings", {}),
        "methods": [method for method in verdicts if method not in _CONTROLS],
    }


def _found(row: dict[Any, Any] | None) -> dict[str, Any]:
    if row is None:
        return {"figure": "", "interval": "", "sort": "", "reason": "", "alone": "", "detail": ""}
    return {
        "figure": _shown_figure(row["shown"]),
        "interval": str(row["interval"]) if pd.notna(row["interval"]) else "",
        "sort": row["figure"] if pd.notna(row["figure"]) else "",
        "reason": str(row["reason"]) if pd.notna(row["reason"]) else "",
        "alone": str(row["alone"]),
        "detail": _detail(row),
    }


def _shown_figure(shown: object) -> str:
    """A figure as people are shown it; a table takes one without words for a number."""
    if isinstance(shown, float):
        return "" if pd.isna(shown) else f"{shown:.2f}"
    return str(shown)


def _detail(row: dict[Any, Any]) -> str:
    """What stands beside a verdict's figure: what it was made of, and what a reader should know of it."""
    if not np.isfinite(row["figure"]):
        return ""
    told = (
        f"measured {row['raw']:.3g}, floor {row['floor']:.3g}, ceiling {row['ceiling']:.3g}; p = {row['p']:.2g}, "
        f"{row['adjusted']:.2g} after Holm's correction"
    )
    return f"{told}; {row['note']}" if pd.notna(row["note"]) and row["note"] else told


def _span(rows: Sequence[Mapping[Any, Any]], name: str) -> str:
    """The least and the most of a count over verdicts that have a figure; empty where it is 0."""
    known = sorted({int(row[name]) for row in rows if np.isfinite(row["figure"]) and row[name]})
    return "" if not known else str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _curves(table: pd.DataFrame) -> dict[str, Any] | None:
    """Likeness by stage of the randomisation, for each method."""
    rows = table[(table["test"] == "parameter_randomization") & (table["measure"] == JUDGED)]
    rows = rows[~rows["method"].isin(_CONTROLS)]
    if rows.empty:
        return None
    stages = list(dict.fromkeys(rows["case"]))
    lines = []
    for method, own in rows.groupby("method", sort=False):
        placed = own.set_index("case").reindex(stages)
        numbers = {
            name: [round(float(v), 4) if np.isfinite(v) else None for v in placed[name]]
            for name in ("mean", "low", "high")
        }
        lines.append({"method": str(method), **numbers})
    return {"stages": stages, "lines": lines}


def _gains(folder: Path) -> dict[str, Any]:
    """An evaluation of GAD as the page shows it."""
    tables = [
        {"title": title, "columns": list(table.columns), "rows": table.to_dict("records")}
        for name, title in (
            ("verdicts", "Verdicts: does GAD gain over every control?"),
            ("gains", "GAD less each control, paired by image"),
            ("complexity", "Complexity: on how many images which hull is smaller"),
            ("sensitivity", "Sensitivity: what occluding a region does, per pixel"),
        )
        if (folder / f"{name}.csv").is_file() and not (table := _table(folder / f"{name}.csv")).empty
    ]
    verdicts = _table(folder / "verdicts.csv") if (folder / "verdicts.csv").is_file() else pd.DataFrame()
    said = []
    for name in [name for name in verdicts.columns if " at equal " in name]:
        # A hull is as large whatever fills it.
        cell = ["reading", "method", "class", *([] if name.startswith("area") else ["fill"])]
        said += list(verdicts.drop_duplicates([name for name in cell if name in verdicts] or None)[name])
    path = folder / "evaluation.json"
    try:
        about = list(map(str, json.loads(path.read_text(encoding="utf-8"))["about"])) if path.is_file() else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}). Evaluate again.") from error
    if said:
        about.append(
            f"Of {len(said)} comparisons with its controls (by reading, method and class; hull areas at equal pixels, "
            f"sensitivity, by fill, at equal pixels and at equal area) {said.count('gain')} show a gain over every "
            f"control, {said.count('loss')} a loss to some control, {said.count('not shown')} neither; "
            f"{said.count('too few')} have too few images."
        )
    return {"place": folder.name, "tables": tables, "about": about}


def _story(
    manifests: Sequence[dict[str, Any]],
    audits: Sequence[dict[str, Any]],
    gains: Sequence[dict[str, Any]],
    runs: Sequence[dict[str, Any]],
) -> list[str]:
    """What a reader should know first, in sentences."""
    sentences = []
    for manifest in manifests:
        settings = manifest.get("settings", {})
        made = [name for name, entry in manifest["methods"].items() if "refused" not in entry]
        which = f": {', '.join(made)}" if len(made) <= _NAMED else ""
        shown = f"{counted(len(manifest['images']), 'image')} by {counted(len(made), 'method')}"
        if "networks" in manifest:
            support = ", ".join(map(str, manifest["networks"][1:]))
            sentences.append(
                f"Gradient Artificial Distancing explained {shown}: beside the original network stand its support "
                f"networks ({support}), and what stays important in all of them."
            )
            # Whether the networks moved at all decides what their maps are worth.
            sentences += [str(note) for note in manifest.get("notes on the networks", [])]
        else:
            model = f"{settings['model']} (weights: {settings['weights']})" if "model" in settings else "The network"
            sentences.append(f"{model} was explained on {shown}{which}.")
        sentences += [f"{name} was refused: {reason}" for name, reason in manifest.get("refused", {}).items()]
        sentences += [
            f"{name} was refused: {entry['refused']}"
            for name, entry in manifest["methods"].items()
            if "refused" in entry
        ]
    for one in (*runs, *gains):
        sentences += one["about"]
    for one in audits:
        # Its verdicts follow on the page.
        sentences.append(
            f"An audit of {counted(one['images'], 'image')} asked whether these maps explain this model at all:"
        )
    if not audits:
        sentences.append(
            "Nothing here says whether these maps explain the model: a map can look convincing and mean nothing. "
            "The command sightline audit tests it."
        )
    # Several folders may say the same of one network.
    return list(dict.fromkeys(sentences))


def _cards(manifests: Sequence[dict[str, Any]], audits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    names = dict.fromkeys(
        [name for manifest in manifests for name in manifest["methods"]]
        + [name for one in audits for name in one["methods"]]
    )
    found = []
    for name in names:
        try:
            found.append({"name": name, "rows": card(as_method(name)).rows})
        except InputError:
            # A method of the user's own, of which nothing more is known than what was written.
            entry: dict[str, Any] = next((m["methods"][name] for m in manifests if name in m["methods"]), {})
            rows = [(key, entry[key]) for key in ("formula", "source", "propagation") if entry.get(key)]
            found.append({"name": name, "rows": rows or [("method", "a method of the user's own")]})
    return found


def _pretty(settings: object) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False, default=str)


def _figure(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return str(value)
