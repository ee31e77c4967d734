"""The demo: a network trained on Creatures, explained by every method, and scored against the known truth."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from sightline._common.seeds import seed_of
from sightline.auditing import Randomisation, audit, centre_map, edge_map, relevance_mass, verdict_table
from sightline.demo._small_resnet import SmallResNet, train_on
from sightline.demo.creatures import Creatures, passes_twin_test
from sightline.errors import InputError
from sightline.explaining import Explanation, explain
from sightline.gad import GAD
from sightline.gad.reproduction import gains_on_truth, on_truth
from sightline.methods import catalogue
from sightline.models import ModelInfo, Preprocessing
from sightline.rendering import write_page

TRAINING, HELD_OUT, SCORED, SHOWN, REFERENCES = 12_000, 1000, 48, 6, 100
DISTANCING, STEPS = 3000, 80
GAD_METHODS = ("saliency", "input_x_gradient", "guided_backprop")
AUDITED = 24
AUDIT_METHODS = ("gradient", "input_x_gradient", "guided_backprop", "deconvnet", "grad_cam", "lrp_epsilon_plus")
AUDIT_TESTS = ("class_sensitivity", "parameter_randomization", "input_bias")

# The encoding of `sightline.demo.creatures.encode`, in the words of a model that is loaded from a file.
_PREPROCESSING = Preprocessing(
    size=(64, 64), resize=None, mean=(128,) * 3, std=(64,) * 3, value_range=(0, 255), source="Creatures"
)


def run_demo(out: Path, seed: int, console: Console) -> pd.DataFrame:
    """Train, explain, score; print the table and write the montage, the maps and the table to `out`.

    Returns:
        A row for each method and control, with the mean share of its magnitude on the deciding parts, their ring and
        the creature, and the half-width of a 95 % interval over pictures.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {out} cannot be made: {error.strerror}. Name another with --out.") from error
    console.print(
        "Creatures: drawn pictures of four classes, the shape of the ears times the shape of the tail. "
        "Nothing else tells the classes apart, so what a right map must point at is known.",
        soft_wrap=True,
    )
    started = time.perf_counter()
    model = _train(seed, console)
    held_out = Creatures(HELD_OUT, seed=seed + 1_000_000)
    correct = _correct(model, held_out)
    console.print(
        f"Trained on {TRAINING} pictures in {time.perf_counter() - started:.0f} s; "
        f"right on {correct.double().mean():.1%} of {HELD_OUT} held-out pictures."
    )
    passed = _passed(model, held_out, correct)
    chosen = passed[:SCORED]
    console.print(
        f"Scored: {len(chosen)} pictures whose class turns when a part alone is swapped for its twin, and stays when "
        "all else is swapped.",
        soft_wrap=True,
    )
    rest = sorted(set(range(HELD_OUT)) - set(chosen))
    explanation = _explained(model, held_out, chosen, held_out.images[rest[:REFERENCES]], seed, console)
    table = _scores(explanation, held_out, chosen)
    table.to_csv(out / "scores.csv", float_format="%.4f")
    explanation.subset(range(min(SHOWN, len(chosen)))).save(out)
    console.print(_printed(table))
    for note in explanation.checks.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
    _audited(model, held_out.images[chosen[:AUDITED]], held_out.deciding[chosen[:AUDITED]], seed, out, console)
    _distanced(model, held_out, passed, seed, out, console)
    pictures = [str(out / name) for name in ("montage.png", "audit/audit.png", "gad/gad.png")]
    tables = [str(out / name) for name in ("scores.csv", "audit/reasons.csv", "gad/scores.csv")]
    page = write_page(out)
    console.print(
        f"Open {page} in a browser. The pictures are {', '.join(pictures)}; the tables are in {', '.join(tables)}.",
        soft_wrap=True,
        markup=False,
    )
    return table


def _train(seed: int, console: Console) -> SmallResNet:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("drawing pictures", total=None)
        creatures = Creatures(TRAINING, seed=seed)
        _ = creatures.pixels
        progress.update(task, description="training")
        model = train_on(creatures, seed=seed, progress=lambda n, of, _: progress.update(task, completed=n, total=of))
    model.sightline_info = ModelInfo(  # type: ignore[assignment]  # a plain attribute, not a sub-module
        spec="SmallResNet on Creatures",
        preprocessing=_PREPROCESSING,
        class_names=creatures.class_names,
        output="classes",
        weights=f"trained with seed {seed}",
    )
    return model


def _correct(model: SmallResNet, creatures: Creatures) -> Tensor:
    with torch.no_grad():
        said = torch.cat([model(images).argmax(1) for images in creatures.images.split(250)])
    return said == creatures.labels


def _passed(model: SmallResNet, creatures: Creatures, correct: Tensor) -> list[int]:
    passed = passes_twin_test(model, creatures) & correct
    if not passed.any():
        raise InputError(
            "The network decides no held-out picture by the parts alone, so none can be scored; try another seed."
        )
    return passed.nonzero().flatten().tolist()


def _explained(
    model: SmallResNet, creatures: Creatures, chosen: list[int], references: Tensor, seed: int, console: Console
) -> Explanation:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("explaining", total=None)
        explanation = explain(
            model,
            creatures.images[chosen],
            list(catalogue()),
            creatures.labels[chosen],
            references=references,
            seed=seed,
            on_refusal="record",
            progress=lambda done, of: progress.update(task, completed=done, total=of),
        )
    names = [f"picture {index}" for index in chosen]
    return replace(explanation, names=names)


def _audited(model: SmallResNet, images: Tensor, deciding: Tensor, seed: int, out: Path, console: Console) -> None:
    """Ask of some methods whether their maps explain this network at all, which needs no known truth."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("auditing", total=None)
        found = audit(
            model,
            images,
            AUDIT_METHODS,
            AUDIT_TESTS,
            randomisation=Randomisation(stages=4, seed=seed),
            masks=deciding,
            seed=seed,
            progress=lambda words, done, of: progress.update(task, completed=done, total=of, description=words),
        )
    found.save(out / "audit")
    console.print(f"Audit: do these maps explain this network at all? Asked on {len(images)} pictures.")
    console.print(verdict_table(found))
    console.print(found.advice, soft_wrap=True, highlight=False, markup=False)


def _distanced(
    model: SmallResNet, held_out: Creatures, passed: list[int], seed: int, out: Path, console: Console
) -> None:
    """Push apart two classes that differ in their tails, and see whether what stays lies on the tail."""
    # Classes that differ in their tails alone; the pair of which more pictures can be scored.
    pair = max(((0, 1), (2, 3)), key=lambda pair: sum(int(held_out.labels[i]) in pair for i in passed))
    chosen = [i for i in passed if int(held_out.labels[i]) in pair][:SCORED]
    drawn = Creatures(DISTANCING, seed=seed + 2_000_000)
    rows = [i for i, label in enumerate(drawn.labels.tolist()) if label in pair]
    started = time.perf_counter()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("distancing", total=None)
        gad = GAD(model, pair, strategy="interpolated", rate=4e-4, steps=STEPS, seed=seed).fit(
            (drawn.images[rows], drawn.labels[rows]),
            progress=lambda stage: progress.update(task, completed=stage.step, total=stage.steps),
        )
    first, second = (held_out.class_names[c] for c in pair)
    console.print(
        f"GAD: networks that push `{first}` and `{second}` apart, trained in {time.perf_counter() - started:.0f} s "
        "(and as many on shuffled labels). Only the tail tells the two apart.",
        soft_wrap=True,
    )
    images, labels = held_out.images[chosen], held_out.labels[chosen].tolist()
    (found,), (shuffled,), (rather,), *_ = gad.explain_with_controls(
        images, list(GAD_METHODS), [labels], question="class"
    )
    truth, seeds = held_out.part_masks("tail")[chosen], [seed_of(seed, i) for i in chosen]
    scored = {
        name: gains_on_truth(on_truth(stack, shuffled.stacks[name], truth, found.reading, seeds, rather.heatmap(name)))
        for name, stack in found.stacks.items()
    }
    table = pd.concat(scored, names=["map"])
    found.subset(range(min(SHOWN, len(chosen)))).save(out / "gad")
    table.to_csv(out / "gad" / "scores.csv", float_format="%.4f")
    console.print(_printed_gains(table, len(chosen)))
    console.print(
        "The last four mark equally many pixels; for GAD and for shuffled labels networks are trained anew. The last "
        "column asks the network as it is why one class and not the other.",
        soft_wrap=True,
    )
    for note in gad.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


def _printed_gains(table: pd.DataFrame, pictures: int) -> Table:
    printed = Table(
        title=f"Share of the important pixels on the tail in %, mean over {pictures} pictures",
        title_justify="left",
        box=None,
    )
    printed.add_column("map", no_wrap=True)
    for heading in ("original", "GAD", "original, as many", "shuffled labels", "one class, not the other"):
        printed.add_column(heading, justify="right")
    for name, shares in table["share"].groupby(level="map", sort=False):
        arms = ("original", "gad", "threshold", "shuffled", "pair")
        printed.add_row(str(name), *(f"{100 * shares[name, arm]:.1f}" for arm in arms))
    return printed


def _scores(explanation: Explanation, creatures: Creatures, chosen: list[int]) -> pd.DataFrame:
    deciding, ring, body = creatures.deciding[chosen], creatures.ring[chosen], creatures.creature_masks[chosen]
    images = explanation.images
    maps: dict[str, Tensor] = {name: explanation.heatmap(name) for name in explanation.maps}
    controls = {
        "chance (area)": torch.ones_like(images[:, 0]),
        "edge detector": edge_map(images),
        "centre": centre_map(images),
        "oracle": deciding.to(images.dtype),
    }
    rows = {}
    for name, heatmaps in {**maps, **controls}.items():
        row: dict[str, float] = {}
        for region, mask in {"deciding": deciding, "ring": ring, "creature": body}.items():
            shares = relevance_mass(heatmaps, mask).double().numpy()
            known = shares[np.isfinite(shares)]
            row[region] = float(known.mean()) if known.size else float("nan")
            row[f"{region} ±"] = (
                float(1.96 * known.std(ddof=1) / np.sqrt(known.size)) if known.size > 1 else float("nan")
            )
        row["zero maps"] = int((heatmaps == 0).flatten(1).all(1).sum())
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("map")


def _printed(table: pd.DataFrame) -> Table:
    printed = Table(
        title="Share of each map's magnitude in %, mean over pictures ± 95 % interval", title_justify="left", box=None
    )
    printed.add_column("map", no_wrap=True)
    for heading in ("on deciding parts", "on their ring", "on the creature"):
        printed.add_column(heading, justify="right", no_wrap=True)
    chance = float(table["deciding"]["chance (area)"])
    printed.add_column("times chance", justify="right")
    for name, row in table.iterrows():
        shares = [(100 * row[region], 100 * row[f"{region} ±"]) for region in ("deciding", "ring", "creature")]
        cells = [f"{mean:.1f} ± {half:.1f}" for mean, half in shares]
        printed.add_row(str(name), *cells, f"{row['deciding'] / chance:.1f}")
        if name == list(table.index)[-5]:
            printed.add_section()
    return printed
