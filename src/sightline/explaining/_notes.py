"""What a reader should know before the picture, in sentences."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from sightline._common.words import counted
from sightline.explaining._conservation import Conservation
from sightline.explaining._results import Results
from sightline.explaining._targets import Target
from sightline.methods import Method
from sightline.models import ModelInfo, OutputKind
from sightline.operations import Growth, Rounding


def notes_of_methods(
    results: Results,
    rows: list[Method],
    maps: Mapping[str, Tensor],
    names: Sequence[str],
    conservation: Mapping[str, Conservation],
) -> list[str]:
    """Warnings of methods, books that do not balance, layers where a choice cannot matter, and where cells lie."""
    found = [note for row in rows if row.name in maps for note in row.propagation.warnings]
    found += [f"{name} {note}" for name, kept in conservation.items() if (note := kept.note(names))]
    found += _notes_of_rounding(results, maps)
    found += _notes_of_growth(results, maps)
    found += _notes_of_layers(results, rows)
    found += _notes_of_placement(results, maps)
    return found + [f"{row.name} {note}" for row in rows if (note := _note_of_sampling(results, row))]


def notes_of_output(results: Results, info: ModelInfo, output: OutputKind, target: Target, remedy: str) -> list[str]:
    """What was assumed of the model's outputs, names that do not fit them, and values that are no logits."""
    found = []
    outputs = 0 if results.scores is None else results.scores.shape[1]
    if outputs and (said := output.note(outputs)):
        found.append(said)
    two_for_one = outputs == 1 and len(info.class_names or ()) == 2
    if info.class_names and outputs and len(info.class_names) != outputs and not two_for_one:
        found.append(
            f"{len(info.class_names)} class names came for a model with {outputs} output(s), so they are not used; "
            "give one name per output."
        )
    if output.kind == "labels" and outputs > 1 and target.predicted:
        found.append(
            f"Of the {outputs} labels the one of the highest score was explained for each image, since none was named. "
            'Name one, or explain each: explain(..., targets="all"), --target all.'
        )
    if results.ends_in is not None and remedy and output.predicts:
        mixes = ", and it mixes the evidence for all classes" if "soft" in results.ends_in.name else ""
        found.append(
            f"The model's last operation is {results.ends_in.name}, so what is explained is not a logit. Where it "
            f"saturates its gradient vanishes{mixes}. {remedy}"
        )
    return found


def notes_of_values(
    rows: list[Method], maps: Mapping[str, Tensor], names: Sequence[str], not_finite: Mapping[str, int]
) -> list[str]:
    """Maps that are empty or broken."""
    found = []
    for row in rows:
        if row.name not in maps:
            continue
        tensor = maps[row.name]
        zero = ~tensor.flatten(1).any(1)
        if bool(zero.any()):
            which = ", ".join(names[i] for i in zero.nonzero().flatten().tolist()[:4])
            found.append(
                f"{row.name} is zero everywhere for {counted(int(zero.sum()), 'image')} ({which}): {_why_zero(row)}."
            )
        if not_finite[row.name]:
            found.append(f"{row.name} has values that are not finite (an overflow, or 0/0): do not read this map.")
    return found


def _notes_of_placement(results: Results, maps: Mapping[str, Tensor]) -> list[str]:
    """Where it is not known, or not to half a cell, where the cells of a layer's map lie."""
    found = []
    for name, placement in results.placements.items():
        if name not in maps:
            continue
        if not placement.is_known:
            found.append(
                f"Where in the image the cells of {name} lie is not known, since part of the model before that layer "
                "runs where its operations cannot be seen (scripted code, an autograd.Function): the heatmap is "
                "stretched over the whole image."
            )
        elif placement.spread > min(map(abs, placement.steps)) / 2:
            found.append(
                f"The cells of {name} lie within {placement.spread:g} pixels of where they are drawn: branches that "
                "the model adds up look at places that far apart."
            )
    return found


def _why_zero(row: Method) -> str:
    if row.times is not None:
        return "one of its two factors is zero, or each is where the other is not"
    return row.sampling.why_zero or row.meaning.zero


def _note_of_sampling(results: Results, row: Method) -> str:
    if row.name not in results.evaluations:
        return ""
    residual = results.completeness[row.name]
    change = results.maps[row.name].flatten(1).sum(1) - residual
    return row.sampling.note(results.evaluations[row.name], residual, change)


def _notes_of_rounding(results: Results, maps: Mapping[str, Tensor]) -> list[str]:
    """Where relevance is divided by results of low precision."""
    by_worst: dict[Rounding, list[str]] = {}
    for name, rounding in results.rounding.items():
        if name in maps:
            by_worst.setdefault(rounding, []).append(name)
    return [
        f"{', '.join(found)}: the model computes in {worst.dtype}, and its results differ from the same in float32 by "
        f"up to {worst.share:.2g} of a layer's largest, most at {worst.operation}. Relevance is shared by those as "
        "they are, so that the map explains the model as it computes; convert it for a map without that rounding."
        for worst, found in by_worst.items()
    ]


def _notes_of_growth(results: Results, maps: Mapping[str, Tensor]) -> list[str]:
    """Where relevance that layers share by positive parts grows at adds."""
    by_most: dict[Growth, list[str]] = {}
    for name, growth in results.growth.items():
        if name in maps:
            by_most.setdefault(growth, []).append(name)
    return [
        f"{', '.join(found)}: at adds with terms of both signs relevance grows, by up to {most.factor:.3g} times "
        f"at {most.operation}. Adds are shared in proportion to their terms, as in Zennit and TorchRay, and not by the "
        "positive parts that weighted layers are shared by."
        for most, found in by_most.items()
    ]


def _notes_of_layers(results: Results, rows: list[Method]) -> list[str]:
    """Where a choice of a family of methods cannot matter."""
    readers: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row.name in results.remarks and row.name in results.maps:
            readers.setdefault(row.aggregation.places, []).append(row.name)
    return [
        f"At {results.where.get(names[0], 'the input')}, read by {', '.join(names)}, {words}."
        for names in readers.values()
        for words in sorted(one.describe() for one in frozenset.intersection(*(results.remarks[n] for n in names)))
    ]
