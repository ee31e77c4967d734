"""Models of torchvision by name."""

import warnings
from difflib import get_close_matches

from torch import nn

from sightline.models._extras import import_extra, no_download, unknown_name
from sightline.models._info import ModelInfo
from sightline.models._preprocessing import Preprocessing


def load_torchvision(name: str, pretrained: bool) -> tuple[nn.Module, ModelInfo]:
    """Build a classifier of torchvision.

    Args:
        name: Its name, as ``"resnet18"``.
        pretrained: Whether to fetch its default weights.

    Returns:
        The model, and what its default weights say about pictures and classes.

    Raises:
        InputError: If torchvision or the name is unknown, or the weights cannot be fetched.
    """
    models = import_extra("torchvision").models
    known = models.list_models(module=models)
    if name.lower() not in known:
        raise unknown_name(f"torchvision:{name}", "a classifier of torchvision", get_close_matches(name.lower(), known))
    weights = models.get_model_weights(name.lower()).DEFAULT
    transforms = weights.transforms()
    try:
        # A few constructors announce a change of their random initialisation, which no one here asked about.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model = models.get_model(name.lower(), weights=weights if pretrained else None)
    except (OSError, RuntimeError) as error:
        raise no_download(f"torchvision:{name}", error) from error
    (size,) = transforms.crop_size
    preprocessing = Preprocessing(
        size=(size, size),
        resize=transforms.resize_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        source=f"torchvision {weights.name} transforms",
    )
    return model, ModelInfo(
        spec=f"torchvision:{name}",
        preprocessing=preprocessing,
        class_names=tuple(weights.meta["categories"]),
        weights=f"torchvision {weights.name}",
        # A head of the user's own weights may be of labels or values.
        output="classes" if pretrained else None,
    )


def untrained_torchvision(name: str, classes: int) -> nn.Module:
    """A classifier of torchvision with random weights and so many classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model: nn.Module = import_extra("torchvision").models.get_model(name.lower(), weights=None, num_classes=classes)
    return model
