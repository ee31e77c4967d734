"""The recording of a pass: each call of the model is performed, by its kind's rule where it has one, and noted."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from sightline._common.torch_private import in_checkpoint, is_view
from sightline.errors import RefusalError
from sightline.operations import _graph as graph
from sightline.operations._active import Active
from sightline.operations._backward import RecomputationError, recomputed
from sightline.operations._batch_statistics import remedy_for_batch_statistics
from sightline.operations._dependence import ASKS, Dependence, any_on_path, asks, requires, tensors_of
from sightline.operations._hooks import Hooks
from sightline.operations._interception import Interception
from sightline.operations._intercepts import Intercepts
from sightline.operations._modules import ModuleStack
from sightline.operations._origins import Origins, is_cut, is_derived, is_picked_by, mark_derived
from sightline.operations._performer import Performer
from sightline.operations._places import INPUT, Places
from sightline.operations._reading import argument
from sightline.operations._reuse import reuse_of
from sightline.operations._steady import is_affected, steady
from sightline.operations._vocabulary import LEAVES_TORCH, PROBABILITIES, Intercepted, Kind, Operation
from sightline.operations.kinds import DERIVED_FACTOR
from sightline.operations.kinds._spelling import layout_rule, spelling
from sightline.operations.layout import Layouts


class Recorder:
    """Performs the calls of one pass, and keeps what becomes known of it.

    Args:
        model: the network.
        ruled: the kinds for which some propagation of this pass has a rule.
        places: the places whose results are to be kept.
        active: where the nodes of the pass look up the propagation in effect.
        intercepts: whether the intercepts of all operations are to be noted.

    Attributes:
        modules: which module of the model is running.
        places: the results asked for.
        intercepts: the intercepts, where they were asked for.
        hooks: the gradient hooks that the pass met.
        dependence: what cuts constants from the graph.
        origins: where tensors come from, as far as the graph does not tell.
        attentive: whether somebody reads the graph operation by operation, and has to know what happens beside it.
        watchful: whether operations are marked in the graph. Where nothing is ruled and no feature map is looked for,
            all that autograd records is right as it is.
        selecting: whether the calls are those that choose the explained values from the output.
        recomputes: whether a checkpoint runs part of the model again during a backward.
        dark: whether a part of the model on the way from the input ran without a graph.
        probabilities: the operations that made probabilities, by their nodes.
        bytes: memory of all results on the way from the input.
        performed: number of operations on the way from the input so far.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        ruled: Collection[Kind],
        places: Collection[str],
        active: Active,
        *,
        intercepts: bool,
    ) -> None:
        self.modules = ModuleStack(model)
        self._reuse = reuse_of(model) if torch.is_grad_enabled() else None
        self._performer = Performer(frozenset(ruled), active, self._reuse)
        self.hooks, self.origins = Hooks(model), Origins()
        self.intercepts = Intercepts() if intercepts else None
        # Followed only where some inner result has to be read: each operation costs some microseconds more.
        reads = bool(frozenset(places) - {INPUT})
        self._layouts = Layouts() if intercepts or reads else None
        self.places = Places(model, places, self.modules, self._layouts)
        self.attentive = bool(ruled) or intercepts
        self.watchful = self.attentive or self.places.looking
        on_copy = None if self._layouts is None else self._layouts.take
        self.dependence = Dependence(through_graph=self.watchful, on_copy=on_copy)
        self.selecting = self.recomputes = self.dark = False
        self.probabilities: dict[graph.Node, Operation] = {}
        self.bytes = self.performed = 0

    def begin(self, inputs: Tensor) -> None:
        """A pass on `inputs` is about to begin."""
        self.places.start(inputs)
        if inputs.requires_grad:
            self.dependence.begin(inputs)
        if self._reuse is not None:
            self._reuse.begin(inputs)

    def following(self, *, follow: bool) -> AbstractContextManager[None]:
        """While active, keep track of the modules that run, if at all."""
        if not follow:
            return nullcontext()
        return self.modules.following(self.places.on_module_exit, self.places.after_hooks)

    def image(self, inputs: Tensor) -> Tensor:
        """What the model is given: a copy, because it may change its input in place, which torch forbids on a leaf."""
        image = self._performer.begin(inputs.clone())
        if not image.requires_grad:
            mark_derived(image)
        return image

    def forget(self) -> None:
        """Let go of what only matters while the model runs."""
        self.origins.forget()
        self.dependence.forget()

    def perform(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Perform one torch call on behalf of the model: rule or pass it, and note it."""
        name, kind, in_place = spelling(func)
        if name in ASKS and asks(func):
            return func(*args, **kwargs)
        args, kwargs, tensors = self.dependence.arguments(name, in_place, args, kwargs)
        self._refuse_batch_statistics(name, args, kwargs)
        if self._reuse is not None:
            self._reuse.see(tensors)
        on_path = any_on_path(tensors)
        if not (on_path and torch.is_grad_enabled()):
            self.dark = self.dark or on_path
            required = requires(args)
            result = func(*args, **kwargs)
            self._follow(func, name, kind, args, kwargs, tensors, result)
            if tensors:
                self.origins.outside(name, in_place, tensors_of(result), tensors, self.modules.phrase)
            if not on_path:
                self.dependence.note_new(result, name, args, required=required)
            return result
        if in_checkpoint():
            if self.attentive:
                # What runs again would not be what this pass records.
                raise RecomputationError(recomputed("A method with rules, or FullGrad,"))
            self.recomputes = True
        if self.watchful and name in kind.written_out:
            with Interception(self.perform):
                return kind.written_out[name](in_place, *args, **kwargs)
        if not self.watchful:
            result = func(*args, **kwargs)
            self._follow(func, name, kind, args, kwargs, tensors, result)
            made = tensors[:1] if name == "setitem" else tensors_of(result)
            if made and made[0].requires_grad:
                self._note(name, kind, made)
                if is_affected(name):
                    steady(name, made, argument(args, kwargs, 0, "input"))
            elif made or in_place or name in LEAVES_TORCH:
                self.origins.outside(name, in_place, made, tensors, self.modules.phrase)
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
        if name == "register_hook":
            return func(args[0], self.hooks.on_tensor(argument(args, kwargs, 1, "hook"), self.modules.phrase))
        call = Intercepted(func, name, kind, args, kwargs, tensors, in_place=in_place)
        call.kind = kind.read(call)
        name = call.name
        # Inside the network an index may spell a rectifier; of what is explained, it only says which.
        picks = name in call.spelled.picks
        said = self.selecting and picks and is_picked_by(tensors)
        derived = self.attentive and is_derived(tensors) and not said
        if (derived or is_cut(tensors)) and not call.kind.takes_derived:
            call.kind = DERIVED_FACTOR
        call.in_place = call.writes_in_place
        for tensor in tensors:
            if is_view(tensor):
                self.hooks.on_module(tensor)
                graph.adopt(tensor)
        before = graph.makers(tensors)
        depends = [tensor.requires_grad for tensor in tensors]
        noted = None if self.intercepts is None else self.intercepts.before(call)
        result, complete = self._performer.perform(call)
        self._follow(func, name, call.kind, args, kwargs, tensors, result)
        # x[i] = v returns nothing and changes x
        made = tensors[:1] if name == "setitem" else [t for t in tensors_of(result) if t.requires_grad]
        if made:
            weighs = call.kind.weighs and sum(depends) == 1
            operation = self._note(name, call.kind, made, weighs=weighs, has_node=call.has_node)
            graph.mark(made, operation, before)
            beside = [tensor for tensor in tensors_of(result) if not tensor.requires_grad]
            if beside:
                # Indices beside the values, of the largest and the like.
                self.origins.outside(name, False, beside, tensors, self.modules.phrase)
            self.origins.inside(
                call.kind, made, tensors, depends, gate=call.kind.gates(call), writes=call.writes, picks=picks
            )
            if complete is not None:
                complete(operation, made[0])
            if is_affected(name):
                steady(name, made, argument(args, kwargs, 0, "input"))
            if noted is not None:
                noted(operation, made[0], grid=self.places.layout_of(made[0])[1])
        else:
            self.origins.outside(name, in_place, tensors_of(result), tensors, self.modules.phrase)
        return result

    def _follow(
        self,
        func: Callable[..., Any],
        name: str,
        kind: Kind,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
        result: Any,
    ) -> None:
        if self._layouts is not None and tensors:
            self._layouts.follow(func, name, layout_rule(name, kind), args, kwargs, tensors, tensors_of(result))

    def _note(
        self, name: str, kind: Kind, made: list[Tensor], *, weighs: bool = False, has_node: bool = True
    ) -> Operation:
        first = made[0]
        operation = Operation(kind, name, self.modules.where, self.performed, tuple(first.shape), has_node)
        self.performed += 1
        if name in PROBABILITIES and first.grad_fn is not None:
            self.probabilities[first.grad_fn] = operation
        for tensor in made:
            if not is_view(tensor):
                self.bytes += tensor.nbytes
        self.places.note(made, operation, weighs=weighs)
        return operation

    def _refuse_batch_statistics(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse a batch norm that normalises each image by the others in its batch."""
        remedy = remedy_for_batch_statistics(name, args, kwargs)
        if remedy is None:
            return
        x = argument(args, kwargs, 0, "input")
        from_image = self.dependence.depends(x) if x.requires_grad else is_derived([x])
        # What left torch may have come back as a constant.
        if from_image or self.origins.left:
            advice = f"The model is in eval mode already. {remedy}" if self.modules.evaluating else _CALL_EVAL
            raise RefusalError(
                f"{name}{self.modules.phrase} runs in training mode, where it normalises each image by the others in "
                f"its batch, so a map would explain that accident. {advice}"
            )


_CALL_EVAL = "Call model.eval() first."
