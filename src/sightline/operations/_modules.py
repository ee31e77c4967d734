"""Where in the model an operation runs, and the results of modules that were asked for by name."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from sightline._common.torch_private import has_forward_hooks

OnExit = Callable[[str, Any], Any]
AfterHooks = Mapping[str, Callable[[str, Any], None]]


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

    @property
    def phrase(self) -> str:
        """The same for messages, `" in NAME"`; empty outside all modules."""
        return f" in {self._stack[-1]}" if self._stack else ""

    @property
    def evaluating(self) -> bool:
        """Whether the innermost running module is in evaluation mode."""
        return isinstance(self._model, nn.Module) and not self._model.get_submodule(self.where).training

    @contextmanager
    def following(self, on_exit: OnExit, after_hooks: AfterHooks = MappingProxyType({})) -> Iterator[None]:
        """While active, keep `where` and `calls`, and show each module's result to `on_exit(name, output)`.

        What `on_exit` returns (if not None) takes the result's place. A module's own forward hooks run after it; what
        they leave is shown to `after_hooks[name](name, output)`, for the modules named there.
        """
        modules = self._model.named_modules() if isinstance(self._model, nn.Module) else ()
        follower = _Follower(
            {id(module): name for name, module in modules}, self._stack, self.calls, on_exit, after_hooks
        )
        _begin(follower)
        try:
            yield
        finally:
            _end(follower)


class _Follower:
    """One thread's interest in the modules of one model."""

    def __init__(
        self,
        names: dict[int, str],
        stack: list[str],
        calls: "Counter[str]",
        on_exit: OnExit,
        after_hooks: AfterHooks,
    ) -> None:
        self._names, self._stack, self._calls = names, stack, calls
        self._on_exit, self._after_hooks = on_exit, after_hooks
        self._last: dict[str, RemovableHandle] = {}
        self.thread = threading.get_ident()

    def enter(self, module: nn.Module) -> None:
        name = self._names.get(id(module))
        if name is not None:
            self._stack.append(name)
            self._calls[name] += 1
            if name in self._after_hooks and has_forward_hooks(module) and name not in self._last:
                # The last hook of a module, there only while it runs.
                with _LOCK:
                    self._last[name] = module.register_forward_hook(self._left)

    def _left(self, module: nn.Module, _args: Any, output: Any) -> None:
        name = self._names[id(module)]
        if threading.get_ident() == self.thread and name in self._last:
            self._last.pop(name).remove()
            self._after_hooks[name](name, output)

    def close(self) -> None:
        """Leave no hook behind."""
        while self._last:
            self._last.popitem()[1].remove()

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
        follower.close()
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
