"""Models of timm by name."""

import math
from difflib import get_close_matches

from torch import nn

from sightline.models._extras import import_extra, no_download, unknown_name
from sightline.models._info import ModelInfo
from sightline.models._preprocessing import Preprocessing

NAMES_OF_SUBSET = "Class names are those of"


def load_timm(name: str, pretrained: bool) -> tuple[nn.Module, ModelInfo]:
    """Build a model of timm.

    Args:
        name: Its name, with or without a tag, as ``"resnet10t"`` or ``"resnet50.a1_in1k"``.
        pretrained: Whether to fetch its weights.

    Returns:
        The model, and what its data configuration says about pictures.

    Raises:
        InputError: If timm or the name is unknown, or the weights cannot be fetched.
    """
    timm = import_extra("timm")
    architecture, _, tag = name.partition(".")
    if ":" not in name and not timm.is_model(architecture):
        raise unknown_name(f"timm:{name}", "a model of timm", get_close_matches(architecture, timm.list_models()))
    tagged = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        raise unknown_name(f"timm:{name}", "a model of timm", get_close_matches(name, tagged, cutoff=0))
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained)
    except (OSError, RuntimeError) as error:
        raise no_download(f"timm:{name}", error) from error
    config = timm.data.resolve_model_data_config(model)
    channels, height, width = config["input_size"]
    stretched = config["crop_mode"] == "squash" and config["crop_pct"] == 1
    notes: tuple[str, ...] = ()
    if config["crop_mode"] != "center" and not stretched:
        notes = (f"timm's crop mode {config['crop_mode']!r} is not followed: pictures are resized and centre-cropped.",)
    preprocessing = Preprocessing(
        size=(height, width),
        resize="stretch" if stretched else math.floor(min(height, width) / config["crop_pct"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        # "random" is timm's word for an augmentation; it evaluates such models with bilinear.
        interpolation="bilinear" if config["interpolation"] == "random" else config["interpolation"],
        channels=channels,
        source=f"timm data configuration of {name}",
    )
    subset = timm.data.infer_imagenet_subset(model)
    class_names = None
    if subset is not None:
        labels = timm.data.ImageNetInfo(subset)
        class_names = tuple(labels.index_to_description(index) for index in range(labels.num_classes()))
        notes += (f"{NAMES_OF_SUBSET} {subset}, judged by the number of outputs.",)
    return model, ModelInfo(
        spec=f"timm:{name}",
        preprocessing=preprocessing,
        class_names=class_names,
        weights=f"timm {model.pretrained_cfg.get('tag') or name}",  # type: ignore[union-attr, operator]
        # A head of the user's own weights may be of labels or values.
        output="classes" if pretrained else None,
        notes=notes,
    )


def untrained_timm(name: str, classes: int) -> nn.Module:
    """A model of timm with random weights and so many classes."""
    model: nn.Module = import_extra("timm").create_model(name, pretrained=False, num_classes=classes)
    return model
