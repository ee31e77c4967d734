"""The passes of one sampling, block of images by block, and what they come to."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sightline.aggregation import Amount
from sightline.errors import RefusalError
from sightline.explaining._chunks import Chunks
from sightline.explaining._decomposition import Decomposition
from sightline.explaining._group import Group
from sightline.explaining._network import Network
from sightline.explaining._pass import Pass
from sightline.explaining._results import Flow, Results
from sightline.explaining._totals import BlockTotals
from sightline.models import untouched
from sightline.propagation import Propagation
from sightline.sampling import Answer


class Passes:
    """The passes of one group of methods.

    Args:
        network: the network, with its images and targets.
        chunks: how many rows go through at once.
        group: the methods, and where what is found of them goes.

    Attributes:
        sizes: the rows of each pass that was made.
    """

    def __init__(self, network: Network, chunks: Chunks, group: Group) -> None:
        self._network, self._chunks, self._group = network, chunks, group
        self.sizes: list[int] = []
        # What each target has totals: for each method, for each block, by name.
        self._maps: list[dict[str, list[Tensor]]] = [defaultdict(list) for _ in group.results]
        self._flows: list[dict[Propagation, list[dict[int, tuple[str, Tensor]]]]] = [
            defaultdict(list) for _ in group.results
        ]
        self._amounts: list[dict[str, list[Mapping[int, Amount]]]] = [defaultdict(list) for _ in group.results]
        self._evaluations: list[Tensor] = []

    def run(self) -> None:
        """Run them all; refusals are recorded by method."""
        if not self._group.methods and not self._group.sampling.at_images:
            return
        reason = _ALL_AT_ONCE if self._group.sampling.steered and self._network.whole_batch else ""
        try:
            self._group = replace(self._group, sampling=self._group.sampling.bind(self._network.context))
        except RefusalError as error:
            reason = str(error)
        if reason:
            for results in self._group.results:
                results.refused |= {method.name: reason for method in self._group.methods}
            return
        self._pass = Pass(self._network, self._chunks, self._group)
        self._group.results[0].chunks[self._name()] = self.sizes
        images, start = len(self._network.images), 0
        while start < images:
            # Few enough images that what is added up for them takes no more memory than a pass.
            block = range(start, min(start + self._chunks.size, images))
            self._run_block(block)
            if self._group.done:
                return
            start = block.stop
        for number, results in enumerate(self._group.results):
            self._finish(number, results)
        self._measure_completeness()

    def _name(self) -> str:
        """The sampling's name in the records; a second one of its kind gets a number."""
        kind = type(self._group.sampling).__name__.lower()
        number = 1 + sum(name.split()[0] == kind for name in self._group.results[0].chunks)
        return kind if number == 1 else f"{kind} {number}"

    def _run_block(self, block: range) -> None:
        sampling, results = self._group.sampling, self._group.results
        totals = [BlockTotals(len(block), steered=sampling.steered) for _ in results]
        rounds = sampling.rounds(len(block))
        rows, done = next(rounds), 0
        counts = torch.zeros(len(block), dtype=torch.long)
        while True:
            answers: list[Answer] = []
            for part in [range(len(rows))] if sampling.at_images else self._chunks.cut(len(rows)):
                chosen = rows[part.start : part.stop]
                self.sizes.append(len(chosen))
                with untouched(self._network.model):
                    answers += self._pass.run(block, chosen, slice(done, done + len(chosen)), totals)
                done += len(chosen)
            for row in rows:
                counts[row.image] += 1
            if self._group.done:
                return
            try:
                rows = rounds.send(answers)
            except StopIteration as stop:
                weights = torch.tensor(stop.value, dtype=torch.float64)
                break
        if sampling.steered:
            self._evaluations.append(counts)
        for number, found in enumerate(totals):
            found.close(weights)
            for method in self._group.methods:
                if method.name not in results[number].refused:
                    self._maps[number][method.name].append(found.map(method, self._network.size))
            for propagation, flows in found.flows.items():
                self._flows[number][propagation].append(flows)
            for name, amounts in found.amounts.items():
                self._amounts[number][name].append(amounts)

    def _finish(self, number: int, results: Results) -> None:
        drawn: set[int] = set()
        for method in self._group.methods:
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
                results.flows[method.name] = _flow(flows)
            if self._evaluations:
                results.evaluations[method.name] = torch.cat(self._evaluations)
            if method.decomposes:
                amounts = self._amounts[number][method.name]
                results.decompositions[method.name] = Decomposition.of(results.values, amounts)
                results.completeness[method.name] = results.decompositions[method.name].residual

    def _measure_completeness(self) -> None:
        network, results = self._network, self._group.results
        complete = [m for m in self._group.methods if m.complete and any(m.name in one.maps for one in results)]
        baselines = self._group.sampling.baselines(network.images)
        if not complete or not baselines:
            return
        indices = torch.arange(len(network.images), device=network.images.device)
        found = []
        for baseline in baselines:
            cut = map(list, self._chunks.cut(len(indices)))
            parts = [network.forward(baseline[rows], indices[rows]) for rows in cut]
            found.append([torch.cat(values) for values in zip(*parts, strict=True)])
        for one, values in zip(results, zip(*found, strict=True), strict=True):
            from_baselines = torch.stack(values).mean(0)
            for method in complete:
                if method.name in one.maps:
                    total = one.maps[method.name].flatten(1).sum(1)
                    one.completeness[method.name] = total - (one.values - from_baselines).to(total)


def _flow(blocks: list[dict[int, tuple[str, Tensor]]]) -> Flow:
    orders = sorted(blocks[0], reverse=True)
    amounts = torch.stack([torch.cat([block[order][1] for block in blocks]) for order in orders])
    return Flow(tuple(blocks[0][order][0] for order in orders), amounts)


_ALL_AT_ONCE = (
    "A target function that needs all images at once cannot go with an adaptive path, which asks for some of them "
    "again. Let the function take (output, images), or take a Path."
)
