"""The optional libraries of models, with a sentence where they fail."""

import importlib
from typing import Any

from sightline.errors import InputError, install


def import_extra(library: str, *names: str) -> Any:
    """Import an optional library, or members of it.

    Args:
        library: The library, which is also the name of Sightline's extra for it.
        names: Members wanted; libraries that load lazily fail only when these are touched.

    Returns:
        The module, or a list of the members where any were named.

    Raises:
        InputError: If the library is absent, or present but broken.
    """
    try:
        module = importlib.import_module(library)
        return [getattr(module, name) for name in names] if names else module
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == library:
            raise InputError(f"This model needs {library}, which is not installed: {install(library)}.") from error
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if "torchvision::" in str(cause):
            raise InputError(
                f"{library} cannot be used, since the installed torchvision was built for another torch ({cause}); "
                "install the torchvision that belongs to your torch, for a torch without CUDA: "
                "pip install --force-reinstall torchvision --index-url https://download.pytorch.org/whl/cpu"
            ) from error
        raise InputError(
            f"{library} is installed but cannot be imported ({type(cause).__name__}: {cause}); reinstall it."
        ) from error


def unknown_name(spec: str, what: str, matches: list[str]) -> InputError:
    """The error for a name that a library does not have."""
    hint = f"did you mean {' or '.join(matches)}?" if matches else "check its spelling in the library's list of models."
    return InputError(f"{spec} is not {what}; {hint}")


def no_download(spec: str, error: Exception) -> InputError:
    """The error for pretrained weights that could not be fetched."""
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(
        f"The pretrained weights of {spec} could not be fetched ({reason}); give a file of weights "
        "(--weights FILE, weights=FILE), or ask for an untrained network (--no-pretrained, pretrained=False)."
    )
