"""What is known about a model beside the model itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sightline.models._output_kind import Kind, kind_of
from sightline.models._preprocessing import Preprocessing, default_preprocessing


@dataclass(frozen=True)
class ModelInfo:
    """What a model was loaded from and what it expects.

    Attributes:
        spec: The name the model was asked for by, or its class.
        preprocessing: How it wants its pictures.
        class_names: One name per output, or None where none are known.
        weights: Where the parameters come from, in words.
        notes: What a reader should know about how the above was decided.
        channels: How many channels the model's first layer takes, where no picture has so many; else None.
        own: What the model said before something else was stated; None where nothing was.
        output: What its outputs are: `classes`, `labels` or `values`; None where neither the model nor a user says.
    """

    spec: str
    preprocessing: Preprocessing = field(default_factory=default_preprocessing)
    class_names: tuple[str, ...] | None = None
    weights: str = "as given"
    notes: tuple[str, ...] = ()
    channels: int | None = None
    own: "ModelInfo | None" = field(default=None, repr=False)
    output: Kind | None = None

    @property
    def multi_label(self) -> bool:
        """Whether each output is known to be a yes or no of its own."""
        return self.output == "labels"


def model_info(model: Callable[..., Any]) -> ModelInfo:
    """What is known about a model.

    Args:
        model: A model of `load_model`, or any other. What the model itself carries is used: a `preprocessing` (a
            `Preprocessing`), `class_names`, and `output` or `multi_label`, or the `config` of transformers.

    Returns:
        What `load_model` noted, or the defaults for any other model.
    """
    info = getattr(model, "sightline_info", None)
    return info if isinstance(info, ModelInfo) else info_from(model, spec=type(model).__qualname__)


def info_from(*carriers: object, spec: str) -> ModelInfo:
    """Read what `model_info` names off the first object that carries each, else the defaults."""
    names = next((names for carrier in carriers if (names := _names(carrier)) is not None), None)
    output = next((kind for carrier in carriers if (kind := kind_of(carrier)) is not None), None)
    own = next((own for carrier in carriers if (own := own_preprocessing(carrier)) is not None), None)
    return ModelInfo(spec=spec, preprocessing=own or default_preprocessing(), class_names=names, output=output)


def own_preprocessing(carrier: object) -> Preprocessing | None:
    """The preprocessing that a model or a factory carries."""
    found = getattr(carrier, "preprocessing", None)
    return found if isinstance(found, Preprocessing) else None


def _names(carrier: object) -> tuple[str, ...] | None:
    names = getattr(carrier, "class_names", None)
    if isinstance(names, np.ndarray):
        names = names.tolist()
    if isinstance(names, Mapping):
        return names_of_labels(names)
    if isinstance(names, list | tuple):
        return tuple(str(name) for name in names)
    return names_of_labels(getattr(getattr(carrier, "config", None), "id2label", None))


def names_of_labels(labels: object) -> tuple[str, ...] | None:
    """Names by number, as `id2label` of transformers has them; None where there are none but placeholders."""
    try:
        named = {int(number): str(name) for number, name in labels.items()} if isinstance(labels, Mapping) else {}
    except (TypeError, ValueError):
        return None
    names = tuple(named.get(number, "") for number in range(len(named)))
    return None if not all(names) or names == tuple(f"LABEL_{n}" for n in range(len(names))) else names
