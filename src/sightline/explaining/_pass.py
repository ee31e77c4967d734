"""One pass: a forward of some rows, and a backward for each propagation and target, read by every aggregation."""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from sightline._common.torch_private import tree_leaves, version_of
from sightline.aggregation import Aggregation, Backward, Part, Placement, Reader
from sightline.errors import InputError, RefusalError
from sightline.explaining._chunks import Chunks
from sightline.explaining._group import Group
from sightline.explaining._network import Network
from sightline.explaining._results import Results
from sightline.explaining._targets import Target
from sightline.explaining._totals import BlockTotals, PassResult
from sightline.methods import Method
from sightline.models import class_scores
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
from sightline.propagation import Propagation
from sightline.sampling import Answer, Row


class Pass:
    """The passes of one group of methods, one after the other.

    Args:
        network: the network, with its images and targets.
        chunks: learns what each pass took.
        group: the methods that share the passes, with a sampling that knows what it needs of the images.
    """

    def __init__(self, network: Network, chunks: Chunks, group: Group) -> None:
        self._network, self._chunks, self._group = network, chunks, group

    def run(self, block: range, rows: list[Row], place: slice, totals: list[BlockTotals]) -> list[Answer]:
        """One forward, and its backwards.

        Args:
            block: the images whose maps are being made.
            rows: which of them, and which of their samples, go through.
            place: the rows' places among all of the block's.
            totals: takes the maps, for each target.

        Returns:
            The explained values and the sums of the map at each row, where they steer which rows follow.
        """
        network, live = self._network, self._group.live()
        sampling, device = self._group.sampling, network.images.device
        local = torch.tensor([row.image for row in rows], device=device)
        indices = local + block.start
        images = network.images[indices]
        # Named only where something is drawn: it takes as long as a hundredth of a pass.
        keys = [network.keys[i] for i in indices.tolist()] if sampling.random else [0] * len(rows)
        inputs, offsets = sampling.points(images, keys, [row.sample for row in rows])
        if not live:
            with torch.no_grad():
                tape = network.tape()
                self._note_output(tape, tape.record(inputs), indices)
            self._chunks.ran(len(rows), tape.bytes)
            return []
        places = {place for methods in live.values() for m in methods for place in m.aggregation.places}
        ruled: set[Kind] = {kind for propagation in live for kind in propagation.rules}
        intercepts = any(m.aggregation.reads_biases for methods in live.values() for m in methods)
        tape = network.tape(ruled, places, intercepts=intercepts)
        try:
            output = tape.record(inputs.detach().requires_grad_())
        except RecomputationError:
            # The others go on as if asked alone.
            self._refuse_rules(live)
            return self.run(block, rows, place, totals)
        except RuledPassError as error:
            for method in self._group.methods:
                if method.propagation.rules or method.aggregation.reads_biases:
                    self._group.refuse(method, str(error))
            return self.run(block, rows, place, totals)
        values = self._note_output(tape, output, indices)
        del output
        for found in totals:
            found.sums = None
        pending = [
            _Pull(propagation, number, ready)
            for propagation, methods in live.items()
            for number in range(len(network.targets))
            if (ready := self._checked(tape, values[number], propagation, methods, number))
        ]
        weights = (
            torch.ones(len(rows), device=device)
            if sampling.steered
            else torch.tensor([sampling.weights[int(row.sample)] for row in rows], dtype=torch.float64)
        ).to(device)
        ran = PassResult(tape, values, offsets, local, weights, place)
        for pull, following in zip_longest(pending, pending[1:]):
            again = following is not None and following.propagation is pull.propagation
            self._pull(ran, pull, totals[pull.target], last=following is None, again=again)
        self._chunks.ran(len(rows), tape.bytes)
        return _answers(values, totals) if sampling.steered else [Answer((), ())] * len(rows)

    def _refuse_rules(self, live: dict[Propagation, list[Method]]) -> None:
        """Refuse the methods that need more than the gradient, for a model that recomputes part of itself."""
        for propagation, methods in live.items():
            for method in methods:
                full = method.aggregation.reads_biases
                if propagation.rules or full:
                    self._group.refuse(method, recomputed(method.name if full else propagation.name))

    def _note_output(self, tape: Tape, output: Any, indices: Tensor) -> list[Tensor]:
        """Predict and keep what the images themselves give; return the explained values for each target."""
        network, at_images = self._network, self._group.sampling.at_images
        found = []
        for target, results in zip(network.targets, self._group.results, strict=True):
            if at_images:
                self._note_scores(tape, output, indices, target, results)
            before = _versions(output)
            values = network.select(target, tape, output, indices)
            after = _versions(output)
            if before != after and len(network.targets) > 1:
                raise InputError(
                    "A target function writes over the model's output in place, which the other targets need too. "
                    "Let it work on a copy."
                )
            if at_images:
                results.values[indices] = values.detach().to(results.values)
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
            # A target of classes refuses it too, when it is asked for its values.
            return
        if (last := tape.ends_in(scores)) is not None:
            results.ends_in = last
        results.combines = tape.combines(scores)
        scores = scores.detach()
        if results.scores is None:
            results.scores = scores.new_empty(len(self._network.images), scores.shape[1])
        results.scores[indices] = scores
        target.predict(scores, indices)

    def _checked(
        self, tape: Tape, values: Tensor, propagation: Propagation, methods: list[Method], number: int
    ) -> list[Method]:
        """The methods whose places have results and whose propagation covers every operation on the way."""
        results, ready, seen = self._group.results[number], [], tape.seen_from(values)
        if not values.requires_grad:
            for method in methods:
                results.refused.setdefault(method.name, NO_PATH)
        for method in methods:
            refused = [seen.refused[p] for p in method.aggregation.places if p in seen.refused]
            refused += [] if refused else _off_grid(method.aggregation, seen)
            if not refused and (reason := method.aggregation.refusal(tape, values)):
                refused = [reason]
            if refused:
                results.refused.setdefault(method.name, refused[0])
            elif method.name not in results.refused:
                ready.append(method)
                for place in method.aggregation.places:
                    if place != INPUT:
                        results.where[method.name] = seen[place].where
                        grid = seen[place].grid
                        if isinstance(grid, Grid):
                            results.placements[method.name] = Placement.of(grid, self._network.size)
        if self._network.targets[number].compares and not propagation.explains_pairs:
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

    def _pull(self, ran: PassResult, pull: "_Pull", totals: BlockTotals, *, last: bool, again: bool) -> None:
        propagation, results, tape = pull.propagation, self._group.results[pull.target], ran.tape
        places = sorted({place for method in pull.methods for place in method.aggregation.places})
        values = ran.values[pull.target]
        backward = Backward(values, self._network.size, derivative=propagation.derivative)
        readers = {method.name: _reader(method, backward, totals, ran) for method in pull.methods}
        try:
            signals, ledger = tape.pull_back(
                values,
                propagation,
                places,
                keep_graph=not last,
                again=again,
                on_intercept=backward.on_bias,
            )
        except RefusalError as error:
            results.refused |= {method.name: str(error) for method in pull.methods}
            return
        finally:
            backward.ran(tape.hooks.reason if tape.hooks.changed else "")
        for method in pull.methods:
            if any(signals[place] is None for place in method.aggregation.places):
                results.refused[method.name] = NO_PATH
        ready = [method for method in pull.methods if method.name not in results.refused]
        if ledger is not None and ledger.growth is not None:
            for method in ready:
                results.growth[method.name] = max(ledger.growth, results.growth.get(method.name, ledger.growth))
        if ledger is not None and ledger.rounding is not None:
            for method in ready:
                results.rounding[method.name] = max(ledger.rounding, results.rounding.get(method.name, ledger.rounding))
        if ledger is not None and self._group.sampling.at_images:
            totals.flows[propagation] = {
                operation.order: (str(operation), amounts) for operation, amounts in ledger.entries().items()
            }
        seen = tape.seen_from(values)
        found = {place: seen[place].values.detach() for place in places if place not in seen.refused}
        found[INPUT] = ran.offsets.detach()
        for method in ready:
            aggregation = method.aggregation
            known = {place: signal for place in aggregation.places if (signal := signals[place]) is not None}
            here = found
            if aggregation.on_grid:
                grids = {place: grid for place in known if isinstance(grid := seen[place].grid, Grid)}
                here = {**found, **{place: grid.read(found[place]) for place, grid in grids.items()}}
                known |= {place: grid.read(known[place]) for place, grid in grids.items()}
            reader = readers[method.name]
            try:
                made = reader.map(here, known)
            except RefusalError as error:
                results.refused[method.name] = str(error)
                continue
            if reader.remarks is not None:
                # What holds of every row of every pass.
                results.remarks[method.name] = reader.remarks & results.remarks.get(method.name, reader.remarks)
            if reader.amounts is not None and self._group.sampling.at_images:
                totals.amounts[method.name] = reader.amounts
            if made is not None:
                totals.add(method, made, ran)


def _answers(values: list[Tensor], totals: list[BlockTotals]) -> list[Answer]:
    # A target without a map asks for nothing more, which is what NaN comes to.
    sums = [torch.full_like(v, torch.nan) if g.sums is None else g.sums for v, g in zip(values, totals, strict=True)]
    said = torch.stack([found.detach().double() for found in values], 1).tolist()
    at_rows = torch.stack([found.detach().double() for found in sums], 1).tolist()
    return [Answer(tuple(value), tuple(total)) for value, total in zip(said, at_rows, strict=True)]


def _off_grid(aggregation: Aggregation, seen: Seen) -> list[str]:
    """Why an aggregation that reads places cannot read those of its layer, if so."""
    if not aggregation.on_grid:
        return []
    return [
        f"A map of {place.where} needs to know which of its axes are the image's places, and of its result, shape "
        f"{tuple(place.values.shape)}, that cannot be told: {place.grid.reason}. Name another layer."
        for place in map(seen.__getitem__, aggregation.places)
        if isinstance(place.grid, Unreadable)
    ]


def _reader(method: Method, backward: Backward, totals: BlockTotals, ran: PassResult) -> Reader:
    def average(order: int, term: Part) -> None:
        totals.add_term(method.name, order, term, ran)

    return method.aggregation.reader(backward, average if method.sampling.before else None)


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
