"""What is explained: a class, a pair of classes, or a hidden unit or direction."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sightline._common.integers import as_integers, described
from sightline._common.words import counted
from sightline.errors import InputError
from sightline.explaining._explained import Explained
from sightline.models import class_scores
from sightline.operations import place_of

IntegerArray = np.ndarray[Any, np.dtype[Any]]
ClassesLike = int | str | np.integer[Any] | Sequence[Any] | Tensor | IntegerArray
"""One class, or several: whole numbers of Python, numpy or torch, or names of classes."""


class Target(ABC):
    """Picks the explained value of each row from a pass.

    A target of one's own has `values` and `explained`; the rest has defaults.

    Attributes:
        places: the places whose results it needs besides the output.
        whole_batch: whether it must see all images at once, in their order.
        names: the class names by which its classes were given; empty where they were given by number.
        predicted: whether the model's own scores decide what is explained.
        compares: whether it sets two outputs against each other.
        checks_rows: whether `finish` sees by itself that each value is its own row's.
    """

    places: tuple[str, ...] = ()
    whole_batch: bool = False
    names: tuple[str, ...] = ()
    predicted: bool = False
    compares: bool = False
    checks_rows: bool = False

    @abstractmethod
    def values(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The explained values.

        Args:
            output: what the model returned.
            results: the result at each of `places`.
            images: shape (row,): for each row, which image of the job it is.

        Returns:
            Shape (row,).
        """

    def decisive(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """What of a pass may not change by chance: the explained values, or all that they are chosen from."""
        return self.values(output, results, images)

    @abstractmethod
    def explained(self, image: int) -> Explained:
        """What is explained for one image."""

    def predict(self, scores: Tensor, images: Tensor) -> None:
        """Be told the class scores of some images, shape (row, class), before `values` is asked about them."""
        del scores, images

    def keep(self, output: Any, images: Tensor, values: Tensor) -> None:
        """Be told the values that were found for some images, as they are and not for samples around them."""
        del output, images, values

    def finish(self) -> None:  # noqa: B027 - most targets have nothing to do then
        """After the passes on the images themselves.

        Raises:
            RefusalError: a value depends on other images.
            NeedsWholeBatch: it depends on the image's place in the batch.
        """

    def all_at_once(self) -> None:  # noqa: B027 - most targets have nothing to do then
        """From now on, be given all images in one pass."""


class Classes(Target):
    """The score of one class per image, or of the predicted class.

    Args:
        classes: one class per image, or None for the predicted ones, which `predict` then fills in.
        count: number of images.
        among: where the predicted class is looked for; by default among all.
        rank: 1 for the likeliest class, 2 for the second, and so on.
    """

    def __init__(self, classes: Tensor | None, count: int, among: Sequence[int] = (), rank: int = 1) -> None:
        self.predicted, self._among, self._rank = classes is None, list(among), rank
        self.classes = torch.full((count,), -1) if classes is None else classes
        self._likeliest = self.classes.clone()

    def predict(self, scores: Tensor, images: Tensor) -> None:
        """Fill in the predicted class of some images, where that is what is explained."""
        if self.predicted:
            scores = scores.detach()
            self._likeliest[images.cpu()] = scores.argsort(dim=1, descending=True, stable=True)[:, 0].cpu()
            among = self._among or list(range(scores.shape[1]))
            if max(among) >= scores.shape[1]:
                raise InputError(f"Class {max(among)} was asked for, but the model has {_outputs(scores.shape[1])}.")
            if self._rank > len(among):
                raise InputError(
                    f"The class of rank {self._rank} was asked for, but the model has {_outputs(len(among))}."
                )
            ranked = scores[:, among].argsort(dim=1, descending=True, stable=True)[:, self._rank - 1].cpu()
            self.classes[images.cpu()] = torch.tensor(among)[ranked]

    def values(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        del results
        scores = class_scores(output, len(images))
        self.check(scores.shape[1])
        index = self.classes[images.cpu()].to(scores.device)
        return scores.gather(1, index.unsqueeze(1)).squeeze(1)

    def decisive(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        # Which class is predicted is not known before the first pass.
        del results
        return class_scores(output, len(images))

    def check(self, count: int) -> None:
        """Refuse classes that a model with `count` outputs lacks, and names that are not those of its outputs."""
        if count == 1 and len(self.names) == 2 and bool((self.classes == 1).all()):
            # The only logit of a yes or no speaks for the second of two names.
            self.classes, self.names = torch.zeros_like(self.classes), ()
        check_names(self.names, count)
        outside = [int(c) for c in self.classes.tolist() if c >= count]
        if outside:
            raise InputError(f"Class {outside[0]} was asked for, but the model has {_outputs(count)}.")

    def explained(self, image: int) -> Explained:
        # The likelier of two is not what the network predicts, where a third is likelier still.
        predicted = self.predicted and bool(self.classes[image] == self._likeliest[image])
        return Explained(int(self.classes[image]), predicted=predicted)


@dataclass(frozen=True)
class Pair(Target):
    """Why `first` and not `second`: the difference of their scores.

    Attributes:
        first: a class by number or name, or one for each image: a list, a numpy array or a tensor of shape (image,).
        second: likewise.

    Raises:
        InputError: the two are the same, negative, or of different numbers of images.
    """

    first: ClassesLike
    second: ClassesLike
    compares = True

    def __post_init__(self) -> None:
        if any(has_names(side) for side in (self.first, self.second)):
            # Which numbers they mean, the model tells.
            return
        first, second = as_integers(self.first), as_integers(self.second)
        if first is None or second is None:
            wrong = self.first if first is None else self.second
            raise InputError(
                f"The classes of a pair are integers, or lists of them with one for each image; got {described(wrong)}."
            )
        sides = [side if isinstance(side, Sequence) else (side,) for side in (first, second)]
        alike = isinstance(first, Sequence) is isinstance(second, Sequence) and len(sides[0]) == len(sides[1])
        if not alike or any(a == b or min(a, b) < 0 for a, b in zip(*sides, strict=True)):
            raise InputError(f"A pair needs two different classes, 0 or above; got {self.first} and {self.second}.")
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "second", second)

    def check(self, count: int) -> None:
        """Refuse lists of classes that are not of `count` images."""
        if isinstance(self.first, Sequence) and len(self.first) != count:
            raise InputError(
                f"A pair of lists needs one class per image: {counted(count, 'image')}, but "
                f"{counted(len(self.first), 'class', 'classes')}."
            )

    def _of(self, image: int) -> tuple[int, int]:
        first, second = (side[image] if isinstance(side, Sequence) else side for side in (self.first, self.second))
        return cast("int", first), cast("int", second)

    def values(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        del results
        scores = class_scores(output, len(images))
        check_names(self.names, scores.shape[1])
        pairs = torch.tensor([self._of(image) for image in images.tolist()])
        if int(pairs.max()) >= scores.shape[1]:
            raise InputError(
                f"The pair ({_shown(self.first)}, {_shown(self.second)}) was asked for, but the model has "
                f"{_outputs(scores.shape[1])}."
            )
        first, second = scores.gather(1, pairs.to(scores.device)).unbind(1)
        return first - second

    def explained(self, image: int) -> Explained:
        return Explained(*self._of(image))


@dataclass(frozen=True)
class Unit(Target):
    """A hidden unit: one channel of a layer's result, at a position or averaged over all positions.

    Attributes:
        layer: the module, or its name; `block#2` is the second of several calls.
        channel: which channel, from 0.
        position: row and column (as many as the result has), or None for the mean over all.
    """

    layer: str | nn.Module
    channel: int
    position: tuple[int, ...] | None = None

    @property
    def places(self) -> tuple[str, ...]:  # type: ignore[override]
        return (place_of(self.layer),)

    def values(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        del output, images
        (place,) = self.places
        result = results[place]
        if not 0 <= self.channel < result.shape[1]:
            raise InputError(f"The layer {place!r} has {result.shape[1]} channels; channel {self.channel} came.")
        channel = result[:, self.channel]
        if self.position is None:
            return channel.flatten(1).mean(1) if channel.dim() > 1 else channel
        if len(self.position) != channel.dim() - 1:
            raise InputError(
                f"The layer {place!r} has {channel.dim() - 1} position axes; the position {self.position} came."
            )
        if not all(0 <= at < size for at, size in zip(self.position, channel.shape[1:], strict=True)):
            raise InputError(
                f"The layer {place!r} has positions up to {tuple(size - 1 for size in channel.shape[1:])}; the "
                f"position {self.position} came."
            )
        picked: Tensor = channel[(slice(None), *self.position)]  # type: ignore[index]  # integers, at run time
        return picked

    def explained(self, image: int) -> Explained:
        del image
        at = "" if self.position is None else f" at {self.position}"
        return Explained(words=f"channel {self.channel} of {place_of(self.layer)}{at}")


@dataclass(frozen=True, eq=False)
class Direction(Target):
    """A direction in a layer's channels: the mean over positions of its inner product with the result.

    Attributes:
        layer: the module, or its name.
        vector: shape (channel,): the direction.
    """

    layer: str | nn.Module
    vector: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", torch.as_tensor(self.vector))

    @property
    def places(self) -> tuple[str, ...]:  # type: ignore[override]
        return (place_of(self.layer),)

    def values(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        del output, images
        (place,) = self.places
        result = results[place]
        if self.vector.shape != result.shape[1:2]:
            raise InputError(
                f"The layer {place!r} has {result.shape[1]} channels; a direction of shape "
                f"{tuple(self.vector.shape)} came."
            )
        means = result.flatten(2).mean(2) if result.dim() > 2 else result
        return (means * self.vector.to(means)).sum(1)

    def explained(self, image: int) -> Explained:
        del image
        return Explained(words=f"a direction of {place_of(self.layer)}")


def has_names(classes: object) -> bool:
    """Whether classes are given by name, or some of them."""
    one = isinstance(classes, str)
    return one or (isinstance(classes, list | tuple) and any(isinstance(name, str) for name in classes))


def check_names(names: Sequence[str], outputs: int) -> None:
    """Refuse classes given by name where the names are not one for each output.

    Raises:
        InputError: they are not.
    """
    if names and len(names) != outputs:
        raise InputError(
            f"A class was given by name, but {len(names)} class names do not fit a model with {_outputs(outputs)}. "
            "Give one name per output, or the class by number."
        )


def _shown(side: object) -> object:
    return list(side) if isinstance(side, tuple) else side


def _outputs(count: int) -> str:
    return "one output, whose only class is 0" if count == 1 else f"{count} outputs, classes 0 to {count - 1}"
