"""The network of a job with its images and targets: how it is run, and what of its answers is explained."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sightline._common.seeds import image_key, seed_of
from sightline._common.torch_private import tree_leaves
from sightline.explaining._rowwise import NeedsWholeBatch
from sightline.explaining._targets import Target
from sightline.models import untouched
from sightline.operations import Kind, Tape, refuse_chance, refuse_mixing
from sightline.sampling import Context

# Images among which two unlike the first are sought.
_LOOKED_AT = 64


class Network:
    """One model, some images, one or more targets.

    Args:
        model: the network.
        images: shape (image, channel, height, width), on the model's device and in its dtype.
        targets: what is explained.
        seed: base of all randomness.
        image_names: gives what randomness is derived from for each image; by default its content.
        context: what samplings and rules may need to know of the images.

    Attributes:
        whole_batch: whether all images go through together, in their order.
        places: the places that the targets read.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        images: Tensor,
        targets: Sequence[Target],
        *,
        seed: int = 0,
        image_names: Callable[[], Sequence[str]] | None = None,
        context: Context | None = None,
    ) -> None:
        self.model, self.images, self.targets = model, images, list(targets)
        self.context = context or Context()
        self.whole_batch = any(target.whole_batch for target in targets)
        self.places = {place for target in targets for place in target.places}
        self._seed, self._image_names = seed, image_names

    @cached_property
    def keys(self) -> list[int]:
        """A number for each image, from which its randomness is derived."""
        names = map(image_key, self.images) if self._image_names is None else self._image_names()
        return [seed_of(self._seed, name) for name in names]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def all_at_once(self) -> None:
        """From now on, target functions are given all images together."""
        self.whole_batch = True
        for target in self.targets:
            target.all_at_once()

    def check_functions(self, *, whole: bool) -> None:
        """See that target functions give each image its own value, once all images have been through.

        Args:
            whole: whether they went through together.

        Raises:
            NeedsWholeBatch: a function goes by an image's place in the batch, and did not have them all.
            RefusalError: a value depends on other images.
        """
        try:
            for target in self.targets:
                target.finish()
        except NeedsWholeBatch:
            if not whole:
                raise
            self.all_at_once()

    def tape(self, ruled: Collection[Kind] = (), places: Collection[str] = (), *, intercepts: bool = False) -> Tape:
        """A tape for one pass, which keeps what the targets read besides `places`."""
        wanted = {*places, *self.places}
        return Tape(self.model, ruled, wanted, self.context.pixel_range, intercepts=intercepts)

    def forward(self, images: Tensor, indices: Tensor) -> list[Tensor]:
        """The explained values at some inputs for each target, by a forward pass alone."""
        with torch.no_grad(), untouched(self.model):
            tape = self.tape()
            output = tape.record(images)
            return [self.select(target, tape, output, indices) for target in self.targets]

    def select(self, target: Target, tape: Tape, output: Any, indices: Tensor) -> Tensor:
        """The explained values of a pass, chosen under the interception."""
        found = {place: tape.places[place].channels_first() for place in target.places}
        return tape.select(lambda o: target.values(o, found, indices), output)

    def refuse_accidents(self, *, several: bool) -> None:
        """Refuse a model whose answer for an image depends on chance, or on the images beside it.

        Args:
            several: whether an image has several rows, which share passes.
        """
        row = self.images[:1]

        def ask(images: Tensor) -> tuple[Any, dict[str, Tensor]]:
            with untouched(self.model):
                tape = self.tape()
                return tape.record(images), {place: tape.places[place].channels_first() for place in self.places}

        def decisive(answer: tuple[Any, dict[str, Tensor]], numbers: Tensor) -> list[Tensor]:
            return [target.decisive(*answer, numbers.to(row.device)) for target in self.targets]

        def slope() -> Tensor:
            with torch.enable_grad():
                leaf, first = row.detach().clone().requires_grad_(), torch.zeros(1).long()
                value = torch.stack([value.sum() for value in decisive(ask(leaf), first)]).sum()
                return torch.autograd.grad(value, leaf)[0]

        about = (row.shape, row.dtype, row.device, frozenset(self.places))
        refuse_chance(
            self.model, lambda: ask(row), lambda answer: decisive(answer, torch.zeros(1).long()), about, slope
        )
        if self.whole_batch or (len(self.images) == 1 and not several):
            return
        # Samples of one image share passes too; images that are alike would not show what passes between them.
        unlike = [image for image in self.images[1:_LOOKED_AT] if not torch.equal(image, row[0])][:2]
        asked = torch.stack([row[0], *(unlike or [row[0] / 2])])

        def rows_of(answer: tuple[Any, dict[str, Tensor]], numbers: Tensor) -> list[Tensor]:
            if not any(target.checks_rows for target in self.targets):
                return decisive(answer, numbers)
            # A function of the output is asked by itself whether it looks at other rows.
            leaves = [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor) and leaf.dim()]
            return [leaf for leaf in leaves if len(leaf) == len(numbers)]

        refuse_mixing(self.model, asked, ask, rows_of, about)
