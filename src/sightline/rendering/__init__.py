"""Pictures of results.

- `montage`: images and their maps side by side.
"""

from sightline.rendering._montage import montage, save_montage

__all__ = ["montage", "save_montage"]
