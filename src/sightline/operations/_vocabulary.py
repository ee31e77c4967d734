"""The vocabulary: what a kind of operation says of itself, whatever the spelling of the operation.

The kinds are in `operations.kinds`, each in a file of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

from torch import Tensor

from sightline.errors import InputError
from sightline.operations.layout._seen import Found, LayoutRule, Seen

BiasTerm = tuple[Tensor | None, int | None]
"""What an operation gives without a signal: shape (channel,) and the result's axis that it runs along, or of the
result's own shape and None; (None, None) where it gives nothing."""

NO_BIAS: BiasTerm = (None, None)


class Kind:
    """A kind of operation: its spellings, how a call is read, its bias term and its layout.

    A kind is a subclass with one instance, which `operations.kinds` registers. Rules can be given for those that are
    `Rulable` (`operations.kinds._rulable`), which also say how a call is performed so that a rule is called.

    Attributes:
        name: how messages and tables call it.
        has_node: whether calls are performed so that a rule is called; that is so for a `Rulable` alone.
        spellings: the names of torch's functions, methods and operators that are read as this kind.
        known: whether the gradient through it means what it does elsewhere; False for what the vocabulary does not
            know, and for factors that were cut from the graph.
        homogeneous: whether the result scales with the signals, so that there is no bias term.
        elementwise: whether each value of the result is a function of the values at the same place.
        selects: whether each value of the result is a value of an input, so that relevance follows the gradient.
        activates: whether it is a nonlinear function of each value, as a network may have in a rectifier's place.
        adds: whether it adds.
        weighs: whether it multiplies a signal by weights where its other factor is constant.
        weighted: whether it is a weighted layer, behind which signals are no longer pixels.
        moves: whether it only moves values, or does nothing.
        views: whether its result may share the memory of its input.
        keeps_gates: whether the result of a gate is one still after it.
        takes_derived: whether it is what it is even where it takes what was computed from the image outside the graph.
        has_inplace_flag: whether `True` among its arguments may be torch's `inplace`.
        features: whether its results are the feature maps of a network.
        told_apart: whether messages name the kind too, which the spelling does not tell.
        picks: the functions that take entries of their first tensor by an index.
        layouts: how it maps the layout of its inputs to that of its result, by the name of the function; what is not
            there is mapped by `layout`.
        written_out: functions that are several operations in one, written out: (whether it is in place, arguments) ->
            result.
    """

    name: ClassVar[str]
    has_node: ClassVar[bool] = False
    spellings: ClassVar[str] = ""
    known: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    selects: ClassVar[bool] = False
    activates: ClassVar[bool] = False
    adds: ClassVar[bool] = False
    weighs: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    moves: ClassVar[bool] = False
    views: ClassVar[bool] = False
    keeps_gates: ClassVar[bool] = False
    takes_derived: ClassVar[bool] = False
    has_inplace_flag: ClassVar[bool] = False
    features: ClassVar[bool] = False
    told_apart: ClassVar[bool] = False
    picks: ClassVar[frozenset[str]] = frozenset()
    layouts: ClassVar[Mapping[str, LayoutRule]] = MappingProxyType({})
    written_out: ClassVar[Mapping[str, Callable[..., Any]]] = MappingProxyType({})

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<kind: {self.name}>"

    def __reduce__(self) -> tuple[Callable[[str], "Kind"], tuple[str]]:
        return _kind_named, (self.name,)

    def read(self, call: "Intercepted") -> "Kind":
        """The kind of a call that is spelled as this one, given its arguments."""
        del call
        return self

    def read_for_rules(self, call: "Intercepted") -> "Kind":
        """The kind of such a call in a pass with rules, which may need more of it."""
        del call
        return self

    def title(self, name: str) -> str:
        """How messages call the function of that name."""
        return name

    def makes_features(self, name: str) -> bool:
        """Whether the result of the function of that name may be a feature map."""
        del name
        return self.features

    def gates(self, call: "Intercepted") -> bool:
        """Whether the result lies between 0 and a bound, so that it may gate another signal."""
        del call
        return False

    def carries(self, tensor: Tensor) -> bool:
        """Whether relevance goes on to this input of a call."""
        del tensor
        return True

    def moves_pixels(self, tensors: list[Tensor]) -> bool:
        """Whether a call on these tensors only moves, pads or rescales what may be pixels."""
        del tensors
        return False

    def bias_term(self, call: "Intercepted") -> BiasTerm | None:
        """What a call gives without a signal; None where that cannot be told."""
        del call
        return NO_BIAS if self.homogeneous else None

    def bias(self, call: "Intercepted") -> BiasTerm | None:
        """The bias of a call whose bias term cannot be told; None where it has none, or one for each position."""
        del call
        return None

    def may_hide_bias(self, call: "Intercepted") -> bool:
        """Whether a call may have a bias that `bias` does not find."""
        del call
        return False

    def layout(self, seen: Seen) -> Found:
        """The layout of the result, or one for each of several; None where nothing is known."""
        del seen
        return None


@dataclass
class Intercepted:
    """A call of the model on tensors of which some depend on the input.

    Attributes:
        func: torch's function.
        name: its spelling.
        kind: what it is; corrected to what it turns out to be.
        args: positional arguments, parameters cut from the graph.
        kwargs: keyword arguments.
        tensors: all tensors among them.
        settings: what the kind has read of the call, for its own use.
        homogeneous: whether this call has no bias term, whatever its kind.
        in_place: whether it may write over its first argument.
        has_node: whether a node of ours performs it, where its kind is ruled.
        spelled: the kind of its spelling alone.
    """

    func: Callable[..., Any]
    name: str
    kind: Kind
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor]
    settings: Any = None
    homogeneous: bool = False
    in_place: bool = False
    has_node: bool = True
    spelled: Kind = field(init=False)

    def __post_init__(self) -> None:
        self.spelled = self.kind

    @property
    def signals(self) -> list[Tensor]:
        """The tensors that depend on the input."""
        return [tensor for tensor in self.tensors if tensor.requires_grad]

    @property
    def writes(self) -> bool:
        """Whether it may write over its first tensor."""
        return self.in_place or self.name == "setitem"

    @property
    def writes_in_place(self) -> bool:
        """Whether the spelling, or an `inplace` argument, says that it may write over its first argument."""
        if self.in_place or self.kwargs.get("inplace"):
            return True
        # F.leaky_relu(x, 0.1, True), F.dropout(x, 0.5, False, True): the flag may stand anywhere.
        return self.kind.has_inplace_flag and any(value is True for value in self.args)

    def argument(self, position: int, *names: str, default: Any = None) -> Any:
        """An argument, by any of its names or by position."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[position] if len(self.args) > position else default


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
        what = self.kind.title(self.name)
        return f"{what} in {self.where}" if self.where else f"{what} in the model's own forward"


AnyKind = TypeVar("AnyKind", bound=Kind)


class Kinds:
    """The kinds of operations, by name and by spelling, in the order of their registration."""

    def __init__(self) -> None:
        self._by_name: dict[str, Kind] = {}
        self._by_spelling: dict[str, Kind] = {}

    def __iter__(self) -> Iterator[Kind]:
        # What is not known comes last, whoever asks for it first.
        return iter(sorted(self._by_name.values(), key=lambda kind: not kind.known))

    def register(self, kind: AnyKind) -> AnyKind:
        """Make a kind known, so that calls are read as it.

        Raises:
            InputError: its name, or one of its spellings, is that of another kind.
        """
        if self._by_name.get(kind.name, kind) is not kind:
            raise InputError(f"There is a kind of operation named {kind.name!r} already; choose another name.")
        names = kind.spellings.split()
        for name in names:
            if (other := self._by_spelling.get(name, kind)) is not kind:
                raise InputError(f"{name} is a spelling of {str(other)!r} already, so not of {kind.name!r}.")
        self._by_name[kind.name] = kind
        self._by_spelling.update(dict.fromkeys(names, kind))
        return kind

    def unregister(self, kind: Kind) -> None:
        """Forget a kind: its functions are unknown from then on."""
        del self._by_name[kind.name]
        for name in kind.spellings.split():
            del self._by_spelling[name]

    def named(self, name: str) -> Kind:
        """The kind of that name."""
        return self._by_name[name]

    def spelled(self, name: str) -> Kind | None:
        """The kind as which the function of that name is read, before its arguments are looked at."""
        return self._by_spelling.get(name)


KINDS = Kinds()


def _kind_named(name: str) -> Kind:
    return KINDS.named(name)


PROBABILITIES = frozenset(
    {
        "softmax", "special_softmax", "softmin", "log_softmax", "special_log_softmax",
        "sigmoid", "special_expit", "hardsigmoid", "log_sigmoid",
    }
)  # fmt: skip
"""Operations that turn scores into probabilities, or into their logarithms."""

LEAVES_TORCH = frozenset({"item", "tolist", "numpy", "array", "float", "int", "index", "complex"})
"""Calls that give a tensor's values to Python or numpy, from where nobody can follow them."""
