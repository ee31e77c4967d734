"""A tape: what one forward pass leaves behind, and the pulling back of signals through it."""

import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from sightline.errors import InputError, RefusalError, SightlineError
from sightline.operations import graph
from sightline.operations.interception import Interception, eager
from sightline.operations.modules import ModuleStack
from sightline.operations.places import INPUT, Places
from sightline.operations.rectifier import RuledRectifier
from sightline.operations.vocabulary import (
    RANDOM_IN_TRAINING,
    Kind,
    Operation,
    Rectification,
    rectification,
    spelling,
)

if TYPE_CHECKING:
    from sightline.propagation import Propagation

# A note on the tensor itself: it dies with it, and two passes share no tensor that is computed from the input.
_DERIVED = "_sightline_derived"


class Tape:
    """One forward pass, recorded so that several propagations can be pulled back through it.

    Args:
        model: the network.
        ruled: the kinds for which some propagation of this pass has a rule. With none, torch's own operations run
            and only notes are taken.
        places: the places whose results are to be kept, see `operations.places`.

    Attributes:
        active: the propagation that is being pulled back; rules look it up when the backward runs.
        places: the results asked for.
        last: the last operation on the way from the input.
        bytes: memory of all results on the way from the input, the measure by which chunks are sized.
    """

    active: "Propagation"

    def __init__(self, model: Callable[..., Any], ruled: Collection[Kind] = (), places: Collection[str] = ()) -> None:
        self._model = model
        self._ruled = frozenset(ruled)
        self._modules = ModuleStack(model)
        self._lock = threading.Lock()
        self._count = 0
        self._input: Tensor | None = None
        self.places = Places(model, places, self._modules)
        self.last: Operation | None = None
        self.bytes = 0

    def record(self, inputs: Tensor) -> Any:
        """Run the model on `inputs`: a leaf that requires gradients, or any tensor for a forward alone.

        Returns:
            The model's output, whatever its type.

        Raises:
            RefusalError: an operation in training mode makes the output depend on the batch or on chance.
            InputError: the model raises an error of its own.
        """
        self._input = inputs
        with eager(), self._modules.following(self.places.on_module_exit), Interception(self):
            # A copy, because a model may change its input in place, which torch forbids on a leaf.
            try:
                output = self._model(inputs.clone())
            except (SightlineError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                where = f" in its module {self._modules.where}" if self._modules.where else ""
                raise InputError(
                    f"The model itself fails{where} on images of shape {tuple(inputs.shape)}, {inputs.dtype}: "
                    f"{type(error).__name__}: {error}"
                ) from error
        if inputs.requires_grad:
            self.places.collect()
        return output

    def select(self, choose: Callable[[Any], Tensor], output: Any) -> Tensor:
        """The explained values, chosen from the output as part of the pass, so that nothing escapes on the way."""
        with Interception(self):
            return choose(output)

    def perform(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Perform one torch call on behalf of the model: substitute, rule or pass, and note it."""
        name, kind, in_place = spelling(func)
        self._refuse_training(name, args, kwargs)
        args, kwargs, tensors = self._substituted(args, kwargs)
        if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
            result = func(*args, **kwargs)
            self._note_derived(name, result, tensors)
            return result
        if name in {"max", "min"} and len(args) > 1 and isinstance(args[1], Tensor):
            name, kind = f"{name}imum", Kind.ACTIVATION
        settings = rectification(name, in_place, args, kwargs)
        if settings is not None:
            kind = Kind.RECTIFIER
        elif any(hasattr(tensor, _DERIVED) and not tensor.requires_grad for tensor in tensors):
            kind = Kind.DERIVED_FACTOR
        for tensor in tensors:
            if tensor._is_view():
                graph.adopt(tensor)
        before = graph.makers(tensors)
        if settings is not None and kind in self._ruled:
            result = self._rectify(func, settings, args, kwargs)
        else:
            result = func(*args, **kwargs)
        made = [tensor for tensor in _tensors_of(result) if tensor.requires_grad]
        if name == "setitem":
            made = [tensors[0]]  # x[i] = v returns nothing and changes x
        if made:
            self._note(name, kind, made, before)
        else:
            self._note_derived(name, result, tensors)
        return result

    def pull_back(
        self, values: Tensor, propagation: "Propagation", places: Sequence[str], *, keep_graph: bool
    ) -> dict[str, Tensor | None]:
        """Propagate a signal of one from each of `values` back to `places`.

        Args:
            values: shape (batch,): what is explained, one value per row.
            propagation: the rules to apply.
            places: where to read the signal.
            keep_graph: whether another pull-back follows on this tape.

        Returns:
            The signal at each place, of the shape of the result there; None where the values do not depend on it.

        Raises:
            RefusalError: the model recomputes parts of itself in a way that rules cannot follow.
        """
        at = [self.at(place) for place in places]
        if not values.requires_grad:
            return dict.fromkeys(places)
        try:
            with self._lock:
                self.active = propagation
                found = torch.autograd.grad(
                    values, at, torch.ones_like(values), retain_graph=keep_graph, allow_unused=True
                )
        except RuntimeError as error:
            if isinstance(error, CheckpointError) or "checkpoint" in str(error).lower():
                raise RefusalError(
                    f"{propagation.name} cannot be pulled back: the model recomputes part of itself during the "
                    "backward (activation checkpointing). Switch checkpointing off for explaining."
                ) from error
            raise
        return dict(zip(places, found, strict=True))

    def at(self, place: str) -> Tensor:
        """The result kept at a place (the input, for `INPUT`)."""
        if place != INPUT:
            return self.places[place]
        if self._input is None:
            raise RuntimeError("record() comes first")
        return self._input

    def walk(self, values: Tensor, places: Sequence[str] = (INPUT,)) -> graph.Walk:
        """The operations between `places` and `values`, and what escaped the interception on the way."""
        if values.grad_fn is None:
            return graph.Walk((), ())
        return graph.walk(values, [self.at(place) for place in places if self.at(place).requires_grad])

    def _substituted(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], list[Tensor]]:
        """Arguments with parameters cut from the graph, and all tensors among them.

        Cut parameters leave `requires_grad` to say one thing only, that a tensor depends on the input, and let
        torch keep no activations for weight gradients that nobody asked for.
        """
        tensors: list[Tensor] = []

        def visit(value: Any) -> Any:
            if isinstance(value, Tensor):
                if isinstance(value, nn.Parameter) and value.requires_grad:
                    value = value.detach()
                tensors.append(value)
                return value
            if type(value) is list or type(value) is tuple:
                return type(value)([visit(item) for item in value])
            return value

        new_args = tuple([visit(value) for value in args])
        return new_args, {key: visit(value) for key, value in kwargs.items()}, tensors

    def _rectify(
        self, func: Callable[..., Any], settings: Rectification, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        x: Tensor = args[0] if args else kwargs["input"]
        rest, keywords = args[1:], {key: value for key, value in kwargs.items() if key != "input"}

        def native(x: Tensor) -> Tensor:
            y: Tensor = func(x, *rest, **keywords)
            return y

        result: Tensor = RuledRectifier.apply(x, self, native, settings)  # type: ignore[no-untyped-call]
        return result

    def _note(self, name: str, kind: Kind, made: list[Tensor], before: set[graph.Node]) -> None:
        operation = Operation(kind, name, self._modules.where, self._count, tuple(made[0].shape))
        self._count += 1
        self.last = operation
        for tensor in made:
            if not tensor._is_view():
                self.bytes += tensor.numel() * tensor.element_size()
            elif tensor._base is not None and tensor._base.requires_grad:
                # A write through a view gives its base a new maker too.
                graph.mark([tensor._base], operation, before)
        graph.mark(made, operation, before)
        self.places.note(made[0], operation)

    def _note_derived(self, name: str, result: Any, tensors: list[Tensor]) -> None:
        """Remember results computed from the input outside the graph: a mask, a detached norm.

        As a factor such a result can be a rectifier in disguise, `x * (x > 0)`, which no rule would see.
        """
        if not self._ruled or name.startswith("new_") or name.endswith("_like"):
            return
        if any(tensor.requires_grad or hasattr(tensor, _DERIVED) for tensor in tensors):
            for tensor in _tensors_of(result):
                setattr(tensor, _DERIVED, True)

    def _refuse_training(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        def argument(position: int, *names: str) -> Any:
            found = [kwargs[key] for key in names if key in kwargs]
            return found[0] if found else args[position] if len(args) > position else None

        if name == "batch_norm" and argument(5, "training"):
            effect = "normalises each image by the others in its batch"
        elif name in RANDOM_IN_TRAINING and argument(3 if name == "rrelu" else 2, "training", "train"):
            if name != "rrelu" and argument(1, "p") == 0:
                return
            effect = "changes by chance from call to call"
        elif kwargs.get("dropout_p") and kwargs.get("training", True):
            effect = "changes by chance from call to call"
        else:
            return
        where = f" in {self._modules.where}" if self._modules.where else ""
        raise RefusalError(
            f"{name}{where} runs in training mode, where it {effect}, so a map would explain that accident. "
            "Call model.eval() first."
        )


def _tensors_of(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, list | tuple):
        return [tensor for item in result for tensor in _tensors_of(item)]
    return []
