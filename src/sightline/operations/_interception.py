"""The interception: one mode through which every operation of a pass goes, whatever its spelling."""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def eager() -> Iterator[None]:
    """Run what `torch.compile` made as the ordinary code it was made from, so that its operations can be seen."""
    # torch.compile itself imports torch._dynamo, which takes seconds; without it there is nothing compiled.
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with _STANCE:
        yield


class _Eager:
    """The stance and the filter of warnings are the process's: the first thread sets them, the last puts them back."""

    def __init__(self) -> None:
        self._lock, self._threads, self._set = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._threads:
                self._set.enter_context(torch.compiler.set_stance("force_eager"))
                self._set.enter_context(warnings.catch_warnings())
                # The hooks that follow the modules fire for a compiled module and for the one inside; both are
                # expected.
                expected = "Using `torch.compile\\(module\\)` when there are global hooks"
                warnings.filterwarnings("ignore", message=expected)
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._set.close()


_STANCE = _Eager()


class Interception(TorchFunctionMode):
    """Hands each torch call of the current thread to `perform(func, args, kwargs)`, which returns its result."""

    def __init__(self, perform: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._perform = perform

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        return self._perform(func, args, kwargs or {})
