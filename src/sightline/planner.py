"""The planner: methods are grouped so that nothing is computed twice, and run in chunks that fit the memory.

Methods of one sampling share their forward passes. Rules change only the backward, so one forward serves every
propagation; one backward per propagation serves every aggregation that reads from it. The pass on the images
themselves is always made: it also predicts the classes, and gives the values that completeness is measured against.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sightline.catalogue import Method
from sightline.errors import InputError, RefusalError
from sightline.memory import first_chunk, next_chunk
from sightline.models.outputs import class_scores
from sightline.models.untouched import untouched
from sightline.operations import INPUT, Kind, Operation, Tape
from sightline.propagation import Propagation
from sightline.sampling import Image, Sampling
from sightline.sampling.seeds import image_key, seed_of
from sightline.targets import Classes, Target

Progress = Callable[[int, int], None]
_PROBABILITIES = {"softmax", "sigmoid", "log_softmax", "softmin"}


@dataclass
class Results:
    """What a job found.

    Attributes:
        maps: the raw map of each method, on the images' device.
        refused: for each method without a map, the reason.
        values: shape (image,): the explained value of each image.
        scores: shape (image, class): the class scores, where the output has them.
        operations: for each method, how many operations were ruled, passed and not covered.
        completeness: for each method that promises it, sum of map - (value - value of the baseline), per image.
        where: for each method that reads a layer, the module that layer turned out to be.
        chunks: for each sampling, the rows of its passes.
        ends_in: the model's last operation, where it turns scores into probabilities.
    """

    maps: dict[str, Tensor] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    scores: Tensor | None = None
    operations: dict[str, dict[str, int]] = field(default_factory=dict)
    completeness: dict[str, Tensor] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    chunks: dict[str, list[int]] = field(default_factory=dict)
    ends_in: str = ""


class Job:
    """One model, some images, some methods, one target.

    Args:
        model: the network.
        images: shape (image, channel, height, width), on the model's device and in its dtype.
        methods: the methods, with distinct names.
        target: what is explained.
        seed: base of all randomness.
        image_names: what randomness is derived from for each image; by default its content.
        chunk: rows of each pass; by default from the memory at hand.
        progress: called with rows done and rows in all.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        images: Tensor,
        methods: Sequence[Method],
        target: Target,
        *,
        seed: int = 0,
        image_names: Sequence[str] | None = None,
        chunk: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.images, self.target = model, images, target
        self._chunk, self._progress = chunk, progress
        self._measured = 0
        self.keys = [seed_of(seed, name) for name in (image_names or map(image_key, images))]
        self._groups: dict[Sampling, list[Method]] = defaultdict(list)
        self._groups[Image()] = []
        for method in methods:
            self._groups[method.sampling].append(method)
        self._done = 0
        if target.whole_batch:
            if chunk not in {None, len(images)}:
                raise InputError(
                    f"A target function of the output alone is given all images at once, but chunk={chunk} cuts the "
                    f"{len(images)} images. Leave chunk out, or let the function take (output, images)."
                )
            self._chunk = len(images)
        self._total = len(images) * sum(len(sampling.weights) for sampling in self._groups)
        self.results = Results(values=images.new_empty(len(images)))

    def run(self) -> Results:
        """Run every pass; refusals are recorded by method, and other methods go on."""
        with torch.enable_grad():
            for sampling, methods in self._groups.items():
                _Group(self, sampling, methods).run()
        return self.results

    def chunks(self, rows: int) -> Iterator[range]:
        """Cut rows into chunks by the memory that earlier passes took."""
        start = 0
        while start < rows:
            row = self.images[0]
            size = self._chunk or (next_chunk(row, self._measured) if self._measured else first_chunk(row))
            yield range(start, min(start + size, rows))
            start += size

    def measured(self, tape: Tape, rows: int) -> None:
        """Learn what a pass took, and report progress."""
        self._measured = max(self._measured, tape.bytes // rows)
        self._done += rows
        if self._progress is not None:
            self._progress(self._done, self._total)

    def forward(self, images: Tensor, indices: Tensor) -> Tensor:
        """The explained values at some inputs, by a forward pass alone."""
        with torch.no_grad(), untouched(self.model):
            tape = Tape(self.model, (), self.target.places)
            return self.select(tape, tape.record(images), indices)

    def select(self, tape: Tape, output: Any, indices: Tensor) -> Tensor:
        """The explained values of a pass, chosen under the interception."""
        found = {place: tape.places[place].values for place in self.target.places}
        return tape.select(lambda o: self.target.values(o, found, indices), output)


class _Group:
    """The methods of one sampling."""

    def __init__(self, job: Job, sampling: Sampling, methods: list[Method]) -> None:
        self._job, self._sampling, self._methods = job, sampling, methods
        self._weights = sampling.weights
        self._totals: dict[str, Tensor] = {}
        self._signals: dict[Propagation, Tensor] = {}

    def run(self) -> None:
        job, results = self._job, self._job.results
        count, images = len(self._weights), len(job.images)
        sizes = results.chunks[self._name()] = []
        if not self._methods and not isinstance(self._sampling, Image):
            return
        # Sample by sample, so that a chunk of as many rows as images is the whole batch in its order.
        for chunk in job.chunks(images * count):
            sizes.append(len(chunk))
            indices = torch.tensor([row % images for row in chunk], device=job.images.device)
            with untouched(job.model):
                self._chunk(indices, [row // images for row in chunk])
            if self._refused_all() and not isinstance(self._sampling, Image):
                break
        self._finish()

    def _name(self) -> str:
        """The sampling's name in the records; a second one of its kind gets a number."""
        kind = type(self._sampling).__name__.lower()
        number = 1 + sum(name.split()[0] == kind for name in self._job.results.chunks)
        return kind if number == 1 else f"{kind} {number}"

    def _refused_all(self) -> bool:
        return all(method.name in self._job.results.refused for method in self._methods)

    def _live(self) -> dict[Propagation, list[Method]]:
        live: dict[Propagation, list[Method]] = defaultdict(list)
        for method in self._methods:
            if method.name not in self._job.results.refused:
                live[method.propagation].append(method)
        return live

    def _chunk(self, indices: Tensor, samples: list[int]) -> None:
        job, live = self._job, self._live()
        images = job.images[indices]
        inputs = self._sampling.points(images, [job.keys[i] for i in indices.tolist()], samples)
        weights = inputs.new_tensor([self._weights[s] for s in samples])
        if not live:
            with torch.no_grad():
                tape = Tape(job.model, (), job.target.places)
                self._note_output(tape, tape.record(inputs), indices)
            job.measured(tape, len(indices))
            return
        places = {place for methods in live.values() for m in methods for place in m.aggregation.places}
        ruled: set[Kind] = {kind for propagation in live for kind in propagation.rules}
        tape = Tape(job.model, ruled, places | set(job.target.places))
        output = tape.record(inputs.detach().requires_grad_())
        values = self._note_output(tape, output, indices)
        del output
        pending = [(p, m) for p, methods in live.items() if (m := self._checked(tape, values, p, methods))]
        for number, (propagation, methods) in enumerate(pending, start=1):
            self._pull(tape, values, propagation, methods, indices, weights, last=number == len(pending))
        job.measured(tape, len(indices))

    def _note_output(self, tape: Tape, output: Any, indices: Tensor) -> Tensor:
        """Predict and keep what the images themselves give; return the explained values."""
        job, results = self._job, self._job.results
        last = tape.last
        if isinstance(self._sampling, Image):
            self._note_scores(output, indices, last)
        values = job.select(tape, output, indices)
        if isinstance(self._sampling, Image):
            results.values[indices] = values.detach().to(results.values)
        return values

    def _note_scores(self, output: Any, indices: Tensor, last: tuple[Operation, Tensor] | None) -> None:
        job, results, target = self._job, self._job.results, self._job.target
        try:
            scores = class_scores(output, len(indices))
        except RefusalError:
            if isinstance(target, Classes):
                raise
            return
        if last is not None and last[0].name in _PROBABILITIES and scores.grad_fn is last[1].grad_fn:
            results.ends_in = last[0].name
        scores = scores.detach()
        if results.scores is None:
            results.scores = scores.new_empty(len(job.images), scores.shape[1])
        results.scores[indices] = scores
        if isinstance(target, Classes):
            target.predict(scores, indices)

    def _checked(self, tape: Tape, values: Tensor, propagation: Propagation, methods: list[Method]) -> list[Method]:
        """The methods whose places have results and whose propagation covers every operation on the way."""
        results, ready = self._job.results, []
        for method in methods:
            refused = [tape.places.refused[p] for p in method.aggregation.places if p in tape.places.refused]
            if refused:
                results.refused[method.name] = refused[0]
            else:
                ready.append(method)
                for place in method.aggregation.places:
                    if place != INPUT:
                        results.where[method.name] = tape.places[place].where
        if propagation.passes is None:
            # The gradient is right through everything, so all that was performed was passed.
            for method in ready:
                results.operations.setdefault(method.name, propagation.passed(tape.performed))
            return ready
        passing = []
        for method in ready:
            try:
                counts = propagation.check(tape.walk(values, method.aggregation.places))
            except RefusalError as error:
                results.refused[method.name] = str(error)
            else:
                results.operations[method.name] = dict(counts)
                passing.append(method)
        return passing

    def _pull(
        self,
        tape: Tape,
        values: Tensor,
        propagation: Propagation,
        methods: list[Method],
        indices: Tensor,
        weights: Tensor,
        *,
        last: bool,
    ) -> None:
        places = sorted({place for method in methods for place in method.aggregation.places})
        try:
            signals = tape.pull_back(values, propagation, places, keep_graph=not last)
        except RefusalError as error:
            self._job.results.refused |= {method.name: str(error) for method in methods}
            return
        for method in methods:
            mine = {place: signals[place] for place in method.aggregation.places}
            if any(signal is None for signal in mine.values()):
                self._job.results.refused[method.name] = _NO_PATH
        ready = [method for method in methods if method.name not in self._job.results.refused]
        if self._sampling.reduces_signals:
            if ready:
                signal = signals[INPUT]
                assert signal is not None  # noqa: S101 - a path reads the input alone, and None was refused above
                self._signals[propagation] = self._add(self._signals.get(propagation), signal, indices, weights)
            return
        found = {place: tape.places[place].values.detach() for place in places if place not in tape.places.refused}
        for method in ready:
            known = {place: signal for place in method.aggregation.places if (signal := signals[place]) is not None}
            try:
                made = method.aggregation(found, known)
            except RefusalError as error:
                self._job.results.refused[method.name] = str(error)
            else:
                self._totals[method.name] = self._add(self._totals.get(method.name), made, indices, weights)

    def _add(self, total: Tensor | None, part: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        """Add weighted rows to their images, in single precision at least."""
        dtype = torch.promote_types(part.dtype, torch.float32)
        if total is None:
            total = torch.zeros((len(self._job.images), *part.shape[1:]), dtype=dtype, device=part.device)
        if isinstance(self._sampling, Image):
            total[indices] = part.detach().to(dtype)
            return total
        weighted = part.detach().to(dtype) * weights.to(dtype).view(-1, *[1] * (part.dim() - 1))
        return total.index_add_(0, indices, weighted)

    def _finish(self) -> None:
        job, results = self._job, self._job.results
        if self._signals:
            baseline = self._sampling.baseline(job.images)
            offset = job.images if baseline is None else job.images - baseline
            for method in self._methods:
                if method.name in results.refused:
                    continue
                signal = self._signals[method.propagation]
                self._totals[method.name] = method.aggregation({INPUT: offset.to(signal.dtype)}, {INPUT: signal})
        for name, total in self._totals.items():
            if name not in results.refused:
                results.maps[name] = total
        self._measure_completeness()

    def _measure_completeness(self) -> None:
        job, results = self._job, self._job.results
        complete = [m for m in self._methods if m.complete and m.name in results.maps]
        baseline = self._sampling.baseline(job.images)
        if not complete or baseline is None:
            return
        indices = torch.arange(len(job.images), device=job.images.device)
        parts = [job.forward(baseline[list(chunk)], indices[list(chunk)]) for chunk in job.chunks(len(indices))]
        difference = results.values - torch.cat(parts)
        for method in complete:
            total = results.maps[method.name].flatten(1).sum(1)
            results.completeness[method.name] = total - difference.to(total)


_NO_PATH = (
    "The explained value does not depend, through differentiable operations, on the place that this method reads: the "
    "graph is cut (detach, no_grad, rounding, argmax), or that layer is not used. Nothing flows back: there is no map."
)
