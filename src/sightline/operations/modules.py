"""Where in the model an operation runs, and the results of modules that were asked for by name."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle


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
        self._thread = threading.get_ident()
        self.calls: Counter[str] = Counter()

    @property
    def where(self) -> str:
        """Name of the innermost running module; empty outside all of them."""
        return self._stack[-1] if self._stack else ""

    @contextmanager
    def following(
        self, on_exit: Callable[[str, Any], Any], after_hooks: Mapping[str, Callable[[str, Any], None]]
    ) -> Iterator[None]:
        """While active, keep `where` and `calls`, and show each module's result to `on_exit(name, output)`.

        What `on_exit` returns (if not None) takes the result's place. A module's own forward hooks run after it; what
        they leave is shown to `after_hooks[name](name, output)`, for the modules named there.
        """
        modules = self._model.named_modules() if isinstance(self._model, nn.Module) else ()
        names = {id(module): name for name, module in modules}
        stack, calls, thread = self._stack, self.calls, self._thread

        def enter(module: nn.Module, _args: Any) -> None:
            name = names.get(id(module))
            if name is not None and threading.get_ident() == thread:
                stack.append(name)
                calls[name] += 1
                if name in after_hooks and module._forward_hooks:
                    # The last hook of a module, there only while it runs.
                    last[name] = module.register_forward_hook(left)

        def leave(module: nn.Module, _args: Any, output: Any) -> Any:
            name = names.get(id(module))
            if name is None or threading.get_ident() != thread:
                return None
            stack.pop()
            return on_exit(name, output)

        def left(module: nn.Module, _args: Any, output: Any) -> None:
            name = names[id(module)]
            if threading.get_ident() == thread and name in last:
                last.pop(name).remove()
                after_hooks[name](name, output)

        last: dict[str, RemovableHandle] = {}
        handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in [*handles, *last.values()]:
                handle.remove()
