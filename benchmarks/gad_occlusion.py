"""What the pixels that GAD keeps are worth on photographs, beside maps of the pair for which nothing is trained.

A classifier of cats and dogs at 128 pixels (SqueezeNet's features under dense layers, see `gad_photographs.py`). The
pixels of each map are put in order, the highest 5 % and 20 % are occluded by four fills, and the score is by how much
the difference of both logits falls: the more, the more these pixels spoke for the class and against the other. All arms
occlude equally many pixels and all maps are clipped at zero. Classifier and networks are kept in the folder.
Pictures and weights are looked for in `../shared/data`, or where the environment variable SIGHTLINE_DATA says.

    python benchmarks/gad_occlusion.py --folder gad-occlusion
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from gad_photographs import DATA, dense
from measure import conditions
from scipy.ndimage import gaussian_filter
from torch import Tensor

import sightline as sl
from sightline.arrays import first_of_each, labelled_pictures, store_pictures
from sightline.arrays._encoded import ends_of
from sightline.evaluation._intervals import holm
from sightline.evaluation._occlusion import Fill, occlude
from sightline.evaluation._paired import sign_flips
from sightline.gad._samples import samples_of
from sightline.gad.reproduction import Tuning, accuracy, fine_tuned
from sightline.models import model_info

NAMES = ("cat", "dog")
METHODS = ("saliency", "input_x_gradient", "guided_backprop")
CAM, LRP = "hi_res_cam@middle", "lrp_gamma"
SHARES = (0.05, 0.2)
BLUR = 3.0
"""In pixels of 128; 1.5 of the 64 of Creatures."""
SIMPLE = ("pair", "pair, blurred", f"pair x {CAM}", f"pair x {LRP}", f"{CAM} of the pair", f"{LRP} of the pair")
"""Controls for which nothing is trained."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("gad-occlusion"))
    parser.add_argument("--pictures", type=int, default=20, help="of each class, held out")
    parser.add_argument("--training", type=int, default=600, help="of each class")
    parser.add_argument("--epochs", type=int, default=2, help="of the classifier")
    parser.add_argument("--steps", type=int, default=60, help="of the support networks")
    parser.add_argument("--rate", type=float, default=4e-5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(conditions(), file=sys.stderr)
    start = dense()
    pictures = DATA / "images" / "cats_and_dogs"
    encoding = replace(model_info(start).preprocessing, size=(128, 128), resize="stretch")
    stores = [
        store_pictures(labelled_pictures(pictures / part).of(NAMES), encoding, options.folder / part)
        for part in ("train", "val")
    ]
    training = stores[0].batch(first_of_each(stores[0].labels, NAMES, options.training))
    held_out = stores[1].batch(first_of_each(stores[1].labels, NAMES, options.pictures))
    model = fine_tuned(start, samples_of(training, (0, 1), NAMES), Tuning(epochs=options.epochs), options.folder)
    model.sightline_info = start.sightline_info
    print(f"accuracy {accuracy(model, samples_of(stores[1], (0, 1), NAMES), 32):.3f}", file=sys.stderr)
    gad = sl.GAD(
        model, (0, 1), strategy="interpolated", steps=options.steps, rate=options.rate, batch_size=32,
        folder=options.folder / "gad",
    )  # fmt: skip
    gad.fit(training, names=NAMES)
    print(gad.report.to_string(float_format="%.3g"), *gad.notes, sep="\n", file=sys.stderr)
    rows = scores(gad, held_out)
    rows.to_csv(options.folder / "occlusion.csv", index=False, float_format="%.6g")
    text = "\n".join([*means(rows), "", *overall(rows), "", *gains(rows)])
    (options.folder / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def arms(gad: sl.GAD, images: sl.ImageBatch, labels: list[int]) -> Iterator[tuple[str, str, Tensor]]:
    """Maps of each method: method, arm, map of shape (image, height, width), nowhere negative."""
    pair = gad.explain_with_controls(images, METHODS, [labels], question="pair")
    alone = gad.explain_with_controls(images, METHODS, [labels], question="class")
    beside = sl.explain(gad.model, images, [CAM, LRP], sl.Pair(labels, [1 - c for c in labels]))
    guides = {name: resized(beside.heatmap(name).clamp(min=0), images.tensor.shape[2:]) for name in (CAM, LRP)}
    draw = torch.Generator().manual_seed(0)
    for method in METHODS:
        own = pair.pair[0].heatmap(method).clamp(min=0)
        kept = {
            "GAD": pair.gad[0], "GAD, shuffled labels": pair.shuffled[0], "GAD, as published": alone.gad[0]
        }  # fmt: skip
        for name, one in kept.items():
            scores = one.consistent(method).scores
            yield method, name, scores
            yield method, f"{name}, blurred", blurred(scores)
        yield method, "pair", own
        yield method, "pair, blurred", blurred(own)
        for name, guide in guides.items():
            yield method, f"pair x {name}", own * guide
            yield method, f"{name} of the pair", guide
        yield method, "random", torch.rand(own.shape, generator=draw)


def blurred(maps: Tensor) -> Tensor:
    return torch.from_numpy(gaussian_filter(maps.numpy(), (0, BLUR, BLUR), mode="nearest"))


def resized(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[1:] == size:
        return maps
    return torch.nn.functional.interpolate(maps[:, None], tuple(size), mode="bilinear")[:, 0]


@torch.no_grad()
def scores(gad: sl.GAD, images: sl.ImageBatch) -> pd.DataFrame:
    """By how much the difference of both logits falls, for each picture, method, arm, share and fill."""
    labels = [NAMES.index(str(label)) for label in images.labels]
    own, other = torch.tensor(labels), 1 - torch.tensor(labels)
    black, _ = ends_of(gad.model, images, 3)

    def margin(inputs: Tensor) -> Tensor:
        logits = gad.model(inputs)
        return logits.gather(1, own[:, None])[:, 0] - logits.gather(1, other[:, None])[:, 0]

    before = margin(images.tensor)
    order = torch.randperm(images.tensor[0, 0].numel(), generator=torch.Generator().manual_seed(0))
    rows = []
    for method, arm, maps in arms(gad, images, labels):
        # Equal pixels are taken in one random order.
        ranked = order[maps.flatten(1)[:, order].argsort(dim=1, descending=True, stable=True)]
        for share in SHARES:
            masks = torch.zeros_like(maps.flatten(1), dtype=torch.bool)
            masks.scatter_(1, ranked[:, : round(share * ranked.shape[1])], True)
            for fill in Fill:
                after = margin(occlude(images.tensor, masks.view(maps.shape), fill, black=black))
                rows += [
                    {"method": method, "arm": arm, "share": share, "fill": fill.value, "image": i, "fall": fall}
                    for i, fall in enumerate((before - after).tolist())
                ]
        print(method, arm, file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def means(rows: pd.DataFrame) -> list[str]:
    """The mean fall of each arm, over pictures and methods, for each share and fill."""
    table = rows.pivot_table("fall", "arm", ["share", "fill"], sort=False)
    heads = [f"{fill}, {share:.0%}" for share, fill in table.columns]
    lines = [f"| arm | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    return lines + [f"| {arm} | {' | '.join(f'{v:.2f}' for v in row)} |" for arm, row in table.iterrows()]


COMPARED = (
    ("GAD", "GAD, as published"), ("GAD", "GAD, shuffled labels"), ("GAD", "pair"), ("pair, blurred", "GAD"),
    (f"pair x {CAM}", "GAD"), (f"pair x {LRP}", "GAD"), (f"{LRP} of the pair", "GAD"),
)  # fmt: skip


def overall(rows: pd.DataFrame) -> list[str]:
    """Arms against each other on all pictures, each picture's mean over methods and shares; p by Holm over a column."""
    fills = list(dict.fromkeys(rows["fill"]))
    by_picture = rows.pivot_table("fall", ["fill", "image"], "arm")
    cells: dict[str, list[str]] = {}
    for fill in fills:
        own = by_picture.loc[fill]
        found = [sign_flips(own[first] - own[second]) for first, second in COMPARED]
        adjusted = holm([one.p for one in found])
        cells[fill] = [
            f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}], p {p:.2g}"
            for one, p in zip(found, adjusted, strict=True)
        ]
    lines = [f"| difference | {' | '.join(fills)} |", "|---|" + "---|" * len(fills)]
    return lines + [
        f"| {first} less {second} | {' | '.join(cells[fill][number] for fill in fills)} |"
        for number, (first, second) in enumerate(COMPARED)
    ]


def gains(rows: pd.DataFrame) -> list[str]:
    """GAD asked about the pair less controls, paired by picture; p by Holm over the three of a row.

    The smoothing of GAD and the best simple control are chosen on every second picture and reported on the others; the
    pair and the networks of shuffled labels are smoothed as GAD is.
    """
    choosing = rows["image"] % 2 == 1
    lines = [
        "| method | share | fill | GAD | over the best simple control | which | over pair | over shuffled labels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (method, share, fill), group in rows.groupby(["method", "share", "fill"], sort=False):
        chosen = group[choosing.loc[group.index]].groupby("arm")["fall"].mean()
        wide = group[~choosing.loc[group.index]].pivot(index="image", columns="arm", values="fall")
        gad = str(chosen[["GAD", "GAD, blurred"]].idxmax())
        beside = gad.replace("GAD", "GAD, shuffled labels")
        best = str(chosen[list(SIMPLE)].idxmax())
        pair = gad.replace("GAD", "pair")
        found = [sign_flips(wide[gad] - wide[name]) for name in (best, pair, beside)]
        adjusted = holm([one.p for one in found])
        cells = [
            f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}], p {p:.2g}"
            for one, p in zip(found, adjusted, strict=True)
        ]
        lines.append(
            f"| {method} | {share:.0%} | {fill} | {gad}: {wide[gad].mean():.2f} | {cells[0]} | {best} | {cells[1]} "
            f"| {cells[2]} |"
        )
    return lines


if __name__ == "__main__":
    main()
