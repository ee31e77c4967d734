"""Images: from paths to batches prepared as a model wants them.

- `load_images`, `ImageBatch`: files as a batch, with names, labels and what must be known of them.
- `find_images`, `Found`, `unique_names`, `ignored_files`: which files paths stand for; `prepared`, `as_batch`: read one
  by one, for whole data sets.
- `Reader`, `Raster`, `READERS`, `check_pixels`: a format is read by a reader, which gives a raster; another
  distribution's registers itself by an entry point of the group `sightline.readers`.
- `labelled_pictures`, `Labelled`, `first_of_each`: data sets with classes; `store_pictures`, `PictureStore`: decoded
  once.
- `as_images`, `is_finite`, `whole`: tensors and numbers that users give, checked. `encoding_of`, `ends_of`: how images
  were encoded, and their black and white.
"""

from sightline.arrays._batch import ImageBatch
from sightline.arrays._encoded import as_images, encoding_of, ends_of, is_finite, whole
from sightline.arrays._files import Found, find_images, ignored_files, unique_names
from sightline.arrays._labelled import Labelled, first_of_each, labelled_pictures
from sightline.arrays._load import as_batch, load_images, prepared
from sightline.arrays._raster import Raster, check_pixels
from sightline.arrays._readers import READERS, Reader
from sightline.arrays._store import PictureStore, store_pictures

__all__ = [
    "READERS",
    "Found",
    "ImageBatch",
    "Labelled",
    "PictureStore",
    "Raster",
    "Reader",
    "as_batch",
    "as_images",
    "check_pixels",
    "encoding_of",
    "ends_of",
    "find_images",
    "first_of_each",
    "ignored_files",
    "is_finite",
    "labelled_pictures",
    "load_images",
    "prepared",
    "store_pictures",
    "unique_names",
    "whole",
]
