"""The rule by which the verdicts on pairs of methods answer a claim."""

from collections.abc import Iterable, Mapping
from typing import Literal

Answer = Literal["holds", "does not hold", "mixed", "undecided"]
MOST = 0.75
"""The share of decided pairs that must agree for a claim to hold, or not to hold."""


def answer(verdicts: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> Answer:
    """Say whether positive forms fail a test that their signed counterparts pass.

    A pair speaks for the claim if the positive form fails and the signed one passes, and against it if the positive
    form passes. Otherwise it is undecided: a verdict is missing or undecided, or both fail, so that the positive form
    cannot be what fails. The answer is "undecided" if fewer than half of the pairs are decided; of those that are,
    "holds" if at least three quarters speak for the claim, "does not hold" if at least three quarters speak against
    it, and else "mixed".

    Args:
        verdicts: "pass", "fail" or "undecided" for each method in one test; refused methods are missing.
        pairs: (positive form, signed counterpart).

    Example:
        answer({"grad_cam_positive": "fail", "grad_cam": "pass"}, [("grad_cam_positive", "grad_cam")])  # "holds"
    """
    asked = list(pairs)
    said = [(verdicts.get(positive), verdicts.get(signed)) for positive, signed in asked]
    supporting = said.count(("fail", "pass"))
    opposing = sum(positive == "pass" for positive, _ in said)
    return settled(supporting, opposing, len(asked))


def settled(supporting: int, opposing: int, asked: int) -> Answer:
    """The answer from how many comparisons speak for a claim and against it, of how many that were asked.

    "undecided" if fewer than half of them speak; else "holds" or "does not hold" if at least three quarters of those
    that speak say so; else "mixed".
    """
    decided = supporting + opposing
    if not decided or 2 * decided < asked:
        return "undecided"
    if supporting >= MOST * decided:
        return "holds"
    return "does not hold" if opposing >= MOST * decided else "mixed"
