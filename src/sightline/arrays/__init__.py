"""Images: from paths to batches prepared as a model wants them."""

from sightline.arrays._batch import ImageBatch
from sightline.arrays._labelled import Labelled, first_of_each, labelled_pictures
from sightline.arrays._load import load_images
from sightline.arrays._store import PictureStore, store_pictures

__all__ = [
    "ImageBatch",
    "Labelled",
    "PictureStore",
    "first_of_each",
    "labelled_pictures",
    "load_images",
    "store_pictures",
]
