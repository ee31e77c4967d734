"""What is known about a model beside the model itself."""

from dataclasses import dataclass, field

from torch import nn

from sightline.models.preprocessing import Preprocessing, default_preprocessing


@dataclass(frozen=True)
class ModelInfo:
    """What a model was loaded from and what it expects.

    Attributes:
        spec: The name the model was asked for by, or its class.
        preprocessing: How it wants its pictures.
        class_names: One name per output, or None where none are known.
        weights: Where the parameters come from, in words.
        notes: What a reader should know about how the above was decided.
        multi_label: Whether each output is a yes or no of its own (sigmoid), rather than one class among all (softmax).
        channels: How many channels the model's first layer takes, where no picture has so many; else None.
        own: What the model said before something else was stated; None where nothing was.
    """

    spec: str
    preprocessing: Preprocessing = field(default_factory=default_preprocessing)
    class_names: tuple[str, ...] | None = None
    weights: str = "as given"
    notes: tuple[str, ...] = ()
    multi_label: bool = False
    channels: int | None = None
    own: "ModelInfo | None" = field(default=None, repr=False)


def model_info(model: nn.Module) -> ModelInfo:
    """What is known about a model.

    Args:
        model: A model of `load_model`, or any other. A `preprocessing` (a `Preprocessing`) and a
            `class_names` that the module itself carries are used.

    Returns:
        What `load_model` noted, or the defaults for any other model.
    """
    info = getattr(model, "sightline_info", None)
    return info if isinstance(info, ModelInfo) else info_from(model, spec=type(model).__qualname__)


def info_from(*carriers: object, spec: str) -> ModelInfo:
    """Read `preprocessing` and `class_names` off the first object that carries each, else the defaults."""
    preprocessing = next(
        (p for carrier in carriers if isinstance(p := getattr(carrier, "preprocessing", None), Preprocessing)), None
    )
    names = next(
        (n for carrier in carriers if isinstance(n := getattr(carrier, "class_names", None), list | tuple)), None
    )
    return ModelInfo(
        spec=spec,
        preprocessing=preprocessing or default_preprocessing(),
        class_names=None if names is None else tuple(str(name) for name in names),
    )
