"""What does running a model leave behind on it?

Two traces differ where something was kept between them: a mask made on first use, a cache, a count,
statistics, a weight written in place.

    before = trace_of(model)
    model(tokens)
    trace_of(model) == before
"""

import functools
import hashlib
from collections import deque
from contextlib import suppress
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

PLAIN = (bool, int, float, complex, str, bytes, type(None))
ITEMS = (list, tuple, set, frozenset, deque)
OF_TORCH = frozenset(nn.Module().__dict__)  # tensors and submodules are gone through by themselves


def plain_attributes(model: nn.Module) -> dict[tuple[str, str], Any]:
    """The numbers, flags and words that a model's modules hold, by the module's name and theirs."""
    return {
        (name, attribute): value
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if attribute not in OF_TORCH and isinstance(value, PLAIN)
    }


def trace_of(model: nn.Module) -> list[Any]:
    """Everything that hangs on a model: plain values, what tensors hold, and of all else which
    object it is."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        item = waiting.pop()
        if isinstance(item, PLAIN):
            found.append(item)
            continue
        found.append(id(item))
        if id(item) not in seen:
            seen.add(id(item))
            waiting += changeable_parts(item)
    return found


def changeable_parts(item: Any) -> list[Any]:
    """What an object holds that a run could change."""
    if isinstance(item, (type, ModuleType)):
        return []  # of the program, not of the model
    if isinstance(item, Tensor):
        return [*map(int, item.shape), digest_of(item)]
    if isinstance(item, nn.Module):
        own = {name: value for name, value in vars(item).items() if name not in OF_TORCH}
        return [*names_and_values(own), item._parameters, item._buffers, item._modules]
    if isinstance(item, dict):
        return names_and_values(item)
    if isinstance(item, ITEMS):
        return list(item)
    if isinstance(item, torch.Generator):
        return [item.get_state().numpy().tobytes()]
    if isinstance(item, np.ndarray):
        return [item.tobytes()]
    if isinstance(item, functools.partial):
        return [item.func, item.args, item.keywords]
    if isinstance(item, MethodType):
        return [item.__self__, item.__func__]
    if isinstance(item, FunctionType):
        return [*closure_contents(item), *names_and_values(vars(item))]
    return names_and_values(vars(item)) if hasattr(item, "__dict__") else []


def names_and_values(held: dict[Any, Any]) -> list[Any]:
    return [part for pair in held.items() for part in pair]


def closure_contents(function: FunctionType) -> list[Any]:
    """What a closure holds."""
    found = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # one that is still empty
            found.append(cell.cell_contents)
    return found


def digest_of(tensor: Tensor) -> str:
    """A digest of what a tensor holds; empty where its numbers lie nowhere in a row."""
    if is_lazy(tensor) or tensor.is_meta:
        return ""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return ""
    value = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(value.numpy().data).hexdigest()
