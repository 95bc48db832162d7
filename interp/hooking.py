"""How are hooks put on a model so that they act where they were meant to, and nowhere else?

    with attach_hooks([(point, function)]):  # function(value, hook=point): a new value, or None
        model(tokens)

Such a hook acts in the runs of the thread that put it there, as torch's ``no_grad`` does. A copy of
the model that is made meanwhile does not have it, and ``reset_hooks`` leaves it in its place.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformer_lens.hook_points import HookPoint, LensHandle

from interp.errors import InterventionError, UsageError


@contextmanager
def attach_hooks(
    pairs: Sequence[tuple[HookPoint, Callable[..., Any]]], *, first: bool = False
) -> Iterator[None]:
    """Forward hooks on these hook points, and gone afterwards.

    Args:
        pairs: hook points, and what is called with each one's value and ``hook=`` the point; it
            returns a new value, or None.
        first: before the hooks that are there already, not after them.

    Raises:
        InterventionError: at the end of the block: one of the hooks was taken off inside.
    """
    handles: list[tuple[HookPoint, RemovableHandle]] = []
    try:
        for point, function in pairs:
            hook = OwnHook(converting(point, function))
            handle = point.register_forward_hook(hook, prepend=first)
            handles.append((point, handle))
            # Some of a bridge's hook points ask this list whether anybody looks at them. An entry
            # that is permanent outlives reset_hooks.
            point.fwd_hooks.append(LensHandle(handle, is_permanent=True))
        yield
        lost = [point.name for point, handle in handles if handle.id not in point._forward_hooks]
    finally:
        for point, handle in handles:
            remove_hook(point, handle.id)
    if lost:
        raise InterventionError(
            f"a hook on {lost[0]} was taken off inside the block, so that the runs after that were "
            "without it: leave it there (reset_hooks() without including_permanent=True does)"
        )


def converting(point: HookPoint, function: Callable[..., Any]) -> Callable[..., Any]:
    """A hook in torch's form, whose function sees values in the layout that the point shows."""

    def call(module: nn.Module, args: Any, output: Any) -> Any:
        conversion = point.hook_conversion
        shown = output if conversion is None else conversion.convert(output)
        new = function(shown, hook=point)
        return new if new is None or conversion is None else conversion.revert(new)

    return call


class OwnHook:
    """A hook of the thread that made it. In a copy of its module, or a pickle, it is ``Gone``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.thread = threading.get_ident()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == self.thread:
            return self.function(*args, **kwargs)
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Gone, ())


class Gone:
    """What a copied or saved model has in the place of an ``OwnHook``: it takes itself off."""

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for number in [number for number, hook in hooks.items() if hook is self]:
                remove_hook(module, number)


def remove_hook(module: nn.Module, number: int) -> None:
    """Take a hook off by its number, wherever torch and TransformerLens have noted it."""
    for table in HOOK_TABLES:
        getattr(module, table).pop(number, None)
    if isinstance(module, HookPoint):
        module.fwd_hooks[:] = [each for each in module.fwd_hooks if each.hook.id != number]


HOOK_TABLES = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
)


LOOKING = threading.RLock()  # one thread at a time, for they exchange the same hooks


@contextmanager
def bare(points: Iterable[HookPoint]) -> Iterator[None]:
    """Hook points without the forward hooks they had, which come back afterwards.

    A run that only looks at the model must not be seen, nor changed, by the hooks of others.
    Hooks of this package in other threads stay: they do not act here, and their runs go on.
    """
    with LOOKING:
        here = threading.get_ident()
        before = [(point, point._forward_hooks, point._forward_pre_hooks) for point in points]
        try:
            for point, hooks, _ in before:
                others = (pair for pair in hooks.items() if is_of_another_thread(pair[1], here))
                point._forward_hooks, point._forward_pre_hooks = OrderedDict(others), OrderedDict()
            yield
        finally:
            for point, hooks, pre_hooks in before:
                meanwhile = point._forward_hooks
                gone = [
                    number
                    for number, hook in hooks.items()
                    if is_of_another_thread(hook, here) and number not in meanwhile
                ]
                for number in gone:
                    del hooks[number]
                hooks.update(meanwhile)
                point._forward_hooks, point._forward_pre_hooks = hooks, pre_hooks


def is_of_another_thread(hook: Any, here: int) -> bool:
    return isinstance(hook, OwnHook) and hook.thread != here


def roots_of(model: Any) -> list[nn.Module]:
    """The modules that a run of the model calls first: itself, or what a wrapper holds.

    A bridge hands its calls on to the model it wraps, which is then one as well.

    Raises:
        UsageError: a wrapper in which no module is found.
    """
    found: dict[nn.Module, None] = {}
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, Tensor | type | ModuleType | HookPoint):
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found[thing] = None
            wrapped = getattr(thing, "original_model", None)
            if isinstance(wrapped, nn.Module):
                found[wrapped] = None
        else:
            waiting += reachable_from(thing)
    if not found:
        raise UsageError(
            f"{type(model).__name__} is no torch module and holds none, so that it cannot be put "
            "into evaluation mode: keep the model that it calls in an attribute"
        )
    return list(found)


def reachable_from(thing: Any) -> list[Any]:
    """What a wrapper, a container or a function can reach."""
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, list | tuple | set):
        return list(thing)
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, FunctionType):
        named = (thing.__globals__.get(name) for name in thing.__code__.co_names)
        modules = [value for value in named if isinstance(value, nn.Module)]
        return [*(cell.cell_contents for cell in thing.__closure__ or ()), *modules]
    if not hasattr(thing, "__dict__"):
        return []
    return [*vars(thing).values(), *vars(type(thing)).values()]


def modules_of(model: Any) -> list[nn.Module]:
    """Every module of a model, or of what a wrapper holds."""
    return list(dict.fromkeys(module for root in roots_of(model) for module in root.modules()))


HELD: dict[nn.Module, tuple[int, bool]] = {}  # how many blocks hold a module, and its mode before
LOCK = threading.Lock()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without gradients and dropout; every module's mode is as before afterwards.

    Blocks of several threads may overlap: the last one to end gives the modes back.
    """
    modules = modules_of(model)
    with LOCK:
        for module in modules:
            count, mode = HELD.get(module, (0, module.training))
            HELD[module] = (count + 1, mode)
            if module.training:
                module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        with LOCK:
            for module in modules:
                count, mode = HELD.pop(module)
                if count > 1:
                    HELD[module] = (count - 1, mode)
                elif module.training != mode:
                    module.training = mode
