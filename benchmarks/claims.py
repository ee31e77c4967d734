"""What the literature says of saliency methods, tested on real networks: a study with intervals over images.

1. Maps that keep only what is positive (Grad-CAM++, Grad-CAM+, FullGrad) against their signed counterparts.
2. Propagations that keep only what is positive (Guided Backprop, Deconvnet, RectGrad, z+, alpha1-beta0, Deep Taylor)
   against the gradient, LRP-0 and LRP-epsilon.
3. Whether settings matter: epsilon, alpha and beta; how like SmoothGrad and Integrated Gradients are to what they
   smooth.
4. The bias of RectGrad and of LRP towards bright pixels, for three encodings of the same network, and its removal.

Audits are kept in the folder, and an interrupted one goes on. Pictures and weights are looked for in
`../shared/data`, or where the environment variable SIGHTLINE_DATA says; the network with dense layers is the classifier
that `gad_photographs.py dense` has trained.

    python benchmarks/claims.py resnet20 --folder claims
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from gad_photographs import dense
from measure import conditions, declare_missing_operators
from torch import nn

import sightline as sl
from sightline.audit.encoding import reencoded, shifted
from sightline.audit.similarity import cosine, spearman
from sightline.catalogue import catalogue
from sightline.gad.classifier import with_outputs
from sightline.intervals import FEWEST, mean_interval
from sightline.models import load_weights
from sightline.propagation import lrp_alpha_beta, lrp_epsilon

declare_missing_operators()

ROOT = Path(__file__).parents[1]
NETWORKS = ROOT / "tests" / "helpers" / "networks.py"
DATA = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
CAMS = ("grad_cam", "grad_cam_positive", "grad_cam_plus_plus", "x_grad_cam", "hi_res_cam", "layer_cam")
ONE_PASS = [
    *CAMS,
    *(f"{cam}@{depth}" for depth in ("early", "middle") for cam in CAMS),
    "full_grad_signed", "full_grad", "full_grad_positive", "simple_full_grad",
    "gradient", "saliency", "input_x_gradient", "lrp_0", "lrp_epsilon", "lrp_gamma", "lrp_epsilon_plus",
    "lrp_alpha1_beta0", "lrp_alpha2_beta1", "lrp_z_plus", "deep_taylor", "excitation_backprop",
    "guided_backprop", "deconvnet", "rect_grad", "rect_grad_no_input",
]  # fmt: skip
SAMPLED = ["smooth_grad", "integrated_gradients"]
TESTS = ("class_sensitivity", "parameter_randomization", "convergence")
EPSILONS = (1e-6, 1e-3, 1e-2, 0.1, 0.25, 1.0, 10.0)
ALPHAS = ((1, 0), (1.5, 0.5), (2, 1), (3, 2))
BIASED = ["gradient", "input_x_gradient", "integrated_gradients", "rect_grad", "rect_grad_no_input", "lrp_epsilon",
          "lrp_epsilon_plus", "guided_backprop"]  # fmt: skip


def resnet20() -> tuple[nn.Module, sl.ImageBatch]:
    """CIFAR's ResNet-20 and its held-out pictures."""
    model = sl.load_model(f"{NETWORKS}:resnet20_cifar", weights=DATA / "weights/resnet20_cifar10.pt")
    return model, sl.load_images(DATA / "images/cifar10/val", model)


def squeezenet() -> tuple[nn.Module, sl.ImageBatch]:
    """SqueezeNet, whose head is a convolution under an average, and photographs of ImageNet's classes."""
    model = sl.load_model(f"{NETWORKS}:squeezenet1_1", weights=DATA / "weights/squeezenet1_1_imagenet_fp16.pt")
    return model, sl.load_images(DATA / "images/imagenet", model)


def classifier(folder: Path) -> tuple[nn.Module, sl.ImageBatch]:
    """SqueezeNet's features under dense layers, trained to tell cats from dogs, and held-out photographs."""
    start = dense()
    info = start.sightline_info
    model = with_outputs(start, 2).eval().requires_grad_(False)
    load_weights(model, folder / "classifier.safetensors")
    preprocessing = replace(info.preprocessing, size=(128, 128), resize="stretch")
    model.sightline_info = replace(info, preprocessing=preprocessing, class_names=("cat", "dog"))
    return model, sl.load_images(DATA / "images/cats_and_dogs/val", model)


def evenly(batch: sl.ImageBatch, count: int) -> sl.ImageBatch:
    return batch[sorted(set(np.linspace(0, len(batch) - 1, min(count, len(batch))).round().astype(int).tolist()))]


def sensitivity(model: nn.Module, batch: sl.ImageBatch, out: Path, images: int) -> None:
    """Claims 1 to 3 by audits: of methods of one pass, and of those that ask many times."""
    for name, methods, count in (("one-pass", ONE_PASS, images), ("sampled", SAMPLED, images // 4)):
        if count < FEWEST:
            continue
        started = time.perf_counter()

        def tell(words: str, done: int, of: int, name: str = name, started: float = started) -> None:
            print(f"{time.perf_counter() - started:6.0f} s  {name}, {done}/{of}: {words}", file=sys.stderr, flush=True)

        tests = TESTS if name == "one-pass" else TESTS[:2]
        found = sl.audit(model, evenly(batch, count), methods, tests, folder=out / name, progress=tell)
        found.save(out / name)


def likeness(model: nn.Module, batch: sl.ImageBatch, out: Path, images: int) -> None:
    """Claim 3: how like maps are to those of another setting, or of the method that they smooth."""
    rows = catalogue()
    sweep = [replace(rows["lrp_epsilon"], propagation=lrp_epsilon(e), name=f"epsilon {e:g}") for e in EPSILONS]
    sweep += [
        replace(rows["lrp_alpha1_beta0"], propagation=lrp_alpha_beta(a, b), name=f"alpha {a:g}, beta {b:g}")
        for a, b in ALPHAS
    ]
    pairs = [
        *(("epsilon 1e-06", f"epsilon {e:g}") for e in EPSILONS[1:]),
        *(("input_x_gradient", f"epsilon {e:g}") for e in EPSILONS),
        *(("alpha 2, beta 1", f"alpha {a:g}, beta {b:g}") for a, b in ALPHAS if (a, b) != (2, 1)),
        ("gradient", "smooth_grad"),
        ("input_x_gradient", "integrated_gradients"),
        ("gradient", "integrated_gradients"),
    ]
    chosen = evenly(batch, images // 4)
    parts = [
        sl.explain(
            model, chosen[i : i + 10], ["gradient", "input_x_gradient", "smooth_grad", "integrated_gradients", *sweep]
        )
        for i in range(0, len(chosen), 10)
    ]
    table = []
    for first, second in pairs:
        one, other = (torch.cat([part.heatmap(name) for part in parts]) for name in (first, second))
        for case, maps in (("the same image", other), ("another image", other.roll(1, 0))):
            values = spearman(one, maps).numpy()
            low, high = mean_interval(values)
            table.append((first, second, case, values.mean(), low, high, len(values)))
    columns = ["first", "second", "case", "spearman", "low", "high", "images"]
    pd.DataFrame(table, columns=columns).to_csv(out / "likeness.csv", index=False, float_format="%.4g")


def encodings(model: nn.Module, batch: sl.ImageBatch) -> Iterator[tuple[str, nn.Module, sl.ImageBatch]]:
    """The same function of the same pictures, whose values are encoded otherwise."""
    given = batch.preprocessing
    mean, std = torch.tensor(given.mean).double(), torch.tensor(given.std).double()
    low, high = given.value_range
    # Back to 0 ... 1, and from there.
    to_unit = (std / (high - low), (mean - low) / (high - low))
    statistics = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
    for name, scale, shift in (
        ("0 ... 1", 1.0, 0.0),
        ("-1 ... 1", 2.0, -1.0),
        ("standardised", 1 / statistics[1], -statistics[0] / statistics[1]),
        ("-1 ... 0", 1.0, -1.0),
    ):
        both = to_unit[0] * scale, to_unit[1] * scale + shift
        network, values = shifted(model, batch.tensor, both[1], both[0])
        yield name, network, reencoded(batch, values, both[1], both[0])


def bias(model: nn.Module, batch: sl.ImageBatch, out: Path, images: int) -> None:
    """Claim 4: what of a map changes with the encoding, and how much it follows |input|."""
    chosen = evenly(batch, images // 4)
    rows = catalogue()
    methods = [rows[name] for name in BIASED]
    methods += [found for one in methods if (found := one.without_input) is not None]
    kept: dict[str, dict[str, torch.Tensor]] = {}
    magnitudes = {}
    for name, network, moved in encodings(model, chosen):
        parts = [sl.explain(network, moved[i : i + 10], methods) for i in range(0, len(moved), 10)]
        kept[name] = {one.name: torch.cat([part.heatmap(one.name) for part in parts]) for one in methods}
        magnitudes[name] = moved.tensor.abs().mean(1)
    table = []
    for one in methods:
        for name, maps in kept.items():
            alike = cosine(maps[one.name], kept["0 ... 1"][one.name]).numpy()
            follows = spearman(maps[one.name].abs(), magnitudes[name]).numpy()
            row = [one.name, name]
            for values in (alike, follows):
                row += [values.mean(), *mean_interval(values)]
            table.append(row)
    columns = ["method", "encoding"]
    columns += [
        f"{what} {end}" for what in ("cosine with 0 ... 1", "rank with input") for end in ("mean", "low", "high")
    ]
    pd.DataFrame(table, columns=columns).to_csv(out / "bias.csv", index=False, float_format="%.4g")


def report(out: Path) -> str:
    """The figures as Markdown: verdicts with their intervals, likeness of settings, bias by encoding."""
    lines = []
    for name in ("one-pass", "sampled"):
        if not (out / name / "reasons.csv").exists():
            continue
        found = pd.read_csv(out / name / "reasons.csv")
        table = pd.read_csv(out / name / "table.csv")
        lost = table[(table["test"] == "convergence") & (table["measure"] != "chance")]
        last = lost[lost["case"].str.endswith("<input>")].set_index(["method", "measure"])["mean"]
        lines += ["| method | another class | random weights | convergence at the input, by position / as a whole |"]
        lines += ["|---|---|---|---|"]
        for method in found["method"].unique():
            own = found[found["method"] == method].set_index("test")
            cells = [
                f"{row['figure']:.2f} [{row['low']:.2f}, {row['high']:.2f}] {row['said']}"
                if np.isfinite(row["figure"])
                else f"{row['said']}: {row['reason']}"
                for row in (own.loc[test] for test in TESTS[:2])
            ]
            arrived = [f"{last[method, one]:.2f}" for one in ("csc", "layer_cosine") if (method, one) in last.index]
            lines.append(f"| {method} | {cells[0]} | {cells[1]} | {' / '.join(arrived)} |")
        lines.append("")
    for name in ("likeness", "bias"):
        table = pd.read_csv(out / f"{name}.csv")
        rows = [list(table.columns), ["---"] * len(table.columns), *table.itertuples(index=False)]
        lines += ["| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


NETWORKS = ("resnet20", "squeezenet", "dense")


def together(folder: Path) -> str:
    """One table for all networks: the verdict of each method on each, and what random logits keep at the input."""
    audits = {name: place for name in NETWORKS if ((place := folder / name / "one-pass") / "reasons.csv").exists()}
    found = {name: pd.read_csv(place / "reasons.csv").set_index(["test", "method"]) for name, place in audits.items()}
    tables = {name: pd.read_csv(place / "table.csv") for name, place in audits.items()}

    def cell(name: str, test: str, method: str) -> str:
        row = found[name].loc[test, method]
        if not np.isfinite(row["figure"]):
            return row["said"]
        return f"{row['said']} {row['figure']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"

    def arrived(name: str, method: str) -> str:
        rows = tables[name]
        rows = rows[(rows["method"] == method) & (rows["measure"] == "layer_cosine")]
        rows = rows[rows["case"].str.endswith("<input>")]
        return "" if rows.empty else f"{rows['mean'].iloc[0]:.2f}"

    heads = [f"{what}, {name}" for what in ("another class", "random weights", "random logits") for name in audits]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for method in ONE_PASS:
        cells = [cell(name, test, method) for test in TESTS[:2] for name in audits]
        lines.append(f"| {method} | {' | '.join(cells + [arrived(name, method) for name in audits])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=[*NETWORKS, "all"], help="all: one table of what is there")
    parser.add_argument("--folder", type=Path, default=Path("claims"))
    parser.add_argument("--classifier", type=Path, default=Path("gad-photographs/dense-train"))
    parser.add_argument("--images", type=int, default=200, help="for methods of one pass; a quarter for the others")
    parser.add_argument("--parts", default="likeness,bias,sensitivity", help="with a comma; none: only the report")
    options = parser.parse_args()
    print(conditions(), file=sys.stderr)
    if options.network == "all":
        print(together(options.folder))
        return
    made: dict[str, Callable[[], tuple[nn.Module, sl.ImageBatch]]] = {
        "resnet20": resnet20, "squeezenet": squeezenet, "dense": lambda: classifier(options.classifier),
    }  # fmt: skip
    out = options.folder / options.network
    out.mkdir(parents=True, exist_ok=True)
    parts = {"likeness": likeness, "bias": bias, "sensitivity": sensitivity}
    asked = list(filter(None, options.parts.split(",")))
    if asked:
        model, batch = made[options.network]()
    for name in asked:
        started = time.perf_counter()
        parts[name](model, batch, out, options.images)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    print(report(out))


if __name__ == "__main__":
    main()
