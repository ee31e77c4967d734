"""A propagation: for each kind of operation, a rule, the ordinary gradient, or a refusal."""

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from sightline._common.equality import ByValue
from sightline._common.meaning import FEWER, UNKNOWN, Meaning
from sightline.errors import InputError, RefusalError
from sightline.operations._graph import Walk
from sightline.operations._vocabulary import KINDS, Kind, Operation

_P = ParamSpec("_P")

Rule = Callable[[Tensor, Any], Any]
"""Signal at an operation's result, and what is known of the operation -> signal at its input.

What is known is what the kind says (`Rulable.given`): a `Rectified`, a `Linear` (weighted layers and batch norms), or a
`Call` (all others; its rules give one signal, or None, for each input that depends on the image, in a sequence; a
tensor where there is one input).
"""


@dataclass(frozen=True)
class Made:
    """How a propagation was made: the function, and its settings by name."""

    make: Callable[..., Any]
    settings: tuple[tuple[str, Hashable], ...]


class Treatment(StrEnum):
    """What a propagation does with one operation."""

    RULED = "ruled"
    PASSED = "passed"
    NOT_COVERED = "not covered"


@dataclass(frozen=True, eq=False)
class Propagation:
    """A table from the vocabulary to rules.

    Attributes:
        name: how users and records call it.
        rules: the kinds whose backward it changes. An operation of such a kind to which no rule can be applied (one
            that gives several tensors, takes a list of them, or writes into part of one) is refused by name. A batch
            norm that directly follows a weighted layer is one layer with it where both kinds have rules, and takes the
            rule for weighted layers.
        passes: the kinds through which it is the ordinary gradient by definition; `None` says that it is the
            ordinary gradient through everything, seen or not.
        scope: a sentence that says what the method is defined for, given with every refusal.
        relevance: whether the signal is relevance, which starts as the explained value, already holds the input as a
            factor.
        start: (explained values) -> the signal to start with.
        conserves: whether relevance is meant to arrive in full, so that the map can be held against its start.
        promise: to what its map adds up, in words, and under which condition; empty where it need not add up.
        explains_pairs: whether the difference of two classes has a meaning as a start.
        essential: the kind without which it would equal another method; with none of it on the way, it is refused.
        contrasts: whether its rules ask which weighted layer is the last.
        warnings: sentences that go with every map.
        positive: whether weighted layers share relevance by positive parts, so that it cannot grow there; it can where
            sums have terms of both signs.
        without_input: where the first layer multiplies by the input, makes the same propagation without that factor.
        means: what is known of its signal, for cards; by default what holds of every derivative, or of all relevance.

    Raises:
        InputError: a rule is given for something that is no kind of operation, or for a kind without a node.
    """

    name: str
    rules: Mapping[Kind, Rule] = field(default_factory=lambda: MappingProxyType({}))
    passes: frozenset[Kind] | None = None
    scope: str = ""
    relevance: bool = False
    start: Callable[[Tensor], Tensor] = torch.ones_like
    conserves: bool = False
    promise: str = ""
    explains_pairs: bool = True
    essential: Kind | None = None
    contrasts: bool = False
    warnings: tuple[str, ...] = ()
    without_input: "Callable[[], Propagation] | None" = None
    positive: bool = False
    means: Meaning = UNKNOWN
    _made: "Made | None" = field(default=None, init=False, repr=False)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Propagation) and self._identity == other._identity)

    def __hash__(self) -> int:
        return hash(self._identity)

    def __reduce__(self) -> tuple[Callable[..., "Propagation"], tuple[Any, ...]]:
        # Rules are closures, which cannot be pickled; the settings that they were made from can.
        if self._made is not None:
            return _made_again, (self._made.make, self._made.settings)
        given = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        return _restored, ({**given, "rules": dict(self.rules)},)

    @property
    def made(self) -> "Made | None":
        """How it was made; None where that was not by a function under `by_settings`."""
        return self._made

    @property
    def times_input(self) -> bool:
        """Whether the signal at the input has the input as a factor."""
        return self.without_input is not None

    @property
    def derivative(self) -> bool:
        """Whether the signal is the derivative of the explained value: no rule anywhere, and it starts at one."""
        return not self.rules and self.passes is None and self.start is torch.ones_like

    @property
    def family(self) -> str:
        """Its name without settings, by which it is looked up among the propagations of published methods."""
        return self.name.split("(")[0]

    @property
    def uncovered(self) -> tuple[Kind, ...]:
        """The kinds of operations at which it is refused."""
        return tuple(kind for kind in KINDS if self.treatment(Operation(kind, "", "", 0, ())) is Treatment.NOT_COVERED)

    def conflict(self, *, from_baseline: bool, multiplied: bool) -> str:
        """Why its signal has no meaning with the other choices; empty where it has one.

        Args:
            from_baseline: whether it is integrated along a path from a baseline.
            multiplied: whether it is multiplied by the values at the layers that are read.
        """
        if not self.relevance or not (from_baseline or multiplied):
            return ""
        return (
            f"{self.name} gives relevance, which already holds the values there as a factor; multiplying it "
            "by them again, or integrating it along a path, has no defined meaning. Use InputSignal, LayerSignal, "
            "a CAM that pools by the mean, or Noise."
        )

    @property
    def meaning(self) -> Meaning:
        """What is known of its signal."""
        if self.derivative:
            return _OF_DERIVATIVE
        if self.relevance:
            return _OF_RELEVANCE if self.means == UNKNOWN else self.means
        return replace(self.means, zero=f"the rules of {self.name} let no signal through to the input")

    @property
    def _identity(self) -> Hashable:
        """What two propagations have in common that are the same: how they were made, or all that they are."""
        if self._made is not None:
            return self._made
        given = [getattr(self, one.name) for one in fields(self) if one.init and one.name != "rules"]
        return (frozenset(self.rules.items()), *given)

    def __post_init__(self) -> None:
        wrong = [str(kind) for kind in self.rules if not (isinstance(kind, Kind) and kind.has_node)]
        if wrong:
            names = ", ".join(sorted(str(kind) for kind in KINDS if kind.has_node))
            raise InputError(
                "The rules of a propagation are for kinds of operations (sightline.operations.kinds) that have "
                f"a node, which calls the rule; got a rule for {', '.join(wrong)}, which has none, so that the rule "
                f"would never be called. Choose among {names}."
            )

    def treatment(self, operation: Operation) -> Treatment:
        """What happens to the signal at this operation."""
        if operation.kind in self.rules:
            return Treatment.RULED if operation.has_node else Treatment.NOT_COVERED
        if self.passes is None or operation.kind in self.passes:
            return Treatment.PASSED
        return Treatment.NOT_COVERED

    @staticmethod
    def passed(count: int) -> dict[str, int]:
        """The record of a pass in which every one of `count` operations kept its gradient."""
        return {**{str(treatment): 0 for treatment in Treatment}, str(Treatment.PASSED): count}

    def check(self, walk: Walk) -> Counter[str]:
        """Count the operations by treatment, or refuse.

        Raises:
            RefusalError: an operation on the way is not covered, something escaped the interception, or no
                operation is ruled at all, so that the map would be the plain gradient under another name.
        """
        counts = Counter({str(treatment): 0 for treatment in Treatment})
        counts.update(str(self.treatment(operation)) for operation in walk.operations)
        bad = [self._named(o) for o in walk.operations if self.treatment(o) is Treatment.NOT_COVERED]
        if bad:
            raise RefusalError(
                f"{self.name} is not defined for {_listed(bad)}. {self.scope} "
                "Use a method that needs only the gradient, or a model without these operations."
            )
        if walk.unseen:
            raise RefusalError(
                f"{self.name} cannot be computed: part of the model ran where its operations cannot be seen "
                f"(scripted or compiled code, another thread, a checkpoint, or an autograd.Function of its own): "
                f"{_listed(list(walk.unseen))}. Run that part as ordinary torch code, or use a method that needs "
                "only the gradient."
            )
        essential = {self.essential} if self.essential is not None else self.rules.keys()
        if not any(operation.kind in essential for operation in walk.operations):
            raise RefusalError(
                f"{self.name} would equal the plain gradient here: between the input and the explained value there "
                f"is no {self.essential or 'operation that it changes'}. {self.scope}"
            )
        return counts

    def _named(self, operation: Operation) -> str:
        if operation.kind in self.rules:
            return (
                f"{operation} ({operation.kind}, whose rule takes one result of one call, while this call gives "
                "several, takes a list of tensors, or writes into one)"
            )
        # A product is refused for what it multiplies, which its spelling does not tell.
        return f"{operation} ({operation.kind})" if operation.kind.told_apart else str(operation)


_STILL = "the explained value does not change with the input there (dead rectifiers, saturated output)"
_OF_DERIVATIVE = Meaning(
    directness="high: change in value per change of the pixel",
    product="medium: first-order change in value if the pixel went to the encoding's zero",
    minimality="low: many scattered pixels of either sign",
    coherence="grainy",
    zero=_STILL,
    derivative=True,
)
_OF_RELEVANCE = Meaning(
    directness="medium: the part of the value that the rules lay on this pixel; what the rules mean is a convention",
    minimality=FEWER,
    coherence="follows edges and textures; smoother with positive rules",
    zero=f"the method multiplies by the input, which may be zero there, or {_STILL}",
)


def by_settings(make: Callable[_P, Propagation]) -> Callable[_P, Propagation]:
    """Have the same settings give the same propagation, so that methods which share it share its passes.

    Settings are numbers and names, tensors, and lists of these. Such a propagation can be pickled and copied.

    Raises:
        InputError: a setting is none of these.
    """
    signature = inspect.signature(make)
    alive: WeakValueDictionary[Made, Propagation] = WeakValueDictionary()
    lock = threading.Lock()

    @wraps(make)
    def made(*args: _P.args, **kwargs: _P.kwargs) -> Propagation:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            settings = tuple((name, _frozen(value)) for name, value in bound.arguments.items())
            key = Made(made, settings)
            hash(key)
        except TypeError:
            given = ", ".join(f"{name}={value!r}" for name, value in bound.arguments.items())
            raise InputError(f"The settings of {make.__name__} are numbers, names and tensors; got {given}.") from None
        with lock:
            found = alive.get(key)
        if found is None:
            found = make(**{name: _thawed(value) for name, value in settings})  # type: ignore[call-arg]
            object.__setattr__(found, "_made", key)
            with lock:
                found = alive.setdefault(key, found)
        return found

    return made


def _frozen(value: Any) -> Hashable:
    """A setting that can be compared and that nobody changes afterwards."""
    if isinstance(value, Tensor):
        return ByValue(value.detach().clone())
    if isinstance(value, np.ndarray):
        return ByValue(torch.tensor(value))
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    # True is 1 to a dictionary, and no number to those who check settings.
    return ("bool", value) if isinstance(value, bool) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, ByValue):
        return value.tensor
    if isinstance(value, tuple):
        return value[1] if len(value) == 2 and value[0] == "bool" else tuple(map(_thawed, value))
    return value


def _made_again(make: Callable[..., Propagation], settings: tuple[tuple[str, Hashable], ...]) -> Propagation:
    return make(**{name: _thawed(value) for name, value in settings})


def _restored(given: dict[str, Any]) -> Propagation:
    return Propagation(**{**given, "rules": MappingProxyType(given["rules"])})


@by_settings
def without_input_of(propagation: Propagation) -> Propagation:
    """The same propagation without the factor of the input at the first layer, for one that says how."""
    assert propagation.without_input is not None  # noqa: S101 - the caller has looked
    return propagation.without_input()


def _listed(items: list[str], shown: int = 4) -> str:
    distinct = list(dict.fromkeys(items))
    more = f" and {len(distinct) - shown} more" if len(distinct) > shown else ""
    return "; ".join(distinct[:shown]) + more
