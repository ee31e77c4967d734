"""The vocabulary: each spelling of an operation, translated once into a kind that propagations know."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from sightline._common.torch_private import operator_namespace


class Kind(StrEnum):
    """What an operation is to a propagation, whatever its spelling."""

    LINEAR = "weighted layer"
    BATCH_NORM = "batch norm"
    NORMALISATION = "normalisation by the image's own values"
    RESPONSE_NORM = "local response normalisation"
    RECTIFIER = "rectifier"
    ACTIVATION = "activation that keeps zero"
    POINTWISE = "other pointwise function"
    GATE = "gate's own function"
    SOFTMAX = "softmax"
    MAX_POOLING = "max pooling"
    MAXIMUM = "largest value"
    AVERAGE_POOLING = "average pooling"
    REDUCTION = "sum or mean"
    RESAMPLING = "resampling"
    ADD = "add"
    SCALING = "multiplication by a constant"
    GATING = "multiplication by a gate"
    PRODUCT = "product of two signals"
    MATMUL = "product of two matrices"
    RESHAPE = "reshape"
    IDENTITY = "identity"
    DERIVED_FACTOR = "factor cut from the graph"
    UNKNOWN = "unknown"


SPELLINGS: dict[Kind, str] = {
    Kind.LINEAR: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution linear addmm",
    Kind.BATCH_NORM: "batch_norm",
    Kind.NORMALISATION: "instance_norm layer_norm group_norm rms_norm normalize",
    Kind.RESPONSE_NORM: "local_response_norm",
    Kind.RECTIFIER: "relu relu6",
    Kind.ACTIVATION: "leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish tanh softsign hardshrink "
    "softshrink tanhshrink",
    Kind.POINTWISE: "softplus hardtanh threshold clamp clip clamp_min clamp_max maximum minimum abs where masked_fill "
    "pow square sqrt rsqrt exp log log1p sin cos",
    Kind.GATE: "sigmoid hardsigmoid logsigmoid glu",
    Kind.SOFTMAX: "softmax log_softmax softmin gumbel_softmax",
    Kind.MAX_POOLING: "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    Kind.MAXIMUM: "fractional_max_pool2d fractional_max_pool3d max amax max_pool2d_with_indices min amin topk sort "
    "msort kthvalue median",
    Kind.AVERAGE_POOLING: "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d",
    Kind.REDUCTION: "mean sum nanmean nansum",
    Kind.RESAMPLING: "interpolate upsample grid_sample fold",
    Kind.ADD: "add sub rsub subtract iadd radd isub",
    Kind.SCALING: "mul multiply div divide true_divide truediv rtruediv itruediv rmul imul rdiv idiv neg negative",
    Kind.MATMUL: "matmul rmatmul mm bmm mv dot addmv baddbmm einsum tensordot scaled_dot_product_attention bilinear "
    "outer kron",
    Kind.RESHAPE: "view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze permute transpose t T mT "
    "movedim swapaxes swapdims cat concat concatenate stack hstack vstack dstack split split_with_sizes chunk "
    "tensor_split unbind getitem setitem select narrow index_select gather take_along_dim expand expand_as repeat "
    "repeat_interleave tile roll flip rot90 pad constant_pad_nd unfold pixel_shuffle pixel_unshuffle "
    "channel_shuffle native_channel_shuffle diagonal as_strided atleast_1d atleast_2d atleast_3d hsplit vsplit H mH",
    Kind.IDENTITY: "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout clone contiguous to "
    "type type_as float double half bfloat16 cpu cuda identity alias copy requires_grad",
}
_KIND_OF_NAME = {name: kind for kind, names in SPELLINGS.items() for name in names.split()}

GATES = frozenset({"sigmoid", "hardsigmoid", "softmax"})
"""Functions whose results, from 0 up to a bound, may gate another signal."""

PROBABILITIES = frozenset(
    {
        "softmax", "special_softmax", "softmin", "log_softmax", "special_log_softmax",
        "sigmoid", "special_expit", "hardsigmoid", "log_sigmoid",
    }
)  # fmt: skip
"""Operations that turn scores into probabilities, or into their logarithms."""

PICKS = frozenset({"getitem", "gather", "take_along_dim", "index_select"})
"""Calls that take entries of their first tensor by an index."""

LEAVES_TORCH = frozenset({"item", "tolist", "numpy", "array", "float", "int", "index", "complex"})
"""Calls that give a tensor's values to Python or numpy, from where nobody can follow them."""


class Operation(NamedTuple):
    """One operation that a pass performed on the way from the input.

    Attributes:
        kind: what it is to a propagation.
        name: its spelling, without in-place marks (`relu`, `conv2d`, ...).
        where: the module it ran in, by its name in the model (`layer1.0.conv1`); empty for the model itself.
        order: its position in the order of execution.
        shape: the shape of its (first) result.
        has_node: whether a rule for its kind is called: false where the pass could make no node of its own for it.
    """

    kind: Kind
    name: str
    where: str
    order: int
    shape: tuple[int, ...]
    has_node: bool = True

    def __str__(self) -> str:
        what = f"{self.name} with a {self.kind}" if self.kind is Kind.DERIVED_FACTOR else self.name
        return f"{what} in {self.where}" if self.where else f"{what} in the model's own forward"


@lru_cache(maxsize=4096)
def spelling(function: Callable[..., Any]) -> tuple[str, Kind, bool]:
    """Name, kind and in-place mark of a torch function, method, operator or property.

    `Kind.UNKNOWN` is an answer, not an error: the propagation decides what to do with it.
    """
    if not _is_torchs(function):
        return getattr(function, "__name__", type(function).__name__), Kind.UNKNOWN, False
    name: str = getattr(function, "__name__", type(function).__name__)
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    overload = name.split(".")[0]
    in_place = overload.endswith("_") and not overload.endswith("__")
    bare = overload.strip("_")
    in_place = in_place or (overload.startswith("__i") and bare in {"iadd", "isub", "imul", "itruediv", "idiv"})
    return bare, _KIND_OF_NAME.get(bare, Kind.UNKNOWN), in_place


def _is_torchs(function: Callable[..., Any]) -> bool:
    """Whether a function is torch's own; others may bear the name of one and do something else."""
    namespace = operator_namespace(function)
    if namespace is not None:
        return namespace == "aten"
    module = getattr(function, "__module__", None)
    return module is None or module.split(".")[0] == "torch"


@dataclass(frozen=True, slots=True)
class Rectification:
    """A rectifier's settings.

    Attributes:
        lower: values below become this.
        upper: values above become this.
        in_place: whether it writes its result over its input.
        name: its spelling.
    """

    lower: float
    upper: float
    in_place: bool
    name: str

    @property
    def closed_at_bounds(self) -> bool:
        """Whether the ordinary gradient is zero at the bounds themselves (ReLU, hardtanh) or not (clamp, maximum)."""
        return self.name in {"relu", "relu6", "hardtanh", "threshold"}


def rectification(name: str, in_place: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectification | None:
    """The rectifier that a call amounts to, or None where it is none.

    ReLU and ReLU6 in every spelling, and `clamp`, `hardtanh`, `threshold` and `maximum` where their bounds make
    them one: lower bound exactly 0, upper bound none or positive.
    """

    def argument(position: int, *names: str, default: Any = None) -> Any:
        for key in names:
            if key in kwargs:
                return kwargs[key]
        return args[position] if len(args) > position else default

    lower: Any
    upper: Any
    match name:
        case "relu":
            lower, upper, in_place = 0.0, None, in_place or bool(argument(1, "inplace", default=False))
        case "relu6":
            lower, upper, in_place = 0.0, 6.0, in_place or bool(argument(1, "inplace", default=False))
        case "clamp" | "clip":
            lower, upper = argument(1, "min"), argument(2, "max")
        case "clamp_min":
            lower, upper = argument(1, "min"), None
        case "hardtanh":
            lower, upper = argument(1, "min_val", default=-1.0), argument(2, "max_val", default=1.0)
            in_place = in_place or bool(argument(3, "inplace", default=False))
        case "threshold":
            lower, upper = argument(1, "threshold"), None
            if _number(argument(2, "value")) != 0.0:
                return None
            in_place = in_place or bool(argument(3, "inplace", default=False))
        case "maximum":
            first, second = argument(0, "input"), argument(1, "other")
            # The constant may stand on either side; only the first place can be rectified by our node.
            lower, upper = (second, None) if getattr(first, "requires_grad", False) else (None, None)
        case _:
            return None
    low, high = _number(lower), math.inf if upper is None else _number(upper)
    if low != 0.0 or high is None or high <= 0.0:
        return None
    return Rectification(low, high, in_place, name)


def keeps_zero(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call that cuts values off at constants gives zero for zero, as activations with a rule do."""

    def argument(position: int, *names: str, default: Any = None) -> Any:
        found = [kwargs[key] for key in names if key in kwargs]
        return found[0] if found else args[position] if len(args) > position else default

    lower: Any = None
    upper: Any = None
    match name:
        case "clamp" | "clip":
            lower, upper = argument(1, "min"), argument(2, "max")
        case "clamp_min":
            lower = argument(1, "min")
        case "clamp_max":
            upper = argument(1, "max")
        case "hardtanh":
            lower, upper = argument(1, "min_val", default=-1.0), argument(2, "max_val", default=1.0)
        case "maximum" | "minimum":
            pair = argument(0, "input"), argument(1, "other")
            constant = [value for value in pair if not getattr(value, "requires_grad", False)]
            if len(constant) != 1:
                return False
            lower, upper = (constant[0], None) if name == "maximum" else (None, constant[0])
        case "threshold":
            # What is not above the threshold becomes the value.
            threshold, value = _number(argument(1, "threshold")), _number(argument(2, "value"))
            return threshold is not None and (threshold < 0 or value == 0)
        case _:
            return False
    low, high = -math.inf if lower is None else _number(lower), math.inf if upper is None else _number(upper)
    return low is not None and high is not None and low <= 0 <= high


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, torch.Tensor) and not value.requires_grad and value.numel() > 0:
        low, high = value.min(), value.max()
        return float(low) if bool(low == high) else None
    return None
