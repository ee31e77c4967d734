"""From what a job found to an `Explanation`: checks, notes, names, and images as a person sees them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline._common.seeds import image_key
from sightline._common.version import versions
from sightline._common.words import counted, readable
from sightline.arrays import ImageBatch, is_finite
from sightline.errors import InputError, RefusalError
from sightline.explaining._checks import Checks
from sightline.explaining._conservation import Conservation
from sightline.explaining._explained import Explained
from sightline.explaining._explanation import Explanation
from sightline.explaining._notes import notes_of_methods, notes_of_output, notes_of_values
from sightline.explaining._options import Options
from sightline.explaining._results import Results
from sightline.explaining._targets import Target
from sightline.methods import Method
from sightline.models import Kind, ModelInfo, OutputKind, Preprocessing


@dataclass(frozen=True)
class Asked:
    """What the explanations of one job share.

    Attributes:
        images: shape (batch, channel, height, width): the encoded images, as they were given.
        loaded: the batch that they come from, where `load_images` made it.
        methods: the methods, with layers by name.
        info: what is known of the model.
        encoding: how the images became numbers, where that is known.
        options: see `Options`.
        device: where the model works.
        dtype: the precision of the images that it takes.
    """

    images: Tensor
    loaded: ImageBatch | None
    methods: list[Method]
    info: ModelInfo
    encoding: Preprocessing | None
    options: Options
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def names(self) -> Sequence[str]:
        """A name for each image."""
        return self.loaded.names if self.loaded else [f"image {index}" for index in range(len(self.images))]

    @property
    def decodable(self) -> bool:
        """Whether the images can be turned back into pictures."""
        encoding = self.encoding
        return encoding is not None and encoding.channels == self.images.shape[1] and not encoding.is_assumed_grey

    def display(self) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
        """The images as a person sees them; stretched to 0..1 each where nobody says how they were encoded."""
        if self.loaded:
            return self.loaded.display()
        values = self.images.detach().float().cpu()
        if self.encoding is not None and self.decodable:
            return self.encoding.decode(values)
        low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
        stretched = (values - low) / (high - low).clamp(min=1e-12)
        if stretched.shape[1] != 3:
            stretched = stretched.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        return stretched.permute(0, 2, 3, 1).numpy()

    def settings(self, results: Results) -> dict[str, Any]:
        """How the maps were made, for the record."""
        settings: dict[str, Any] = {
            "seed": self.options.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "rows_per_pass": results.chunks,
            "versions": versions(),
            "model": self.info.spec,
            "weights": self.info.weights,
            "model_notes": list(self.info.notes),
        }
        if self.encoding is not None:
            settings["preprocessing"] = asdict(self.encoding)
        if self.loaded is not None:
            settings["skipped"] = [reason for _, reason in self.loaded.failures]
        if (references := self.options.references) is not None:
            batch = references.tensor if isinstance(references, ImageBatch) else references
            files = [readable(path) for path in references.paths] if isinstance(references, ImageBatch) else []
            settings["references"] = {"shape": list(batch.shape), "content": image_key(batch), "files": files}
        return settings


def assembled(asked: Asked, target: Target, results: Results, before: str | None) -> Explanation:
    """The explanation of one target.

    Args:
        asked: what was asked.
        target: what is explained.
        results: what the job found; the remedy is added to its refusals.
        before: the layer that gives the logits; empty where no module has them, None where the model ends in none.

    Raises:
        InputError: no output can be called the predicted one.
        RefusalError: a method was refused, or the explained value is not finite.
    """
    batch, loaded, names, rows = asked.images, asked.loaded, asked.names, asked.methods
    _refuse_values(results.values, names)
    if remedy := _logit_instead(before, target):
        at_end = str(results.ends_in)
        results.refused |= {name: f"{why} {remedy}" for name, why in results.refused.items() if at_end in why}
    _refuse(results, rows, asked.options.on_refusal)
    maps = {row.name: results.maps[row.name].to(batch.device) for row in rows if row.name in results.maps}
    output, predicted, probabilities = _prediction(results, asked.info.output)
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
            *notes_of_methods(results, rows, maps, names, conservation),
            *notes_of_output(results, asked.info, output, target, remedy),
            *notes_of_values(rows, maps, names, nan),
        ),
        settings=asked.settings(results),
    )
    height, width = batch.shape[2:]
    outputs = 0 if results.scores is None else results.scores.shape[1]
    return Explanation(
        images=batch,
        names=names,
        explained=[_of_several(target.explained(index), outputs) for index in range(len(batch))],
        output=output,
        values=results.values.to(batch.device),
        predicted=predicted,
        probabilities=probabilities,
        methods={row.name: row for row in rows},
        refused=results.refused,
        layers=results.where,
        placements={name: placement for name, placement in results.placements.items() if name in maps},
        checks=checks,
        class_names=_class_names(asked.info, results),
        display=asked.display(),
        boxes=loaded.boxes if loaded else [(0.0, 0.0, float(width), float(height))] * len(batch),
        sizes=loaded.sizes if loaded else [(width, height)] * len(batch),
        image_notes=loaded.notes if loaded else [[] if asked.decodable else [STRETCHED]] * len(batch),
        paths=[readable(path) for path in loaded.paths] if loaded else [""] * len(batch),
        maps=maps,
    )


def _of_several(explained: Explained, outputs: int) -> Explained:
    """The same; of a single output none is predicted rather than another."""
    return replace(explained, predicted=False) if outputs == 1 else explained


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
    channel = target.explained(0).number
    if before is None or channel is None:
        return ""
    if not before:
        return "To explain the logit, give the model without its last step."
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
    if results.scores is None or output.predicts or not target.predicted:
        return
    outputs = results.scores.shape[1]
    if outputs > 1:
        raise InputError(
            f"The model's {outputs} outputs are values, none of which is predicted rather than another. Say which to "
            f'explain: a number from 0 to {outputs - 1} or a name; explain(..., targets="all") explains each '
            "(--target all on the command line; in a recipe list them as targets)."
        )
