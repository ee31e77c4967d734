"""How a network wants its pictures: the size, the crop and the numbers that pixels become."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Real
from PIL import Image
from torch import Tensor

from sightline.errors import InputError

# Spelled out, since a run-time check of annotations does not take an int for a float.
Number = float | int

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_SOURCE = "default: ImageNet mean and std at 224 px, since the model names none"

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """The way from a picture to a network's input, and back to something to look at.

    A pixel value v of 0..255 becomes ``(low + v / 255 * (high - low) - mean) / std``, where ``(low, high)``
    is `value_range`.

    Attributes:
        size: Height and width of the network's input, in pixels.
        resize: Short side before the centre crop, in pixels (for a size that is not square: the short side
            of the area that the resized picture must cover); ``"auto"`` means ``round(min(size) / 0.875)``, but
            leaves pictures alone that have the size already; ``"stretch"`` means a resize to `size` without
            regard to the aspect ratio, None that pictures must already have that size.
        mean: Mean of each channel, in units of `value_range`.
        std: Standard deviation of each channel, in units of `value_range`.
        value_range: What pixel values 0 and 255 become before mean and std.
        interpolation: Pillow's name of the resampling filter, as ``"bilinear"`` or ``"bicubic"``.
        channels: 3 for RGB or 1 for grey.
        source: Where these settings come from, in words.
        values: The values of a file that are black and white, in its own units, as ``(0, 4095)`` for 12 bits stored
            in 16; they become pixel values 0 and 255, without rounding, and what lies beyond them is set to them.
            None: integers have the range of their type, and floating-point values 0..1 or 0..255 if they lie in it.

    Raises:
        InputError: If the settings contradict each other.
    """

    size: tuple[int, int] = (224, 224)
    resize: int | Literal["auto", "stretch"] | None = "auto"
    mean: tuple[Number, ...] = IMAGENET_MEAN
    std: tuple[Number, ...] = IMAGENET_STD
    value_range: tuple[Number, Number] = (0.0, 1.0)
    interpolation: str = "bilinear"
    channels: int = 3
    source: str = "stated"
    values: tuple[Number, Number] | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise InputError(
                f"Pictures have 1 (grey) or 3 (RGB) channels, but channels={self.channels} was given. For a model of "
                "other channels make a tensor in Python and give it to explain."
            )
        if min(self.size) < 1:
            raise InputError(f"The size must be a height and a width of at least 1 px, but {self.size} was given.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise InputError(
                    f"The {name} needs one number per channel ({self.channels}), but {len(values)} came: {values}."
                )
        if not np.isfinite([*self.mean, *self.std, *self.value_range]).all():
            raise InputError(
                f"Mean, std and value range must be finite, but {self.mean}, {self.std}, {self.value_range} came."
            )
        if min(self.std) <= 0:
            raise InputError(f"Every std must be above 0, but {self.std} was given.")
        if self.values is not None and (
            np.shape(self.values) != (2,) or not np.isfinite(self.values).all() or self.values[0] >= self.values[1]
        ):
            raise InputError(
                "The values of black and white must be two finite numbers, the smaller one first, as in (0, 4095), but "
                f"{self.values} was given."
            )
        if self.value_range[0] == self.value_range[1]:
            raise InputError(f"The value range needs two different ends, but {self.value_range} was given.")
        if self.interpolation.upper() not in Image.Resampling.__members__:
            known = ", ".join(name.lower() for name in Image.Resampling.__members__)
            raise InputError(f"The interpolation must be one of {known}, but {self.interpolation!r} was given.")
        if isinstance(self.resize, str) and self.resize not in {"auto", "stretch"}:
            raise InputError(
                f'The resize must be a number of pixels, "auto", "stretch" or None, but {self.resize!r} was given.'
            )
        if isinstance(self.resize, int) and self.resize < min(self.size):
            raise InputError(
                f"The short side before the crop must be at least {min(self.size)} px, the crop's own, "
                f"but resize={self.resize} was given."
            )

    @property
    def short_side(self) -> int:
        """Short side before the centre crop, in pixels."""
        return self.resize if isinstance(self.resize, int) else round(min(self.size) / 0.875)

    @property
    def is_assumed_grey(self) -> bool:
        """Whether these are defaults for one channel, which say how files are read but nothing of tensors."""
        return self.channels == 1 and self.source.startswith("default")

    @property
    def null_colour(self) -> tuple[float, ...]:
        """The pixel value of each channel, on the scale 0..255, whose encoded value is 0."""
        low, high = self.value_range
        return tuple(255.0 * (mean - low) / (high - low) for mean in self.mean)

    def fit(self, image: Image.Image) -> tuple[Image.Image, Box]:
        """Resize and crop a picture to `size`.

        Args:
            image: A picture of any size.

        Returns:
            The picture at `size`, and the region of the original that it shows: left, top, right and
            bottom in original pixels.

        Raises:
            InputError: If `resize` is None and the picture has another size.
        """
        height, width = self.size
        if self.resize == "auto" and image.size == (width, height):
            return image, (0.0, 0.0, float(width), float(height))
        if self.resize is None:
            if image.size != (width, height):
                raise InputError(
                    f"The model takes pictures of {width} x {height} px without resizing, but this one has "
                    f"{image.width} x {image.height} px; resize it, or state how (--resize, resize=)"
                )
            return image, (0.0, 0.0, float(width), float(height))
        if self.resize == "stretch":
            box = (0.0, 0.0, float(image.width), float(image.height))
        else:
            box = self._centre_box(image.width, image.height, self.short_side / min(self.size))
        # One resampling of the box gives the pixels of resize-then-crop, and a strip of 1 x 100000 px
        # never has to exist in its enlarged form.
        return image.resize((width, height), Image.Resampling[self.interpolation.upper()], box=box), box

    def _centre_box(self, image_width: int, image_height: int, margin: float) -> Box:
        height, width = self.size
        cover_width, cover_height = round(width * margin), round(height * margin)
        # The long side is cut down to whole pixels and the offset rounded as torchvision does it, so that
        # its transforms give the same picture.
        if cover_width * image_height >= cover_height * image_width:
            cover_height = max(cover_height, image_height * cover_width // image_width)
        else:
            cover_width = max(cover_width, image_width * cover_height // image_height)
        left, top = round((cover_width - width) / 2), round((cover_height - height) / 2)
        x, y = image_width / cover_width, image_height / cover_height
        return left * x, top * y, (left + width) * x, (top + height) * y

    def encode(
        self, pixels: Real[np.ndarray, "*batch height width channel"]
    ) -> Float[Tensor, "*batch channel height width"]:
        """Turn pixels into the network's numbers.

        Args:
            pixels: Values 0..255 of any real type, of one picture or of several.

        Returns:
            The float32 tensor that the network takes, with a batch axis where the pixels have one.

        Raises:
            InputError: If the number of channels is not `channels`.
        """
        if pixels.shape[-1] != self.channels:
            raise InputError(f"Expected pixels of {self.channels} channels, but {pixels.shape[-1]} came.")
        low, high = self.value_range
        values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3), dtype=np.float32))
        mean, std = self._per_channel()
        return (values * ((high - low) / 255) + low - mean) / std

    @property
    def ends(self) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
        """A black and a white pixel as the network sees them."""
        black, white = (self.encode(np.full((1, 1, self.channels), v, dtype=np.uint8)).flatten() for v in (0, 255))
        return black, white

    def decode(self, tensor: Float[Tensor, "batch channel height width"]) -> Float[np.ndarray, "batch height width 3"]:
        """Turn network inputs back into pictures to look at; the inverse of `encode`, cut to the visible range.

        Args:
            tensor: Network inputs.

        Returns:
            RGB values in 0..1; grey pictures have three equal channels.

        Raises:
            InputError: If the number of channels is not `channels`.
        """
        if tensor.shape[1] != self.channels:
            raise InputError(f"Expected a tensor of {self.channels} channels, but {tensor.shape[1]} came.")
        low, high = self.value_range
        mean, std = self._per_channel()
        values = (tensor.detach().cpu().float() * std + mean - low) / (high - low)
        pictures: np.ndarray = values.clamp(0, 1).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        return pictures

    def _per_channel(self) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (self.mean, self.std))
        return mean, std


def default_preprocessing() -> Preprocessing:
    """The settings assumed for a model that names none."""
    return Preprocessing(source=DEFAULT_SOURCE)
