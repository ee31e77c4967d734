"""A model from a name, ready to be explained."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sightline.errors import InputError
from sightline.models._channels import check_stated, one_channel, with_channels
from sightline.models._factories import load_factory
from sightline.models._huggingface import load_huggingface
from sightline.models._info import ModelInfo, model_info, names_of_labels
from sightline.models._output_kind import Kind, as_kind
from sightline.models._preprocessing import Number, Preprocessing
from sightline.models._timm_zoo import NAMES_OF_SUBSET, load_timm, untrained_timm
from sightline.models._torchvision_zoo import load_torchvision, untrained_torchvision
from sightline.models._weights import classes_in_file, load_weights
from sightline.options import ModelOptions

_BUILDERS = {"torchvision": untrained_torchvision, "timm": untrained_timm}
_FORMS = "torchvision:NAME, timm:NAME, hf:ID_OR_FOLDER, path/FILE.py:FACTORY or package.module:FACTORY"


def load_model(
    spec: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    mean: Number | Sequence[Number] | None = None,
    std: Number | Sequence[Number] | None = None,
    value_range: tuple[Number, Number] | None = None,
    resize: int | Literal["stretch", "none"] | None = None,
    channels: int | None = None,
    values: tuple[Number, Number] | None = None,
    classes: Iterable[str] | Mapping[Any, str] | str | Path | None = None,
    output: str | None = None,
    multi_label: bool | None = None,
    pretrained: bool = ModelOptions.pretrained,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Load a model in evaluation mode, with what it expects of its pictures.

    What is stated here replaces what the model says about itself, and is noted. `model_info` gives the result. What an
    earlier call stated of the pictures of a model is forgotten when this one states something of them.

    Args:
        spec: ``torchvision:NAME``, ``timm:NAME``, ``hf:ID_OR_FOLDER``, ``path/FILE.py:FACTORY``,
            ``package.module:FACTORY``, or a model. A FACTORY is called without arguments; it, or the model that
            it returns, may carry a `preprocessing` (a `Preprocessing`), `class_names`, and `output` or
            `multi_label`.
        weights: A file of weights to load (see `load_weights`); nothing is then fetched.
        size: Height and width of the input in pixels, or one number for both.
        mean: Mean of each channel, or one for all, in units of `value_range`.
        std: Standard deviation of each channel, or one for all, in units of `value_range`.
        value_range: What pixel values 0 and 255 become before mean and std.
        resize: Short side before the centre crop in pixels, ``"stretch"`` or ``"none"``.
        channels: 1 for grey pictures or 3 for RGB; by default what the model says, or what its first layer takes.
        values: Which values of the files are black and white, as ``(0, 4095)`` for 12 bits; see `Preprocessing`.
        classes: One name per output: the names, also by number, a file with one per line or a JSON list, or a text
            with commas.
        output: What the outputs are: ``"classes"`` (one class among all, softmax), ``"labels"`` (each a yes or no of
            its own, sigmoid) or ``"values"`` (numbers as they are, as in regression); by default what the model says.
        multi_label: True is short for ``output="labels"``, False for ``output="classes"``.
        pretrained: Whether to fetch the weights that the name stands for.
        device: Where to put the model.

    Returns:
        The model.

    Raises:
        InputError: If the model cannot be had, or the settings contradict each other.
    """
    stated = {
        name: value
        for name, value in (
            ("size", size),
            ("mean", mean),
            ("std", std),
            ("value_range", value_range),
            ("resize", resize),
            ("channels", channels),
            ("values", values),
        )
        if value is not None
    }
    spec = str(spec) if isinstance(spec, Path) else spec
    count: int | None = None
    if isinstance(spec, nn.Module):
        model, info = spec, model_info(spec)
        if stated and info.own is not None:
            info = replace(info, preprocessing=info.own.preprocessing, notes=info.own.notes, channels=info.own.channels)
    else:
        model, info = _load(spec, pretrained and weights is None, stated)
        if weights is not None and spec.partition(":")[0] in _BUILDERS:
            count = classes_in_file(model, weights)
            if count is not None:
                model, info = _fine_tuned(info, spec, weights, count)
    if weights is not None:
        info = replace(info, weights=load_weights(model, weights))
    if _channels_stated(stated) is None:
        info = with_channels(model, info, None if size is None else _both(size))
    if stated:
        own = info
        info = replace(info, preprocessing=_override(info.preprocessing, stated), own=own)
        info = replace(info, notes=(*info.notes, f"Stated, not the model's own: {', '.join(stated)}."))
        if _channels_stated(stated) is not None:
            check_stated(model, info)
    if (kind := _output(output, multi_label)) is not None:
        info = replace(info, output=kind)
    if classes is not None:
        info = replace(info, class_names=_class_names(classes))
        if count is not None and count != len(info.class_names or ()):
            raise InputError(
                f"The weights in {Path(str(weights)).name} are for {count} classes, but {len(info.class_names or ())} "
                "class names were given; give one for each, in the order of the outputs."
            )
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"The model cannot be put on device {str(device)!r} ({reason}); try cpu.") from error
    model.sightline_info = info  # type: ignore[assignment] # a plain attribute, not a sub-module
    return model.eval()


def _output(output: object, multi_label: bool | None) -> Kind | None:
    kind = as_kind(output)
    short: Kind | None = None if multi_label is None else "labels" if multi_label else "classes"
    if kind is not None and short is not None and kind != short:
        raise InputError(f"multi_label={multi_label} means output={short!r}, but got output={kind!r} too; drop one.")
    return kind or short


def _load(spec: str, pretrained: bool, stated: dict[str, Any]) -> tuple[nn.Module, ModelInfo]:
    library, _, name = spec.partition(":")
    place, _, factory = spec.rpartition(":")
    if not place or not factory:
        weights = Path(spec).suffix.lower() in {".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".onnx"}
        hint = " Weights alone are no model: name the network they are for, and the file as --weights (weights=)."
        raise InputError(f"Expected a model as {_FORMS}, but {spec!r} was given.{hint if weights else ''}")
    match library:
        case "torchvision":
            model, info = load_torchvision(name, pretrained)
        case "timm":
            model, info = load_timm(name, pretrained)
        case "hf":
            model, info = load_huggingface(name, pretrained, stated)
        case _:
            return load_factory(place, factory)
    if not pretrained:
        info = replace(info, weights="untrained: drawn at random")
    return model, info


def _fine_tuned(info: ModelInfo, spec: str, weights: str | Path, count: int) -> tuple[nn.Module, ModelInfo]:
    """The network of a library with as many classes as a file of weights has."""
    library, _, name = spec.partition(":")
    said = f"The network has {count} classes, as many as the weights in {Path(weights).name}."
    if library == "timm":
        # These names were judged by the number of outputs.
        info = replace(info, notes=tuple(note for note in info.notes if not note.startswith(NAMES_OF_SUBSET)))
    return _BUILDERS[library](name, count), replace(info, class_names=None, notes=(*info.notes, said))


def _both(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _channels_stated(stated: dict[str, Any]) -> int | None:
    """The number of channels that the settings speak of; a single mean or std is for all channels there are."""
    several = [value for name in ("mean", "std") if isinstance(value := stated.get(name), Sequence)]
    return stated.get("channels") or (len(several[0]) if several else None)


def _override(own: Preprocessing, stated: dict[str, Any]) -> Preprocessing:
    changes = dict(stated)
    channels = _channels_stated(stated) or own.channels
    if channels == 1 != own.channels:
        own = one_channel(own)
    elif channels == 3 != own.channels:
        own = replace(own, channels=3, mean=own.mean * 3, std=own.std * 3)
    changes["channels"] = channels
    changes["size"] = size = _both(changes.get("size", own.size))
    for name in {"mean", "std"} & stated.keys():
        value = stated[name]
        values = (value,) * channels if isinstance(value, int | float) else tuple(value)
        changes[name] = tuple(float(number) for number in values)
    if stated.get("resize") == "none":
        changes["resize"] = None
    elif "size" in stated and "resize" not in stated and isinstance(own.resize, int):
        # Another size keeps the share of the picture that the crop shows.
        changes["resize"] = round(min(size) * own.resize / min(own.size))
    rest = [] if {"size", "mean", "std", "value_range"} <= stated.keys() else [own.source]
    return replace(own, **changes, source="; ".join([f"stated ({', '.join(stated)})", *rest]))


def _class_names(classes: object) -> tuple[str, ...]:
    if isinstance(classes, Mapping):
        # As transformers has them, and as class_names on a module may be.
        if (named := names_of_labels(classes)) is None:
            raise InputError(f"Class names by number have a name for each of 0, 1, 2, ...; got {dict(classes)!r}.")
        return named
    if not isinstance(classes, str | Path):
        found = list(classes) if isinstance(classes, Iterable) else []
        if not found or not all(isinstance(name, str) for name in found):
            raise InputError(f"Class names are a list of texts, one per output, or a file of them; got {classes!r}.")
        return tuple(map(str, found))
    path = Path(classes)
    if not path.is_file():
        if isinstance(classes, str) and "," in classes:
            return tuple(name.strip() for name in classes.split(","))
        raise InputError(f"Expected class names or a file of them, but {path} is not a file; check the path.")
    try:
        # Editors on Windows begin a text with a byte order mark, which is no part of the first name.
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"The class names in {path} cannot be read ({error}).") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"Expected a list of names in {path}: one per line, or a JSON list of texts.")
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if not all(names):
        raise InputError(f"Line {names.index('') + 1} of {path} is empty, which would shift every later class name.")
    return tuple(names)
