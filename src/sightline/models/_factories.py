"""Models from a function in the user's own code."""

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from torch import nn

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
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
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


class _Uncached(SourceFileLoader):
    """Reads the file itself: a cached one is taken for current within the second in which the file is edited."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the name of the method it replaces
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"Expected a Python file, but {path} is not a file; check the path.")
    name = f"_sightline_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    loader = _Uncached(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    if spec is None:
        raise InputError(f"{path} cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look a class's module up by name.
    sys.modules[name] = module
    # As Python does for a script, so that the file finds its neighbours, now and when its functions run.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _not_importable(str(path), error) from error
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(
                f"There is no module {name} where Python looks; give the file as path/FILE.py:FACTORY, or install it."
            ) from error
        raise _not_importable(name, error) from error
    except (Exception, SystemExit) as error:
        raise _not_importable(name, error) from error


def _not_importable(place: str, error: BaseException) -> InputError:
    return InputError(f"{place} cannot be imported; it failed with {type(error).__name__}: {error}")
