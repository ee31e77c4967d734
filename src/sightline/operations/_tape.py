"""A tape: what one forward pass leaves behind, and the pulling back of signals through it."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline._common.torch_private import REENTRANT_CHECKPOINT
from sightline.errors import InputError, RefusalError, SightlineError
from sightline.operations import _graph as graph
from sightline.operations._active import Active, Ledger
from sightline.operations._backward import Backward, Pull, by_accumulation, natively, under_modes
from sightline.operations._interception import Interception, eager
from sightline.operations._intercepts import Intercept
from sightline.operations._places import INPUT, Seen
from sightline.operations._propagation import Propagation
from sightline.operations._recorder import Recorder
from sightline.operations._vocabulary import Kind, Operation


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
        active = Active(pixel_range=pixel_range)
        self._recorder = recorder = Recorder(model, ruled, places, active, intercepts=intercepts)
        self.places, self.hooks, self.intercepts = recorder.places, recorder.hooks, recorder.intercepts
        self._backward = Backward(
            active, recorder.dependence, self.hooks, self.intercepts, attentive=recorder.attentive
        )
        self._seen: tuple[Tensor, Seen] | None = None

    @property
    def bytes(self) -> int:
        """Memory of all results on the way from the input, the measure by which chunks are sized."""
        return self._recorder.bytes

    @property
    def performed(self) -> int:
        """Number of operations on the way from the input so far."""
        return self._recorder.performed

    def record(self, inputs: Tensor) -> Any:
        """Run the model on `inputs`: a leaf that requires gradients, or any tensor for a forward alone.

        Returns:
            The model's output, whatever its type.

        Raises:
            RefusalError: the output depends on the batch.
            InputError: the model raises an error of its own.
        """
        follow = self._recorder.watchful or self.places.named
        try:
            output = self._run(inputs, follow=follow)
        except SightlineError:
            if not follow:
                # Following the modules costs time, and only an error has to know where it happened.
                self._run(inputs, follow=True)
            raise
        finally:
            self._recorder.forget()
        self.places.collect()
        return output

    def _run(self, inputs: Tensor, *, follow: bool) -> Any:
        self._recorder.begin(inputs)
        try:
            with eager(), self._recorder.following(follow=follow), Interception(self._recorder.perform):
                return self._model(self._recorder.image(inputs))
        except (SightlineError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            where = self._recorder.modules.phrase
            if self._recorder.attentive and self._runs_by_itself(inputs):
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
        self._recorder.selecting = True
        with Interception(self._recorder.perform):
            values = choose(output)
        self._recorder.selecting = False
        if self._recorder.watchful and isinstance(values, Tensor) and values.requires_grad:
            self.hooks.on_module(values)
        return values

    def seen_from(self, values: Tensor) -> Seen:
        """The places as some explained values have them."""
        if self._seen is None or self._seen[0] is not values:
            self._seen = values, self.places.seen_from(values)
        return self._seen[1]

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
        pull: Pull = under_modes if self._recorder.recomputes else natively
        if self._recorder.dark and graph.holds(values, REENTRANT_CHECKPOINT):
            pull = by_accumulation
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
        return graph.Walk(found.operations, (*found.unseen, *self._recorder.origins.left, *self.hooks.unwatched))

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
        nodes = graph.behind_reshaping(scores, self._recorder.probabilities, combined=combined)
        found = [self._recorder.probabilities[node] for node in nodes]
        return found[0] if len({operation.name for operation in found}) == 1 else None
