"""The interception: one mode through which every operation of a pass goes, whatever its spelling."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from sightline.operations.tape import Tape


@contextmanager
def eager() -> Iterator[None]:
    """Run what `torch.compile` made as the ordinary code it was made from, so that its operations can be seen."""
    # torch.compile itself imports torch._dynamo, which takes seconds; without it there is nothing compiled.
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        # The hooks that follow the modules fire for a compiled module and for the one inside; both are expected.
        warnings.filterwarnings("ignore", message="Using `torch.compile\\(module\\)` when there are global hooks")
        yield


class Interception(TorchFunctionMode):
    """Shows each torch call of the current thread to a tape, which performs it."""

    def __init__(self, tape: "Tape") -> None:
        super().__init__()
        self._tape = tape

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        return self._tape.perform(func, args, kwargs or {})
