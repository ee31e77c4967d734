"""The planner: methods are grouped so that nothing is computed twice, and run in chunks that fit the memory.

Methods of one sampling share their forward passes. Rules change only the backward, so one forward serves every
propagation and every target; one backward per propagation and target serves every aggregation that reads from it. The
pass on the images themselves is always made: it also predicts the classes, and gives the values that completeness is
measured against.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from sightline.aggregation import resized
from sightline.explaining._chunks import Chunks
from sightline.explaining._group import Group
from sightline.explaining._network import Network
from sightline.explaining._passes import Passes
from sightline.explaining._results import Results
from sightline.explaining._rowwise import NeedsWholeBatch
from sightline.methods import Method
from sightline.sampling import Image, Sampling

_IMAGES = Image()


class Job:
    """Some methods for one network.

    Args:
        network: the network, with its images and targets.
        methods: the methods, with distinct names.
        chunks: how many rows go through at once; by default from the memory at hand.

    Attributes:
        results: what was found, for each target.
    """

    def __init__(self, network: Network, methods: Sequence[Method], chunks: Chunks | None = None) -> None:
        self._network, self._methods = network, list(methods)
        self._chunks = chunks or Chunks(network.images)
        self._groups: dict[Sampling, list[Method]] = defaultdict(list)
        self._groups[_IMAGES] = []
        for method in methods:
            for factor in method.factors:
                self._groups[_IMAGES if factor.sampling.at_images else factor.sampling.shared_key].append(factor)
        if network.whole_batch:
            self._chunks.all_at_once()
        self.results: list[Results] = []

    def run(self) -> list[Results]:
        """Run every pass; refusals are recorded by method, and other methods go on.

        Raises:
            RefusalError: what the model says changes from call to call.
        """
        several = any(len(sampling.weights) > 1 or sampling.steered for sampling in self._groups)
        self._network.refuse_accidents(several=several)
        try:
            self._run()
        except NeedsWholeBatch:
            # What a function by place gave for some of the images is void; for all of them at once it is right.
            self._network.all_at_once()
            self._chunks.all_at_once()
            self._run()
        for results in self.results:
            for method in self._methods:
                if method.times is not None:
                    _multiply(method, results)
        return self.results

    def _run(self) -> None:
        images = self._network.images
        chunks: dict[str, list[int]] = {}
        self._chunks.begin(len(images) * sum(len(sampling.weights) for sampling in self._groups))
        self.results = [Results(values=images.new_empty(len(images)), chunks=chunks) for _ in self._network.targets]
        with torch.enable_grad():
            for sampling, methods in self._groups.items():
                passes = Passes(self._network, self._chunks, Group(sampling, methods, self.results))
                passes.run()
                if sampling.at_images:
                    self._network.check_functions(whole=passes.sizes == [len(images)])
                    if self._network.whole_batch:
                        self._chunks.all_at_once()


def _multiply(method: Method, results: Results) -> None:
    """Join the maps of a product's factors, at the first one's size."""
    first, second = method.factors
    refused = [results.refused.pop(part.name, "") for part in (first, second)]
    maps = [results.maps.pop(part.name, None) for part in (first, second)]
    placements = [results.placements.pop(part.name, None) for part in (first, second)]
    _move(results.operations, (first.name, second.name), method.name)
    _move(results.where, (first.name, second.name), method.name)
    _move(results.remarks, (first.name,), method.name)
    results.remarks.pop(second.name, None)
    # What holds of a factor's sum does not hold of the product's.
    for checks in (results.completeness, results.evaluations, results.flows, results.decompositions):
        for part in (first, second):
            checks.pop(part.name, None)
    if maps[0] is None or maps[1] is None:
        results.refused[method.name] = " ".join(dict.fromkeys(filter(None, refused)))
    else:
        height, width = maps[0].shape[2:]
        placement = placements[1]
        # Stretched over the image, as is usual, but where that would be off by more than half a cell.
        if placement is None or placement.covers_evenly(tolerance=0.5):
            results.maps[method.name] = maps[0] * resized(maps[1], (height, width))
        else:
            results.maps[method.name] = maps[0] * placement.draw(maps[1])


def _move(found: dict[str, Any], names: Sequence[str], to: str) -> None:
    """Enter what is known of the first of some names under another name."""
    known = [found.pop(name) for name in names if name in found]
    if known:
        found[to] = known[0]
