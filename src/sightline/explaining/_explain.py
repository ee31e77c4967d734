"""`explain`: a model and images in, an `Explanation` out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sightline._common.options import takes
from sightline._common.seeds import image_key
from sightline.arrays import ImageBatch, as_images, encoding_of, ends_of
from sightline.errors import InputError
from sightline.explaining._as_target import TargetLike, target_of
from sightline.explaining._assembling import Asked, assembled
from sightline.explaining._chunks import Chunks
from sightline.explaining._explanation import Explanation
from sightline.explaining._layer_names import methods_named
from sightline.explaining._network import Network
from sightline.explaining._options import Options, OptionsLike
from sightline.explaining._planner import Job
from sightline.methods import Method, as_method
from sightline.models import as_kind, ask, home_of, layer_before, model_info
from sightline.options import ExplainOptions
from sightline.sampling import Context

Methods = str | Method | Sequence[str | Method]
Targets = str | Sequence[TargetLike] | Tensor | np.ndarray[Any, np.dtype[np.integer[Any]]]
"""Several targets, each as `explain` takes one; or "all", for each output."""
_DEFAULT = ExplainOptions.methods


@overload
def explain(
    model: Callable[..., Any],
    images: Float[Tensor, "batch channel height width"] | ImageBatch,
    methods: Methods = ...,
    target: TargetLike = ...,
    *,
    targets: None = None,
    **options: Unpack[OptionsLike],
) -> Explanation: ...


@overload
def explain(
    model: Callable[..., Any],
    images: Float[Tensor, "batch channel height width"] | ImageBatch,
    methods: Methods = ...,
    *,
    targets: Targets,
    **options: Unpack[OptionsLike],
) -> list[Explanation]: ...


@takes(Options)
def explain(
    model: Callable[..., Any],
    images: Float[Tensor, "batch channel height width"] | ImageBatch,
    methods: Methods = _DEFAULT,
    target: TargetLike = None,
    *,
    targets: Targets | None = None,
    **more: Unpack[OptionsLike],
) -> Explanation | list[Explanation]:
    """Explain what a model sees in some images.

    All methods and targets share their passes: one forward for every propagation, one backward for every aggregation
    that reads from it. The model comes back as it was.

    Args:
        model: a network in evaluation mode (or any callable from a batch of images to its output).
        images: floating point, shape (batch, channel, height, width), encoded as the model wants them; or what
            `load_images` returns. They are brought to the device and precision of the model's parameters; where these
            are of several, they keep their own precision if the model runs with it.
        methods: names of the catalogue (`grad_cam@layer3` reads another layer), or `Method`s.
        target: None for the predicted class of each image; a class, by number or name; one class per image; a `Pair`
            (why A and not B); a text as on the command line, such as "top-2"; a `Unit` or `Direction`; or a callable
            from the model's output for some of the images to one value for each, of its own row alone. A callable of
            (output, images) is given their positions too; one in a `WholeBatch` the output for all images at once.
        targets: instead of `target`, a list of them, such as `[281, "tabby"]`: both classes are explained of each
            image, from one forward pass. "all" explains each output.
        {options}

    Returns:
        The maps and their checks; where `targets` is given, a list with one explanation for each of them.

    Raises:
        InputError: images, methods or targets cannot be used as given.
        RefusalError: a method would be wrong or undefined on this model; or all of them are.
    """
    options = Options(**more)
    rows = _methods(methods)
    with torch.inference_mode(mode=False), torch.enable_grad():
        if targets is None:
            return _explained(model, images, rows, [target], options)[0]
        if target is not None:
            raise InputError("Expected either target, for one explanation, or targets, for a list; got both.")
        return _explained(model, images, rows, _each(model, images, targets), options)


def _explained(
    model: Callable[..., Any], images: object, rows: list[Method], targets: Sequence[object], options: Options
) -> list[Explanation]:
    batch = _tensor(images)
    info = model_info(model)
    info = replace(info, output=as_kind(options.output) or info.output)
    chosen = [target_of(model, target, len(batch)) for target in targets]
    device, dtype = _home(model, batch)
    references = None if options.references is None else _tensor(options.references, "References")
    asked = Asked(
        images=batch,
        loaded=images if isinstance(images, ImageBatch) else None,
        methods=methods_named(model, rows),
        info=info,
        encoding=encoding_of(model, images),
        options=options,
        device=device,
        dtype=dtype,
    )
    network = Network(
        model,
        batch.detach().to(device, dtype),
        chosen,
        seed=options.seed,
        # Named before they are rounded to the model's precision, so that all precisions see the same noise.
        image_names=lambda: [image_key(image) for image in batch],
        context=Context(
            ends=ends_of(model, images, batch.shape[1]),
            references=None if references is None else references.detach().to(device, dtype),
        ),
    )
    chunks = Chunks(network.images, chunk=options.chunk, memory=options.memory, progress=options.progress)
    job = Job(network, asked.methods, chunks)
    explanations, before = [], None
    for target, results in zip(chosen, job.run(), strict=True):
        if results.ends_in is not None and before is None:
            before = layer_before(model, batch[:1], results.ends_in.name)
        explanations.append(assembled(asked, target, results, before))
    return explanations


def _each(model: Callable[..., Any], images: object, targets: Targets) -> Sequence[object]:
    if isinstance(targets, str) and targets == "all":
        return range(ask(model, _tensor(images)[:1], 1).shape[1])
    each = targets.tolist() if isinstance(targets, Tensor | np.ndarray) else targets
    if not isinstance(each, Sequence) or isinstance(each, str) or not each:
        raise InputError(f'targets is a list of at least one target, or "all"; got {targets!r}.')
    return each


def _methods(methods: object) -> list[Method]:
    rows = [as_method(m) for m in (methods if isinstance(methods, list | tuple) else [methods])]
    names = [row.name for row in rows]
    twice = {name for name in names if names.count(name) > 1}
    if not rows or twice:
        what = f"{', '.join(sorted(twice))} came twice" if twice else "none came"
        raise InputError(f"At least one method is needed, each under a name of its own; {what}.")
    return rows


def _tensor(images: object, what: str = "Images") -> Tensor:
    return as_images(images.tensor if isinstance(images, ImageBatch) else images, what)


def _home(model: Callable[..., Any], batch: Tensor) -> tuple[torch.device, torch.dtype]:
    """Device and dtype the model works in."""
    if isinstance(model, nn.Module) and any(is_lazy(tensor) for tensor in [*model.parameters(), *model.buffers()]):
        raise InputError("The model has lazy parameters without values. Run it once on an image before explaining it.")
    return home_of(model, batch)
