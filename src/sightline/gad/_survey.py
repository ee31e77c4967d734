"""What networks say of a pair's images: the targets' origin, how far a fit moved, and whether it kept the order."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from scipy.stats import binomtest, fisher_exact, spearmanr
from torch import Tensor, nn

from sightline.errors import InputError, RefusalError
from sightline.gad._samples import Samples
from sightline.gad._targets import Step, distanced, told
from sightline.models import NoScoresError, class_scores, evaluating, home_of, output_of, same_each_time, untouched
from sightline.operations import wide

Pair = tuple[int, int]


class Outputs(NamedTuple):
    """What a network says of the pair's images.

    Attributes:
        numbers: shape (image,): their numbers among the samples.
        labels: shape (image,): their classes.
        logits: shape (image, output).
        content: a name for the images and their labels.
    """

    numbers: Tensor
    labels: Tensor
    logits: Tensor
    content: str


def survey(
    network: nn.Module,
    samples: Samples,
    classes: Pair,
    batch_size: int,
    *,
    among: Sequence[int] | None = None,
    autocast: bool = False,
) -> Outputs:
    """Ask a network about all images of the pair, in evaluation mode.

    Args:
        network: the network; it comes back as it was.
        samples: the images.
        classes: the pair.
        batch_size: images of a pass.
        among: the numbers of the samples to look at; by default all.
        autocast: whether to compute in bfloat16 where torch thinks it safe.

    Raises:
        InputError: the samples are not images with labels, or there are none of the pair.
        RefusalError: the network draws random numbers, or its output holds no class scores that can be told.
    """
    try:
        return _asked(network, samples, classes, batch_size, among, autocast)
    except NoScoresError as error:
        raise RefusalError(
            f"{error.found} Say which part holds the class scores, shape (batch, classes), by a function: "
            "fit(..., target=lambda output: output['scores'])."
        ) from error


def _asked(
    network: nn.Module, samples: Samples, classes: Pair, batch_size: int, among: Sequence[int] | None, autocast: bool
) -> Outputs:
    device = next(p for p in network.parameters() if p.is_floating_point()).device
    numbers: list[Tensor] = []
    labels, logits = [], []
    asked = list(range(len(samples))) if among is None else list(among)
    parts = [asked[i : i + batch_size] for i in range(0, len(asked), batch_size)]
    digest = hashlib.blake2b(digest_size=16)
    with (
        torch.no_grad(),
        evaluating(network),
        untouched(network),
        torch.autocast(device.type, torch.bfloat16, enabled=autocast),
    ):
        for part, (images, given) in zip(parts, samples.batches(parts), strict=True):
            if images.dim() != 4 or not images.is_floating_point() or given.shape != (len(images),):
                raise InputError(
                    "Images are floating point, of shape (batch, channel, height, width), with a label each; got "
                    f"{images.dtype}, {tuple(images.shape)}, with labels of shape {tuple(given.shape)}."
                )
            rows = ((given == classes[0]) | (given == classes[1])).nonzero().flatten()
            if len(rows):
                digest.update(images[rows].cpu().contiguous().view(torch.uint8).numpy().tobytes())
                inputs = images[rows].to(*home_of(network, images))
                if not numbers:
                    same_each_time(network, inputs[:1])
                scores = class_scores(network(inputs), len(rows))
                numbers.append(torch.tensor(part)[rows.cpu()])
                labels.append(given[rows].cpu().long())
                logits.append(wide(scores).cpu())
    if logits:
        _check_count(logits[0].shape[1], classes)
    absent = [c for c in classes if not any(bool((part == c).any()) for part in labels)]
    if absent and among is None:
        raise InputError(
            f"There are no images of class {' and of class '.join(map(str, absent))} among the {len(asked)} "
            "given. Both classes of the pair need some, labelled by the number of the network's output."
        )
    kept = torch.cat(labels)
    digest.update(kept.numpy().tobytes())
    return Outputs(torch.cat(numbers), kept, torch.cat(logits), digest.hexdigest())


def check_outputs(network: nn.Module, samples: Samples, said: Outputs, classes: Pair) -> None:
    """Refuse outputs that cannot be distanced.

    Raises:
        InputError: there are no two such classes.
        RefusalError: the outputs are not finite, or not logits.
    """
    _check_count(said.logits.shape[1], classes)
    if not bool(said.logits.isfinite().all()):
        raise RefusalError("The network itself says NaN or infinity of some images, so there is nothing to distance.")
    image, _ = next(samples.batches([[int(said.numbers[0])]]))
    if (kind := output_of(network, image, said.logits)).scale != "logits":
        raise RefusalError(
            f"The network ends in a softmax or a sigmoid: its outputs are {kind.scale}, which cannot be lowered by "
            "alpha. Take the network without its last step."
        )


def _check_count(outputs: int, classes: Pair) -> None:
    if outputs == 1:
        raise InputError(
            "GAD pushes the logits of two outputs apart, and this network has a single output (a yes or no). Give it "
            "two, which mean the same: a module that returns torch.cat([-z, z], 1) / 2 for the logit z."
        )
    if max(classes) >= outputs:
        raise InputError(
            f"The network has {outputs} output(s), 0 to {outputs - 1}, so there is no class {max(classes)}. Name two "
            "that it has."
        )


def agreement(said: Outputs, classes: Pair) -> float:
    """The share of images on which a network, of the two classes, decides for the one of the label."""
    return float(_decides(said, classes).eq(said.labels).double().mean())


def doubts(said: Outputs, classes: Pair, titles: tuple[str, str]) -> list[str]:
    """What speaks against labels and network belonging together, in sentences; nothing where they agree.

    By Fisher's exact test of the network's decisions between the two classes against the labels, at 5 %; and for each
    class, whether on its images another output is the highest more often than its own, beyond chance.

    Args:
        said: what the network says, and the labels.
        classes: the pair.
        titles: what the two classes are called.
    """
    found = []
    decided, count = _decides(said, classes), len(said.labels)
    right = int(decided.eq(said.labels).sum())
    table = [[int(((said.labels == c) & (decided == d)).sum()) for d in classes] for c in classes]
    perfect = [[sum(table[0]), 0], [0, sum(table[1])]]
    told = f"Between {titles[0]} and {titles[1]} the network agrees with the labels of {right} of {count} images"
    check = "Check that classes=, names= and the labels name the two classes in the same order, and number them as the "
    check += "network's outputs."
    if _p(table, "less") < DOUBTFUL:
        found.append(f"{told} ({right / count:.0%}), fewer than by chance: the two labels may be swapped. {check}")
    elif _p(table, "greater") > DOUBTFUL and (2 * right < count or _p(perfect, "greater") < DOUBTFUL):
        found.append(
            f"{told} ({right / count:.0%}), which is no better than chance: either the labels are not those of these "
            f"outputs, or the network does not tell the classes apart, and there is nothing to explain. {check}"
        )
    highest = said.logits.argmax(1)
    for c, title in zip(classes, titles, strict=True):
        own = highest[said.labels == c]
        usual = int(own.mode().values)
        counts = int((own == usual).sum()), int((own == c).sum())
        if usual in classes:
            continue
        if binomtest(counts[0], sum(counts), alternative="greater").pvalue < DOUBTFUL:
            found.append(
                f"On images labelled {title} the network's highest output is {usual} on {counts[0]} of {len(own)}, and "
                f"{c} on {counts[1]}: the labels may be counted from another number, or belong to another network."
            )
    return found


DOUBTFUL = 0.05
"""The level of the tests of `doubts`."""


def _decides(said: Outputs, classes: Pair) -> Tensor:
    first, second = (said.logits[:, c] for c in classes)
    # A draw agrees with no label.
    return torch.where(first > second, classes[0], torch.where(second > first, classes[1], -1))


def _p(table: list[list[int]], alternative: str) -> float:
    return float(fisher_exact(table, alternative=alternative).pvalue)


def watch(original: Outputs, labels: Tensor, classes: Pair) -> Callable[[Tensor, Tensor], tuple[float, float]]:
    """How far some rows have moved: for both classes, by how much the other's logit fell."""

    def shift(rows: Tensor, said: Tensor) -> tuple[float, float]:
        fallen = original.logits[rows] - said.cpu()
        own = labels[rows]
        first, second = (float(fallen[own == c, o].mean()) for c, o in (classes, classes[::-1]))
        return first, second

    return shift


def moved(original: Outputs, support: Outputs, classes: Pair, alphas: Step) -> dict[str, float]:
    """How well a support network says its targets, and how far it moved.

    Returns:
        `error`, the mean squared error over images and outputs; for each class c of the pair, `shift`: by how much the
        other class's logit fell on images of c, and `own`: by how much c's own logit rose there.
    """
    targets = distanced(original.logits, original.labels, classes, alphas)
    found = {"error": float((support.logits - targets).square().mean())}
    change = support.logits - original.logits
    for place, (c, other) in enumerate([classes, classes[::-1]], 1):
        rows = original.labels == c
        found[f"shift {place}"] = -float(change[rows, other].mean())
        found[f"own {place}"] = float(change[rows, c].mean())
    return found


def fidelity(original: Outputs, support: Outputs, classes: Pair) -> dict[str, float]:
    """Whether a support network still sees the images as the original does, which is what the method rests on.

    Returns:
        `agreement`: the share of images on which both decide for the same output; for each class c of the pair and each
        output of the pair, Spearman's correlation of that logit over the images of c.
    """
    found = {"agreement": float((original.logits.argmax(1) == support.logits.argmax(1)).double().mean())}
    for place, c in enumerate(classes, 1):
        rows = original.labels == c
        for output, number in enumerate(classes, 1):
            pair = original.logits[rows, number].numpy(), support.logits[rows, number].numpy()
            known = len(pair[0]) > 1 and all(values.min() < values.max() for values in pair)
            found[f"rank of output {output} in class {place}"] = (
                float(spearmanr(*pair).statistic) if known else float("nan")
            )
    return found


def fidelities(original: Outputs, supports: Mapping[Step, Outputs], classes: Pair) -> pd.DataFrame:
    """The same of each support network, a row for each."""
    rows = {told(alphas): fidelity(original, said, classes) for alphas, said in supports.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("alpha")
