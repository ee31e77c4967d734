"""Samples: labelled images that a fit can go through again and again, in an order of its own."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset
from torch.utils.data import default_collate as collate

from sightline.arrays import ImageBatch, PictureStore
from sightline.errors import InputError, alternatives

Batch = tuple[Tensor, Tensor]
Labels = Sequence[str] | None


class Samples(Dataset[Batch]):
    """Labelled images by their number.

    Args:
        read: gives the images and labels of some numbers, shapes (batch, channel, height, width) and (batch,).
        count: how many there are.
        batch_size: images of a step, where what they come from says so.
        workers: processes that read them.
    """

    def __init__(
        self, read: Callable[[list[int]], Batch], count: int, batch_size: int | None = None, workers: int = 0
    ) -> None:
        self._read, self._count = read, count
        self.batch_size, self.workers = batch_size, workers

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        images, labels = self._read([number])
        return images[0], labels[0]

    def __getitems__(self, numbers: list[int]) -> Batch:
        return self._read(numbers)

    def batches(self, numbers: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The images and labels of each list of numbers."""
        # With a generator of its own, or it would draw from torch's global one.
        loader = DataLoader(
            self,
            batch_sampler=[list(part) for part in numbers],
            num_workers=self.workers,
            collate_fn=_as_read,
            generator=torch.Generator(),
        )
        yield from loader


def _as_read(batch: Any) -> Any:
    """Keep what `__getitems__` gave, which is a batch already."""
    return batch


def samples_of(data: object, classes: tuple[int, int], names: Labels = None, class_names: Labels = None) -> Samples:
    """Make samples of what a user has.

    Args:
        data: what `load_images` returns, with class folders as labels; a pair (images, labels) of tensors, arrays or
            lists; a dataset with a length that gives (image, label); or a `DataLoader` over one, whose dataset, batch
            size, workers and collation are used, and whose order is not.
        classes: the pair.
        names: what labels that are names call the first and the second class; with them the numbers of a dataset that
            names its `classes` are read as these.
        class_names: the model's own names, used where `names` is not given.

    Raises:
        InputError: it is none of these, or the labels cannot be told.
    """
    if isinstance(data, Samples):
        return data
    numbers = _Numbers(classes, names, class_names)
    if isinstance(data, PictureStore):
        return _of_store(data, numbers.known(data.labels))
    if isinstance(data, ImageBatch):
        data = (data.tensor, data.labels)
    if isinstance(data, tuple | list) and len(data) == 2 and (images := _stacked(data[0])) is not None:
        labels = numbers(data[1], known=True)
        if images.dim() != 4 or labels.shape != (len(images),):
            raise InputError(
                "Images must be of shape (batch, channel, height, width) with one label each; got "
                f"{tuple(images.shape)} with labels of shape {tuple(labels.shape)}."
            )
        return Samples(lambda rows: (images[rows], labels[rows]), len(images))
    if isinstance(data, DataLoader):
        dataset, together = data.dataset, data.collate_fn
        if not isinstance(data.sampler, SequentialSampler | RandomSampler) or data.batch_size is None:
            raise InputError(
                f"The DataLoader draws by a {type(data.sampler).__name__}, and a fit goes through all images in an "
                "order of its own. Give a loader over torch.utils.data.Subset(dataset, indices) instead."
            )
        return _of_dataset(dataset, together, numbers, data.batch_size, data.num_workers)
    if isinstance(data, Dataset) or (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        return _of_dataset(data, collate, numbers, None, 0)
    raise InputError(
        "Expected labelled images: what load_images returns, a pair of tensors (images, labels), a dataset of "
        f"(image, label), or a DataLoader over one; got {type(data).__name__}."
    )


def _of_store(store: PictureStore, labels: Tensor) -> Samples:
    return Samples(lambda rows: (store.preprocessing.encode(store.pixels[rows]), labels[rows]), len(store))


def _of_dataset(
    dataset: Any, together: Callable[..., Any], numbers: "_Numbers", batch_size: int | None, workers: int
) -> Samples:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise InputError(
            "A fit asks for the same images again in an order of its own, so that it can be resumed: the dataset needs "
            "a length and items by number. Read the stream into tensors first."
        )

    own = _names_of(dataset)

    def read(rows: list[int]) -> Batch:
        several = getattr(dataset, "__getitems__", None)
        items = several(rows) if several else [dataset[row] for row in rows]
        try:
            found = together(items)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(_uncollated(items, error)) from error
        if not isinstance(found, tuple | list) or len(found) < 2 or not isinstance(found[0], Tensor):
            raise InputError(f"A dataset's items must be (image, label); got {type(found).__name__}.")
        return found[0], numbers(found[1], own=own)

    samples = Samples(read, len(dataset), batch_size, workers)
    if len(samples):
        few = range(0, len(samples), max(1, len(samples) // 12))
        if not all(torch.equal(samples[i][0], samples[i][0]) for i in few):
            raise InputError(
                "The dataset gives another picture each time it is asked for the same one (random augmentation). The "
                "targets are what the original network says of each image, so the images must stay; switch "
                "augmentation off."
            )
    return samples


def _uncollated(items: Any, error: Exception) -> str:
    """Why the items of a dataset make no batch."""
    shapes = dict.fromkeys(
        tuple(item[0].shape) for item in items if isinstance(item, tuple | list) and isinstance(item[0], Tensor)
    )
    if len(shapes) > 1:
        return (
            f"All images of a fit must have one size; got {' and '.join(map(str, list(shapes)[:3]))}. Resize or crop "
            "them in the dataset's transform."
        )
    return f"The dataset's items do not make a batch of images with labels ({' '.join(str(error).split())[:200]})."


def _stacked(images: object) -> Tensor | None:
    """Images that are given at once as one tensor; None where they are no images."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    if isinstance(images, Tensor):
        return images.detach()
    if not isinstance(images, list | tuple) or not images:
        return None
    each = [torch.from_numpy(one) if isinstance(one, np.ndarray) else one for one in images]
    if not all(isinstance(one, Tensor) and one.dim() == 3 for one in each):
        return None
    if len({one.shape for one in each}) > 1:
        raise InputError(_uncollated([(one, 0) for one in each], ValueError()))
    return torch.stack(each).detach()


def _names_of(dataset: Any) -> Labels:
    """How a dataset names its numbers of classes, where it gives them as they are."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    named = getattr(dataset, "classes", None)
    plain = getattr(dataset, "target_transform", None) is None
    return named if plain and isinstance(named, list | tuple) and all(isinstance(n, str) for n in named) else None


class _Numbers:
    """Turns labels into numbers of the network's outputs.

    Args:
        classes: the pair.
        names: what the first and the second class are called, where that was said.
        class_names: what the model calls its outputs.
    """

    def __init__(self, classes: tuple[int, int], names: Labels, class_names: Labels) -> None:
        self._classes, self._said, self._class_names = classes, names is not None, class_names
        if names is None and class_names and max(classes) < len(class_names):
            names = [class_names[c] for c in classes]
        if names is not None and (isinstance(names, str) or len(names) != 2 or names[0] == names[1]):
            raise InputError(f'names= must be two labels, as in ("cat", "dog"), one for each class; got {names!r}.')
        self._names = None if names is None else [str(name) for name in names]

    def __call__(self, labels: Any, *, own: Labels = None, known: bool = False) -> Tensor:
        """Labels as numbers; -1 for names of other classes.

        Args:
            labels: numbers, one-hot rows, or names.
            own: what the dataset calls its numbers.
            known: whether these are all labels, among which both names must be.
        """
        if isinstance(labels, np.ndarray) and labels.dtype.kind in "US":
            labels = labels.tolist()
        if isinstance(labels, list | tuple) and any(label is None or isinstance(label, str) for label in labels):
            return self.known(labels) if known else self._of_names(labels)
        found = _whole(labels)
        if own is None or not self._said:
            return found.long()
        if bool(((found < 0) | (found >= len(own))).any()):
            raise InputError(f"The dataset names {len(own)} classes, and has labels that are none of their numbers.")
        return self._of_names([own[number] for number in found.tolist()])

    def known(self, labels: Sequence[str | None]) -> Tensor:
        """All labels, which are names, as numbers."""
        there = sorted({label for label in labels if label is not None})
        for name in self._both():
            if name not in there:
                raise InputError(f"No image is labelled {name!r}. {alternatives(name, there)}")
        return self._of_names(labels)

    def _of_names(self, labels: Sequence[str | None]) -> Tensor:
        table = dict(zip(self._both(), self._classes, strict=True))
        return torch.tensor([-1 if label is None else table.get(label, -1) for label in labels])

    def _both(self) -> list[str]:
        if self._names is None:
            raise InputError(
                "The images are labelled by names, and the model names no classes. Say which name is the first class "
                'and which the second: names=("cat", "dog").'
            )
        return self._names


def _whole(labels: object) -> Tensor:
    """Numbers of classes, also out of one-hot rows."""
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if found.dim() == 2 and found.shape[1] == 1 and not found.is_floating_point():
        found = found[:, 0]
    if found.dim() == 2 and found.shape[1] > 1 and not found.is_complex():
        hot = (found != 0) & (found != 1)
        if not bool(hot.any()) and bool((found.sum(1) == 1).all()):
            return found.double().argmax(1)
        raise InputError(
            f"Labels must be one number for each image, or one-hot rows with a single 1; got rows of {found.shape[1]} "
            "other numbers. Of mixed labels take the one that the image shows."
        )
    if found.is_floating_point() or found.is_complex():
        raise InputError(
            "Labels must be the numbers of the network's outputs (whole numbers), one-hot rows, or names with names=; "
            f"got {str(labels)[:60]}."
        )
    return found.long()
