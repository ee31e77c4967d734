"""Claim 3: do settings matter? How like maps are to those of another setting, or of the method that they smooth.

Rules, the same for every network; their bounds were chosen when figures for ResNet-20, SqueezeNet and a VGG-like
network were known. Figures are rank correlations of maps of the same image, with 95 % intervals:

- "Larger epsilons are indistinguishable from noise": an epsilon of at least 0.25 speaks for it if, of its likeness to
  epsilon 1e-6, less than 0.1 is left above its likeness to another image's map (whole interval), and against it if more
  than 0.1 is.
- "alpha and beta do not change maps": a setting speaks for it if its likeness to alpha 2, beta 1 is above 0.5 (whole
  interval), and against it if it is below.
- "Smoothing keeps the map": a smoothed map speaks for it if its likeness to the map that it smooths is above 0.5, and
  against it if it is below.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sightline._common.seeds import image_key
from sightline.arrays import as_images
from sightline.auditing import Sample
from sightline.evaluation import Asked, spearman, values_of
from sightline.explaining import explain
from sightline.methods import Method, catalogue
from sightline.propagation import lrp_alpha_beta, lrp_epsilon
from sightline.study._part import Part, interval, too_few
from sightline.study._rule import Answer, settled

Maps = dict[str, Tensor]
Step = Callable[[int, int], None]
EPSILONS = (1e-6, 1e-3, 1e-2, 0.1, 0.25, 1.0, 10.0)
ALPHAS = ((1, 0), (1.5, 0.5), (2, 1), (3, 2))
LARGE, LEFT, ALIKE = 0.25, 0.1, 0.5
_EPSILON, _ALPHA, _SMOOTH = (
    "Larger epsilons are indistinguishable from noise", "Alpha and beta do not change maps", "Smoothing keeps the map",
)  # fmt: skip
PAIRS = (
    *((_EPSILON, "epsilon 1e-06", f"epsilon {e:g}", e >= LARGE) for e in EPSILONS[1:]),
    *((_EPSILON, "input_x_gradient", f"epsilon {e:g}", False) for e in EPSILONS),
    *((_ALPHA, "alpha 2, beta 1", f"alpha {a:g}, beta {b:g}", True) for a, b in ALPHAS if (a, b) != (2, 1)),
    (_SMOOTH, "gradient", "smooth_grad", True),
    (_SMOOTH, "input_x_gradient", "integrated_gradients", True),
    (_SMOOTH, "gradient", "integrated_gradients", False),
)
"""Claim, map, map of another setting, and whether the pair counts for the answer."""
_BLOCK = 10


def survey(model: Callable[..., Any], images: Asked, *, seed: int = 0, step: Step | None = None) -> Part:
    """Compare maps across settings.

    Args:
        model: the network.
        images: see `sightline.explain`; at least twenty for an answer.
        seed: base of all randomness.
        step: called with the images done and all images.

    Raises:
        InputError: see `sightline.explain`.
    """
    maps, refused = maps_of(model, images, _methods(), seed=seed, step=step)
    keys = [image_key(image) for image in as_images(values_of(images))]
    others = Sample.of(keys, keys, np.zeros(len(keys), dtype=int), None, seed).alike
    other, known = torch.from_numpy(others.partners), torch.from_numpy(others.known)
    rows, said = [], []
    for claim, first, second, counts in PAIRS:
        asked = first in maps and second in maps
        if asked:
            same = spearman(maps[first], maps[second])
            another = spearman(maps[first], maps[second][other]).where(known, torch.nan)
            here, there, left = interval(same), interval(another), interval(same - another)
            row = {"claim": claim, "map": second, "compared with": first, "raw likeness": here.mean, "low": here.low}
            row |= {"high": here.high, "another image": there.mean, "difference": left.mean, "difference low": left.low}
            row |= {"difference high": left.high, "images": here.images, "networks": 0}
            rows.append(row)
            bounds = (left.low, left.high, LEFT) if claim == _EPSILON else (here.low, here.high, ALIKE)
        if counts:
            said.append((claim, _speaks(*bounds, below=claim == _EPSILON) if asked else 0))
    answers: dict[str, Answer] = {}
    for claim in (_EPSILON, _ALPHA, _SMOOTH):
        own = [word for of, word in said if of == claim]
        answers[claim] = settled(own.count(1), own.count(-1), len(own))
    return Part(
        "Settings",
        "Does the choice of epsilon, of alpha and beta, or smoothing change what a map shows?",
        f"an epsilon of at least {LARGE} speaks for noise where, against epsilon 1e-6, less than {LEFT} of likeness is "
        "left above another image's (whole interval), and against it where more is. Other settings and smoothing speak "
        f"for the same map above a likeness of {ALIKE}, and against it below. Likeness is rank correlation; the claim "
        "is undecided where fewer than half of its comparisons are decided; of those, three quarters must agree.",
        pd.DataFrame(rows),
        answers,
        refused,
        too_few(len(images)),
    )


def maps_of(
    model: Callable[..., Any],
    images: Asked,
    methods: Sequence[str | Method],
    *,
    seed: int = 0,
    step: Step | None = None,
) -> tuple[Maps, dict[str, str]]:
    """The maps of all images by method, made some images at a time, and why methods were refused."""
    parts = []
    refused: dict[str, str] = {}
    for start in range(0, len(images), _BLOCK):
        found = explain(model, images[start : start + _BLOCK], methods, seed=seed, on_refusal="record")
        refused |= found.refused
        parts.append({name: found.heatmap(name) for name in found.maps})
        if step is not None:
            step(min(start + _BLOCK, len(images)), len(images))
    kept = [name for name in parts[0] if name not in refused]
    return {name: torch.cat([part[name] for part in parts]) for name in kept}, refused


def _methods() -> list[str | Method]:
    rows = catalogue()
    return [
        "gradient", "input_x_gradient", "smooth_grad", "integrated_gradients",
        *(replace(rows["lrp_epsilon"], propagation=lrp_epsilon(e), name=f"epsilon {e:g}") for e in EPSILONS),
        *(
            replace(rows["lrp_alpha1_beta0"], propagation=lrp_alpha_beta(a, b), name=f"alpha {a:g}, beta {b:g}")
            for a, b in ALPHAS
        ),
    ]  # fmt: skip


def _speaks(low: float, high: float, bound: float, *, below: bool) -> int:
    """1 where an interval lies on the side of the bound that supports a claim, -1 on the other, 0 where on both."""
    if low <= bound <= high:
        return 0
    return 1 if (high < bound) == below else -1
