"""The passes of one sampling: forward, and backward for each propagation and target, block of images by block."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline._common.torch_private import tree_leaves, version_of
from sightline.aggregation import CAM, Aggregation, FullGrad, Placement
from sightline.errors import InputError, RefusalError
from sightline.explaining._functions import Function
from sightline.explaining._layers import Layers, decomposition, without_intercept
from sightline.explaining._results import Flow, Results
from sightline.explaining._rowwise import NeedsWholeBatch
from sightline.explaining._targets import Classes, Pair, Target
from sightline.explaining._totals import Asked, Gathered, Term
from sightline.methods._method import Method
from sightline.models._outputs import class_scores
from sightline.models._untouched import untouched
from sightline.operations import (
    INPUT,
    NO_PATH,
    Grid,
    Kind,
    RecomputationError,
    RuledPassError,
    Seen,
    Tape,
    Unreadable,
    kinds,
    recomputed,
)
from sightline.propagation import GRADIENT, Propagation
from sightline.sampling import Image, Sampling
from sightline.sampling._base import Answer, Row

if TYPE_CHECKING:
    from sightline.explaining._planner import Job


class Passes:
    """The methods of one sampling.

    Args:
        job: what they belong to; results go into its `results`.
        sampling: theirs.
        methods: the methods.
    """

    def __init__(self, job: "Job", sampling: Sampling, methods: list[Method]) -> None:
        self._job, self._sampling, self._methods = job, sampling, methods
        # What each target has gathered: for each method, for each block, by name.
        self._maps: list[dict[str, list[Tensor]]] = [defaultdict(list) for _ in job.targets]
        self._flows: list[dict[Propagation, list[dict[int, tuple[str, Tensor]]]]] = [
            defaultdict(list) for _ in job.targets
        ]
        self._terms: list[list[dict[int, Term]]] = [[] for _ in job.targets]
        self._asked: list[Tensor] = []

    def run(self) -> None:
        """Run them all; refusals are recorded by method."""
        job = self._job
        if not self._methods and not isinstance(self._sampling, Image):
            return
        reason = _ALL_AT_ONCE if self._sampling.steered and job.whole_batch else ""
        try:
            self._sampling = self._sampling.given(job.context)
        except RefusalError as error:
            reason = str(error)
        if reason:
            for results in job.results:
                results.refused |= {method.name: reason for method in self._methods}
            return
        sizes = job.results[0].chunks[self._name()] = []
        start = 0
        while start < len(job.images):
            # Few enough images that what is added up for them takes no more memory than a pass.
            block = range(start, min(start + job.size, len(job.images)))
            self._run_block(block, sizes)
            if not self._live() and not isinstance(self._sampling, Image):
                return
            start = block.stop
        if isinstance(self._sampling, Image):
            self._check_functions(whole=sizes == [len(job.images)])
        for number, results in enumerate(job.results):
            self._finish(number, results)
        self._measure_completeness()

    def _check_functions(self, *, whole: bool) -> None:
        """See that target functions give each image its own value; those that go by place need all images at once."""
        try:
            for target in self._job.targets:
                if isinstance(target, Function):
                    target.check()
        except NeedsWholeBatch:
            if not whole:
                raise
            # They have had them this time.
            self._job.all_at_once()

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

    def _run_block(self, block: range, sizes: list[int]) -> None:
        job = self._job
        gathered = [Gathered(len(block), steered=self._sampling.steered) for _ in job.targets]
        rounds = self._sampling.rounds(len(block))
        rows, asked = next(rounds), 0
        counts = torch.zeros(len(block), dtype=torch.long)
        while True:
            answers: list[Answer] = []
            for part in [range(len(rows))] if isinstance(self._sampling, Image) else job.chunks(len(rows)):
                chosen = rows[part.start : part.stop]
                sizes.append(len(chosen))
                with untouched(job.model):
                    answers += self._pass(block, chosen, slice(asked, asked + len(chosen)), gathered)
                asked += len(chosen)
            for row in rows:
                counts[row.image] += 1
            if not self._live() and not isinstance(self._sampling, Image):
                return
            try:
                rows = rounds.send(answers)
            except StopIteration as stop:
                weights = torch.tensor(stop.value, dtype=torch.float64)
                break
        if self._sampling.steered:
            self._asked.append(counts)
        pixels = (int(job.images.shape[2]), int(job.images.shape[3]))
        for number, (found, results) in enumerate(zip(gathered, job.results, strict=True)):
            found.close(weights)
            for method in self._methods:
                if method.name in results.refused:
                    continue
                self._maps[number][method.name].append(found.map(method, pixels))
            for propagation, flows in found.flows.items():
                self._flows[number][propagation].append(flows)
            self._terms[number].append(found.terms)

    def _pass(self, block: range, rows: list[Row], place: slice, gathered: list[Gathered]) -> list[Answer]:
        """One forward, and its backwards; what the network answered at each row, where that steers the next."""
        job, live = self._job, self._live()
        device = job.images.device
        local = torch.tensor([row.image for row in rows], device=device)
        indices = local + block.start
        images = job.images[indices]
        # Named only where something is drawn: it takes as long as a hundredth of a pass.
        keys = [job.keys[i] for i in indices.tolist()] if self._sampling.random else [0] * len(rows)
        inputs, offsets = self._sampling.points(images, keys, [row.sample for row in rows])
        if not live:
            with torch.no_grad():
                tape = job.tape()
                self._note_output(tape, tape.record(inputs), indices)
            job.measured(tape, len(rows))
            return []
        places = {place for methods in live.values() for m in methods for place in m.aggregation.places}
        ruled: set[Kind] = {kind for propagation in live for kind in propagation.rules}
        intercepts = any(isinstance(m.aggregation, FullGrad) for methods in live.values() for m in methods)
        tape = job.tape(ruled, places, intercepts=intercepts)
        try:
            output = tape.record(inputs.detach().requires_grad_())
        except RecomputationError:
            # The others go on as if asked alone.
            self._refuse_rules(live)
            return self._pass(block, rows, place, gathered)
        except RuledPassError as error:
            for results in job.results:
                for method in self._methods:
                    if method.propagation.rules or isinstance(method.aggregation, FullGrad):
                        results.refused.setdefault(method.name, str(error))
            return self._pass(block, rows, place, gathered)
        values = self._note_output(tape, output, indices)
        del output
        for found in gathered:
            found.sums = None
        pending = [
            _Pull(propagation, number, ready)
            for propagation, methods in live.items()
            for number in range(len(job.targets))
            if (ready := self._checked(tape, values[number], propagation, methods, number))
        ]
        weights = (
            torch.ones(len(rows), device=device)
            if self._sampling.steered
            else torch.tensor([self._sampling.weights[int(row.sample)] for row in rows], dtype=torch.float64)
        ).to(device)
        asked = Asked(tape, values, offsets, local, weights, place)
        for pull, following in zip_longest(pending, pending[1:]):
            again = following is not None and following.propagation is pull.propagation
            self._pull(asked, pull, gathered[pull.target], last=following is None, again=again)
        job.measured(tape, len(rows))
        return self._answers(values, gathered) if self._sampling.steered else [Answer((), ())] * len(rows)

    def _refuse_rules(self, live: dict[Propagation, list[Method]]) -> None:
        """Refuse the methods that need more than the gradient, for a model that recomputes part of itself."""
        for propagation, methods in live.items():
            for method in methods:
                full = isinstance(method.aggregation, FullGrad)
                if propagation.rules or full:
                    reason = recomputed(method.name if full else propagation.name)
                    for results in self._job.results:
                        results.refused.setdefault(method.name, reason)

    def _answers(self, values: list[Tensor], gathered: list[Gathered]) -> list[Answer]:
        # A target without a map asks for nothing more, which is what NaN comes to.
        sums = [
            torch.full_like(v, torch.nan) if g.sums is None else g.sums for v, g in zip(values, gathered, strict=True)
        ]
        said = torch.stack([found.detach().double() for found in values], 1).tolist()
        totals = torch.stack([found.detach().double() for found in sums], 1).tolist()
        return [Answer(tuple(value), tuple(total)) for value, total in zip(said, totals, strict=True)]

    def _note_output(self, tape: Tape, output: Any, indices: Tensor) -> list[Tensor]:
        """Predict and keep what the images themselves give; return the explained values for each target."""
        job = self._job
        found = []
        for target, results in zip(job.targets, job.results, strict=True):
            if isinstance(self._sampling, Image):
                self._note_scores(tape, output, indices, target, results)
            before = _versions(output)
            values = job.select(target, tape, output, indices)
            after = _versions(output)
            if before != after and len(job.targets) > 1:
                raise InputError(
                    "A target function writes over the model's output in place, which the other targets need too. "
                    "Let it work on a copy."
                )
            if isinstance(self._sampling, Image):
                results.values[indices] = values.detach().to(results.values)
                if isinstance(target, Function):
                    target.keep(output, indices, values)
            found.append(values)
        return found

    def _note_scores(
        self,
        tape: Tape,
        output: Any,
        indices: Tensor,
        target: Target,
        results: Results,
    ) -> None:
        try:
            scores = class_scores(output, len(indices))
        except RefusalError:
            if isinstance(target, Classes):
                raise
            return
        if (last := tape.ends_in(scores)) is not None:
            results.ends_in = last
        results.combines = tape.combines(scores)
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
        results, ready, seen = self._job.results[number], [], tape.seen_from(values)
        if not values.requires_grad:
            for method in methods:
                results.refused.setdefault(method.name, NO_PATH)
        for method in methods:
            refused = [seen.refused[p] for p in method.aggregation.places if p in seen.refused]
            refused += [] if refused else _off_grid(method.aggregation, seen)
            if not refused and isinstance(method.aggregation, FullGrad):
                refused = without_intercept(tape, values, method.aggregation)
            if refused:
                results.refused.setdefault(method.name, refused[0])
            elif method.name not in results.refused:
                ready.append(method)
                for place in method.aggregation.places:
                    if place != INPUT:
                        results.where[method.name] = seen[place].where
                        grid = seen[place].grid
                        if isinstance(grid, Grid):
                            results.placements[method.name] = Placement.of(grid, self._job.images.shape[2:])
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
                gates = kinds.GATING not in propagation.rules
                counts = propagation.check(tape.walk(values, method.aggregation.places, gates=gates))
            except RefusalError as error:
                results.refused[method.name] = str(error)
            else:
                results.operations[method.name] = dict(counts)
                passing.append(method)
        return passing

    def _pull(self, asked: Asked, pull: "_Pull", gathered: Gathered, *, last: bool, again: bool) -> None:
        propagation, results, tape = pull.propagation, self._job.results[pull.target], asked.tape
        places = sorted({place for method in pull.methods for place in method.aggregation.places})
        values = asked.values[pull.target]
        layers = Layers(pull.methods, gathered, asked)
        try:
            signals, ledger = tape.pull_back(
                values,
                propagation,
                places,
                keep_graph=not last,
                again=again,
                on_intercept=layers.hear if layers.methods else None,
            )
        except RefusalError as error:
            results.refused |= {method.name: str(error) for method in pull.methods}
            return
        for method in pull.methods:
            if any(signals[place] is None for place in method.aggregation.places):
                results.refused[method.name] = NO_PATH
        signal = signals.get(INPUT)
        if layers.methods and signal is not None:
            wrong = layers.wrong(values, asked.offsets, signal)
            if tape.hooks.changed:
                reason = f"FullGrad's parts do not add up to the explained value: {tape.hooks.reason}"
                wrong = dict.fromkeys((method.name for method in layers.methods), reason)
            results.refused |= wrong
        ready = [method for method in pull.methods if method.name not in results.refused]
        if isinstance(self._sampling, Image) and layers.methods:
            gathered.terms = layers.terms
        if ledger is not None and ledger.growth is not None:
            for method in ready:
                results.growth[method.name] = max(ledger.growth, results.growth.get(method.name, ledger.growth))
        if ledger is not None and ledger.rounding is not None:
            for method in ready:
                results.rounding[method.name] = max(ledger.rounding, results.rounding.get(method.name, ledger.rounding))
        if ledger is not None and isinstance(self._sampling, Image):
            gathered.flows[propagation] = {
                operation.order: (str(operation), amounts) for operation, amounts in ledger.entries().items()
            }
        seen = tape.seen_from(values)
        found = {place: seen[place].values.detach() for place in places if place not in seen.refused}
        found[INPUT] = asked.offsets.detach()
        noted: set[str] = set()
        for method in ready:
            aggregation = method.aggregation
            known = {place: signal for place in aggregation.places if (signal := signals[place]) is not None}
            here = found
            if getattr(aggregation, "on_grid", False):
                grids = {place: grid for place in known if isinstance(grid := seen[place].grid, Grid)}
                here = {**found, **{place: grid.read(found[place]) for place, grid in grids.items()}}
                known |= {place: grid.read(known[place]) for place, grid in grids.items()}
            try:
                if isinstance(aggregation, FullGrad):
                    layers.add_input(method, aggregation, found[INPUT], known[INPUT])
                    continue
                made = aggregation(here, known)
            except RefusalError as error:
                results.refused[method.name] = str(error)
                continue
            if isinstance(aggregation, CAM) and propagation is GRADIENT and aggregation.places[0] not in noted:
                self._note_coincidences(aggregation, results, here, known)
                noted.add(aggregation.places[0])
            gathered.add(method, made, asked)

    def _note_coincidences(
        self, aggregation: CAM, results: Results, found: dict[str, Tensor], known: dict[str, Tensor]
    ) -> None:
        """What holds of every row of every pass."""
        here = aggregation.coincidences(found, known)
        (place,) = aggregation.places
        results.coincidences[place] = here & results.coincidences.get(place, here)

    def _finish(self, number: int, results: Results) -> None:
        drawn: set[int] = set()
        for method in self._methods:
            if method.name in results.refused:
                continue
            blocks = self._maps[number][method.name]
            joined = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
            # Two methods may have read off the same tensor; each gets its own.
            joined = joined.clone() if joined.data_ptr() in drawn else joined
            drawn.add(joined.data_ptr())
            results.maps[method.name] = joined
            flows = self._flows[number].get(method.propagation)
            if method.has_books and flows:
                self._finish_flows(method, flows, results)
            if self._asked:
                results.evaluations[method.name] = torch.cat(self._asked)
            if method.decomposes:
                results.decompositions[method.name] = decomposition(results.values, self._terms[number])
                results.completeness[method.name] = results.decompositions[method.name].residual

    def _finish_flows(self, method: Method, flows: list[dict[int, tuple[str, Tensor]]], results: Results) -> None:
        orders = sorted(flows[0], reverse=True)
        amounts = torch.stack([torch.cat([block[order][1] for block in flows]) for order in orders])
        results.flows[method.name] = Flow(tuple(flows[0][order][0] for order in orders), amounts)

    def _measure_completeness(self) -> None:
        job = self._job
        complete = [m for m in self._methods if m.complete and any(m.name in r.maps for r in job.results)]
        baselines = self._sampling.baselines(job.images)
        if not complete or not baselines:
            return
        indices = torch.arange(len(job.images), device=job.images.device)
        found = []
        for baseline in baselines:
            parts = [job.forward(baseline[list(chunk)], indices[list(chunk)]) for chunk in job.chunks(len(indices))]
            found.append([torch.cat(values) for values in zip(*parts, strict=True)])
        for results, values in zip(job.results, zip(*found, strict=True), strict=True):
            from_baselines = torch.stack(values).mean(0)
            for method in complete:
                if method.name in results.maps:
                    total = results.maps[method.name].flatten(1).sum(1)
                    results.completeness[method.name] = total - (results.values - from_baselines).to(total)


def _off_grid(aggregation: Aggregation, seen: Seen) -> list[str]:
    """Why an aggregation that reads places cannot read those of its layer, if so."""
    if not getattr(aggregation, "on_grid", False):
        return []
    return [
        f"A map of {place.where} needs to know which of its axes are the image's places, and of its result, shape "
        f"{tuple(place.values.shape)}, that cannot be told: {place.grid.reason}. Name another layer."
        for place in map(seen.__getitem__, aggregation.places)
        if isinstance(place.grid, Unreadable)
    ]


def _versions(output: Any) -> list[int]:
    """By which a write into an output shows; what was made under torch.inference_mode knows none."""
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    return [version_of(tensor) for tensor in tensors if not tensor.is_inference()]


@dataclass(frozen=True)
class _Pull:
    """A backward to be made: a propagation, for the target of a number, read by some methods."""

    propagation: Propagation
    target: int
    methods: list[Method]


_ALL_AT_ONCE = (
    "A target function that needs all images at once cannot go with an adaptive path, which asks for some of them "
    "again. Let the function take (output, images), or take a Path."
)
