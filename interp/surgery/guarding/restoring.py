"""How are things put back as they stood: tensors, dicts, classes, settings?

Each function takes things and how they were, and touches only those that are others now. There may
be a hundred thousand of them after each cut: a call for each would take longer than the cut.
"""

import os
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import CellType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Undo = Callable[[], Any]


def put_back_tensors(kept: Sequence[tuple[Tensor, Tensor, bool, Tensor | None]]) -> None:
    """Of tensors, storage and view, whether they want a gradient, and which they have; not their
    values."""
    for tensor, alias, wants, gradient in kept:
        if tensor.data_ptr() != alias.data_ptr() or tensor.shape != alias.shape:
            tensor.data = alias
        if tensor.is_leaf:
            if tensor.requires_grad != wants:
                tensor.requires_grad_(wants)
            if tensor.grad is not gradient:
                tensor.grad = gradient


def put_back_bytes(kept: Sequence[tuple[torch.UntypedStorage, Tensor]]) -> None:
    for storage, copy in kept:
        if storage.nbytes() != copy.numel():
            storage.resize_(copy.numel())
        now = storage_bytes(storage)
        if not torch.equal(now, copy):
            now.copy_(copy)


def storage_bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def put_back_arrays(kept: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    for array, copy in kept:
        if array.tobytes() != copy.tobytes():
            array[...] = copy


def put_back_items(kept: Sequence[tuple[Any, list[Any]]]) -> None:
    """The items of lists, sets, deques and bytearrays."""
    for item, values in kept:
        now = list(item)
        if len(now) == len(values) and all(a is b for a, b in zip(now, values, strict=True)):
            continue
        item.clear()
        (item.update if isinstance(item, set) else item.extend)(values)


def put_back_names(kept: Sequence[tuple[dict[Any, Any], dict[Any, Any], bool]]) -> None:
    """The values of dicts, each with what it held and whether it is a module's; what was added
    goes. Their order too, unless it is a module's."""
    for space, before, of_a_module in kept:
        if type(space) in (dict, OrderedDict) and len(space) == len(before):  # nearly all are alike
            pairs = zip(space.items(), before.items(), strict=True)
            if all(key is name and now is was for (key, now), (name, was) in pairs):
                continue
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


def put_back_defaults(kept: Sequence[tuple[FunctionType, Any, Any]]) -> None:
    """The default values of functions, by place and by name."""
    for function, defaults, keywords in kept:
        if function.__defaults__ is not defaults:
            function.__defaults__ = defaults
        if function.__kwdefaults__ is not keywords:
            function.__kwdefaults__ = keywords


def put_back_cells(kept: Sequence[tuple[CellType, Any]]) -> None:
    """What closures hold."""
    for cell, value in kept:
        cell.cell_contents = value


def put_back_globals(kept: Sequence[tuple[dict[str, Any], str, Any]]) -> None:
    for space, name, value in kept:
        if name not in space or space[name] is not value:
            space[name] = value


def put_back_classes(kept: Sequence[tuple[type, dict[str, Any]]]) -> None:
    """The attributes of classes; what was added to them goes."""
    for cls, before in kept:
        now = vars(cls)
        for name in [k for k in now if k not in before and not k.startswith("__")]:
            delattr(cls, name)
        for name, value in before.items():
            if now.get(name) is not value:
                with suppress(AttributeError, TypeError):
                    setattr(cls, name, value)


def put_back_slots(kept: Sequence[tuple[Any, str, Any]]) -> None:
    for item, name, value in kept:
        if getattr(item, name, None) is not value:
            with suppress(AttributeError, TypeError):
                object.__setattr__(item, name, value)


def undo_settings() -> list[Undo]:
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
