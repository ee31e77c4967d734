"""Chance: whether a model says something else each time it is asked for the same image.

torch marks every operator that draws random numbers, so its draws are seen one by one: whatever the generator, the
spelling or the library that makes the call. Whether a draw matters is asked of the model itself: it is run again, with
the least and with the greatest of many draws in its place. numpy's and Python's draws cannot be seen; they are found
by asking twice. A draw from a generator that the forward seeds itself is the same each time, and no accident.

Nothing here compares the state of a process-wide generator before and after a pass: another thread may draw meanwhile.
"""

import pickle
import random
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from sightline._common.torch_private import TorchDispatchMode, tree_leaves, without_dispatch_modes
from sightline.errors import RefusalError
from sightline.operations._interception import eager
from sightline.operations._modules import ModuleStack
from sightline.operations.kinds._spelling import spelling

# Operators whose numbers are drawn independently of each other, so that the least of several draws is a possible draw.
_INDEPENDENT = (
    "rand rand_like randn randn_like randint randint_like bernoulli bernoulli_ normal normal_ uniform uniform_ "
    "exponential_ geometric_ log_normal_ cauchy_ random_ poisson binomial"
)
_SMALL = 4096
_AGAIN = 14
"""How often more a model is asked that seems to draw where torch does not see it."""


@dataclass
class _Draw:
    name: str
    state: bytes


class _Calls(TorchFunctionMode):
    """Keeps the name of the torch call that is being performed."""

    name = ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        before, self.name = self.name, spelling(func)[0]
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.name = before


@dataclass
class _Watch:
    """What is known of a model's draws: where each generator stood before the first, and which draws are fixed."""

    fixed: frozenset[bytes] = frozenset()
    before: dict[Generator, Tensor] = field(default_factory=dict)

    def put_back(self) -> None:
        for generator, state in self.before.items():
            generator.set_state(state)


class _Draws(TorchDispatchMode):
    """Sees every draw; with `extreme`, puts the least or the greatest of many draws in the place of each free one."""

    def __init__(self, watch: _Watch, calls: _Calls, modules: ModuleStack, extreme: str = "") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch, self._calls, self._modules, self._extreme = watch, calls, modules, extreme
        self.seen: list[_Draw] = []

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        generator = kwargs.get("generator") or _default_generator(args, kwargs)
        state = generator.get_state()
        result = func(*args, **kwargs)
        after = generator.get_state()
        if torch.equal(state, after):
            # Attention with dropout 0 bears the mark too.
            return result
        self._watch.before.setdefault(generator, state)
        name = func.overloadpacket.__name__
        where = f" in {self._modules.where}" if self._modules.where else ""
        drawn = _Draw((self._calls.name or name.strip("_")) + where, state.numpy().tobytes())
        self.seen.append(drawn)
        if self._extreme and name in _INDEPENDENT.split() and drawn.state not in self._watch.fixed:
            count = 256 if result.numel() <= _SMALL else 16
            several = torch.stack([result.clone(), *(func(*args, **kwargs).clone() for _ in range(count))])
            result.copy_(several.amin(0) if self._extreme == "least" else several.amax(0))
            generator.set_state(after)
        return result


def refuse_chance(
    model: Callable[..., Any],
    ask: Callable[[], Any],
    decisive: Callable[[Any], Sequence[Tensor]],
    about: Hashable = (),
    slope: Callable[[], Tensor] | None = None,
) -> None:
    """See that a model says the same of an image each time it is asked.

    A model that was found free of draws is not asked again for the same `about`, until one of its modules changes its
    mode or one of its plain attributes.

    Args:
        model: the network.
        ask: asks it for one image, without a graph. What it raises ends the question; the passes will tell.
        decisive: what of the answer matters; where that cannot be told, it is all of it.
        about: what was asked: shape, type and device of the image, say.
        slope: asks it for the gradient of what matters, which may be drawn where the value is not.

    Raises:
        RefusalError: what matters in its answer changes from call to call.
    """
    if is_known(model, about):
        return
    try:
        with without_dispatch_modes(), eager(), torch.no_grad():
            drawn, certain = _drawn(model, ask, decisive, slope)
    except (Exception, SystemExit):  # noqa: BLE001
        return
    if drawn is None:
        if certain:
            remember(model, about)
        return
    if drawn:
        names = ", ".join(list(dict.fromkeys(drawn))[:3])
        what = f"The model draws random numbers in its forward ({names})"
    else:
        what = (
            "The model gives other values each time it is asked for the same image: it draws random numbers in its "
            "forward from another generator than torch's (numpy's, Python's)"
        )
    training = isinstance(model, nn.Module) and any(module.training for module in model.modules())
    advice = "Call model.eval() first." if training else "Switch that off, or seed the generator within the forward."
    raise RefusalError(f"{what}, so a map would explain that accident. {advice}")


def _drawn(
    model: Callable[..., Any],
    ask: Callable[[], Any],
    decisive: Callable[[Any], Sequence[Tensor]],
    slope: Callable[[], Tensor] | None,
) -> tuple[list[str] | None, bool]:
    """The draws that may make the answer change; None where it does not. Also, whether there were no draws at all."""
    watch, moved = _Watch(), False

    def watched(run: Callable[[], Any], extreme: str) -> tuple[Any, list[_Draw]]:
        nonlocal moved
        calls, modules = _Calls(), ModuleStack(model)
        with modules.following(lambda *_: None), calls, _Draws(watch, calls, modules, extreme) as draws:
            outside = _states(model)
            output = run()
            moved = moved or outside != _states(model)
        return output, draws.seen

    def asked(extreme: str = "") -> tuple[list[Tensor], Sequence[Tensor], list[_Draw]]:
        output, seen = watched(ask, extreme)
        whole = [tensor.clone() for tensor in tensors_of(output)]
        try:
            return whole, decisive(output), seen
        except Exception:  # noqa: BLE001
            # A function of all images cannot be asked of one.
            return whole, whole, seen

    try:
        whole, first, before = asked()
        again, second, after = asked()
        watch.fixed = frozenset({draw.state for draw in before} & {draw.state for draw in after})
        free = [draw.name for draw in after if draw.state not in watch.fixed]
        if not _alike(first, second):
            return free, False
        for extreme in ("least", "most") if free else ():
            if not _alike(first, asked(extreme)[1]):
                return free, False
        for _ in range(_AGAIN if moved else 0):
            if not _alike(first, asked()[1]):
                return [], False
        if slope is not None and (free or moved):
            slopes = [watched(slope, extreme)[0] for extreme in ("", "least", "most")]
            if not all(_alike(slopes[:1], [one]) for one in slopes):
                return free, False
    finally:
        watch.put_back()
    return None, not (before or after or moved) and _alike(whole, again)


def tensors_of(output: Any) -> list[Tensor]:
    """All tensors and numbers of a model's output."""
    leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor | np.ndarray | int | float)]
    return [torch.as_tensor(leaf) for leaf in leaves]


def _alike(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether two answers are the same, but for the last digits, in which some devices sum in no fixed order."""
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not a.is_floating_point() or not a.numel():
            if not torch.equal(a, b):
                return False
            continue
        share = min(1e3 * torch.finfo(a.dtype).eps, 1e-3)
        largest = float(torch.where(a.isfinite(), a.abs(), 0).amax())
        if not torch.allclose(a.double(), b.double(), rtol=0.0, atol=share * largest, equal_nan=True):
            return False
    return True


def _default_generator(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator:
    devices = [value.device for value in args if isinstance(value, Tensor)]
    device = torch.device(kwargs.get("device") or (devices[0] if devices else "cpu"))
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    return torch.default_generator


_LOCK = threading.Lock()
_KNOWN: "WeakKeyDictionary[nn.Module, set[Hashable]]" = WeakKeyDictionary()


@contextmanager
def generators_put_back(model: Callable[..., Any]) -> Iterator[None]:
    """Put each of torch's generators back to where it stood before the first draw from it."""
    watch, calls = _Watch(), _Calls()
    try:
        with calls, _Draws(watch, calls, ModuleStack(model)):
            yield
    finally:
        watch.put_back()


def is_known(model: Callable[..., Any], about: Hashable) -> bool:
    """Whether something was found of a model before, and none of its modules has changed its mode or an attribute."""
    return isinstance(model, nn.Module) and (about, _traits(model)) in _known(model)


def remember(model: Callable[..., Any], about: Hashable) -> None:
    """Note that something was found of a model as it is."""
    if isinstance(model, nn.Module):
        _known(model).add((about, _traits(model)))


def _known(model: Any) -> set[Hashable]:
    """What was asked of a model and found free of draws."""
    with _LOCK:
        return _KNOWN.setdefault(model, set())


def _traits(model: nn.Module) -> Hashable:
    """What may switch draws on: the modules' modes and plain attributes (a rate, a name)."""
    plain = bool | int | float | str | None
    return tuple(
        (name, value) for module in model.modules() for name, value in vars(module).items() if isinstance(value, plain)
    )


def _states(model: Callable[..., Any]) -> list[bytes]:
    """Where other generators than torch's stand. A change, which may be another thread's, only says: ask more often."""
    held: list[object] = [random.getstate(), np.random.get_state(legacy=False)]  # noqa: NPY002
    for module in model.modules() if isinstance(model, nn.Module) else ():
        kinds = random.Random | np.random.Generator | np.random.RandomState
        held += [value for value in vars(module).values() if isinstance(value, kinds)]
    return [pickle.dumps(one) for one in held]
