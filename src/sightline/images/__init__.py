"""Images: from paths to batches prepared as a model wants them."""

from sightline.images.batch import ImageBatch
from sightline.images.labelled import Labelled, first_of_each, labelled_pictures
from sightline.images.load import load_images
from sightline.images.store import PictureStore, store_pictures

__all__ = [
    "ImageBatch",
    "Labelled",
    "PictureStore",
    "first_of_each",
    "labelled_pictures",
    "load_images",
    "store_pictures",
]
