"""Models of Hugging Face transformers, from the Hub or from a folder."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from sightline.errors import InputError
from sightline.models._extras import import_extra, no_download
from sightline.models._info import ModelInfo, names_of_labels
from sightline.models._output_kind import kind_of_problem
from sightline.models._preprocessing import IMAGENET_MEAN, Preprocessing, default_preprocessing

# Grey levels by which two right ways to resize a ramp may differ; a wrong crop or mean is off by more.
_TOLERANCE = 3.0


def load_huggingface(name: str, pretrained: bool, stated: Collection[str]) -> tuple[nn.Module, ModelInfo]:
    """Build an image classifier of transformers.

    Args:
        name: Its name on the Hub, or a folder of `save_pretrained`, which needs no network.
        pretrained: Whether to load its weights.
        stated: The settings of the preprocessing that the user states, and which need not be found out.

    Returns:
        The model, and what its image processor and configuration say about pictures and classes.

    Raises:
        InputError: If transformers is absent, the model cannot be had, or its image processor does
            something that a `Preprocessing` cannot.
    """
    auto_config, auto_model = import_extra("transformers", "AutoConfig", "AutoModelForImageClassification")
    notes: tuple[str, ...] = ()
    try:
        config = auto_config.from_pretrained(name)
        if pretrained:
            model, loading = auto_model.from_pretrained(name, config=config, output_loading_info=True)
            if missing := sorted(loading["missing_keys"]):
                notes = (f"The checkpoint lacks {', '.join(missing)}, which were drawn at random.",)
        else:
            model = auto_model.from_config(config)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        if Path(name).is_dir():
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(
                f"The folder {name} holds no image classifier that transformers can load ({reason}); "
                "expected what model.save_pretrained(folder) writes."
            ) from error
        raise no_download(f"hf:{name}", error) from error
    preprocessing, remarks = _preprocessing(name, stated)
    output = kind_of_problem(getattr(config, "problem_type", None))
    if output is None and getattr(config, "num_labels", 1) > 1:
        # What transformers itself takes an image classifier for, unless its configuration says otherwise.
        output = "classes"
    return model, ModelInfo(
        spec=f"hf:{name}",
        preprocessing=preprocessing,
        class_names=names_of_labels(getattr(config, "id2label", None)),
        weights=f"transformers {name}",
        notes=notes + remarks,
        output=output,
    )


def _preprocessing(name: str, stated: Collection[str]) -> tuple[Preprocessing, tuple[str, ...]]:
    (auto_processor,) = import_extra("transformers", "AutoImageProcessor")
    try:
        processor = auto_processor.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return default_preprocessing(), (f"No image processor could be read ({reason}).",)
    try:
        preprocessing = _translate(processor.to_dict(), source=f"transformers image processor of {name}")
        _check_translation(processor, preprocessing)
    except (InputError, KeyError) as error:
        if "size" in stated and ("mean" in stated or "value_range" in stated):
            return default_preprocessing(), ("The model's own image processor is not followed.",)
        raise InputError(
            f"The image processor of hf:{name} does more than resize, crop, rescale and normalise ({error}); state "
            "size=, mean=, std= and value_range=, or put that step into the model."
        ) from error
    return preprocessing, ()


def _translate(settings: dict[str, Any], source: str) -> Preprocessing:
    size, resize = _geometry(settings)
    low, high = 0.0, 1.0
    if settings.get("do_rescale", True):
        low = -1.0 if settings.get("rescale_offset") else 0.0
        high = low + 255.0 * settings.get("rescale_factor", 1 / 255)
    else:
        high = 255.0
    normalised = settings.get("do_normalize", True)
    mean = tuple(settings["image_mean"]) if normalised else (0.0,) * len(IMAGENET_MEAN)
    std = tuple(settings["image_std"]) if normalised else (1.0,) * len(mean)
    resample = settings.get("resample")
    return Preprocessing(
        size=size,
        resize=resize,
        mean=mean,
        std=std,
        value_range=(low, high),
        interpolation=Image.Resampling(2 if resample is None else int(resample)).name.lower(),
        channels=len(mean),
        source=source,
    )


def _geometry(settings: dict[str, Any]) -> tuple[tuple[int, int], Any]:
    size = settings.get("size") or {}
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    if not settings.get("do_resize", True):
        raise InputError("it does not resize")
    if "shortest_edge" in size:
        edge = size["shortest_edge"]
        if crop:
            return (crop["height"], crop["width"]), edge
        if settings.get("crop_pct"):
            # The ConvNeXt processor crops below 384 px and stretches from there on.
            return (edge, edge), "stretch" if edge >= 384 else int(edge / settings["crop_pct"])
        raise InputError("it keeps the aspect ratio and does not crop")
    target = (size["height"], size["width"])
    if crop and (crop["height"], crop["width"]) != target:
        raise InputError("it stretches pictures and then crops them")
    return target, "stretch"


def _check_translation(processor: Any, preprocessing: Preprocessing) -> None:
    """Compare on a picture whose channels tell left from right, top from bottom and red from blue."""
    x, y = np.meshgrid(np.linspace(0, 255, 400), np.linspace(0, 255, 300))
    ramps = np.stack([x, y, np.full_like(x, 60)][: preprocessing.channels], axis=-1).round().astype(np.uint8)
    picture = Image.fromarray(ramps if preprocessing.channels == 3 else ramps[..., 0])
    theirs = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0], dtype=np.float64)
    pixels = np.asarray(preprocessing.fit(picture)[0]).reshape(*preprocessing.size, -1)
    ours = preprocessing.encode(pixels).double().numpy()
    if theirs.shape != ours.shape:
        raise InputError(f"it gives {theirs.shape} where {ours.shape} was expected")
    low, high = preprocessing.value_range
    level = abs(high - low) / 255 / np.asarray(preprocessing.std).reshape(-1, 1, 1)
    off = float((np.abs(theirs - ours) / level).max())
    if off > _TOLERANCE:
        raise InputError(f"a test picture comes out {off:.0f} grey levels apart")
