"""What networks are asked of two classes, and the maps that they answer with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sightline._common.integers import as_integers
from sightline.arrays import ImageBatch, as_images
from sightline.errors import InputError, RefusalError
from sightline.explaining import Classes, Explanation, Pair, explain, methods_named, target_of
from sightline.gad._consistency import Consistency
from sightline.gad._controls import COPIES, SINGLE, Control, as_controls
from sightline.gad._explained import Controlled, GADExplanation
from sightline.gad._fit import Fit
from sightline.gad._networks import Kind, Network
from sightline.gad._settings import Question, check_question
from sightline.gad._targets import told
from sightline.methods import Method, as_method
from sightline.models import ask

About = tuple[Sequence[str], Mapping[str, Any]]
"""Notes and settings of the support networks."""


@dataclass(frozen=True)
class Request:
    """What all networks are asked.

    Attributes:
        images: what is explained.
        methods: by which methods; their layers are named, since a module of one network is none of another's.
        targets: what is explained of each image.
        settings: of `explain`.
        reading: what "stays important" means.
    """

    images: Any
    methods: Sequence[Method]
    targets: Sequence[Any]
    settings: Mapping[str, Any]
    reading: Consistency


def named(model: nn.Module, methods: str | Method | Sequence[str | Method]) -> list[Method]:
    """The methods with layers by name, since a module of the original is none of a support network's."""
    given = [methods] if isinstance(methods, str | Method) else methods
    return methods_named(model, [as_method(one) for one in given])


def encoded(images: Any) -> Tensor:
    """Images as the network takes them."""
    return as_images(images.tensor if isinstance(images, ImageBatch) else images)


def length_of(images: Any) -> int:
    """How many images are given."""
    return len(encoded(images))


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


def asked_of(fit: Fit, images: Any, targets: Sequence[Any], question: Question) -> list[Any]:
    """What all networks are asked: of predicted classes those that the original predicts, also in support networks.

    Args:
        fit: the support networks and their original.
        images: what is explained.
        targets: as `sightline.explain` takes them.
        question: what is asked of a class; other targets stay as they are.
    """
    count, found = length_of(images), []
    for target in targets:
        chosen: Any = target_of(fit.model, target, count)
        if isinstance(chosen, Classes):
            if chosen.predicted and question == "pair":
                chosen.predict(ask(fit.model, encoded(images), fit.training.batch_size), torch.arange(count))
            if question == "pair":
                chosen = of_pair(chosen.classes.tolist(), fit.classes)
        found.append(chosen)
    return found


def stacked(
    networks: Iterable[Network],
    originals: Sequence[Explanation],
    request: Request,
    about: About,
    progress: Sequence[Callable[[int, int], None] | None] = (),
) -> list[GADExplanation]:
    """The maps of the original network, and on top those of support networks asked the same.

    Args:
        networks: the support networks.
        originals: for each target, what the original network said.
        request: what it was asked.
        about: notes and settings of the support networks.
        progress: for each network, called with rows done and in all.
    """
    # Where the predicted class was asked for, it is the original's.
    targets = [one.classes.tolist() if isinstance(one, Classes) else one for one in request.targets]
    stacks = [{name: [one.heatmap(name)] for name in one.maps} for one in originals]
    refused = [dict(one.refused) for one in originals]
    for (alphas, network), told_of in zip_longest(networks, progress):
        settings = {**request.settings, "progress": told_of}
        answers = explain(network, request.images, list(request.methods), targets=targets, **settings)
        for stack, reasons, found in zip(stacks, refused, answers, strict=True):
            for name in list(stack):
                if name in found.refused:
                    reasons[name] = f"In the support network for alpha {told(alphas)}: {found.refused[name]}"
                    del stack[name]
                else:
                    stack[name].append(found.heatmap(name))
    notes, kept = about
    return [
        GADExplanation(
            original,
            {name: torch.stack(maps) for name, maps in stack.items()},
            request.reading,
            reasons,
            (*notes, *original.checks.notes),
            kept,
        )
        for original, stack, reasons in zip(originals, stacks, refused, strict=True)
    ]


def controlled(
    fit: Fit,
    images: Any,
    methods: str | Method | Sequence[str | Method],
    targets: Sequence[Any] | None,
    reading: Consistency,
    question: Question,
    controls: Sequence[Control | str] | Literal["all"] | None,
    seed: int,
) -> Controlled:
    """GAD and its controls; see `GAD.explain_with_controls`."""
    chosen, settings = named(fit.model, methods), {"seed": seed, "on_refusal": "record"}
    given = [_plain(target) for target in (fit.classes if targets is None else targets)]
    pairs = [of_pair(target, fit.classes) for target in given]
    asked: list[Any] = list(pairs) if check_question(question) == "pair" else list(given)
    originals, pair = _originals(fit, images, chosen, asked, pairs if question == "class" else None, settings)
    request = Request(images, chosen, asked, settings, reading)

    def by(kind: Kind) -> list[GADExplanation]:
        return stacked(fit.networks.each(kind), originals, request, fit.about(question))

    gad = by("distanced")
    shuffled = by("shuffled") if fit.networks.complete("shuffled") else []
    more = as_controls(controls)
    copies: dict[str, list[GADExplanation]] = {c: by(kind) for c, kind in COPIES.items() if c in more}
    single: dict[str, list[Explanation]] = {}
    missing: dict[str, str] = {}
    for control, method in SINGLE.items():
        if control in more:
            try:
                single[control] = explain(fit.model, images, method, targets=list(pairs), seed=seed)
            except RefusalError as error:
                # Not every network has such a map.
                missing[control] = str(error)
    return Controlled(gad, shuffled, pair, copies, single, missing)


def _originals(
    fit: Fit,
    images: Any,
    methods: list[Method],
    asked: list[Any],
    pairs: list[Pair] | None,
    settings: dict[str, Any],
) -> tuple[list[Explanation], list[Explanation]]:
    """What the original network says of the targets, and of the pairs; these are the targets where none are given."""
    if pairs is None:
        originals = explain(fit.model, images, methods, targets=asked, **settings)
        return originals, originals
    try:
        both = explain(fit.model, images, methods, targets=[*asked, *pairs], **settings)
    except RefusalError:
        # Where none of the methods explains a pair, the classes are explained alone.
        return explain(fit.model, images, methods, targets=asked, **settings), []
    return both[: len(asked)], both[len(asked) :]


def _plain(target: Any) -> Any:
    """A target, where it is classes as Python's integers."""
    numbers = as_integers(target)
    return target if numbers is None else numbers


def changed(
    fit: Fit, images: Any, methods: list[Method], target: Any, kind: Kind, settings: dict[str, Any]
) -> Explanation:
    """What distancing changed; see `GAD.change`."""
    own = Classes(None, length_of(images), fit.classes) if target is None else target
    (pair,) = asked_of(fit, images, [own], "pair")
    if not isinstance(pair, Pair):
        raise InputError(f"What distancing changed is shown for classes of the pair, {fit.classes}; got {target!r}.")
    (before,) = explain(fit.model, images, methods, targets=[pair.second], **settings)
    # Each network takes the place of the one before, so that the last one stays.
    *_, (alphas, network) = fit.networks.each(kind)
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
