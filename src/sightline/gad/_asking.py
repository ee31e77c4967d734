"""What networks are asked of two classes, and the maps that they answer with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

import torch

from sightline.arrays import ImageBatch, as_images
from sightline.errors import InputError
from sightline.explaining import Classes, Explanation, Pair, explain, target_of
from sightline.gad._consistency import Consistency
from sightline.gad._explained import GADExplanation
from sightline.gad._networks import Kind, Network
from sightline.gad._targets import told
from sightline.models import ask

if TYPE_CHECKING:
    from sightline.gad._distancing import GAD

Question = Literal["pair", "class"]
"""Of a class of the pair: why it and not the other (the difference of both logits), or what speaks for it alone."""


def check_question(question: Question) -> Question:
    """The question, where there is such a one.

    Raises:
        InputError: there is none.
    """
    if question not in ("pair", "class"):
        raise InputError(f'question is "pair" or "class"; got {question!r}.')
    return question


def of_pair(target: int | Sequence[int], classes: tuple[int, int]) -> Pair:
    """Why this class of the pair, or that of each image, and not the other.

    Raises:
        InputError: a class is none of the pair.
    """
    given = [target] if isinstance(target, int) else list(target)
    if strangers := sorted(set(given) - set(classes)):
        raise InputError(
            f"Only classes of the pair, {classes}, can be set against each other and have controls; got "
            f"{', '.join(map(str, strangers))}. For another class call explain with question='class'."
        )
    others = [classes[1 - classes.index(c)] for c in given]
    return Pair(target, others[0] if isinstance(target, int) else others)


def asked_of(gad: "GAD", images: object, targets: Sequence[Any], question: Question) -> list[Any]:
    """What all networks are asked: of predicted classes those that the original predicts, also in support networks.

    Args:
        gad: the support networks and their original.
        images: what is explained.
        targets: as `sightline.explain` takes them.
        question: what is asked of a class; other targets stay as they are.
    """
    batch = as_images(images.tensor if isinstance(images, ImageBatch) else images)
    found: list[Any] = []
    for target in targets:
        chosen: Any = target_of(gad.model, target, len(batch))
        if isinstance(chosen, Classes):
            if chosen.predicted and question == "pair":
                chosen.predict(ask(gad.model, batch, gad.recipe.batch_size), torch.arange(len(batch)))
            if question == "pair":
                chosen = of_pair(chosen.classes.tolist(), gad.classes)
        found.append(chosen)
    return found


def stacked(
    networks: Iterable[Network],
    originals: Sequence[Explanation],
    images: Any,
    methods: Any,
    targets: Sequence[Any],
    reading: Consistency,
    settings: dict[str, Any],
    about: tuple[Sequence[str], dict[str, Any]],
    progress: Sequence[Callable[[int, int], None] | None] = (),
) -> list[GADExplanation]:
    """The maps of the original network, and on top those of support networks asked the same.

    Args:
        networks: the support networks.
        originals: for each target, what the original network said.
        images: what was explained.
        methods: by which methods.
        targets: what was asked.
        reading: what "stays important" means.
        settings: of `explain`.
        about: notes and settings of the networks.
        progress: for each network, called with rows done and in all.
    """
    # Where the predicted class was asked for, it is the original's.
    targets = [one.classes.tolist() if isinstance(one, Classes) else one for one in targets]
    stacks = [{name: [one.heatmap(name)] for name in one.maps} for one in originals]
    refused = [dict(one.refused) for one in originals]
    for (alphas, network), told_of in zip_longest(networks, progress):
        asked = explain(network, images, methods, targets=targets, **settings, progress=told_of)
        for place, found in enumerate(asked):
            for name in list(stacks[place]):
                if name in found.refused:
                    refused[place][name] = f"In the support network for alpha {told(alphas)}: {found.refused[name]}"
                    del stacks[place][name]
                else:
                    stacks[place][name].append(found.heatmap(name))
    notes, kept = about
    return [
        GADExplanation(
            original,
            {name: torch.stack(maps) for name, maps in stack.items()},
            reading,
            reasons,
            (*notes, *original.checks.notes),
            kept,
        )
        for original, stack, reasons in zip(originals, stacks, refused, strict=True)
    ]


def changed(gad: "GAD", images: Any, methods: Any, target: Any, kind: Kind, settings: dict[str, Any]) -> Explanation:
    """What distancing changed; see `GAD.change`."""
    batch = as_images(images.tensor if isinstance(images, ImageBatch) else images)
    own = Classes(None, len(batch), gad.classes) if target is None else target
    (pair,) = asked_of(gad, images, [own], "pair")
    if not isinstance(pair, Pair):
        raise InputError(f"What distancing changed is shown for classes of the pair, {gad.classes}; got {target!r}.")
    (before,) = explain(gad.model, images, methods, targets=[pair.second], **settings)
    # Each network takes the place of the one before, so that the last one stays.
    *_, (alphas, network) = gad.networks.each(kind)
    (after,) = explain(network, images, methods, targets=[pair.second], **settings)
    shared = [name for name in before.maps if name in after.maps]
    note = (
        f"These maps are differences: the original network's less those of its {kind} support network for alpha "
        f"{told(alphas)}, of the class that the network is pushed away from."
    )
    checks = replace(
        before.checks, completeness={}, conservation={}, decomposition={}, notes=(note, *before.checks.notes)
    )
    return replace(
        before,
        explained=[replace(one, remark="less the same after distancing") for one in before.explained],
        maps={name: before.maps[name] - after.maps[name] for name in shared},
        refused={**after.refused, **before.refused},
        checks=checks,
    )
