"""What is explained: a class, a pair of classes, a hidden unit or direction, or any function of the output."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sightline._common.integers import as_integers, described
from sightline._common.words import counted
from sightline.errors import InputError, RefusalError
from sightline.explaining._rowwise import NeedsWholeBatch, Rowwise
from sightline.models._outputs import class_scores
from sightline.operations import place_of

IntegerArray = np.ndarray[Any, np.dtype[Any]]
ClassesLike = int | str | np.integer[Any] | Sequence[Any] | Tensor | IntegerArray
"""One class, or several: whole numbers of Python, numpy or torch, or names of classes."""


class Target(ABC):
    """Picks the explained value of each row from a pass.

    Attributes:
        places: the places whose results it needs besides the output.
        whole_batch: whether it must see all images at once, in their order.
        names: the class names by which its classes were given; empty where they were given by number.
    """

    places: tuple[str, ...] = ()
    whole_batch: bool = False
    names: tuple[str, ...] = ()

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
    def describe(self, image: int) -> str:
        """What is explained for one image, in words."""


class Classes(Target):
    """The score of one class per image, or of the predicted class.

    Args:
        classes: one class per image, or None for the predicted ones, which `predict` then fills in.
        count: number of images.
        among: where the predicted class is looked for; by default among all.
        rank: 1 for the likeliest class, 2 for the second, and so on.
    """

    def __init__(self, classes: Tensor | None, count: int, among: Sequence[int] = (), rank: int = 1) -> None:
        self._predicted, self._among, self._rank = classes is None, list(among), rank
        self.classes = torch.full((count,), -1) if classes is None else classes
        self._likeliest = self.classes.clone()

    @property
    def predicted(self) -> bool:
        """Whether the model's own scores decide which class is explained."""
        return self._predicted

    def predict(self, scores: Tensor, images: Tensor) -> None:
        """Fill in the predicted class of some images, where that is what is explained."""
        if self._predicted:
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

    def describe(self, image: int) -> str:
        # The likelier of two is not what the network predicts, where a third is likelier still.
        predicted = self._predicted and bool(self.classes[image] == self._likeliest[image])
        return f"{'predicted ' if predicted else ''}class {int(self.classes[image])}"


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

    def describe(self, image: int) -> str:
        first, second = self._of(image)
        return f"class {first} rather than class {second}"


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

    def describe(self, image: int) -> str:
        del image
        at = "" if self.position is None else f" at {self.position}"
        return f"channel {self.channel} of {place_of(self.layer)}{at}"


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

    def describe(self, image: int) -> str:
        del image
        return f"a direction of {place_of(self.layer)}"


@dataclass(frozen=True)
class WholeBatch:
    """A target function that has to see the output for all images at once, in their order, in one pass.

    Its passes take as much memory as all images together.

    Attributes:
        function: from the model's output for all images to a tensor of shape (batch,).
    """

    function: Callable[..., Tensor]


class Function(Target):
    """Any function that returns one value per image.

    Args:
        function: from the model's output for some of the images, and their positions if it has two parameters, to a
            tensor of shape (row,).
        count: number of images.
        whole_batch: whether it is always given all images.
    """

    def __init__(self, function: Callable[..., Tensor], count: int, *, whole_batch: bool = False) -> None:
        self._function, self._count = function, count
        self._takes_images = _parameters(function) > 1
        self.whole_batch = whole_batch
        self._rowwise = None if whole_batch else Rowwise(self._called, given_positions=self._takes_images)

    def _called(self, output: Any, images: Tensor) -> Tensor:
        return self._function(output, images) if self._takes_images else self._function(output)

    def values(self, output: Any, results: Mapping[str, Tensor], images: Tensor) -> Tensor:
        del results
        everything = len(images) == self._count and bool((images.cpu() == torch.arange(self._count)).all())
        try:
            values = self._called(output, images)
        except Exception as error:
            if everything or self._takes_images:
                raise
            raise NeedsWholeBatch from error
        if not isinstance(values, Tensor) or values.shape != (len(images),):
            if not everything and not self._takes_images:
                raise NeedsWholeBatch
            came = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise RefusalError(
                f"The target function must return one value per image, shape ({len(images)},); got {came}."
            )
        return values

    def keep(self, output: Any, images: Tensor, values: Tensor) -> None:
        """Keep what came of a pass on the images themselves, for `check`."""
        if self._rowwise is not None:
            self._rowwise.keep(output, images, values)

    def check(self) -> None:
        """After the passes on the images themselves: see that each value is its image's own.

        Raises:
            RefusalError: it depends on other images.
            NeedsWholeBatch: it depends on the image's place in the batch.
        """
        if self._rowwise is not None:
            self._rowwise.check()

    def all_at_once(self) -> None:
        """From now on, be given all images in one pass."""
        self.whole_batch, self._rowwise = True, None

    def describe(self, image: int) -> str:
        del image
        return getattr(self._function, "__name__", "a function of the output")


def _parameters(function: Callable[..., Any]) -> int:
    """Number of positional parameters without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


# Several are any sequence, since a list may hold Python's, numpy's and torch's integers.
TargetLike = (
    None
    | int
    | str
    | np.integer[Any]
    | Sequence[Any]
    | Tensor
    | IntegerArray
    | Target
    | WholeBatch
    | Callable[..., Tensor]
)


def as_target(target: object, count: int) -> Target:
    """A target from what the user gave.

    Args:
        target: None (the predicted class of each image), a class, one class per image, a `Pair`, `Unit` or
            `Direction`, a callable from the model's output to one value per image, or a `WholeBatch`.
        count: number of images.

    Raises:
        InputError: the number of classes is not the number of images, or the type is none of these.
    """
    if target is None:
        return Classes(None, count)
    if isinstance(target, Pair):
        target.check(count)
    if isinstance(target, Target):
        return target
    classes = as_integers(target)
    if isinstance(classes, int):
        classes = [classes] * count
    if classes is not None:
        if len(classes) != count:
            raise InputError(
                f"A target list needs one class per image: {counted(count, 'image')}, but "
                f"{counted(len(classes), 'class', 'classes')}. For the "
                "difference of two classes, use sightline.Pair(a, b)."
            )
        if not all(0 <= c < 2**31 for c in classes):
            raise InputError(f"Target classes must be integers, 0 or above; got {list(classes)[:8]}.")
        return Classes(torch.tensor(list(classes), dtype=torch.long), count)
    if isinstance(target, WholeBatch):
        return Function(target.function, count, whole_batch=True)
    if callable(target):
        return Function(target, count)
    if isinstance(target, Sequence | Tensor | np.ndarray | np.generic | float | bool) and not isinstance(target, str):
        raise InputError(f"Target classes must be integers, one or one per image; got {described(target)}.")
    raise InputError(
        f"A target is None, a class by number or name, one class per image, a Pair, Unit or Direction, or a callable; "
        f"got {target!r}."
    )


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
