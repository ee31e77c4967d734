"""Models from a function in the user's own code."""

from dataclasses import replace

from torch import nn

from sightline._common.user_code import module_at
from sightline._common.words import readable
from sightline.errors import InputError, alternatives
from sightline.models._info import ModelInfo, info_from


def load_factory(place: str, name: str) -> tuple[nn.Module, ModelInfo]:
    """Call a function that builds a model, or take a model that stands there.

    Args:
        place: A Python file, or a module that can be imported.
        name: The function, called without arguments; or the model.

    Returns:
        The model, and what the model or the function carries, see `model_info`.

    Raises:
        InputError: If the code cannot be imported or fails, or if no model comes back.
    """
    spec = readable(f"{place}:{name}")
    module = module_at(place)
    factory = getattr(module, name, None)
    if isinstance(factory, nn.Module):
        return factory, info_from(factory, spec=spec)
    if not callable(factory):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"Expected a function {name} in {place}, but there is none. {alternatives(name, own)}")
    try:
        model = factory()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{spec} must build a model when called without arguments, but it failed with "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec} must return a torch.nn.Module, but it returned {_article(model)}.")
    weights = "as the factory made them, random unless it loads some"
    return model, replace(info_from(model, factory, spec=spec), weights=weights)


def _article(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"
