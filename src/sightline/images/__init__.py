"""Images: from paths to batches prepared as a model wants them."""

from sightline.images.batch import ImageBatch
from sightline.images.load import load_images

__all__ = ["ImageBatch", "load_images"]
