"""Claims 1 and 2: do maps that keep only what is positive show less of the class, the image and the weights?

Rule, the same for every network: in each test of the audit, every positive form is paired with its signed
counterpart. A pair speaks for the claim if the positive form fails and the signed one passes, and against it if the
positive form passes. `sightline.study._rule.answer` makes an answer of these. Verdicts are those after Holm's
correction over all methods and tests of the audit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sightline.auditing import CONTROLS, Audit, Question, Randomisation, audit
from sightline.evaluation import Asked
from sightline.methods import Method
from sightline.study._options import StudyOptions
from sightline.study._part import Part, too_few
from sightline.study._rule import Answer, answer

Pairs = Sequence[tuple[str, str]]
_DEPTHS = ("", "@early", "@middle")
AGGREGATION: Pairs = (
    *((f"{positive}{depth}", f"{signed}{depth}") for depth in _DEPTHS for positive, signed in (
        ("grad_cam_positive", "grad_cam"), ("grad_cam_plus_plus", "grad_cam"), ("layer_cam", "hi_res_cam"),
    )),
    ("full_grad", "full_grad_signed"), ("full_grad_positive", "full_grad_signed"),
)  # fmt: skip
"""Maps whose aggregation drops signs, each with the one that keeps them."""
PROPAGATION: Pairs = (
    ("guided_backprop", "gradient"), ("deconvnet", "gradient"), ("rect_grad", "input_x_gradient"),
    ("lrp_z_plus", "lrp_0"), ("lrp_alpha1_beta0", "lrp_epsilon"), ("deep_taylor", "lrp_epsilon"),
    ("excitation_backprop", "lrp_epsilon"),
)  # fmt: skip
"""Propagations that keep only what is positive, each with the one that keeps signs."""
_FURTHER = {
    "aggregation": ("x_grad_cam", "x_grad_cam@early", "x_grad_cam@middle", "simple_full_grad"),
    "propagation": ("saliency", "lrp_gamma", "lrp_epsilon_plus", "lrp_alpha2_beta1", "rect_grad_no_input"),
}
PAIRS = {"aggregation": AGGREGATION, "propagation": PROPAGATION}
_WORDS = {
    "aggregation": (
        "Positive aggregation",
        "Do maps whose aggregation keeps only what is positive (Grad-CAM+, Grad-CAM++, Layer-CAM, FullGrad) fail where "
        "their signed counterparts pass?",
    ),
    "propagation": (
        "Positive propagation",
        "Do propagations that keep only what is positive (Guided Backprop, Deconvnet, RectGrad, z+, alpha1-beta0, Deep "
        "Taylor, Excitation Backprop) fail where the gradient, LRP-0 and LRP-epsilon pass?",
    ),
}
_RULE = (
    "of each pair of a positive form and its signed counterpart, a fail beside a pass speaks for the claim, and a pass "
    "of the positive form against it. The claim is undecided where fewer than half of the pairs are decided; of those, "
    "three quarters must agree. `scaled` is 0 for likeness as between two images, and 1 as under slight noise."
)
_COLUMNS = {
    "test": "test", "method": "method", "raw": "raw likeness", "figure": "scaled", "low": "low", "high": "high",
    "images": "images", "networks": "networks", "said": "verdict", "alone": "before Holm", "reason": "why undecided",
    "note": "note",
}  # fmt: skip


def methods_of(part: str) -> list[str]:
    """The methods that a part looks at by default."""
    return list(dict.fromkeys([*(name for pair in PAIRS[part] for name in reversed(pair)), *_FURTHER[part]]))


def audited(
    model: Callable[..., Any],
    images: Asked,
    methods: Sequence[Method],
    questions: Sequence[Question],
    options: StudyOptions,
    folder: Path | None,
) -> Audit:
    """The audit that answers both claims; with one stage all layers become random at once.

    Raises:
        InputError: see `sightline.auditing`.
        RefusalError: see `sightline.auditing`.
    """
    order = "whole" if options.stages == 1 else "output"
    how = Randomisation(order, options.stages, networks=options.networks, seed=options.seed)
    return audit(
        model, images, list(methods), questions,
        randomisation=how, seed=options.seed, folder=folder, progress=options.progress,
    )  # fmt: skip


def sensitivity(part: str, found: Audit, methods: Sequence[str]) -> Part:
    """What an audit says of one of the two claims.

    Args:
        part: `aggregation` or `propagation`.
        found: the audit.
        methods: those that were asked for; a pair with one that was not is left out.
    """
    rows = found.reasons
    known = {name for pairs in PAIRS for name in methods_of(pairs)}
    shown = [name for name in methods if name in methods_of(part) or name not in known]
    rows = rows[rows["method"].isin(shown) & ~rows["method"].isin([*CONTROLS, *found.refused])]
    answers: dict[str, Answer] = {}
    pairs = [pair for pair in PAIRS[part] if set(pair) <= set(methods)]
    for test in found.rules:
        said = {name: str(one.said) for (asked, name), one in found.findings.items() if asked == test}
        answers[f"{_WORDS[part][0]} fails {test.replace('_', ' ')}"] = answer(said, pairs)
    title, question = _WORDS[part]
    refused = {name: why for name, why in found.refused.items() if name in shown}
    notes = [] if pairs else ["No pair of a positive form and its signed counterpart was asked for."]
    table = pd.DataFrame({title: rows[name] for name, title in _COLUMNS.items()})
    return Part(title, question, _RULE, table, answers, refused, [*notes, *too_few(len(found.names))])


def unanswered(part: str, why: str, tests: Sequence[str]) -> Part:
    """The part where the network refuses all of its methods."""
    title, question = _WORDS[part]
    answers: dict[str, Answer] = {f"{title} fails {test.replace('_', ' ')}": "undecided" for test in tests}
    return Part(title, question, _RULE, answers=answers, notes=[why])
