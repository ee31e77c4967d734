"""The planner: methods are grouped so that nothing is computed twice, and run in chunks that fit the memory.

Methods of one sampling share their forward passes. Rules change only the backward, so one forward serves every
propagation and every target; one backward per propagation and target serves every aggregation that reads from it. The
pass on the images themselves is always made: it also predicts the classes, and gives the values that completeness is
measured against.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sightline.catalogue import Method
from sightline.errors import InputError, RefusalError
from sightline.memory import first_chunk, next_chunk
from sightline.models.outputs import class_scores
from sightline.models.untouched import untouched
from sightline.operations import INPUT, Kind, Operation, Tape
from sightline.propagation import Propagation
from sightline.sampling import Image, Sampling
from sightline.sampling.seeds import image_key, seed_of
from sightline.targets import Classes, Pair, Target

Progress = Callable[[int, int], None]
_PROBABILITIES = {"softmax", "sigmoid", "log_softmax", "softmin"}


@dataclass(frozen=True)
class Flow:
    """What became of relevance on its way from the explained value to the map.

    Attributes:
        operations: the operations that shared it out, from the value backwards.
        amounts: shape (operation, image, 3): what each received, handed on, and gave to biases and other constants.
            What is missing went to the stabiliser and to rounding. NaN where results are not one per image.
    """

    operations: tuple[str, ...]
    amounts: Tensor


@dataclass
class Results:
    """What a job found for one target.

    Attributes:
        maps: the raw map of each method, on the images' device.
        refused: for each method without a map, the reason.
        values: shape (image,): the explained value of each image.
        scores: shape (image, class): the class scores, where the output has them.
        operations: for each method, how many operations were ruled, passed and not covered.
        completeness: for each method that promises it, sum of map - (value - value of the baseline), per image.
        flows: for each method that shares out relevance, where it went.
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
    flows: dict[str, Flow] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    chunks: dict[str, list[int]] = field(default_factory=dict)
    ends_in: str = ""


class Job:
    """One model, some images, some methods, one or more targets.

    Args:
        model: the network.
        images: shape (image, channel, height, width), on the model's device and in its dtype.
        methods: the methods, with distinct names.
        targets: what is explained; each has results of its own.
        seed: base of all randomness.
        image_names: gives what randomness is derived from for each image; by default its content.
        chunk: rows of each pass; by default from the memory at hand.
        progress: called with rows done and rows in all.
        pixel_range: the lowest and highest value of a pixel as the model sees it, each of shape (channel,), for rules
            that need them.

    Attributes:
        results: what was found, for each target.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        images: Tensor,
        methods: Sequence[Method],
        targets: Sequence[Target],
        *,
        seed: int = 0,
        image_names: Callable[[], Sequence[str]] | None = None,
        chunk: int | None = None,
        progress: Progress | None = None,
        pixel_range: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.model, self.images, self.targets, self.pixel_range = model, images, list(targets), pixel_range
        self._chunk, self._progress = chunk, progress
        self._measured = 0
        self._seed, self._image_names = seed, image_names
        self._groups: dict[Sampling, list[Method]] = defaultdict(list)
        self._groups[Image()] = []
        for method in methods:
            self._groups[method.sampling].append(method)
        self._done = 0
        if any(target.whole_batch for target in targets):
            if chunk not in {None, len(images)}:
                raise InputError(
                    f"A target function of the output alone is given all images at once, but chunk={chunk} cuts the "
                    f"{len(images)} images. Leave chunk out, or let the function take (output, images)."
                )
            self._chunk = len(images)
        self._total = len(images) * sum(len(sampling.weights) for sampling in self._groups)
        chunks: dict[str, list[int]] = {}
        self.results = [Results(values=images.new_empty(len(images)), chunks=chunks) for _ in targets]
        self.target_places = {place for target in targets for place in target.places}

    def run(self) -> list[Results]:
        """Run every pass; refusals are recorded by method, and other methods go on."""
        with torch.enable_grad():
            for sampling, methods in self._groups.items():
                _Group(self, sampling, methods).run()
        return self.results

    @cached_property
    def keys(self) -> list[int]:
        """A number for each image, from which its randomness is derived."""
        names = map(image_key, self.images) if self._image_names is None else self._image_names()
        return [seed_of(self._seed, name) for name in names]

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

    def tape(self, ruled: Collection[Kind] = (), places: Collection[str] = ()) -> Tape:
        """A tape for one pass, which keeps what the targets read besides `places`."""
        return Tape(self.model, ruled, {*places, *self.target_places}, self.pixel_range)

    def forward(self, images: Tensor, indices: Tensor) -> list[Tensor]:
        """The explained values at some inputs for each target, by a forward pass alone."""
        with torch.no_grad(), untouched(self.model):
            tape = self.tape()
            output = tape.record(images)
            return [self.select(target, tape, output, indices) for target in self.targets]

    def select(self, target: Target, tape: Tape, output: Any, indices: Tensor) -> Tensor:
        """The explained values of a pass, chosen under the interception."""
        found = {place: tape.places[place].values for place in target.places}
        return tape.select(lambda o: target.values(o, found, indices), output)


class _Totals:
    """What a sampling has added up for one target.

    Attributes:
        maps: for each method, its maps so far.
        signals: for each propagation whose signals are reduced before aggregation, those so far.
        flows: for each propagation of relevance, for each operation by its order: its name and its amounts so far.
    """

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}
        self.signals: dict[Propagation, Tensor] = {}
        self.flows: dict[Propagation, dict[int, tuple[str, Tensor]]] = defaultdict(dict)


class _Group:
    """The methods of one sampling."""

    def __init__(self, job: Job, sampling: Sampling, methods: list[Method]) -> None:
        self._job, self._sampling, self._methods = job, sampling, methods
        self._weights = sampling.weights
        self._totals = [_Totals() for _ in job.targets]

    def run(self) -> None:
        job = self._job
        count, images = len(self._weights), len(job.images)
        if not self._methods and not isinstance(self._sampling, Image):
            return
        sizes = job.results[0].chunks[self._name()] = []
        # Sample by sample, so that a chunk of as many rows as images is the whole batch in its order.
        for chunk in job.chunks(images * count):
            sizes.append(len(chunk))
            indices = torch.tensor([row % images for row in chunk], device=job.images.device)
            with untouched(job.model):
                self._chunk(indices, [row // images for row in chunk])
            if not self._live() and not isinstance(self._sampling, Image):
                break
        for number in range(len(job.targets)):
            self._finish(number)
        self._measure_completeness()

    def _name(self) -> str:
        """The sampling's name in the records; a second one of its kind gets a number."""
        kind = type(self._sampling).__name__.lower()
        number = 1 + sum(name.split()[0] == kind for name in self._job.results[0].chunks)
        return kind if number == 1 else f"{kind} {number}"

    def _live(self) -> dict[Propagation, list[Method]]:
        """By propagation, the methods that are not refused for every target."""
        live: dict[Propagation, list[Method]] = defaultdict(list)
        for method in self._methods:
            if any(method.name not in results.refused for results in self._job.results):
                live[method.propagation].append(method)
        return live

    def _chunk(self, indices: Tensor, samples: list[int]) -> None:
        job, live = self._job, self._live()
        images = job.images[indices]
        # Named only where something is drawn: it takes as long as a hundredth of a pass.
        keys = [0] * len(samples) if isinstance(self._sampling, Image) else [job.keys[i] for i in indices.tolist()]
        inputs = self._sampling.points(images, keys, samples)
        weights = inputs.new_tensor([self._weights[s] for s in samples])
        if not live:
            with torch.no_grad():
                tape = job.tape()
                self._note_output(tape, tape.record(inputs), indices)
            job.measured(tape, len(indices))
            return
        places = {place for methods in live.values() for m in methods for place in m.aggregation.places}
        ruled: set[Kind] = {kind for propagation in live for kind in propagation.rules}
        tape = job.tape(ruled, places)
        output = tape.record(inputs.detach().requires_grad_())
        values = self._note_output(tape, output, indices)
        del output
        pending = [
            _Pull(propagation, number, ready)
            for propagation, methods in live.items()
            for number in range(len(job.targets))
            if (ready := self._checked(tape, values[number], propagation, methods, number))
        ]
        for pull, following in zip_longest(pending, pending[1:]):
            again = following is not None and following.propagation is pull.propagation
            self._pull(tape, values[pull.target], pull, indices, weights, last=following is None, again=again)
        job.measured(tape, len(indices))

    def _note_output(self, tape: Tape, output: Any, indices: Tensor) -> list[Tensor]:
        """Predict and keep what the images themselves give; return the explained values for each target."""
        job, last = self._job, tape.last
        found = []
        for target, results in zip(job.targets, job.results, strict=True):
            if isinstance(self._sampling, Image):
                self._note_scores(output, indices, last, target, results)
            before = [tensor._version for tensor in tree_leaves(output) if isinstance(tensor, Tensor)]
            values = job.select(target, tape, output, indices)
            after = [tensor._version for tensor in tree_leaves(output) if isinstance(tensor, Tensor)]
            if before != after and len(job.targets) > 1:
                raise InputError(
                    "A target function writes over the model's output in place, which the other targets need too. "
                    "Let it work on a copy."
                )
            if isinstance(self._sampling, Image):
                results.values[indices] = values.detach().to(results.values)
            found.append(values)
        return found

    def _note_scores(
        self,
        output: Any,
        indices: Tensor,
        last: tuple[Operation, Tensor] | None,
        target: Target,
        results: Results,
    ) -> None:
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
            results.scores = scores.new_empty(len(self._job.images), scores.shape[1])
        results.scores[indices] = scores
        if isinstance(target, Classes):
            target.predict(scores, indices)

    def _checked(
        self, tape: Tape, values: Tensor, propagation: Propagation, methods: list[Method], number: int
    ) -> list[Method]:
        """The methods whose places have results and whose propagation covers every operation on the way."""
        results, ready = self._job.results[number], []
        for method in methods:
            refused = [tape.places.refused[p] for p in method.aggregation.places if p in tape.places.refused]
            if refused:
                results.refused.setdefault(method.name, refused[0])
            elif method.name not in results.refused:
                ready.append(method)
                for place in method.aggregation.places:
                    if place != INPUT:
                        results.where[method.name] = tape.places[place].where
        if isinstance(self._job.targets[number], Pair) and not propagation.explains_pairs:
            reason = (
                f"{propagation.name} explains one class, and has no answer to why one class rather than another: it "
                "would give both of a pair the same sign. Explain each class, or take another method for the pair."
            )
            results.refused |= {method.name: reason for method in ready}
            return []
        if propagation.passes is None:
            # The gradient is right through everything, so all that was performed was passed.
            for method in ready:
                results.operations.setdefault(method.name, propagation.passed(tape.performed))
            return ready
        passing = []
        for method in ready:
            try:
                gates = Kind.GATING not in propagation.rules
                counts = propagation.check(tape.walk(values, method.aggregation.places, gates=gates))
            except RefusalError as error:
                results.refused[method.name] = str(error)
            else:
                results.operations[method.name] = dict(counts)
                passing.append(method)
        return passing

    def _pull(
        self, tape: Tape, values: Tensor, pull: "_Pull", indices: Tensor, weights: Tensor, *, last: bool, again: bool
    ) -> None:
        propagation, results, totals = pull.propagation, self._job.results[pull.target], self._totals[pull.target]
        places = sorted({place for method in pull.methods for place in method.aggregation.places})
        try:
            signals, ledger = tape.pull_back(values, propagation, places, keep_graph=not last, again=again)
        except RefusalError as error:
            results.refused |= {method.name: str(error) for method in pull.methods}
            return
        for method in pull.methods:
            if any(signals[place] is None for place in method.aggregation.places):
                results.refused[method.name] = _NO_PATH
        ready = [method for method in pull.methods if method.name not in results.refused]
        if ledger is not None:
            flows = totals.flows[propagation]
            for operation, amounts in ledger.entries().items():
                _, before = flows.get(operation.order, ("", None))
                flows[operation.order] = str(operation), self._add(before, amounts, indices, weights)
        if self._sampling.reduces_signals:
            if ready:
                signal = signals[INPUT]
                assert signal is not None  # noqa: S101 - a path reads the input alone, and None was refused above
                totals.signals[propagation] = self._add(totals.signals.get(propagation), signal, indices, weights)
            return
        found = {place: tape.places[place].values.detach() for place in places if place not in tape.places.refused}
        for method in ready:
            known = {place: signal for place in method.aggregation.places if (signal := signals[place]) is not None}
            try:
                made = method.aggregation(found, known)
            except RefusalError as error:
                results.refused[method.name] = str(error)
            else:
                totals.maps[method.name] = self._add(totals.maps.get(method.name), made, indices, weights)

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

    def _finish(self, number: int) -> None:
        job, results, totals = self._job, self._job.results[number], self._totals[number]
        ready = [method for method in self._methods if method.name not in results.refused]
        if totals.signals:
            baseline = self._sampling.baseline(job.images)
            offset = job.images if baseline is None else job.images - baseline
            for method in ready:
                signal = totals.signals[method.propagation]
                totals.maps[method.name] = method.aggregation({INPUT: offset.to(signal.dtype)}, {INPUT: signal})
        for method in ready:
            results.maps[method.name] = totals.maps[method.name]
            if method.has_books and (flows := totals.flows.get(method.propagation)):
                ordered = [flows[order] for order in sorted(flows, reverse=True)]
                amounts = torch.stack([amounts for _, amounts in ordered])
                results.flows[method.name] = Flow(tuple(name for name, _ in ordered), amounts)

    def _measure_completeness(self) -> None:
        job = self._job
        complete = [m for m in self._methods if m.complete and any(m.name in r.maps for r in job.results)]
        baseline = self._sampling.baseline(job.images)
        if not complete or baseline is None:
            return
        indices = torch.arange(len(job.images), device=job.images.device)
        parts = [job.forward(baseline[list(chunk)], indices[list(chunk)]) for chunk in job.chunks(len(indices))]
        for results, values in zip(job.results, map(torch.cat, zip(*parts, strict=True)), strict=True):
            for method in complete:
                if method.name in results.maps:
                    total = results.maps[method.name].flatten(1).sum(1)
                    results.completeness[method.name] = total - (results.values - values).to(total)


@dataclass(frozen=True)
class _Pull:
    """A backward to be made: a propagation, for the target of a number, read by some methods."""

    propagation: Propagation
    target: int
    methods: list[Method]


_NO_PATH = (
    "The explained value does not depend, through differentiable operations, on the place that this method reads: the "
    "graph is cut (detach, no_grad, rounding, argmax), or that layer is not used. Nothing flows back: there is no map."
)
