"""Samples: labelled images that a fit can go through again and again, in an order of its own."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data import default_collate as collate

from sightline.errors import InputError, alternatives
from sightline.images import ImageBatch, PictureStore

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
        data: what `load_images` returns, with class folders as labels; a pair of tensors (images, labels); a dataset
            with a length that gives (image, label); or a `DataLoader` over one, whose dataset, batch size, workers and
            collation are used, and whose order is not.
        classes: the pair.
        names: what the labels of pictures from folders are called for the first and the second class.
        class_names: the model's own names, used where `names` is not given.

    Raises:
        InputError: it is none of these, or the labels cannot be told.
    """
    if isinstance(data, Samples):
        return data
    if isinstance(data, PictureStore):
        return _of_store(data, _numbers(data.labels, classes, names, class_names))
    if isinstance(data, ImageBatch):
        data = (data.tensor, _numbers(data.labels, classes, names, class_names))
    if isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[0], Tensor):
        images, labels = data[0].detach(), _whole(data[1])
        if images.dim() != 4 or labels.shape != (len(images),):
            raise InputError(
                f"Images are of shape (batch, channel, height, width) with a label each; came {tuple(images.shape)} "
                f"with labels of shape {tuple(labels.shape)}."
            )
        return Samples(lambda numbers: (images[numbers], labels[numbers]), len(images))
    if isinstance(data, DataLoader):
        dataset, together = data.dataset, data.collate_fn
        if not isinstance(data.sampler, SequentialSampler | RandomSampler) or data.batch_size is None:
            raise InputError(
                f"The DataLoader draws by a {type(data.sampler).__name__}, and a fit goes through all images in an "
                "order of its own. Give a loader over torch.utils.data.Subset(dataset, indices) instead."
            )
        return _of_dataset(dataset, together, data.batch_size, data.num_workers)
    if isinstance(data, Dataset) or (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        return _of_dataset(data, collate, None, 0)
    raise InputError(
        "Expected labelled images: what load_images returns, a pair of tensors (images, labels), a dataset of "
        f"(image, label), or a DataLoader over one; came {type(data).__name__}."
    )


def _of_store(store: PictureStore, labels: Tensor) -> Samples:
    return Samples(lambda rows: (store.preprocessing.encode(store.pixels[rows]), labels[rows]), len(store))


def _of_dataset(dataset: Any, together: Callable[..., Any], batch_size: int | None, workers: int) -> Samples:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise InputError(
            "A fit asks for the same images again in an order of its own, so that it can be resumed: the dataset needs "
            "a length and items by number. Read the stream into tensors first."
        )

    def read(numbers: list[int]) -> Batch:
        several = getattr(dataset, "__getitems__", None)
        items = several(numbers) if several else [dataset[number] for number in numbers]
        found = together(items)
        if not isinstance(found, tuple | list) or len(found) < 2 or not isinstance(found[0], Tensor):
            raise InputError(f"A dataset's items are (image, label); came {type(found).__name__}.")
        return found[0], _whole(found[1])

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


def _whole(labels: object) -> Tensor:
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if found.is_floating_point() or found.is_complex():
        raise InputError(
            f"Labels are the numbers of the network's outputs; came {str(labels)[:60]}. Turn names into numbers first."
        )
    return found


def _numbers(labels: Sequence[str | None], classes: tuple[int, int], names: Labels, class_names: Labels) -> Tensor:
    """The class of each label; -1 for labels of other classes."""
    if names is None:
        if not class_names or max(classes) >= len(class_names):
            raise InputError(
                "The pictures are labelled by the names of their folders, and the model names no classes. Say which "
                'folder is the first class and which the second: names=("cat", "dog").'
            )
        names = [class_names[c] for c in classes]
    known = sorted({label for label in labels if label is not None})
    for name in names:
        if name not in known:
            raise InputError(f"No picture lies in a folder {name!r}. {alternatives(name, known)}")
    table = dict(zip(names, classes, strict=True))
    return torch.tensor([-1 if label is None else table.get(label, -1) for label in labels])
