"""How is one thing put back as it stood, be it a tensor, a dict, a class or a setting?

Each function takes a thing and how it was, and touches it only where it is another now.
"""

import os
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Undo = Callable[[], Any]


def put_back_tensor(tensor: Tensor, alias: Tensor, wants: bool, gradient: Tensor | None) -> None:
    """Its storage and view, whether it wants a gradient, and which it has; not its values."""
    if tensor.data_ptr() != alias.data_ptr() or tensor.shape != alias.shape:
        tensor.data = alias
    if tensor.is_leaf:
        if tensor.requires_grad != wants:
            tensor.requires_grad_(wants)
        if tensor.grad is not gradient:
            tensor.grad = gradient


def put_back_bytes(storage: torch.UntypedStorage, copy: Tensor) -> None:
    if storage.nbytes() != copy.numel():
        storage.resize_(copy.numel())
    now = bytes_of(storage)
    if not torch.equal(now, copy):
        now.copy_(copy)


def bytes_of(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def put_back_array(array: np.ndarray, copy: np.ndarray) -> None:
    if array.tobytes() != copy.tobytes():
        array[...] = copy


def put_back_items(item: Any, values: list[Any]) -> None:
    """The items of a list, a set, a deque or a bytearray."""
    now = list(item)
    if len(now) == len(values) and all(a is b for a, b in zip(now, values, strict=True)):
        return
    item.clear()
    (item.update if isinstance(item, set) else item.extend)(values)


def put_back_names(space: dict[Any, Any], before: dict[Any, Any], of_a_module: bool) -> None:
    """A dict's values; what was added to it goes. Its order too, unless it is a module's."""
    plain = plain_dict(space)
    now = list(plain.keys(space))
    for name in [name for name in now if name not in before]:
        if not (of_a_module and name.startswith("__")):
            plain.__delitem__(space, name)
    for name, value in before.items():
        if not plain.__contains__(space, name) or plain.__getitem__(space, name) is not value:
            plain.__setitem__(space, name, value)
    if not of_a_module and list(plain.keys(space)) != list(before):
        plain.clear(space)
        for name, value in before.items():
            plain.__setitem__(space, name, value)


def plain_dict(item: dict[Any, Any]) -> Any:
    """The class whose methods reach what a dict holds, whatever a class of the user's makes of
    looking it up."""
    return OrderedDict if isinstance(item, OrderedDict) else dict


def put_back_defaults(function: FunctionType, defaults: Any, keywords: Any) -> None:
    function.__defaults__, function.__kwdefaults__ = defaults, keywords


def put_back_global(space: dict[str, Any], name: str, value: Any) -> None:
    if name not in space or space[name] is not value:
        space[name] = value


def put_back_class(cls: type, before: dict[str, Any]) -> None:
    for name in [k for k in vars(cls) if k not in before and not k.startswith("__")]:
        delattr(cls, name)
    for name, value in before.items():
        if vars(cls).get(name) is not value:
            with suppress(AttributeError, TypeError):
                setattr(cls, name, value)


def put_back_slot(item: Any, name: str, value: Any) -> None:
    if getattr(item, name, None) is not value:
        with suppress(AttributeError, TypeError):
            object.__setattr__(item, name, value)


def settings() -> list[Undo]:
    """What sets back the random numbers and the switches that a whole process has."""
    torchs, pythons, numpys = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002  # the one a model may use
    undo: list[Undo] = [
        lambda: torch.set_rng_state(torchs),
        lambda: random.setstate(pythons),
        lambda: np.random.set_state(numpys),  # noqa: NPY002
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cudas = torch.cuda.get_rng_state_all()
        undo.append(lambda: torch.cuda.set_rng_state_all(cudas))
    switches: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.is_grad_enabled, torch._C._set_grad_enabled),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (os.getcwd, os.chdir),
        (lambda: dict(os.environ), put_environment),
    ]
    return undo + [partial(switch_back, get, get(), put) for get, put in switches]


def switch_back(get: Callable[[], Any], before: Any, put: Callable[[Any], Any]) -> None:
    if get() != before:
        put(before)


def put_environment(before: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(before)


def patches() -> list[Undo]:
    """What sets back functions of torch that were replaced by others."""
    places: tuple[Any, ...] = (torch, nn.functional, torch.Tensor, nn.Module)
    return [partial(put_back_patches, place, dict(vars(place))) for place in places]


def put_back_patches(place: Any, before: dict[str, Any]) -> None:
    for name, value in before.items():
        if vars(place).get(name, value) is not value:
            setattr(place, name, value)
