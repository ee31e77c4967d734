"""A tape: what one forward pass leaves behind, and the pulling back of signals through it."""

import math
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint
from torch.utils.checkpoint import CheckpointError

from sightline.errors import InputError, RefusalError, SightlineError
from sightline.operations import graph
from sightline.operations.active import Active, Ledger
from sightline.operations.interception import Interception, eager
from sightline.operations.intercepts import Intercept, Intercepts
from sightline.operations.modules import ModuleStack
from sightline.operations.origins import Origins, is_derived
from sightline.operations.performer import Intercepted, Performer
from sightline.operations.places import INPUT, Places, Seen
from sightline.operations.reading import argument, kind_of_call, writes_in_place
from sightline.operations.reuse import reuse_of
from sightline.operations.steady import is_affected, steady, steady_unseen
from sightline.operations.vocabulary import GATES, Kind, Operation, draws_at_random, rectification, spelling

if TYPE_CHECKING:
    from sightline.propagation import Propagation


class Tape:
    """One forward pass, recorded so that several propagations can be pulled back through it.

    Args:
        model: the network.
        ruled: the kinds for which some propagation of this pass has a rule. With none, torch's own operations run
            and only notes are taken.
        places: the places whose results are to be kept, see `operations.places`.
        pixel_range: the lowest and highest value of a pixel as the model sees it, each of shape (channel,), for rules
            that need them.
        intercepts: whether the intercepts of all operations are to be noted.

    Attributes:
        places: the results asked for.
        intercepts: the intercepts, where they were asked for.
        bytes: memory of all results on the way from the input, the measure by which chunks are sized.
        performed: number of operations on the way from the input so far.
        last: the last of them, and its result.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        ruled: Collection[Kind] = (),
        places: Collection[str] = (),
        pixel_range: tuple[Tensor, Tensor] | None = None,
        *,
        intercepts: bool = False,
    ) -> None:
        self._model = model
        self._ruled = frozenset(ruled)
        self._modules = ModuleStack(model)
        self._lock = threading.Lock()
        self._active = Active(pixel_range=pixel_range)
        self._reuse = reuse_of(model) if torch.is_grad_enabled() else None
        self._performer = Performer(self._ruled, self._active, self._reuse)
        self._origins = Origins()
        # Whoever reads the graph operation by operation has to know what happens beside it.
        self._attentive = bool(self._ruled) or intercepts
        if self._attentive and isinstance(model, nn.Module):
            for name, module in model.named_modules():
                if module._backward_hooks or module._backward_pre_hooks:
                    self._origins.left.append(f"gradient hooks of {name or 'the model'}")
        self.intercepts = Intercepts() if intercepts else None
        self.places = Places(model, places, self._modules, follow=intercepts)
        # Where nothing is ruled and no feature map is looked for, all that autograd records is right as it is.
        self._watchful = bool(self._ruled) or intercepts or self.places.looking
        self._checkpointed = False
        self._seen: tuple[Tensor, Seen] | None = None
        self._steady: set[graph.Node] = set()
        self.last: tuple[Operation, Tensor] | None = None
        self.bytes = 0
        self.performed = 0

    def record(self, inputs: Tensor) -> Any:
        """Run the model on `inputs`: a leaf that requires gradients, or any tensor for a forward alone.

        Returns:
            The model's output, whatever its type.

        Raises:
            RefusalError: the output depends on the batch or on chance.
            InputError: the model raises an error of its own.
        """
        chance = _random_state(inputs.device)
        follow = self._watchful or self.places.named
        try:
            output = self._run(inputs, follow=follow)
        except SightlineError:
            if not follow:
                # Following the modules costs time, and only an error has to know where it happened.
                self._run(inputs, follow=True)
            raise
        finally:
            self._origins.forget()
        if not all(map(torch.equal, chance, _random_state(inputs.device))):
            raise RefusalError(
                "The model draws random numbers in its forward (dropout, stochastic depth or noise in training mode), "
                "so a map would explain that accident. Call model.eval() first."
            )
        self.places.collect()
        return output

    def _run(self, inputs: Tensor, *, follow: bool) -> Any:
        self.places.start(inputs)
        if self._reuse is not None:
            self._reuse.begin(inputs)
        following = self._modules.following(self.places.on_module_exit) if follow else nullcontext()
        with eager(), following, Interception(self):
            # A copy, because a model may change its input in place, which torch forbids on a leaf.
            try:
                return self._model(self._performer.begin(inputs.clone()))
            except (SightlineError, torch.OutOfMemoryError):
                raise
            except (Exception, SystemExit) as error:
                if "view was created inside a custom Function" in str(error):
                    raise RefusalError(
                        f"The model writes in place{self._where()} over a view of a tensor, or over the tensor, where "
                        "a method has a rule for the operation that made the view. Use that operation out of place."
                    ) from error
                raise InputError(
                    f"The model itself fails{self._where()} on images of shape {tuple(inputs.shape)}, {inputs.dtype}: "
                    f"{type(error).__name__}: {error}"
                ) from error

    def select(self, choose: Callable[[Any], Tensor], output: Any) -> Tensor:
        """The explained values, chosen from the output as part of the pass, so that nothing escapes on the way."""
        with Interception(self):
            return choose(output)

    def seen_from(self, values: Tensor) -> Seen:
        """The places as some explained values have them."""
        if self._seen is None or self._seen[0] is not values:
            self._seen = values, self.places.seen_from(values)
        return self._seen[1]

    def perform(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Perform one torch call on behalf of the model: rule or pass it, and note it."""
        name, kind, in_place = spelling(func)
        self._refuse_training(name, args, kwargs)
        tensors: list[Tensor] = []
        args = _without_parameters(args, tensors)
        if kwargs:
            kwargs = dict(zip(kwargs, _without_parameters(tuple(kwargs.values()), tensors), strict=True))
        if self._reuse is not None:
            self._reuse.see(tensors)
        if not (torch.is_grad_enabled() and _on_path(tensors)):
            result = func(*args, **kwargs)
            if self._attentive and tensors:
                self._origins.outside(name, in_place, _tensors_of(result), tensors, self._where())
            return result
        if not self._watchful:
            result = func(*args, **kwargs)
            made = tensors[:1] if name == "setitem" else _tensors_of(result)
            if made and made[0].requires_grad:
                self._note(name, kind, made)
                if is_affected(name):
                    steady(name, made, argument(args, kwargs, 0, "input"))
            return result
        return self._watched(func, name, kind, in_place, args, kwargs, tensors)

    def _watched(
        self,
        func: Callable[..., Any],
        name: str,
        kind: Kind,
        in_place: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
    ) -> Any:
        self._checkpointed = self._checkpointed or _in_checkpoint()
        if name == "register_hook" and not getattr(args[-1], "__module__", "").startswith("torch."):
            # torch's own (of its counters and trackers) only look on; a user's may change the signal.
            self._origins.left.append(f"a gradient hook{self._where()}")
        if name == "max" and len(tensors) > 1:
            name, kind = "maximum", Kind.POINTWISE
        settings = rectification(name, in_place, args, kwargs)
        if settings is not None:
            kind = Kind.RECTIFIER
        elif is_derived(tensors):
            kind = Kind.DERIVED_FACTOR
        else:
            kind = kind_of_call(name, kind, args, kwargs, tensors)
        for tensor in tensors:
            if tensor._is_view():
                graph.adopt(tensor)
        before = graph.makers(tensors)
        call = Intercepted(func, name, kind, args, kwargs, tensors, settings)
        call.in_place = writes_in_place(kind, in_place, args, kwargs)
        depends = [tensor.requires_grad for tensor in tensors]
        noted = None if self.intercepts is None else self.intercepts.before(call)
        result, complete = self._performer.perform(call)
        # x[i] = v returns nothing and changes x
        made = tensors[:1] if name == "setitem" else [t for t in _tensors_of(result) if t.requires_grad]
        if made:
            operation = self._note(name, call.kind, made, has_node=call.has_node)
            graph.mark(made, operation, before)
            gate = name in GATES or (settings is not None and settings.upper < math.inf)
            writes = call.in_place or name == "setitem"
            self._origins.inside(call.kind, made, tensors, depends, gate=gate, writes=writes)
            if complete is not None:
                complete(operation, made[0])
            if is_affected(name):
                steady(name, made, argument(args, kwargs, 0, "input"))
            if noted is not None:
                noted(operation, made[0], channels_last=self.places.channels_last)
        else:
            self._origins.outside(name, in_place, _tensors_of(result), tensors, self._where())
        return result

    def pull_back(
        self,
        values: Tensor,
        propagation: "Propagation",
        places: Sequence[str],
        *,
        keep_graph: bool,
        again: bool = False,
        on_intercept: Callable[[Intercept, Tensor], None] | None = None,
    ) -> tuple[dict[str, Tensor | None], Ledger | None]:
        """Propagate a signal from each of `values` back to `places`.

        Args:
            values: shape (batch,): what is explained, one value per row.
            propagation: the rules to apply, and the signal to start with.
            places: where to read the signal.
            keep_graph: whether another pull-back follows on this tape.
            again: whether the next one is of the same propagation, for another target.
            on_intercept: called with each intercept that the signal meets, and the signal there.

        Returns:
            The signal at each place, of the shape of the result there; None where the values do not depend on it. For
            relevance, also the ledger of what each operation received and handed on.

        Raises:
            RefusalError: the model recomputes parts of itself in a way that rules cannot follow, or writes over
                values that its own backward needs.
        """
        seen = self.seen_from(values)
        edges = {place: edge for place in places if (edge := seen[place].edge) is not None}
        if not values.requires_grad or not edges:
            return dict.fromkeys(places), None
        folded = [place for place, edge in edges.items() if graph.is_folded(edge.node)]
        if propagation.relevance and folded:
            raise RefusalError(
                f"{propagation.name} has no relevance of its own at {folded[0]!r}: that layer is one with the batch "
                "norm, or the sum of parallel layers, that follows it, and relevance goes straight to its input. Name "
                "that batch norm, or the module that adds them, instead."
            )
        if self._checkpointed:
            # Nodes of ours would not notice, so that the answer would depend on which methods were asked together.
            raise _checkpointing(propagation)
        active, start = self._active, propagation.start(values.detach())
        ledger = Ledger(len(values)) if propagation.relevance else None
        steady_unseen(values, self._steady)
        listening = [] if on_intercept is None or self.intercepts is None else _listening(self.intercepts, on_intercept)
        try:
            with self._lock:
                active.propagation, active.ledger = propagation, ledger
                active.last, active.again = not keep_graph, again
                if propagation.contrasts:
                    active.final_layers = graph.final(values)
                found = torch.autograd.grad(
                    values, list(edges.values()), start, retain_graph=keep_graph, allow_unused=True
                )
        except SightlineError:
            raise
        except RuntimeError as error:
            if isinstance(error, CheckpointError) or "checkpoint" in str(error).lower():
                raise _checkpointing(propagation) from error
            if "modified by an inplace operation" in str(error):
                raise RefusalError(
                    f"{propagation.name} cannot be pulled back: the model writes in place over values that the "
                    "backward needs, so it cannot be trained as it stands. Use that operation out of place."
                ) from error
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise RefusalError(
                f"{propagation.name} cannot be pulled back: the model's own backward fails with {error}"
            ) from error
        finally:
            for handle in listening:
                handle.remove()
            active.propagation = active.ledger = None
            active.last = active.again = False
        return {**dict.fromkeys(places), **dict(zip(edges, found, strict=True))}, ledger

    def walk(self, values: Tensor, places: Sequence[str] = (INPUT,), *, gates: bool = True) -> graph.Walk:
        """The operations between `places` and `values`, and what escaped the interception on the way.

        Branches that make gates are left out where `gates` is false. Only for a tape with rules, or one that looks for
        the last spatial feature map: others take no marks.
        """
        if values.grad_fn is None:
            return graph.Walk((), ())
        seen = self.seen_from(values)
        nodes = [edge.node for place in places if (edge := seen[place].edge) is not None]
        found = graph.walk(values, nodes, gates=gates)
        return graph.Walk(found.operations, (*found.unseen, *self._origins.left))

    def _note(self, name: str, kind: Kind, made: list[Tensor], *, has_node: bool = True) -> Operation:
        first = made[0]
        operation = Operation(kind, name, self._modules.where, self.performed, tuple(first.shape), has_node)
        self.performed += 1
        self.last = (operation, first)
        for tensor in made:
            if not tensor._is_view():
                self.bytes += tensor.nbytes
        self.places.note(made, operation)
        return operation

    def _refuse_training(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name == "batch_norm" and kwargs.get("training", args[5] if len(args) > 5 else False):
            effect = "normalises each image by the others in its batch"
        elif draws_at_random(name, args, kwargs):
            effect = "changes by chance from call to call"
        else:
            return
        raise RefusalError(
            f"{name}{self._where()} runs in training mode, where it {effect}, so a map would explain that accident. "
            "Call model.eval() first."
        )

    def _where(self) -> str:
        return f" in {self._modules.where}" if self._modules.where else ""


def _listening(intercepts: Intercepts, hear: Callable[[Intercept, Tensor], None]) -> list[Any]:
    """Have each intercept's node show the signal that reaches it, before the node passes it on."""

    def heard(intercept: Intercept) -> Callable[[Sequence[Tensor | None]], None]:
        def show(signals: Sequence[Tensor | None]) -> None:
            signal = signals[intercept.output]
            if signal is not None:
                hear(intercept, signal)

        return show

    return [intercept.node.register_prehook(heard(intercept)) for intercept in intercepts.found]


def _in_checkpoint() -> bool:
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None and getattr(hooks[0], "__module__", "") == checkpoint.__name__


def _checkpointing(propagation: "Propagation") -> RefusalError:
    return RefusalError(
        f"{propagation.name} cannot be pulled back: the model recomputes part of itself during the backward "
        "(activation checkpointing). Switch checkpointing off for explaining."
    )


def _without_parameters(values: tuple[Any, ...], tensors: list[Tensor]) -> tuple[Any, ...]:
    """The arguments with parameters cut from the graph; all tensors among them are added to `tensors`.

    Cut parameters leave `requires_grad` to say one thing only, that a tensor depends on the input, and let torch keep
    no activations for weight gradients that nobody asked for.
    """
    changed = None
    for position, value in enumerate(values):
        new = value
        if isinstance(value, Tensor):
            if value.requires_grad and value.is_leaf and isinstance(value, nn.Parameter):
                new = value.detach()
            tensors.append(new)
        elif type(value) is tuple:
            new = _without_parameters(value, tensors)
        elif type(value) is list:
            new = list(_without_parameters(tuple(value), tensors))
        if new is not value:
            changed = changed or list(values)
            changed[position] = new
    return values if changed is None else tuple(changed)


def _on_path(tensors: list[Tensor]) -> bool:
    # A loop, because a generator would take twice the time in the busiest place of all.
    for tensor in tensors:  # noqa: SIM110
        if tensor.requires_grad:
            return True
    return False


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _tensors_of(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, list | tuple):
        return [tensor for item in result for tensor in _tensors_of(item)]
    return []
