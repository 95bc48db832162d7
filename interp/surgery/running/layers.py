"""Which layers does a model have, and in which is its run just now?

with following_layers(model) as current:
    ...                                     # current() inside a line of a layer: 2
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from interp.errors import SurgeryError


def layer_in_name(name: str) -> int | None:
    """The layer in a module's dotted name: its first number."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def layer_modules(model: nn.Module) -> dict[int, list[nn.Module]]:
    """The modules that are a layer, by number: ``blocks.2`` but not ``blocks.2.experts.0``. Of a
    list of modules, which is never called, the modules in it."""
    found: dict[int, list[nn.Module]] = {}
    for name, module in model.named_modules():
        *outer, last = name.split(".")
        if last.isdigit() and not any(part.isdigit() for part in outer):
            found.setdefault(int(last), []).extend(called_modules(module))
    return found


def called_modules(module: nn.Module) -> Iterator[nn.Module]:
    """The module itself; of a container without a ``forward``, the modules in it."""
    if type(module).forward is not nn.Module.forward:
        yield module
    else:
        for inner in module.children():
            yield from called_modules(inner)


@contextmanager
def around_every_call(enter: Callable[..., None], leave: Callable[..., None]) -> Iterator[None]:
    """Inside the block, every call of any module is told to ``enter`` with the module and its
    arguments, and to ``leave`` with what it returned too. No hook is put on any module."""
    handles = [
        register_module_forward_pre_hook(cast(Any, enter)),
        register_module_forward_hook(cast(Any, leave), always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def following_layers(model: nn.Module) -> Iterator[Callable[[], int | None]]:
    """Inside the block, a function that says in which layer of ``model`` the run is just now.

    No hook is put on any module: ``nn.TransformerEncoderLayer`` takes another way where one is.
    """
    layer_by_id = {
        id(module): layer for layer, modules in layer_modules(model).items() for module in modules
    }
    running: list[int] = []

    def enter(module: nn.Module, *_: Any) -> None:
        if id(module) in layer_by_id:
            running.append(layer_by_id[id(module)])

    def leave(module: nn.Module, *_: Any) -> None:
        if id(module) in layer_by_id and running:
            running.pop()

    with around_every_call(enter, leave):
        yield lambda: running[-1] if running else None


def check_layers(model: nn.Module, layers: Sequence[int]) -> None:
    """Raise ``SurgeryError`` where a model does not have the layers that are asked for."""
    known = sorted(layer_modules(model))
    if isinstance(layers, (str, int)) or not layers:
        raise SurgeryError(f"layers is {layers!r}: give numbers out of {known}, as in layers=[0]")
    if missing := [layer for layer in layers if layer not in known]:
        raise SurgeryError(
            f"{type(model).__name__} has no layer {missing[0]}; its layers are {known}"
        )


@contextmanager
def inside_layers(model: nn.Module, layers: Sequence[int]) -> Iterator[Callable[[], bool]]:
    if layers:
        check_layers(model, layers)
    with following_layers(model) as current:
        yield lambda: current() in layers
