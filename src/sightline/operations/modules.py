"""Where in the model an operation runs, and the results of modules that were asked for by name."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

OnExit = Callable[[str, Any], Any]


class ModuleStack:
    """Follows which module of `model` is running, without touching the model.

    The hooks are torch's process-wide ones, so the model itself never carries any; calls of other threads and of
    other models are passed over.

    Attributes:
        calls: how often each module has been entered in this pass, by name.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        self._model = model
        self._stack: list[str] = []
        self.calls: Counter[str] = Counter()

    @property
    def where(self) -> str:
        """Name of the innermost running module; empty outside all of them."""
        return self._stack[-1] if self._stack else ""

    @contextmanager
    def following(self, on_exit: OnExit) -> Iterator[None]:
        """While active, keep `where` and `calls`, and show each module's result to `on_exit(name, output)`.

        What `on_exit` returns (if not None) takes the result's place.
        """
        modules = self._model.named_modules() if isinstance(self._model, nn.Module) else ()
        follower = _Follower({id(module): name for name, module in modules}, self._stack, self.calls, on_exit)
        _begin(follower)
        try:
            yield
        finally:
            _end(follower)


class _Follower:
    """One thread's interest in the modules of one model."""

    def __init__(self, names: dict[int, str], stack: list[str], calls: "Counter[str]", on_exit: OnExit) -> None:
        self._names, self._stack, self._calls, self._on_exit = names, stack, calls, on_exit
        self.thread = threading.get_ident()

    def enter(self, module: nn.Module) -> None:
        name = self._names.get(id(module))
        if name is not None:
            self._stack.append(name)
            self._calls[name] += 1

    def leave(self, module: nn.Module, output: Any) -> Any:
        name = self._names.get(id(module))
        if name is None:
            return None
        self._stack.pop()
        return self._on_exit(name, output)


# One pair of hooks serves all threads: torch numbers the handles of hooks without a lock, so two threads that register
# at once may get the same number, and one hook would take the other's place.
_LOCK = threading.Lock()
_FOLLOWERS: list[_Follower] = []
_HANDLES: list[RemovableHandle] = []


def _begin(follower: _Follower) -> None:
    with _LOCK:
        _FOLLOWERS.append(follower)
        if not _HANDLES:
            _HANDLES.extend([register_module_forward_pre_hook(_entered), register_module_forward_hook(_left)])


def _end(follower: _Follower) -> None:
    with _LOCK:
        _FOLLOWERS.remove(follower)
        if not _FOLLOWERS:
            while _HANDLES:
                _HANDLES.pop().remove()


def _entered(module: nn.Module, _args: Any) -> None:
    thread = threading.get_ident()
    for follower in tuple(_FOLLOWERS):
        if follower.thread == thread:
            follower.enter(module)


def _left(module: nn.Module, _args: Any, output: Any) -> Any:
    thread, replaced = threading.get_ident(), None
    for follower in tuple(_FOLLOWERS):
        made = follower.leave(module, output) if follower.thread == thread else None
        if made is not None:
            replaced = output = made
    return replaced
