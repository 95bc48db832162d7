"""How is everything put back that a cut may have changed, where it cannot run in a fork?

A cut that is made in this process may write into a weight, move running statistics, fill a cache,
draw random numbers or change a setting of torch. A snapshot knows how all that stood: what can be
reached from the model and from the functions that judge it, and what the modules of the studied
files hold.

    with preserve(model, judge, spaces=[vars(module)]):
        judge(model)
"""

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial, partialmethod
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interp.surgery.guarding.restoring import (
    Undo,
    patches,
    plain_dict,
    put_back_arrays,
    put_back_bytes,
    put_back_cells,
    put_back_classes,
    put_back_defaults,
    put_back_globals,
    put_back_items,
    put_back_names,
    put_back_slots,
    put_back_tensors,
    storage_bytes,
    undo_settings,
)

MOST_OBJECTS = 200_000
MOST_BYTES = 2**28  # of a tensor that is no part of a model: a text, say
LIBRARIES = {*sys.stdlib_module_names, "torch", "numpy", "pandas", "pyarrow", "matplotlib"}


@contextmanager
def preserve(*roots: Any, spaces: Sequence[dict[str, Any]] = ()) -> Iterator[None]:
    """After the block everything is as it was before; see ``Snapshot``."""
    snapshot = Snapshot(*roots, spaces=spaces)
    try:
        yield
    finally:
        snapshot.restore()


class Snapshot:
    """How things stood when it was made.

    Args:
        roots: models, and functions whose closures and globals count.
        spaces: the globals of modules.

    What it does not see: the state of compiled extensions, iterators that stand half-way, and
    what is held by libraries.
    """

    def __init__(self, *roots: Any, spaces: Sequence[dict[str, Any]] = ()) -> None:
        self._undo: list[Undo] = [*undo_settings(), *patches()]
        self._kept: dict[Callable[[Any], None], list[Any]] = {}  # what one function puts back
        self._seen: dict[Any, Any] = {}
        self._files = {space.get("__file__") for space in spaces}
        self._modules = {space.get("__name__") for space in spaces}
        self._left = deque(roots)
        for root in roots:
            if isinstance(root, nn.Module):
                for tensor in (*root.parameters(), *root.buffers()):
                    self._keep_tensor(tensor)
        for space in spaces:
            self._keep_names(space, [name for name in space if not name.startswith("__")], True)
        while self._left and len(self._seen) < MOST_OBJECTS:
            self._keep(self._left.popleft())

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for undo in self._undo:
                undo()
            for put_back, kept in self._kept.items():
                put_back(kept)

    def restored_after(self, task: Callable[[], Any]) -> Any:
        """What a task gives; then everything is put back."""
        try:
            return task()
        finally:
            self.restore()

    def _note(self, put_back: Callable[[Any], None], *was: Any) -> None:
        self._kept.setdefault(put_back, []).append(was)

    def _keep(self, item: Any) -> None:
        if id(item) in self._seen or isinstance(item, (str, bytes, int, float, complex, range)):
            return
        self._seen[id(item)] = item  # held, so that its id stays its own
        if isinstance(item, Tensor):
            if item.layout == torch.strided and item.untyped_storage().nbytes() <= MOST_BYTES:
                self._keep_tensor(item)
        elif isinstance(item, np.ndarray):
            self._keep_array(item)
        elif isinstance(item, (dict, list, set, deque, bytearray, tuple, frozenset)):
            self._keep_container(item)
        elif generator := state_of_generator(item):
            self._undo.append(generator)
        elif isinstance(item, FunctionType):
            self._keep_function(item)
        elif isinstance(item, (partial, partialmethod)):
            self._left += [item.func, *item.args, *item.keywords.values()]
        elif isinstance(item, MethodType):
            self._left += [item.__func__, item.__self__]
        elif isinstance(item, CellType):
            self._keep_cell(item)
        elif isinstance(item, type):
            if item.__module__ in self._modules:
                self._keep_class(item)
        elif not isinstance(item, (ModuleType, CodeType, BuiltinFunctionType)):
            self._keep_instance(item)

    def _keep_tensor(self, tensor: Tensor) -> None:
        self._seen[id(tensor)] = tensor
        if tensor.layout != torch.strided or tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        alias = tensor.detach()
        wants, gradient = tensor.requires_grad, tensor.grad if tensor.is_leaf else None
        if gradient is not None:
            self._left.append(gradient)

        self._note(put_back_tensors, tensor, alias, wants, gradient)
        if (key := ("storage", tensor.device, place)) in self._seen:
            return
        self._seen[key] = storage
        copy = storage_bytes(storage).clone()

        self._note(put_back_bytes, storage, copy)

    def _keep_array(self, array: np.ndarray) -> None:
        if not array.flags.writeable or array.dtype.hasobject or array.nbytes > MOST_BYTES:
            return
        self._note(put_back_arrays, array, array.copy())

    def _keep_container(self, item: Any) -> None:
        if isinstance(item, dict):
            self._keep_names(item, list(plain_dict(item).keys(item)), False)
            return
        values = list(item)
        if not isinstance(item, bytearray):
            self._left += values
        if isinstance(item, (tuple, frozenset)):
            return

        self._note(put_back_items, item, values)

    def _keep_names(self, space: dict[Any, Any], names: Sequence[Any], of_a_module: bool) -> None:
        """A dict's values; what was added to it goes. Its order too, unless it is a module's."""
        plain = plain_dict(space)
        before = {name: plain.__getitem__(space, name) for name in names}
        self._left += before.values()

        self._note(put_back_names, space, before, of_a_module)

    def _keep_function(self, function: FunctionType) -> None:
        if library(function.__module__):
            return
        defaults, keywords = function.__defaults__, function.__kwdefaults__
        self._left += [defaults, keywords, vars(function), *(function.__closure__ or ())]
        if hasattr(function, "__wrapped__"):
            self._left.append(function.__wrapped__)

        self._note(put_back_defaults, function, defaults, keywords)
        space = function.__globals__
        if space.get("__file__") in self._files:  # kept as a whole
            return
        for name in global_names(function.__code__):
            if name in space and not isinstance(space[name], (ModuleType, type)):
                self._keep_global(space, name)

    def _keep_global(self, space: dict[str, Any], name: str) -> None:
        value = space[name]
        self._left.append(value)

        self._note(put_back_globals, space, name, value)

    def _keep_cell(self, cell: CellType) -> None:
        with suppress(ValueError):  # an empty one
            value = cell.cell_contents
            self._left.append(value)

            self._note(put_back_cells, cell, value)

    def _keep_class(self, cls: type) -> None:
        before = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
        self._left += before.values()

        self._note(put_back_classes, cls, before)

    def _keep_instance(self, item: Any) -> None:
        if not isinstance(item, nn.Module) and library(type(item).__module__):
            return
        if isinstance(getattr(item, "__dict__", None), dict):
            self._left.append(item.__dict__)
        slots = [s for cls in type(item).__mro__ for s in vars(cls).get("__slots__", ())]
        for name in slots if isinstance(slots, list) else ():
            if isinstance(name, str) and hasattr(item, name):
                self._keep_slot(item, name)

    def _keep_slot(self, item: Any, name: str) -> None:
        value = getattr(item, name)
        self._left.append(value)

        self._note(put_back_slots, item, name, value)


def library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in LIBRARIES


def global_names(code: CodeType) -> set[str]:
    """The names that a function and those inside it may read from its module."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*(global_names(one) for one in inner))


def state_of_generator(item: Any) -> Undo | None:
    """What sets a generator of random numbers back; None where it is none."""
    if isinstance(item, torch.Generator):
        return partial(item.set_state, item.get_state())
    if isinstance(item, random.Random):
        return partial(item.setstate, item.getstate())
    if isinstance(item, np.random.RandomState):
        return partial(item.set_state, item.get_state())
    if isinstance(item, np.random.Generator):
        return partial(setattr, item.bit_generator, "state", item.bit_generator.state)
    return None
