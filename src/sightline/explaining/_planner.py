"""The planner: methods are grouped so that nothing is computed twice, and run in chunks that fit the memory.

Methods of one sampling share their forward passes. Rules change only the backward, so one forward serves every
propagation and every target; one backward per propagation and target serves every aggregation that reads from it. The
pass on the images themselves is always made: it also predicts the classes, and gives the values that completeness is
measured against.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sightline._common.memory import first_chunk, next_chunk
from sightline._common.torch_private import tree_leaves
from sightline.aggregation import resized
from sightline.errors import InputError
from sightline.explaining._functions import Function
from sightline.explaining._options import Progress
from sightline.explaining._passes import Passes
from sightline.explaining._results import Results
from sightline.explaining._rowwise import NeedsWholeBatch
from sightline.explaining._targets import Target
from sightline.methods._method import Method
from sightline.models._untouched import untouched
from sightline.operations import Kind, Tape, refuse_chance, refuse_mixing
from sightline.sampling import Context, Image, Sampling
from sightline.sampling._seeds import image_key, seed_of

# Images among which two unlike the first are sought.
_LOOKED_AT = 64


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
        memory: bytes that a pass may take, where `chunk` does not say; by default from the memory at hand.
        progress: called with rows done and rows in all.
        context: what samplings and rules may need to know of the images.

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
        memory: int | None = None,
        progress: Progress | None = None,
        context: Context | None = None,
    ) -> None:
        self.model, self.images, self.targets = model, images, list(targets)
        self.context = context or Context()
        self._chunk, self._memory, self._progress = chunk, memory, progress
        self._measured = 0
        self._seed, self._image_names = seed, image_names
        self._methods = list(methods)
        self._groups: dict[Sampling, list[Method]] = defaultdict(list)
        self._groups[Image()] = []
        for method in methods:
            for factor in method.factors:
                self._groups[factor.sampling.asked].append(factor)
        self._done = 0
        self.whole_batch = any(target.whole_batch for target in targets)
        if self.whole_batch:
            self._all_at_once()
        self.results = self._begun()
        self.target_places = {place for target in targets for place in target.places}

    def run(self) -> list[Results]:
        """Run every pass; refusals are recorded by method, and other methods go on.

        Raises:
            RefusalError: what the model says changes from call to call.
        """
        self._refuse_accidents()
        try:
            self._pass()
        except NeedsWholeBatch:
            # What a function by place gave for some of the images is void; for all of them at once it is right.
            self.all_at_once()
            self._done, self.results = 0, self._begun()
            self._pass()
        for results in self.results:
            for method in self._methods:
                if method.times is not None:
                    self._multiply(method, results)
        return self.results

    def _pass(self) -> None:
        with torch.enable_grad():
            for sampling, methods in self._groups.items():
                Passes(self, sampling, methods).run()

    def _begun(self) -> list[Results]:
        self._total = len(self.images) * sum(len(sampling.weights) for sampling in self._groups)
        chunks: dict[str, list[int]] = {}
        return [Results(values=self.images.new_empty(len(self.images)), chunks=chunks) for _ in self.targets]

    def all_at_once(self) -> None:
        """From now on, have all images in each pass, in their order."""
        for target in self.targets:
            if isinstance(target, Function):
                target.all_at_once()
        self._all_at_once()

    def _all_at_once(self) -> None:
        if self._chunk not in {None, len(self.images)}:
            raise InputError(
                f"A target function needs all images at once, but chunk={self._chunk} cuts the {len(self.images)} "
                "images. Leave chunk out, or let the function take (output, images) and find each image by its "
                "position."
            )
        self.whole_batch, self._chunk = True, len(self.images)

    @cached_property
    def keys(self) -> list[int]:
        """A number for each image, from which its randomness is derived."""
        names = map(image_key, self.images) if self._image_names is None else self._image_names()
        return [seed_of(self._seed, name) for name in names]

    @property
    def size(self) -> int:
        """Rows of the next pass, by the memory that earlier ones took."""
        row = self.images[0]
        if self._chunk:
            return self._chunk
        return next_chunk(row, self._measured, self._memory) if self._measured else first_chunk(row, self._memory)

    def chunks(self, rows: int) -> Iterator[range]:
        """Cut rows into chunks."""
        start = 0
        while start < rows:
            size = self.size
            yield range(start, min(start + size, rows))
            start += size

    def measured(self, tape: Tape, rows: int) -> None:
        """Learn what a pass took, and report progress."""
        self._measured = max(self._measured, tape.bytes // rows)
        self._done += rows
        self._total = max(self._total, self._done)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def tape(self, ruled: Collection[Kind] = (), places: Collection[str] = (), *, intercepts: bool = False) -> Tape:
        """A tape for one pass, which keeps what the targets read besides `places`."""
        wanted = {*places, *self.target_places}
        return Tape(self.model, ruled, wanted, self.context.pixel_range, intercepts=intercepts)

    def forward(self, images: Tensor, indices: Tensor) -> list[Tensor]:
        """The explained values at some inputs for each target, by a forward pass alone."""
        with torch.no_grad(), untouched(self.model):
            tape = self.tape()
            output = tape.record(images)
            return [self.select(target, tape, output, indices) for target in self.targets]

    def _refuse_accidents(self) -> None:
        """Refuse a model whose answer for an image depends on chance, or on the images beside it."""
        row = self.images[:1]

        def ask(images: Tensor) -> tuple[Any, dict[str, Tensor]]:
            with untouched(self.model):
                tape = self.tape()
                return tape.record(images), {place: tape.places[place].channels_first() for place in self.target_places}

        def decisive(answer: tuple[Any, dict[str, Tensor]], numbers: Tensor) -> list[Tensor]:
            return [target.decisive(*answer, numbers.to(row.device)) for target in self.targets]

        def slope() -> Tensor:
            with torch.enable_grad():
                leaf, first = row.detach().clone().requires_grad_(), torch.zeros(1).long()
                value = torch.stack([value.sum() for value in decisive(ask(leaf), first)]).sum()
                return torch.autograd.grad(value, leaf)[0]

        about = (row.shape, row.dtype, row.device, frozenset(self.target_places))
        refuse_chance(
            self.model, lambda: ask(row), lambda answer: decisive(answer, torch.zeros(1).long()), about, slope
        )
        several = any(len(sampling.weights) > 1 or sampling.steered for sampling in self._groups)
        if self.whole_batch or (len(self.images) == 1 and not several):
            return
        # Samples of one image share passes too; images that are alike would not show what passes between them.
        unlike = [image for image in self.images[1:_LOOKED_AT] if not torch.equal(image, row[0])][:2]
        asked = torch.stack([row[0], *(unlike or [row[0] / 2])])

        def rows_of(answer: tuple[Any, dict[str, Tensor]], numbers: Tensor) -> list[Tensor]:
            if not any(isinstance(target, Function) for target in self.targets):
                return decisive(answer, numbers)
            # A function of the output is asked by itself whether it looks at other rows.
            leaves = [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor) and leaf.dim()]
            return [leaf for leaf in leaves if len(leaf) == len(numbers)]

        refuse_mixing(self.model, asked, ask, rows_of, about)

    def select(self, target: Target, tape: Tape, output: Any, indices: Tensor) -> Tensor:
        """The explained values of a pass, chosen under the interception."""
        found = {place: tape.places[place].channels_first() for place in target.places}
        return tape.select(lambda o: target.values(o, found, indices), output)

    def _multiply(self, method: Method, results: Results) -> None:
        """Join the maps of a product's factors, at the first one's size."""
        first, second = method.factors
        refused = [results.refused.pop(part.name, "") for part in (first, second)]
        maps = [results.maps.pop(part.name, None) for part in (first, second)]
        placements = [results.placements.pop(part.name, None) for part in (first, second)]
        _move(results.operations, (first.name, second.name), method.name)
        _move(results.where, (first.name, second.name), method.name)
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
