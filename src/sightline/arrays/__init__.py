"""Images: from paths to batches prepared as a model wants them.

A format is read by a `Reader`, which gives a `Raster`; another distribution's registers itself by an entry point of the
group `sightline.readers`.
"""

from sightline.arrays._batch import ImageBatch
from sightline.arrays._encoded import as_images, encoding_of, ends_of, is_finite, whole
from sightline.arrays._labelled import Labelled, first_of_each, labelled_pictures
from sightline.arrays._load import load_images
from sightline.arrays._raster import Raster, check_pixels
from sightline.arrays._readers import READERS, Reader
from sightline.arrays._store import PictureStore, store_pictures

__all__ = [
    "READERS",
    "ImageBatch",
    "Labelled",
    "PictureStore",
    "Raster",
    "Reader",
    "as_images",
    "check_pixels",
    "encoding_of",
    "ends_of",
    "first_of_each",
    "is_finite",
    "labelled_pictures",
    "load_images",
    "store_pictures",
    "whole",
]
