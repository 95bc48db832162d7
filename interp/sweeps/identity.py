"""When are two questions the same, in another process, on another day?

A digest of everything that decides an answer: numbers and tensors by their bits, functions by their
code and what they close over, models by their classes' code and their weights. What has no such
digest is an error, never a guess.
"""

import functools
import hashlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformer_lens import ActivationCache

from interp.errors import UsageError

PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...), torch.dtype)
NAMED = (BuiltinFunctionType, type, ModuleType)


class Digests:
    """The digests of values; of a value that is met again, the one found before."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Any, str]] = {}  # the value too, lest its id be used again

    def of(self, value: Any) -> str:
        """A value's digest.

        Raises:
            UsageError: the value has none.
        """
        if isinstance(value, FunctionType):
            value = inspect.unwrap(value)
        if id(value) not in self._found:
            self._found[id(value)] = value, "itself"  # what it says of itself while it is read
            hashed = hashlib.sha256(type(value).__qualname__.encode())
            for part in self._parts(value):
                hashed.update(len(part).to_bytes(8))
                hashed.update(part)
            self._found[id(value)] = value, hashed.hexdigest()
        return self._found[id(value)][1]

    def _parts(self, value: Any) -> Iterable[bytes | memoryview]:
        if isinstance(value, Tensor):
            # a tensor of one element is contiguous whatever its stride, but no view of bytes
            packed = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            bits = packed.flatten().view(torch.uint8).numpy()
            return [f"{value.dtype} {list(value.shape)}".encode(), bits.data]
        if isinstance(value, np.ndarray | np.generic):
            return [f"{value.dtype} {value.shape}".encode(), value.tobytes()]
        if isinstance(value, PLAIN):
            return [repr(value).encode()]
        if isinstance(value, NAMED):
            names = (getattr(value, "__module__", ""), getattr(value, "__qualname__", ""))
            return [repr((*names, value.__name__)).encode()]
        return [self.of(part).encode() for part in self._members(value)]

    def _members(self, value: Any) -> Iterable[Any]:
        """What a value is made of, as values that have digests."""
        if isinstance(value, list | tuple):
            return value
        if isinstance(value, set | frozenset):
            return sorted(self.of(member) for member in value)
        if isinstance(value, Mapping | ActivationCache):
            return sorted(self.of(key) + self.of(member) for key, member in value.items())
        if isinstance(value, nn.Module):
            return self._of_module(value)
        if is_dataclass(value):
            return [type(value), *(getattr(value, each.name) for each in fields(value))]
        if isinstance(value, functools.partial):
            return [value.func, value.args, value.keywords]
        if isinstance(value, MethodType):
            return [value.__func__, value.__self__]
        if isinstance(value, FunctionType):
            return self._of_function(value)
        if isinstance(value, CodeType):
            return [value.co_code, value.co_names, value.co_varnames, value.co_consts]
        raise UsageError(
            f"a sweep that can be resumed must know its metric and interventions again, and "
            f"{value!r} ({type(value).__name__}) cannot be known again: make them of functions, "
            "numbers and tensors, or sweep without a run"
        )

    def _of_function(self, function: FunctionType) -> list[Any]:
        """Its code, its defaults, what it closes over, and what it names of its own module."""
        closed = [cell.cell_contents for cell in function.__closure__ or ()]
        around = function.__globals__
        named: dict[str, Any] = {}
        for name in names_in(function.__code__):
            other = around.get(name)
            own = isinstance(other, FunctionType) and other.__globals__ is around
            if own or isinstance(other, (*PLAIN, Tensor, np.ndarray)):
                named[name] = other
        defaults = [function.__defaults__, function.__kwdefaults__]
        return [function.__module__, function.__code__, *defaults, closed, named]

    def _of_module(self, module: nn.Module) -> list[Any]:
        """Weights and buffers; of every part its class, its code and its plain settings."""
        members: list[Any] = [dict(module.state_dict())]
        for name, part in module.named_modules():
            settings = {
                key: value
                for key, value in vars(part).items()
                if isinstance(value, PLAIN) and key != "training" and not key.startswith("_")
            }
            members.append([name, type(part), part.__dict__.get("forward"), settings])
            members.append(getattr(inspect.unwrap(type(part).forward), "__code__", None))
        return members


def names_in(code: CodeType) -> list[str]:
    """The names that a function's code, and the functions within it, look up."""
    within = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [*code.co_names, *(name for each in within for name in names_in(each))]
