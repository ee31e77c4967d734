"""What no rule is for: operations that no kind spells, and those that take a factor cut from the graph."""

from sightline.operations._vocabulary import KINDS, BiasTerm, Intercepted, Kind
from sightline.operations.kinds._bias import at_zero
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.layout._elementwise import broadcast, same
from sightline.operations.layout._products import multi_head
from sightline.operations.layout._reducing import reduce
from sightline.operations.layout._reshaping import flip, view
from sightline.operations.layout._seen import Found, Seen, by_name
from sightline.operations.layout._windows import fold, interpolate, patches, window


class _DerivedFactor(Rulable):
    name = "factor cut from the graph"
    known = False

    def bias_term(self, call: Intercepted) -> BiasTerm | None:
        # What is copied over a signal counts as a constant, wherever it is from.
        return at_zero(call, constant=False) if call.name == "copy" else None

    def title(self, name: str) -> str:
        return f"{name} with a {self}"

    def makes_features(self, name: str) -> bool:
        return name in {"maximum", "minimum"}

    def layout(self, seen: Seen) -> Found:
        return broadcast(seen)


class _Unknown(Kind):
    """No node: what its gradient means is not known, so no rule can be for it.

    The layouts are those of functions without a kind, on the way from the input or beside it.
    """

    name = "unknown"
    known = False
    layouts = by_name(
        {
            view: "adjoint moveaxis dsplit broadcast_to",
            flip: "fliplr flipud",
            window: "lp_pool1d lp_pool2d",
            interpolate: "upsample_nearest upsample_bilinear",
            reduce: "prod std var logsumexp norm linalg_vector_norm vector_norm any all argmax argmin count_nonzero "
            "var_mean std_mean",
            multi_head: "multi_head_attention_forward",
            patches: "im2col",
            fold: "col2im",
            same: "detach fill zero round floor ceil reciprocal erf sign isnan isfinite isinf nan_to_num bernoulli "
            "cumsum cumprod tan expm1 log2 log10 erfinv cosh sinh logit positive imag real conj resolve_conj "
            "resolve_neg data",
            broadcast: "addcdiv lerp fmax fmin floor_divide remainder fmod hypot atan2 eq ne lt gt le ge greater less "
            "logical_and logical_or xlogy rpow",
        }
    )

    def may_hide_bias(self, call: Intercepted) -> bool:
        return any(t.dim() > 0 and t.is_floating_point() and not t.requires_grad for t in call.tensors)


DERIVED_FACTOR = KINDS.register(_DerivedFactor())
UNKNOWN = KINDS.register(_Unknown())
