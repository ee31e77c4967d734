"""`explain`: a model and images in, an `Explanation` out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sightline._common.words import counted, readable
from sightline.arrays import ImageBatch
from sightline.arrays._encoded import as_images, encoding_of, ends_of, is_finite
from sightline.errors import InputError, RefusalError
from sightline.explaining._conservation import Conservation
from sightline.explaining._explanation import Checks, Explanation, versions
from sightline.explaining._layer_names import methods_named, target_named
from sightline.explaining._notes import notes
from sightline.explaining._planner import Job, Progress
from sightline.explaining._results import Results
from sightline.explaining._target_names import read_target
from sightline.explaining._targets import Classes, Pair, Target, TargetLike, as_target
from sightline.methods._catalogue import as_method
from sightline.methods._method import Method
from sightline.models import ModelInfo, Preprocessing, model_info
from sightline.models._asking import ask, layer_before
from sightline.models._home import home_of
from sightline.models._output_kind import Kind, OutputKind, as_kind
from sightline.sampling import Context
from sightline.sampling._seeds import image_key


def explain(
    model: Callable[..., Any],
    images: Float[Tensor, "batch channel height width"] | ImageBatch,
    methods: str | Method | Sequence[str | Method] = ("gradient", "grad_cam"),
    target: TargetLike = None,
    *,
    output: str | None = None,
    references: Float[Tensor, "reference channel height width"] | ImageBatch | None = None,
    seed: int = 0,
    chunk: int | None = None,
    memory: int | None = None,
    on_refusal: Literal["raise", "record"] = "raise",
    progress: Progress | None = None,
) -> Explanation:
    """Explain what a model sees in some images.

    All methods share their passes: one forward for every propagation, one backward for every aggregation that reads
    from it. The model comes back as it was.

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
        output: what the model's outputs are: "classes" (one class among all, by softmax), "labels" (each a yes or no of
            its own, by sigmoid) or "values" (numbers as they are, as in regression); by default what the model says,
            and else it is assumed, with a note.
        references: images to compare with, for expected gradients; encoded like the images.
        seed: base of all randomness. The noise of an image depends on this and on its content alone.
        chunk: rows of each pass; by default as many as fit a fixed share of memory, so that the same job is cut in the
            same way and gives the same numbers. The rows used are recorded.
        memory: bytes that a pass may take, instead of that share; where it is the same, so are the chunks, whatever
            memory is free.
        on_refusal: `raise` when a method cannot be right on this model, or `record` the reason in `refused` and go
            on with the others.
        progress: called with (rows done, rows in all) after each pass.

    Returns:
        The maps and their checks.

    Raises:
        InputError: images, methods or target cannot be used as given.
        RefusalError: a method would be wrong or undefined on this model; or all of them are.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        return _explain(
            model, images, _methods(methods), [target], output, references, seed, chunk, memory, on_refusal, progress
        )[0]


def explain_each(
    model: Callable[..., Any],
    images: Float[Tensor, "batch channel height width"] | ImageBatch,
    methods: str | Method | Sequence[str | Method] = ("gradient", "grad_cam"),
    targets: str | Sequence[TargetLike] | Tensor | np.ndarray[Any, np.dtype[np.integer[Any]]] = (None,),
    *,
    output: str | None = None,
    references: Float[Tensor, "reference channel height width"] | ImageBatch | None = None,
    seed: int = 0,
    chunk: int | None = None,
    memory: int | None = None,
    on_refusal: Literal["raise", "record"] = "raise",
    progress: Progress | None = None,
) -> list[Explanation]:
    """Explain the same images for several targets, such as ten classes, from one forward pass.

    Args:
        model: see `explain`.
        images: see `explain`.
        methods: see `explain`.
        targets: what is explained: each as `explain` takes it, so `[281, "tabby"]` explains both classes of each
            image; "all" for each output.
        output: see `explain`.
        references: see `explain`.
        seed: see `explain`.
        chunk: see `explain`.
        memory: see `explain`.
        on_refusal: see `explain`.
        progress: see `explain`.

    Returns:
        One explanation for each target, in order.

    Raises:
        InputError: images, methods or targets cannot be used as given.
        RefusalError: a method would be wrong or undefined on this model; or all of them are.
    """
    if isinstance(targets, str) and targets == "all":
        targets = range(ask(model, _tensor(images)[:1], 1).shape[1])
    each = targets.tolist() if isinstance(targets, Tensor | np.ndarray) else targets
    if not isinstance(each, Sequence) or isinstance(each, str) or not each:
        raise InputError(f'explain_each takes a list of at least one target, or "all"; got {targets!r}.')
    with torch.inference_mode(mode=False), torch.enable_grad():
        return _explain(
            model, images, _methods(methods), each, output, references, seed, chunk, memory, on_refusal, progress
        )


def _explain(
    model: Callable[..., Any],
    images: object,
    rows: list[Method],
    targets: Sequence[object],
    output: object,
    references: object,
    seed: int,
    chunk: int | None,
    memory: int | None,
    on_refusal: str,
    progress: Progress | None,
) -> list[Explanation]:
    batch = _tensor(images)
    loaded = images if isinstance(images, ImageBatch) else None
    info = model_info(model)
    info = replace(info, output=as_kind(output) or info.output)
    names = info.class_names or ()
    chosen = [target_named(model, as_target(read_target(target, len(batch), names), len(batch))) for target in targets]
    rows = methods_named(model, rows)
    if chunk is not None and chunk < 1:
        raise InputError(f"A chunk needs at least one row; got chunk={chunk}.")
    if memory is not None and memory < 1:
        raise InputError(f"A pass needs memory; got memory={memory}.")
    if on_refusal not in {"raise", "record"}:
        raise InputError(f'on_refusal is "raise" or "record"; got {on_refusal!r}.')
    device, dtype = _home(model, batch)
    job = Job(
        model,
        batch.detach().to(device, dtype),
        rows,
        chosen,
        seed=seed,
        # Named before they are rounded to the model's precision, so that all precisions see the same noise.
        image_names=lambda: [image_key(image) for image in batch],
        chunk=chunk,
        memory=memory,
        progress=progress,
        context=Context(
            ends=ends_of(model, images, batch.shape[1]),
            references=None if references is None else _tensor(references, "References").detach().to(device, dtype),
        ),
    )
    encoding = encoding_of(model, images)
    explanations, before = [], None
    for chosen_target, results in zip(chosen, job.run(), strict=True):
        settings = _settings(results, info, encoding, loaded, seed, device, dtype) | _compared(references)
        if results.ends_in is not None and before is None:
            before = layer_before(model, batch[:1], results.ends_in.name)
        remedy = _logit_instead(before, chosen_target)
        explanations.append(
            _assembled(results, chosen_target, batch, loaded, rows, info, encoding, settings, remedy, on_refusal)
        )
    return explanations


def _assembled(
    results: Results,
    target: Target,
    batch: Tensor,
    loaded: ImageBatch | None,
    rows: list[Method],
    info: ModelInfo,
    encoding: Preprocessing | None,
    settings: dict[str, Any],
    remedy: str,
    on_refusal: str,
) -> Explanation:
    names = loaded.names if loaded else [f"image {index}" for index in range(len(batch))]
    _refuse_values(results.values, names)
    if remedy:
        at_end = str(results.ends_in)
        results.refused |= {name: f"{why} {remedy}" for name, why in results.refused.items() if at_end in why}
    _refuse(results, rows, on_refusal)
    maps = {row.name: results.maps[row.name].to(batch.device) for row in rows if row.name in results.maps}
    output, predicted, probabilities = _prediction(results, info.output)
    _refuse_largest(target, output, results)
    conservation = {
        row.name: Conservation(
            start=row.propagation.start(results.values).double().cpu(),
            arrived=maps[row.name].flatten(1).sum(1).double().cpu(),
            operations=flow.operations,
            amounts=flow.amounts.double().cpu(),
            contrasts=row.propagation.contrasts,
            positive=row.propagation.positive,
        )
        for row in rows
        if (flow := results.flows.get(row.name))
    }
    promised = {
        row.name: residual
        for row in rows
        if row.propagation.promise
        and row.name in conservation
        and bool((residual := conservation[row.name].residual).isfinite().any())
    }
    nan = {name: 0 if is_finite(tensor) else int((~tensor.isfinite()).sum()) for name, tensor in maps.items()}
    checks = Checks(
        operations=results.operations,
        completeness={name: residual.cpu() for name, residual in results.completeness.items()} | promised,
        conservation=conservation,
        decomposition=results.decompositions,
        evaluations={name: counts.cpu() for name, counts in results.evaluations.items()},
        nan=nan,
        notes=(
            *(loaded.warnings if loaded else ()),
            *notes(results, rows, maps, names, info, output, target, remedy, conservation, nan),
        ),
        settings=settings,
    )
    height, width = batch.shape[2:]
    outputs = 0 if results.scores is None else results.scores.shape[1]
    return Explanation(
        images=batch,
        names=names,
        targets=[output.worded(target.describe(index), outputs) for index in range(len(batch))],
        output=output,
        values=results.values.to(batch.device),
        predicted=predicted,
        probabilities=probabilities,
        methods={row.name: row for row in rows},
        refused=results.refused,
        layers=results.where,
        placements={name: placement for name, placement in results.placements.items() if name in maps},
        checks=checks,
        class_names=_class_names(info, results),
        display=loaded.display() if loaded else _display(batch, encoding),
        boxes=loaded.boxes if loaded else [(0.0, 0.0, float(width), float(height))] * len(batch),
        sizes=loaded.sizes if loaded else [(width, height)] * len(batch),
        image_notes=loaded.notes if loaded else [[] if _decodable(batch, encoding) else [STRETCHED]] * len(batch),
        paths=[readable(path) for path in loaded.paths] if loaded else [""] * len(batch),
        maps=maps,
    )


def _settings(
    results: Results,
    info: ModelInfo,
    encoding: Preprocessing | None,
    loaded: ImageBatch | None,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "seed": seed,
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(device),
        "rows_per_pass": results.chunks,
        "versions": versions(),
    }
    settings |= {"model": info.spec, "weights": info.weights, "model_notes": list(info.notes)}
    if encoding is not None:
        settings |= {"preprocessing": asdict(encoding)}
    if loaded is not None:
        settings |= {"skipped": [reason for _, reason in loaded.failures]}
    return settings


def _compared(references: object) -> dict[str, Any]:
    """The reference images, for the record."""
    if references is None:
        return {}
    batch = _tensor(references)
    names = [readable(path) for path in references.paths] if isinstance(references, ImageBatch) else []
    return {"references": {"shape": list(batch.shape), "content": image_key(batch), "files": names}}


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


def _refuse(results: Results, rows: list[Method], on_refusal: str) -> None:
    if not results.refused or (on_refusal == "record" and len(results.refused) < len(rows)):
        return
    raise RefusalError(" ".join(dict.fromkeys(results.refused.values())))


def _class_names(info: ModelInfo, results: Results) -> Sequence[str]:
    names = info.class_names or ()
    if results.scores is None or results.scores.shape[1] == len(names):
        return names if results.scores is not None else ()
    # Of the two names of a yes or no with one logit, the second is what the logit speaks for.
    return names[1:] if results.scores.shape[1] == 1 and len(names) == 2 else ()


def _refuse_values(values: Tensor, names: Sequence[str]) -> None:
    bad = (~values.isfinite()).nonzero().flatten().tolist()
    if bad:
        which = ", ".join(names[index] for index in bad[:4]) + (" ..." if len(bad) > 4 else "")
        raise RefusalError(
            f"The explained value is not finite (NaN or infinity) for {counted(len(bad), 'image')}: {which}. There is "
            "nothing to explain; look for such values in the model's weights, and at the scale of its input."
        )


def _logit_instead(before: str | None, target: Target) -> str:
    """How to explain a logit instead of the probability that a model makes of it.

    Args:
        before: the layer that gives the logits; empty where no module has them, None where the model ends in none.
        target: what is explained.
    """
    if before is None or not isinstance(target, Classes | Pair):
        return ""
    if not before:
        return "To explain the logit, give the model without its last step."
    channel = int(target.classes[0]) if isinstance(target, Classes) else 0
    return (
        f'To explain the logit of output {channel}, say target=sightline.Unit("{before}", channel={channel}), on the '
        f"command line --target unit:{before}:{channel}."
    )


STRETCHED = (
    "The picture is stretched from its smallest to its largest value, since nothing says how these numbers were "
    "encoded; brightness cannot be compared between pictures."
)
"""Said of the pictures of tensors whose preprocessing is not known."""


def _prediction(results: Results, stated: Kind | None) -> tuple[OutputKind, Tensor | None, Tensor | None]:
    """What the output is, and for each image the class or label of the highest score with its probability."""
    if results.scores is None:
        return OutputKind(stated or "values"), None, None
    scores = results.scores.float().cpu()
    output = OutputKind.of(stated, results.ends_in and results.ends_in.name, results.scores, results.combines)
    if not output.predicts:
        return output, None, None
    best = output.read(scores).max(1)
    return output, best.indices, best.values


def _refuse_largest(target: Target, output: OutputKind, results: Results) -> None:
    """Refuse to take the largest of several values for what is predicted."""
    if results.scores is None or output.predicts or not isinstance(target, Classes) or not target.predicted:
        return
    outputs = results.scores.shape[1]
    if outputs > 1:
        raise InputError(
            f"The model's {outputs} outputs are values, none of which is predicted rather than another. Say which to "
            f'explain: a number from 0 to {outputs - 1} or a name; explain_each(..., targets="all") explains each '
            "(--target all on the command line; in a recipe list them as targets)."
        )


def _decodable(batch: Tensor, encoding: Preprocessing | None) -> bool:
    return encoding is not None and encoding.channels == batch.shape[1] and not encoding.is_assumed_grey


def _display(batch: Tensor, encoding: Preprocessing | None) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    """Encoded images as a person sees them; stretched to 0..1 each where nobody says how they were encoded."""
    if encoding is not None and _decodable(batch, encoding):
        return encoding.decode(batch.detach().float().cpu())
    values = batch.detach().float().cpu()
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    stretched = (values - low) / (high - low).clamp(min=1e-12)
    if stretched.shape[1] != 3:
        stretched = stretched.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return stretched.permute(0, 2, 3, 1).numpy()
