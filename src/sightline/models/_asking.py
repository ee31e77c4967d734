"""Asking a network for its logits, leaving it as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import InputError, SightlineError
from sightline.models._home import home_of
from sightline.models._info import model_info
from sightline.models._output_kind import Kind, OutputKind
from sightline.models._outputs import class_scores
from sightline.models._untouched import untouched
from sightline.operations import Tape, refuse_chance, wide


def ask(model: Callable[..., Any], images: Tensor, size: int) -> Tensor:
    """The logits of some images, in evaluation mode, at least in single precision and on the CPU.

    Args:
        model: the network.
        images: encoded images.
        size: how many go through it at once.

    Raises:
        InputError: the network fails on such images.
        RefusalError: it gives no class scores, or draws random numbers.
    """
    with torch.no_grad(), evaluating(model), untouched(model):
        home = home_of(model, images)
        try:
            same_each_time(model, images[:1].to(*home))
            parts = [class_scores(model(part.to(*home)), len(part)) for part in images.split(size)]
        except (SightlineError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(
                f"The model itself fails on images of shape {tuple(images.shape)}, {images.dtype}: "
                f"{type(error).__name__}: {error}"
            ) from error
    return wide(torch.cat(parts)).cpu()


def output_of(model: Callable[..., Any], images: Tensor, scores: Tensor, stated: Kind | None = None) -> OutputKind:
    """What a network's outputs are, by what a user or the model says, its last operation, and what it said.

    Args:
        model: the network.
        images: encoded images, of which one is looked at.
        scores: shape (image, output): what the network said of images.
        stated: what a user says; None for what the model says.

    Raises:
        InputError: the network fails on such images.
        RefusalError: it gives no scores.
    """
    with torch.inference_mode(mode=False), torch.enable_grad(), evaluating(model), untouched(model):
        tape = Tape(model)
        row = images[:1].detach().to(*home_of(model, images)).requires_grad_()
        said = class_scores(tape.record(row), 1)
        last = tape.ends_in(said)
    return OutputKind.of(stated or model_info(model).output, last and last.name, scores, tape.combines(said))


@contextmanager
def evaluating(model: Callable[..., Any]) -> Iterator[None]:
    """Evaluation mode, and each module back to its own after it."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    before = {module: module.training for module in modules}
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def same_each_time(model: Callable[..., Any], image: Tensor) -> None:
    """See that a network gives the same logits each time it is asked for an image.

    Args:
        model: the network.
        image: shape (1, channel, height, width), as the network takes it.

    Raises:
        RefusalError: it draws random numbers.
    """

    def ask() -> Any:
        with untouched(model):
            return model(image.clone())

    about = (image.shape, image.dtype, image.device)
    refuse_chance(model, ask, lambda output: [class_scores(output, 1)], (*about, frozenset()))


_UNDONE: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda z: z.softmax(1),
    "special_softmax": lambda z: z.softmax(1),
    "softmin": lambda z: (-z).softmax(1),
    "log_softmax": lambda z: z.log_softmax(1),
    "special_log_softmax": lambda z: z.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "special_expit": torch.sigmoid,
    "hardsigmoid": nn.functional.hardsigmoid,
    "log_sigmoid": nn.functional.logsigmoid,
}


def layer_before(model: Callable[..., Any], image: Tensor, ending: str) -> str:
    """The layer whose result the model's last operation turns into its scores; empty where no module has it alone.

    Args:
        model: the network.
        image: shape (1, channel, height, width): an encoded image.
        ending: the operation.
    """
    if not isinstance(model, nn.Module) or ending not in _UNDONE:
        return ""
    names = [name for name, _ in model.named_modules() if name]
    try:
        with torch.no_grad(), evaluating(model), untouched(model):
            tape = Tape(model, (), names)
            scores = class_scores(tape.record(image.detach().to(*home_of(model, image))), 1)
            kept = tape.places.kept
            return next((n for n in names if n in kept and _made_of(scores, kept[n].values, _UNDONE[ending])), "")
    except Exception:  # noqa: BLE001 - this only looks for a better sentence
        return ""


def _made_of(scores: Tensor, result: Tensor, ending: Callable[[Tensor], Tensor]) -> bool:
    """Whether a layer gave what the scores were made of, channel by channel."""
    alike = result.dim() > 1 and result.numel() == scores.numel() and result.is_floating_point()
    return alike and bool(torch.allclose(ending(result.flatten(1)), scores, rtol=1e-3, atol=1e-6))
