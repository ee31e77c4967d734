"""A tape: what one forward pass leaves behind, and the pulling back of signals through it."""

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sightline._common.torch_private import REENTRANT_CHECKPOINT, in_checkpoint, is_view
from sightline.errors import InputError, RefusalError, SightlineError
from sightline.operations import _backward as backward
from sightline.operations import _graph as graph
from sightline.operations._active import Active, Ledger
from sightline.operations._batch_statistics import remedy_for_batch_statistics
from sightline.operations._dependence import ASKS, Dependence, any_on_path, asks, requires, tensors_of
from sightline.operations._hooks import Hooks
from sightline.operations._interception import Interception, eager
from sightline.operations._intercepts import Intercept, Intercepts
from sightline.operations._modules import ModuleStack
from sightline.operations._origins import Origins, is_cut, is_derived, is_picked_by, mark_derived
from sightline.operations._performer import Performer
from sightline.operations._places import INPUT, Places, Seen
from sightline.operations._propagation import Propagation
from sightline.operations._reading import argument
from sightline.operations._reuse import reuse_of
from sightline.operations._steady import is_affected, steady
from sightline.operations._vocabulary import LEAVES_TORCH, PROBABILITIES, Intercepted, Kind, Operation
from sightline.operations.kinds import DERIVED_FACTOR
from sightline.operations.kinds._spelling import layout_rule, spelling
from sightline.operations.layout import Layouts


class RuledPassError(RefusalError):
    """A model that runs by itself fails in a pass with rules, so that only methods without rules go on."""


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
        hooks: the gradient hooks that the pass met, and which of them changed a signal.
        bytes: memory of all results on the way from the input, the measure by which chunks are sized.
        recomputes: whether a checkpoint runs part of the model again during a backward.
        performed: number of operations on the way from the input so far.
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
        active = Active(pixel_range=pixel_range)
        self._reuse = reuse_of(model) if torch.is_grad_enabled() else None
        self._performer = Performer(self._ruled, active, self._reuse)
        self._origins = Origins()
        # Whoever reads the graph operation by operation has to know what happens beside it.
        self._attentive = bool(self._ruled) or intercepts
        self.hooks = Hooks(model)
        self.intercepts = Intercepts() if intercepts else None
        # Followed only where some inner result has to be read: each operation costs some microseconds more.
        reads = bool(frozenset(places) - {INPUT})
        self._layouts = Layouts() if intercepts or reads else None
        self.places = Places(model, places, self._modules, self._layouts)
        # Where nothing is ruled and no feature map is looked for, all that autograd records is right as it is.
        self._watchful = bool(self._ruled) or intercepts or self.places.looking
        on_copy = None if self._layouts is None else self._layouts.take
        self._dependence = Dependence(through_graph=self._watchful, on_copy=on_copy)
        self._backward = backward.Backward(
            active, self._dependence, self.hooks, self.intercepts, attentive=self._attentive
        )
        self.recomputes = self._dark = False
        self._selecting = False
        self._seen: tuple[Tensor, Seen] | None = None
        self._probabilities: dict[graph.Node, Operation] = {}
        self.bytes = 0
        self.performed = 0

    def record(self, inputs: Tensor) -> Any:
        """Run the model on `inputs`: a leaf that requires gradients, or any tensor for a forward alone.

        Returns:
            The model's output, whatever its type.

        Raises:
            RefusalError: the output depends on the batch.
            InputError: the model raises an error of its own.
        """
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
            self._dependence.forget()
        self.places.collect()
        return output

    def _run(self, inputs: Tensor, *, follow: bool) -> Any:
        self.places.start(inputs)
        if inputs.requires_grad:
            self._dependence.begin(inputs)
        if self._reuse is not None:
            self._reuse.begin(inputs)
        following = (
            self._modules.following(self.places.on_module_exit, self.places.after_hooks) if follow else nullcontext()
        )
        try:
            with eager(), following, Interception(self.perform):
                # A copy, because a model may change its input in place, which torch forbids on a leaf.
                image = self._performer.begin(inputs.clone())
                if not image.requires_grad:
                    mark_derived(image)
                return self._model(image)
        except (SightlineError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            where = self._modules.phrase
            if self._attentive and self._runs_by_itself(inputs):
                raise RuledPassError(
                    f"The model runs by itself, but not with what this method adds to its operations: it "
                    f"fails{where} with {type(error).__name__}: {error}. Use a method that needs only the "
                    "gradient, or that operation in another form."
                ) from error
            raise InputError(
                f"The model itself fails{where} on images of shape {tuple(inputs.shape)}, {inputs.dtype}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _runs_by_itself(self, inputs: Tensor) -> bool:
        """Whether the model takes these inputs where nothing is ruled."""
        try:
            Tape(self._model).record(inputs.detach().requires_grad_())
        except (Exception, SystemExit):  # noqa: BLE001
            return False
        return True

    def select(self, choose: Callable[[Any], Tensor], output: Any) -> Tensor:
        """The explained values, chosen from the output as part of the pass, so that nothing escapes on the way."""
        self._selecting = True
        with Interception(self.perform):
            values = choose(output)
        self._selecting = False
        if self._watchful and isinstance(values, Tensor) and values.requires_grad:
            self.hooks.on_module(values)
        return values

    def seen_from(self, values: Tensor) -> Seen:
        """The places as some explained values have them."""
        if self._seen is None or self._seen[0] is not values:
            self._seen = values, self.places.seen_from(values)
        return self._seen[1]

    def perform(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Perform one torch call on behalf of the model: rule or pass it, and note it."""
        name, kind, in_place = spelling(func)
        if name in ASKS and asks(func):
            return func(*args, **kwargs)
        args, kwargs, tensors = self._dependence.arguments(name, in_place, args, kwargs)
        self._refuse_batch_statistics(name, args, kwargs)
        if self._reuse is not None:
            self._reuse.see(tensors)
        on_path = any_on_path(tensors)
        if not (on_path and torch.is_grad_enabled()):
            self._dark = self._dark or on_path
            required = requires(args)
            result = func(*args, **kwargs)
            self._follow(func, name, kind, args, kwargs, tensors, result)
            if tensors:
                self._origins.outside(name, in_place, tensors_of(result), tensors, self._modules.phrase)
            if not on_path:
                self._dependence.note_new(result, name, args, required=required)
            return result
        if in_checkpoint():
            if self._attentive:
                # What runs again would not be what this pass records.
                raise backward.RecomputationError(backward.recomputed("A method with rules, or FullGrad,"))
            self.recomputes = True
        if self._watchful and name in kind.written_out:
            with Interception(self.perform):
                return kind.written_out[name](in_place, *args, **kwargs)
        if not self._watchful:
            result = func(*args, **kwargs)
            self._follow(func, name, kind, args, kwargs, tensors, result)
            made = tensors[:1] if name == "setitem" else tensors_of(result)
            if made and made[0].requires_grad:
                self._note(name, kind, made)
                if is_affected(name):
                    steady(name, made, argument(args, kwargs, 0, "input"))
            elif made or in_place or name in LEAVES_TORCH:
                self._origins.outside(name, in_place, made, tensors, self._modules.phrase)
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
            return func(args[0], self.hooks.on_tensor(argument(args, kwargs, 1, "hook"), self._modules.phrase))
        call = Intercepted(func, name, kind, args, kwargs, tensors, in_place=in_place)
        call.kind = kind.read(call)
        name = call.name
        # Inside the network an index may spell a rectifier; of what is explained, it only says which.
        picks = name in call.spelled.picks
        said = self._selecting and picks and is_picked_by(tensors)
        derived = self._attentive and is_derived(tensors) and not said
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
                self._origins.outside(name, False, beside, tensors, self._modules.phrase)
            self._origins.inside(
                call.kind, made, tensors, depends, gate=call.kind.gates(call), writes=call.writes, picks=picks
            )
            if complete is not None:
                complete(operation, made[0])
            if is_affected(name):
                steady(name, made, argument(args, kwargs, 0, "input"))
            if noted is not None:
                noted(operation, made[0], grid=self.places.layout_of(made[0])[1])
        else:
            self._origins.outside(name, in_place, tensors_of(result), tensors, self._modules.phrase)
        return result

    def pull_back(
        self,
        values: Tensor,
        propagation: Propagation,
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
            RefusalError: the model recomputes parts of itself in a way that rules cannot follow, writes over values
                that its own backward needs, or has a hook that changes a signal for which there is a rule.
        """
        seen = self.seen_from(values)
        edges = {place: edge for place in places if (edge := seen[place].edge) is not None}
        if not values.requires_grad or not edges:
            return dict.fromkeys(places), None
        reentrant = self._dark and graph.holds(values, REENTRANT_CHECKPOINT)
        pull = backward.by_accumulation if reentrant else backward.under_modes if self.recomputes else backward.natively
        found, ledger = self._backward.run(
            values, propagation, edges, pull, keep_graph=keep_graph, again=again, on_intercept=on_intercept
        )
        return {**dict.fromkeys(places), **found}, ledger

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
        return graph.Walk(found.operations, (*found.unseen, *self._origins.left, *self.hooks.unwatched))

    def ends_in(self, scores: Tensor) -> Operation | None:
        """The operation that turned scores into probabilities where nothing but reshaping came after it; else None."""
        return self._made_probabilities(scores, combined=False)

    def combines(self, scores: Tensor) -> str | None:
        """The name of the operation that made the probabilities of which scores are means, sums or products.

        None where there is none, or more than one; constants may take part.
        """
        operation = self._made_probabilities(scores, combined=True)
        return None if operation is None else operation.name

    def _made_probabilities(self, scores: Tensor, *, combined: bool) -> Operation | None:
        nodes = graph.behind_reshaping(scores, self._probabilities, combined=combined)
        found = [self._probabilities[node] for node in nodes]
        return found[0] if len({operation.name for operation in found}) == 1 else None

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
        operation = Operation(kind, name, self._modules.where, self.performed, tuple(first.shape), has_node)
        self.performed += 1
        if name in PROBABILITIES and first.grad_fn is not None:
            self._probabilities[first.grad_fn] = operation
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
        from_image = self._dependence.depends(x) if x.requires_grad else is_derived([x])
        # What left torch may have come back as a constant.
        if from_image or self._origins.left:
            advice = f"The model is in eval mode already. {remedy}" if self._modules.evaluating else _CALL_EVAL
            raise RefusalError(
                f"{name}{self._modules.phrase} runs in training mode, where it normalises each image by the others in "
                f"its batch, so a map would explain that accident. {advice}"
            )


_CALL_EVAL = "Call model.eval() first."
