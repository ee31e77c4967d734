"""Pooling over windows, and the largest of several values."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from sightline.operations._calls import Call
from sightline.operations._graph import elementwise_alike
from sightline.operations._origins import is_mixed
from sightline.operations._vocabulary import KINDS, Intercepted, Kind
from sightline.operations.kinds._pointwise import ACTIVATION, POINTWISE, keeps_zero
from sightline.operations.kinds._rectifier import RECTIFIER, rectification
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.kinds._unknown import UNKNOWN
from sightline.operations.layout._elementwise import broadcast
from sightline.operations.layout._reducing import reduce
from sightline.operations.layout._seen import by_name
from sightline.operations.layout._windows import adaptive, window


class Pooled(Call):
    """What a rule sees of a max-pooling.

    Attributes:
        mean: the average pooling over the same windows; None where torch has none (dilated windows).
    """

    mean: Callable[[Tensor], Tensor] | None

    def read(self, call: Intercepted, tensors: list[Tensor]) -> None:
        del tensors
        self.mean = _averaging(call)


class _MaxPooling(Rulable):
    """A rule is given a `Pooled`."""

    name = "max pooling"
    spellings = "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"
    homogeneous = selects = features = single = True
    given = Pooled
    layouts = by_name(
        {
            window: "max_pool1d max_pool2d max_pool3d",
            adaptive: "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
        }
    )

    def read(self, call: Intercepted) -> Kind:
        if is_mixed(call.tensors):
            return _of_mixed(call)
        return MAXIMUM if call.argument(6 if "adaptive" not in call.name else 2, "return_indices") else self


class _Maximum(Rulable):
    name = "largest value"
    spellings = (
        "fractional_max_pool2d fractional_max_pool3d max amax max_pool2d_with_indices min amin maximum minimum topk "
        "sort msort kthvalue median"
    )
    homogeneous = selects = True
    layouts = by_name(
        {
            window: "max_pool2d_with_indices",
            reduce: "amax amin max min median",
            broadcast: "maximum minimum",
        }
    )

    def read(self, call: Intercepted) -> Kind:
        if call.name in {"max", "min"} and len(call.tensors) > 1:
            call.name = f"{call.name}imum"
        if call.name not in {"maximum", "minimum"}:
            return _of_mixed(call) if is_mixed(call.tensors) else self
        call.settings = rectification(call)
        if call.settings is not None:
            return RECTIFIER
        signals = call.signals
        if len(signals) == 2:
            # The larger of two values is pooled, unless both are functions of one: that is an activation.
            return POINTWISE if is_mixed(call.tensors) or elementwise_alike(*signals) else self
        return ACTIVATION if keeps_zero(call) else POINTWISE

    def makes_features(self, name: str) -> bool:
        return name in {"maximum", "minimum"}


def _of_mixed(call: Intercepted) -> Kind:
    # The largest of values and joined constants is a rectifier; the constants are counted where they are joined.
    call.homogeneous = True
    return POINTWISE


class _AveragePooling(Rulable):
    name = "average pooling"
    spellings = "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"
    homogeneous = single = True
    layouts = by_name(
        {
            window: "avg_pool1d avg_pool2d avg_pool3d",
            adaptive: "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
        }
    )

    def read(self, call: Intercepted) -> Kind:
        return self if len(call.signals) < 2 else UNKNOWN


MAX_POOLING = KINDS.register(_MaxPooling())
MAXIMUM = KINDS.register(_Maximum())
AVERAGE_POOLING = KINDS.register(_AveragePooling())


def _averaging(call: Intercepted) -> Callable[[Tensor], Tensor] | None:
    pool = getattr(functional, call.name.replace("max", "avg"))
    if call.name.startswith("adaptive"):
        size = call.argument(1, "output_size")
        return lambda x: pool(x, size)
    dilation = call.argument(4, "dilation", default=1)
    if any(d != 1 for d in (dilation if isinstance(dilation, list | tuple) else (dilation,))):
        return None
    kernel = call.argument(1, "kernel_size")
    stride = call.argument(2, "stride") or kernel
    padding = call.argument(3, "padding", default=0)
    ceil_mode = bool(call.argument(5, "ceil_mode", default=False))
    return lambda x: pool(x, kernel, stride, padding, ceil_mode)
