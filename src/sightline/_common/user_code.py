"""Objects in the user's own code, named as FILE.py:NAME or package.module:NAME."""

import hashlib
import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from sightline._common.words import readable
from sightline.errors import InputError, alternatives


def is_user_code(spec: str) -> bool:
    """Whether a name has the form FILE.py:NAME or package.module:NAME, and is not a built-in name or a plain one."""
    place, colon, name = spec.rpartition(":")
    return bool(colon) and name.isidentifier() and (place.endswith(".py") or _is_dotted(place))


def _is_dotted(place: str) -> bool:
    return all(part.isidentifier() for part in place.split("."))


def object_named(spec: str, what: str) -> object:
    """The object that FILE.py:NAME or package.module:NAME names.

    Args:
        spec: the name.
        what: what it should be, for messages, such as "method".

    Raises:
        InputError: the code cannot be imported or fails, or there is no such object in it.
    """
    place, _, name = spec.rpartition(":")
    module = module_at(place)
    try:
        return getattr(module, name)
    except AttributeError:
        own = [key for key in vars(module) if not key.startswith("_")]
        message = f"Expected a {what} {name} in {readable(place)}, but there is none. {alternatives(name, own)}"
        raise InputError(message) from None


def module_at(place: str) -> ModuleType:
    """The module in a Python file, or of a dotted name.

    Raises:
        InputError: there is none, or its code fails.
    """
    return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)


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
                f"There is no module {name} where Python looks; give the file as path/FILE.py:NAME, or install it."
            ) from error
        raise _not_importable(name, error) from error
    except (Exception, SystemExit) as error:
        raise _not_importable(name, error) from error


def _not_importable(place: str, error: BaseException) -> InputError:
    return InputError(f"{place} cannot be imported; it failed with {type(error).__name__}: {error}")
