"""Rows that depend on each other: whether what a model says of an image changes with the images beside it.

Such a model has no answer for one image, and its maps would change with the batch and the chunks. Two or three images
are put through it together and one by one. Where the answers differ, the layouts of the pass tell which operation
mixes them.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sightline._common.torch_private import tree_leaves, without_dispatch_modes
from sightline.errors import RefusalError
from sightline.operations._chance import generators_put_back, is_known, remember
from sightline.operations._interception import eager
from sightline.operations._modules import ModuleStack
from sightline.operations.kinds._spelling import layout_rule, spelling
from sightline.operations.layout import Layouts


class _Following(TorchFunctionMode):
    """Follows layouts, and notes where images were first mixed."""

    def __init__(self, inputs: Tensor, modules: ModuleStack) -> None:
        super().__init__()
        self.layouts, self._modules = Layouts(), modules
        self.layouts.begin(inputs)
        self._mixing: dict[str, str] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name, kind, _ = spelling(func)
        taken, made = _tensors((args, kwargs)), _tensors(result)
        self.layouts.follow(func, name, layout_rule(name, kind), args, kwargs, taken, made)
        for tensor in made:
            layout = self.layouts.of(tensor)
            if layout is not None and layout.mixed:
                where = self._modules.where or "the model's own forward"
                self._mixing.setdefault(layout.mixed, f"{layout.mixed} in {where}")
        return result

    def mixed(self, values: Sequence[Tensor]) -> str:
        """The operation that mixed the images on the way to some values, or nothing."""
        for value in values:
            layout = self.layouts.of(value)
            if layout is not None and layout.mixed:
                return self._mixing.get(layout.mixed, layout.mixed)
        return ""


def refuse_mixing(
    model: Callable[..., Any],
    images: Tensor,
    ask: Callable[[Tensor], Any],
    decisive: Callable[[Any, Tensor], Sequence[Tensor]],
    about: Hashable = (),
) -> None:
    """See that what a model says of each of some images is what it says of that image alone.

    Args:
        model: the network.
        images: some images that are not alike, shape (image, channel, height, width).
        ask: asks the network, without a graph. What it raises ends the question; the passes will tell.
        decisive: (answer, numbers of the images asked) -> what of it matters, each of shape (image, ...).
        about: what the answer holds for: shape, type and device of the images, say.

    Raises:
        RefusalError: it is not.
    """
    key = ("apart", about)
    if is_known(model, key):
        return
    modules = ModuleStack(model)
    try:
        with without_dispatch_modes(), eager(), torch.no_grad(), generators_put_back(model):
            following = _Following(images, modules)
            with modules.following(lambda *_: None), following:
                together = decisive(ask(images), torch.arange(len(images)))
            mixed = following.mixed(together)
            alone = [decisive(ask(images[i : i + 1]), torch.arange(i, i + 1)) for i in range(len(images))]
    except (Exception, SystemExit):  # noqa: BLE001
        return
    if not _differ(together, alone, named=bool(mixed)):
        remember(model, key)
        return
    by = f" ({mixed} mixes the images)" if mixed else ""
    raise RefusalError(
        f"What the model says of an image depends on the images beside it in the batch{by}, so a map would change with "
        "the batch. Let each row depend on its own image alone, or put all images that belong together into one row."
    )


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _differ(together: Sequence[Tensor], alone: Sequence[Sequence[Tensor]], *, named: bool) -> bool:
    """Whether an image's answer changes; by more than rounding, where no operation is known to mix images."""
    for number, values in enumerate(together):
        # The scale of all images: the difference of two scores can be next to nothing in one, all of it rounding.
        known = values.detach().double().abs().nan_to_num(0, 0, 0) if values.is_floating_point() else values
        scale = float(known.amax()) if known.numel() else 0.0
        for row in range(len(alone)):
            own = alone[row][number]
            if own.shape != values[row : row + 1].shape or not values.is_floating_point():
                continue
            eps = torch.finfo(values.dtype).eps
            share = min(1e3 * eps, 0.01) if named else eps**0.4
            one, other = own.detach().double(), values[row : row + 1].detach().double()
            largest = max(scale, float(one.abs().nan_to_num(0, 0, 0).amax()) if one.numel() else 0.0)
            # Numbers below the smallest normal one have few digits.
            allowed = share * largest + torch.finfo(values.dtype).tiny
            if not torch.allclose(one, other, rtol=0.0, atol=allowed, equal_nan=True):
                return True
    return False
