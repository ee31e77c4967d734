"""A path that asks where the answers ask for it: Integrated Gradients to a requested residual."""

from bisect import bisect
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor

from sightline.arrays import whole
from sightline.errors import InputError
from sightline.sampling._base import Answer, Context, Points, Row, Rows, Sampling
from sightline.sampling._path import Path, Start, along, expanded, identity, resolved

_FIRST = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class AdaptivePath(Sampling):
    """A path from a baseline x0 to the image x whose steps halve where the gradient jumps.

    With s(a) = (x - x0) . dz/dx at x0 + a (x - x0), the change of the value over a step from a to b is known, and so is
    what the trapezoid rule makes of it; their difference e = (b - a) (s(a) + s(b)) / 2 - (z(b) - z(a)) is the step's
    part of the completeness residual. The steps of the largest |e| are halved until the residual |sum e| is at most
    `tolerance` times |z(x) - z(x0)|. All images go on together; each stops by itself.

    Attributes:
        tolerance: the completeness residual to stop at, as a share of the change in value.
        most: the most points to ask at for an image; where they do not suffice, the residual says so.
        start: the baseline: one of those that `Path` takes.

    Raises:
        InputError: a tolerance that is not positive, fewer points than five, or several baselines.
    """

    tolerance: float = 0.01
    most: int = 512
    start: Start = field(default=0.0, compare=False)
    _identity: object = field(init=False, repr=False)

    steered = True
    from_baseline = True
    averaged_over = "the way from the baseline"

    @property
    def family(self) -> str:
        # Both integrate along a path; they differ in where the network is evaluated.
        return Path.__name__

    @property
    def fixed_baseline(self) -> bool:
        return not isinstance(self.start, str)

    def __post_init__(self) -> None:
        whole("most", self.most, len(_FIRST))
        if not 0 < self.tolerance < float("inf"):
            raise InputError(f"An adaptive path needs a tolerance > 0; got tolerance={self.tolerance}.")
        if isinstance(self.start, tuple):
            raise InputError("An adaptive path has one baseline; average the maps of several, or use Path.")
        object.__setattr__(self, "_identity", identity(self.start))

    @property
    def weights(self) -> tuple[float, ...]:
        """What the first round would weigh; the true weights are known at the end."""
        return (1 / len(_FIRST),) * len(_FIRST)

    def points(self, images: Rows, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        del keys
        return along(images, self.baselines(images), [(0, sample) for sample in samples])

    def bind(self, context: Context) -> "AdaptivePath":
        if not isinstance(self.start, str):
            return self
        return replace(self, start=resolved(self.start, context)[0])

    def note(self, evaluations: Tensor, residual: Tensor, change: Tensor) -> str:
        at_limit = evaluations.to(residual.device) >= self.most
        if not bool((at_limit & (residual.abs() > self.tolerance * change.abs())).any()):
            return ""
        return f"stopped at its limit of {self.most} points for some images; see its residual."

    def baselines(self, images: Tensor) -> list[Tensor]:
        return [expanded(self.start, images)]

    def rounds(self, images: int) -> Generator[list[Row], list[Answer], list[float]]:
        lines = [_Line() for _ in range(images)]
        rows = [Row(image, share) for share in _FIRST for image in range(images)]
        asked: list[Row] = []
        while rows:
            asked += rows
            for row, answer in zip(rows, (yield rows), strict=True):
                lines[row.image].add(row.sample, answer)
            rows = [
                Row(image, share) for image, line in enumerate(lines) for share in line.next(self.tolerance, self.most)
            ]
        weights = [line.weights() for line in lines]
        return [weights[row.image][row.sample] for row in asked]


class _Step(NamedTuple):
    """One step between two neighbours, with its part of the residual for each target."""

    start: float
    end: float
    errors: tuple[float, ...]


class _Line:
    """What is known of one image's path."""

    def __init__(self) -> None:
        self._shares: list[float] = []
        self._answers: list[Answer] = []

    def add(self, share: float, answer: Answer) -> None:
        place = bisect(self._shares, share)
        self._shares.insert(place, share)
        self._answers.insert(place, answer)

    def next(self, tolerance: float, most: int) -> list[float]:
        """Where to ask next; nowhere once the residual of every target is small enough."""
        steps = self._steps()
        first, last = self._answers[0].values, self._answers[-1].values
        wanted: dict[float, float] = {}
        for target, (low, high) in enumerate(zip(first, last, strict=True)):
            allowed = tolerance * abs(high - low)
            if abs(sum(step.errors[target] for step in steps)) <= allowed:
                continue
            # As many of the worst as it takes for the others to be within bounds together.
            rest = rest_at_first = sum(abs(step.errors[target]) for step in steps)
            for step in sorted(steps, key=lambda step: -abs(step.errors[target])):
                if rest <= allowed or not rest < float("inf"):
                    break
                middle = (step.start + step.end) / 2
                part = abs(step.errors[target]) / rest_at_first if rest_at_first else 0.0
                wanted[middle] = max(part, wanted.get(middle, 0.0))
                rest -= abs(step.errors[target])
        known = set(self._shares)
        worst_first = sorted((share for share in wanted if share not in known), key=lambda share: -wanted[share])
        return sorted(worst_first[: max(most - len(self._shares), 0)])

    def weights(self) -> dict[float, float]:
        """The weight of each point in the trapezoid rule."""
        shares = [self._shares[0], *self._shares, self._shares[-1]]
        return {share: (shares[i + 2] - shares[i]) / 2 for i, share in enumerate(self._shares)}

    def _steps(self) -> list[_Step]:
        steps = []
        for i, (start, end) in enumerate(zip(self._shares, self._shares[1:], strict=False)):
            before, after = self._answers[i], self._answers[i + 1]
            parts = zip(before.values, after.values, before.sums, after.sums, strict=True)
            errors = tuple((end - start) * (s + t) / 2 - (v - u) for u, v, s, t in parts)
            steps.append(_Step(start, end, errors))
        return steps
