"""Evaluation: the paper's two tables, beside the controls without which they can be won by doing nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.catalogue import as_method
from sightline.encoded import as_images, ends_of
from sightline.errors import InputError
from sightline.gad.consistency import Consistency
from sightline.gad.controls import Control, as_many, as_wide, orders
from sightline.gad.explained import GADExplanation
from sightline.images import ImageBatch
from sightline.intervals import FEWEST, mean_interval
from sightline.method import Method
from sightline.models.asking import ask
from sightline.occlusion import Fill, as_fill, occlude
from sightline.regions import complexity, hulls, sensitivity
from sightline.sampling.seeds import seed_of
from sightline.written import whole_files

if TYPE_CHECKING:
    from sightline.gad.distancing import GAD

_PIXELS_AT_ONCE = 1 << 20
MATCHED = ("pixels", "area")
"""What a control is made to agree in with GAD: the number of pixels, or the area of their hull."""


class Region(NamedTuple):
    """A region of one image, on behalf of one side of a comparison."""

    arm: str
    pixels: int
    mask: NDArray[np.bool_]
    degenerate: bool


@dataclass(frozen=True)
class Evaluation:
    """Regions and what occluding them does, and what follows.

    Attributes:
        rows: a row for each image, method, class, reading, arm and fill: `pixels`, the hull's `area`, `rc` (that area
            over the original's; NaN where a hull is degenerate), whether it is `degenerate`, the `change` in the
            class's logit when it is occluded, `rs` (per pixel of the hull), the share of `new` pixels. Arms:
            `original`, `gad`, `supplementary` (the original's hull without GAD's), `shuffled`, and each control at
            GAD's number of pixels and at GAD's hull area.
        readings: by name, what "stays important" meant.
        refused: for each method without a row, why.
        methods: with which settings they were evaluated.
    """

    rows: pd.DataFrame
    readings: dict[str, Consistency]
    refused: dict[str, str]
    methods: tuple[Method, ...] = ()

    @property
    def complexity(self) -> pd.DataFrame:
        """The paper's table 1: on how many images which hull is smaller (RC < 1 is GAD's), also for each control.

        Images in which a hull is degenerate are counted apart. `by construction` says where no hull of GAD can be
        larger, so that its wins are no finding.
        """
        found = []
        for key, group in self._cells():
            once = group.drop_duplicates(["image", "arm"])
            ratios = once.pivot(index="image", columns="arm", values="rc")
            entry = {**key, "by construction": self.readings[key["reading"]].nested}
            for arm in ["gad", "shuffled", *_matched("pixels")]:
                if arm not in ratios:
                    continue
                ratio = ratios[arm]
                entry |= {f"{arm} wins": int((ratio < 1).sum()), f"{arm} loses": int((ratio >= 1).sum())}
                entry[f"{arm} degenerate"] = int(ratio.isna().sum())
                entry[f"{arm} RC"] = float(ratio.mean())
            found.append(entry)
        return pd.DataFrame(found)

    @property
    def sensitivity(self) -> pd.DataFrame:
        """The paper's table 2: mean RS x 100 of the supplementary region and of GAD's, also for each control."""
        found = []
        for key, group in self._cells("fill"):
            rs = group.pivot_table("rs", "image", "arm", aggfunc="first")
            arms = ["supplementary", "gad", "original", "shuffled", *_matched("pixels"), *_matched("area")]
            found.append({**key, **{arm: 100 * float(rs[arm].mean()) for arm in arms if arm in rs}})
        return pd.DataFrame(found)

    @property
    def gains(self) -> pd.DataFrame:
        """GAD minus each control, paired by image, with a 95 % bootstrap interval of the mean.

        At GAD's number of pixels: the hull's `area` as a share of the image (smaller is better) and `rs` x 100 (larger
        is better); at GAD's hull area: `rs` x 100. `real` is true where the interval excludes 0 on the good side, and
        is of at least twenty images.
        """
        found = []
        for key, group in self._cells("fill"):
            areas = group.pivot_table("area", "image", "arm", aggfunc="first")
            rs = group.pivot_table("rs", "image", "arm", aggfunc="first")
            flat = group.pivot_table("degenerate", "image", "arm", aggfunc="first").astype(bool)
            size = float(group["size"].iloc[0])
            for control in Control:
                for figure, matched, values, scale in (
                    ("area", "pixels", areas, 1 / size),
                    ("rs", "pixels", rs, 100.0),
                    ("rs", "area", rs, 100.0),
                ):
                    arm = f"{control.value} at equal {matched}"
                    if control is Control.PAIR and arm not in flat:
                        # Not every method explains a pair.
                        continue
                    difference = np.empty(0)
                    if arm in values and arm in flat and "gad" in values:
                        known = ~(flat["gad"] | flat[arm])
                        difference = (scale * (values["gad"] - values[arm]))[known].dropna().to_numpy()
                    low, high = mean_interval(difference)
                    good, bad = (high < 0, low > 0) if figure == "area" else (low > 0, high < 0)
                    enough = len(difference) >= FEWEST
                    found.append(
                        {**key, "control": control.value, "figure": figure, "matched": matched}
                        | {"images": len(difference), "gain": difference.mean() if len(difference) else np.nan}
                        | {"low": low, "high": high, "real": good and enough, "worse": bad and enough}
                    )
        return pd.DataFrame(found)

    @property
    def verdicts(self) -> pd.DataFrame:
        """Whether GAD gains: over every control (`gain`), not over all and less than some (`loss`), or `not shown`.

        `too few` says that the images with hulls on both sides are fewer than twenty, or that a control is missing.
        """
        found: dict[tuple[Any, ...], dict[str, str]] = {}
        keys = ["reading", "method", "class", "fill"]
        for key, group in self.gains.groupby([*keys, "figure", "matched"], sort=False):
            said = "not shown"
            if bool((group["images"] < FEWEST).any()):
                said = "too few"
            elif bool(group["real"].all()):
                said = "gain"
            elif bool(group["worse"].any()):
                said = "loss"
            found.setdefault(key[:4], {})[f"{key[4]} at equal {key[5]}"] = said
        return pd.DataFrame([dict(zip(keys, key, strict=True)) | row for key, row in found.items()])

    def save(self, folder: str | Path) -> Path:
        """Write `regions.csv`, `complexity.csv`, `sensitivity.csv`, `gains.csv` and `verdicts.csv`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_files() as part:
            self.rows.to_csv(part(folder / "regions.csv"), index=False, float_format="%.6g")
            for name in ("complexity", "sensitivity", "gains", "verdicts"):
                getattr(self, name).to_csv(part(folder / f"{name}.csv"), index=False, float_format="%.5g")
        return folder

    def latex(self) -> str:
        """Tables 1 and 2 of the paper with the controls, and the verdicts, in LaTeX."""
        from sightline.report.paper import latex

        return "\n".join(latex(table, title, f"gad-{title.split(':')[0].lower()}") for title, table in self._titled())

    def _repr_html_(self) -> str:
        from sightline.report.notebook import tabled

        return "".join(tabled(title, table) for title, table in self._titled())

    def _titled(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Tables that fit a page, with a row for each region instead of a column."""
        yield "Verdicts: does GAD gain over every control?", self.verdicts
        rows = []
        for entry in self.complexity.to_dict("records"):
            key = {name: entry[name] for name in ("reading", "method", "class")}
            arms = [str(name).removesuffix(" RC") for name in entry if str(name).endswith(" RC")]
            figures = ("wins", "loses", "degenerate", "RC")
            rows += [{**key, "region": arm} | {name: entry[f"{arm} {name}"] for name in figures} for arm in arms]
        yield (
            "Complexity: on how many images a region's hull is smaller than the original's, and its share.",
            (pd.DataFrame(rows)),
        )
        keys = ["reading", "method", "class", "fill"]
        yield (
            "Sensitivity: what occluding a region does, per pixel, times 100.",
            (
                self.sensitivity.melt(keys, var_name="region", value_name="RS x 100").sort_values(
                    keys, kind="stable", ignore_index=True
                )
            ),
        )

    def _cells(self, *more: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        names = ["reading", "method", "class", *more]
        for key, group in self.rows.groupby(names, sort=False):
            yield dict(zip(names, key, strict=True)), group


def _matched(what: str) -> list[str]:
    return [f"{control.value} at equal {what}" for control in Control]


def evaluate(
    gad: "GAD",
    images: Tensor | ImageBatch,
    methods: Sequence[Any],
    readings: Sequence[Consistency],
    *,
    fills: Sequence[Fill | str] = (Fill.BLACK,),
    black: Tensor | None = None,
    per_component: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure the regions of some images; see `GAD.evaluate`."""
    batch = as_images(images.tensor if isinstance(images, ImageBatch) else images)
    painted = [as_fill(fill) for fill in fills]
    if black is None and (ends := ends_of(gad.model, images, batch.shape[1])) is not None:
        black = ends[0]
    if black is not None and black.shape != (batch.shape[1],):
        raise InputError(
            f"A black pixel has a value for each of the {batch.shape[1]} channels; got shape {tuple(black.shape)}."
        )
    labels = images.labels if isinstance(images, ImageBatch) else [None] * len(batch)
    chosen = tuple(as_method(method) for method in methods)
    named = {reading.name: reading for reading in readings}
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    step = max(1, min(64, _PIXELS_AT_ONCE // int(batch[0, 0].numel())))
    for start in range(0, len(batch), step):
        part = images[start : start + step] if isinstance(images, ImageBatch) else batch[start : start + step]
        found, control, pairs = gad.explain_with_controls(part, chosen, seed=seed)
        tensor = part.tensor if isinstance(part, ImageBatch) else part
        said = ask(gad.model, tensor, gad.recipe.batch_size)
        for place, one in enumerate(found):
            refused |= one.refused
            for method in one.stacks:
                beside = control[place].stacks.get(method) if control else None
                rather = pairs[place].heatmap(method) if pairs and method in pairs[place].maps else None
                for name, reading in named.items():
                    seeds = [seed_of(seed, start + i, method, place) for i in range(len(tensor))]
                    regions, new = _regions(one, method, reading, beside, rather, seeds, per_component=per_component)
                    key = {"reading": name, "method": method, "class": place + 1}
                    for fill in painted:
                        made = _measured(gad, tensor, said[:, gad.classes[place]], place, regions, fill, black)
                        for row in made:
                            index = row["image"]
                            about = {"image": start + index, "label": labels[start + index], "new": float(new[index])}
                            rows.append({**key, **row, **about, "fill": fill.value})
        if progress is not None:
            progress(min(start + step, len(batch)), len(batch))
    if not rows:
        raise InputError(f"No method could be evaluated: {'; '.join(dict.fromkeys(refused.values()))}")
    frame = pd.DataFrame(rows)
    return Evaluation(frame.assign(size=int(batch[0, 0].numel())), named, refused, chosen)


def _regions(
    one: GADExplanation,
    method: str,
    reading: Consistency,
    shuffled: Tensor | None,
    pair: Tensor | None,
    seeds: list[int],
    *,
    per_component: bool,
) -> tuple[list[list[Region]], Tensor]:
    """For each image, the regions of each arm; and the share of new pixels."""
    stack = one.stacks[method].cpu()
    kept = reading(stack)
    beside = None if shuffled is None else reading(shuffled.cpu())
    taken = orders(stack[0], kept.original, None if beside is None else beside.scores, pair, seeds)

    def drawn(arm: str, pixels: Tensor) -> list[Region]:
        found = hulls(pixels, per_component=per_component)
        counts, flat = pixels.flatten(1).sum(1).tolist(), found.degenerate.tolist()
        return [Region(arm, *of) for of in zip(counts, found.masks.numpy(), flat, strict=True)]

    arms = [drawn("original", kept.original), drawn("gad", kept.pixels)]
    if beside is not None:
        arms.append(drawn("shuffled", beside.pixels))
    shape = (int(stack.shape[2]), int(stack.shape[3]))
    for control, order in taken.items():
        for what in MATCHED:
            masks = [
                (
                    as_many(order[i], region.pixels, shape)
                    if what == "pixels"
                    else as_wide(order[i], int(region.mask.sum()), shape, per_component=per_component)
                )
                if not region.degenerate
                else np.zeros(shape, dtype=bool)
                for i, region in enumerate(arms[1])
            ]
            arms.append(drawn(f"{control.value} at equal {what}", torch.from_numpy(np.stack(masks))))
    # What only the original marks; itself never a hull.
    rest = [
        Region("supplementary", a.pixels - b.pixels, a.mask & ~b.mask, a.degenerate or b.degenerate)
        for a, b in zip(arms[0], arms[1], strict=True)
    ]
    return [list(regions) for regions in zip(*arms, rest, strict=True)], kept.new


def _measured(
    gad: "GAD",
    images: Tensor,
    before: Tensor,
    place: int,
    regions: list[list[Region]],
    fill: Fill,
    black: Tensor | None,
) -> Iterator[dict[str, Any]]:
    """What occluding each region does to the logit of the class at a place of the pair."""
    listed = [(image, region) for image, found in enumerate(regions) for region in found]
    rows = torch.tensor([image for image, _ in listed])
    masks = torch.from_numpy(np.stack([region.mask for _, region in listed]))
    after = torch.cat(
        [
            ask(gad.model, occlude(images[chosen].cpu(), hidden, fill, black=black), gad.recipe.batch_size)
            for chosen, hidden in zip(rows.split(256), masks.split(256), strict=True)
        ]
    )[:, gad.classes[place]]
    areas = masks.flatten(1).sum(1)
    rs = sensitivity(before[rows], after, areas)
    # The first region of each image is the original's.
    firsts = [0, *np.cumsum([len(found) for found in regions])[:-1].tolist()]
    rc = complexity(areas, areas[torch.tensor(firsts)[rows]])
    flat = torch.tensor([region.degenerate or regions[image][0].degenerate for image, region in listed])
    rc[flat] = torch.nan
    for number, (image, region) in enumerate(listed):
        yield {
            "image": image,
            "arm": region.arm,
            "pixels": region.pixels,
            "area": int(areas[number]),
            "rc": float(rc[number]),
            "degenerate": region.degenerate,
            "change": float(before[image] - after[number]),
            "rs": float("nan") if region.degenerate else float(rs[number]),
        }
