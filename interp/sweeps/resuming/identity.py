"""When are two questions the same, in another process, on another day?

A digest of everything that decides an answer: numbers and tensors by their bits; functions by their
code, what they close over and whatever they look up by name; objects by their class's code and
their attributes; models by the code that a run of them can come to, and all that they hold;
libraries by their version. What is not known to be all of a value, such as what is kept outside
Python, in files or in random generators, is an error, never a guess.
"""

import builtins
import functools
import hashlib
import importlib
import re
import reprlib
import weakref
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from transformer_lens import ActivationCache

from interp.errors import UsageError
from interp.site import Names
from interp.sweeps.resuming.libraries import DRAWING, version_of_library, words
from interp.sweeps.resuming.lookups import Lookups, code_parts, lookups_in, without_checks

PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type(...)),
    *(type(NotImplemented), torch.dtype, torch.device, torch.layout, torch.memory_format),
)
LISTS = (list, tuple, torch.Size)
TABLES = (dict, OrderedDict, Counter, MappingProxyType, ActivationCache)
WRAPPERS = (property, classmethod, staticmethod, functools.cached_property)
BY_NAME = (MethodDescriptorType, WrapperDescriptorType, GetSetDescriptorType)

OUTSIDE = words(
    "open input eval exec compile globals locals vars id hash print __import__ load fromfile"
    " from_file loadtxt genfromtxt memmap open_memmap fromregex read_csv read_parquet read_json"
    " read_table read_excel read_hdf read_pickle read_feather read_sql from_pretrained hub io"
    " get_option geterr get_num_threads"
)
"""What a library's functions are called that look at more than they are given."""

RANDOM = words(
    "random rand randn randint randperm rand_like randn_like randint_like bernoulli bernoulli_"
    " multinomial normal_ uniform_ random_ exponential_ cauchy_ geometric_ log_normal_ poisson"
    " sample rsample default_rng seed initial_seed get_rng_state default_generator"
)
SEEDED = "manual_seed"

MAKING = ("__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__")
SAYING = (
    *("__repr__", "__str__", "__format__", "__doc__", "__rich_repr__", "extra_repr"),
    "__signature__",
)
UNREAD = words(
    "__module__ __qualname__ __dict__ __weakref__ __annotations__ __slots__ __match_args__"
    " __dataclass_fields__ __dataclass_params__ __parameters__ __orig_bases__ __abstractmethods__"
    " __firstlineno__ __static_attributes__ __annotate_func__ __annotations_cache__"
    " __protocol_attrs__ __non_callable_proto_members__ _is_protocol _is_runtime_protocol"
    " _abc_impl"
)
MISSING = "nothing has this name"
OF_THE_PROCESS = ("_original_object_hash",)
"""Attributes that hold a ``hash``, which is another in each process; this one, of transformers'
generation settings, says only whether they were changed before they are saved."""
OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}


class Digests:
    """The digests of values; of a value that is met again, the one found before."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[Any, str]] = {}  # the value too: a freed
        self._model: Any = None  # id is used again; and within a model, which one, and what its
        self._named: set[str] = set()  # code names: the methods that a run may call

    def of(self, value: Any) -> str:
        """A value's digest.

        Raises:
            UsageError: the value has none.
        """
        value = without_checks(value)
        key = (id(value), id(self._model))
        if key not in self._found:
            self._found[key] = value, "itself"  # what it says of itself while it is read
            hashed = hashlib.sha256(type(value).__qualname__.encode())
            for part in self._parts(value):
                hashed.update(len(part).to_bytes(8))
                hashed.update(part)
            self._found[key] = value, hashed.hexdigest()
        return self._found[key][1]

    def _parts(self, value: Any) -> Iterable[bytes | memoryview]:
        if type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided:
            if value.is_quantized or value.is_meta:
                refuse(value)
            # a tensor of one element is contiguous whatever its stride, but no view of bytes
            plain = value.detach().cpu().resolve_conj().resolve_neg()
            packed = plain.clone(memory_format=torch.contiguous_format)
            bits = packed.flatten().view(torch.uint8).numpy()
            own = [self.of(vars(value)).encode()] if vars(value) else []
            return [f"{value.dtype} {list(value.shape)}".encode(), bits.data, *own]
        if type(value) is np.ndarray or isinstance(value, np.generic):
            if value.dtype.hasobject:
                refuse(value)
            return [f"{value.dtype} {value.shape}".encode(), value.tobytes()]
        if type(value) in PLAIN:
            return [repr(value).encode()]
        return [self.of(part).encode() for part in self._members(value)]

    def _members(self, value: Any) -> Iterable[Any]:
        """What a value is made of, as values that have digests."""
        kind = type(value)
        if kind in LISTS or (isinstance(value, tuple) and hasattr(kind, "_fields")):
            return [*self._class_of(value), *value] if kind not in LISTS else value
        if kind is Names:
            return [*value, value.axes]
        if kind in (set, frozenset):
            return sorted(self.of(member) for member in value)
        if kind in TABLES:  # in order, which whoever walks one sees
            return [each for pair in value.items() for each in pair]
        if kind is defaultdict:
            return [value.default_factory, dict(value)]
        if isinstance(value, Enum):
            return [*self._class_of(value), value.name, value.value]
        if isinstance(value, type):
            return [full_name(value), *self._class(value, making=True)]
        if isinstance(value, ModuleType):
            return [version_of_library(value.__name__) or refuse(value), value.__name__]
        if isinstance(value, nn.Module):
            return self._of_module(value)
        if kind is re.Pattern:
            return [value.pattern, value.flags]
        if kind is functools.partial:
            return [value.func, value.args, value.keywords, vars(value)]
        if kind is weakref.ReferenceType:
            return [value()]
        if kind is MethodType:
            return [value.__func__, value.__self__]
        if kind is FunctionType:
            return self._of_function(value)
        if kind is CodeType:
            return code_parts(value)
        if kind in WRAPPERS:
            return [getattr(value, name, None) for name in ("fget", "fset", "__func__", "func")]
        if kind is BuiltinFunctionType:
            return self._of_builtin(value)
        if kind in BY_NAME:
            return [full_name(value.__objclass__), value.__name__]
        if kind is np.ufunc and getattr(np, ufunc_name := str(value.__name__), None) is value:
            return [version_of_library("numpy"), ufunc_name]
        if hasattr(kind, "backend_tokenizer") and version_of_library(kind.__module__):
            # Hugging Face's, which is compiled, but says all of itself
            told = [value.backend_tokenizer.to_str(), value.special_tokens_map]
            return [*self._class_of(value), *told, value.padding_side, value.truncation_side]
        return self._of_object(value)

    def _of_builtin(self, value: Any) -> list[Any]:
        owner: Any = value.__self__
        if isinstance(owner, ModuleType | type | None):
            place = owner.__name__ if isinstance(owner, ModuleType) else value.__module__
            place = place or getattr(owner, "__module__", None) or ""
            if value.__name__ in OUTSIDE | RANDOM or not version_of_library(place):
                refuse(value)
            return [version_of_library(place), place, value.__qualname__]
        return [value.__name__, owner]

    def _of_object(self, value: Any) -> list[Any]:
        """An instance of a class that was written in Python: it is what its attributes are."""
        if not is_all_python(value):
            refuse(value)
        slots = [
            (name, getattr(value, name, MISSING))
            for each in type(value).__mro__
            for name in slots_of(each)
        ]
        held = getattr(value, "__dict__", {})
        own = {name: each for name, each in held.items() if name not in OF_THE_PROCESS}
        return [*self._class_of(value), slots, own]

    def _class_of(self, value: Any) -> list[Any]:
        return [full_name(type(value)), *self._class(type(value), making=False)]

    def _class(self, kind: type, making: bool) -> list[Any]:
        """The code of a class and of those it comes from; libraries' by their version.

        Args:
            making: with what runs when an instance is made.
        """
        members: list[Any] = []
        for each in [above for made in (kind, type(kind)) for above in made.__mro__]:
            if version := version_of_library(each.__module__):
                members += [version, full_name(each)]
                continue
            for name, member in sorted(vars(each).items()):
                generated = is_generated(member) and name.startswith("__")
                if name in UNREAD or name in SAYING or generated:
                    continue
                if isinstance(member, MemberDescriptorType | GetSetDescriptorType):
                    continue
                if (name in MAKING and not making) or (issubclass(each, Enum) and name[:1] == "_"):
                    continue
                members += [name, member]
        return members

    def _of_function(self, function: FunctionType) -> list[Any]:
        """Its code, its defaults, what it closes over, and what it looks up by name."""
        code, place = function.__code__, function.__globals__.get("__name__", "")
        library = version_of_library(place)
        if library and "<locals>" not in code.co_qualname:
            if code.co_name in OUTSIDE | RANDOM:
                refuse(function)
            return [library, place, code.co_qualname]
        closed = [contents_of_cell(cell) for cell in function.__closure__ or ()]
        attributes = {name: each for name, each in vars(function).items() if name not in SAYING}
        own = [function.__defaults__, function.__kwdefaults__, closed, attributes]
        if library:
            return [library, place, code.co_qualname, code, *own]
        found = lookups_in(code)
        if found.keeps:
            refuse(function, f"it writes {found.keeps}, which it does not own, while it runs")
        if found.writes and self._model is None and code.co_name not in MAKING:
            refuse(function, f"it writes the attribute {found.writes} while it runs")
        for name in sorted(found.names & RANDOM) if SEEDED not in found.names else ():
            called = any(name in chain for chain in found.chains) or name.endswith("sample")
            if called or name.endswith("_"):
                refuse(function, f"it draws random numbers ({name}) of no seed of its own")
        return [place, code, *own, *self._looked_up(function, found)]

    def _looked_up(self, function: FunctionType, found: Lookups) -> Iterator[Any]:
        around = function.__globals__
        for first, *rest in sorted(found.chains):
            value = around.get(first, getattr(builtins, first, MISSING))
            if first not in around and first in OUTSIDE:
                refuse(function, f"it calls {first}")
            yield from self._followed((first, *rest), value, rest, function)
        for name, taken in sorted(found.imports):
            try:
                module = importlib.import_module(name, around.get("__package__"))
            except ImportError:
                refuse(function, f"it imports {name}, which is not there")
            rest = [taken] if taken else []
            yield from self._followed((name, *rest), module, rest, function)

    def _followed(
        self, chain: tuple[str, ...], value: Any, rest: list[str], function: FunctionType
    ) -> Iterator[Any]:
        """What a chain of names stands for; of a library, which part of it."""
        yield list(chain)
        while isinstance(value, ModuleType) and rest and not version_of_library(value.__name__):
            value, *rest = getattr(value, rest[0], MISSING), *rest[1:]
        if not isinstance(value, ModuleType):
            self._check_drawing(value, function)
            yield value
            return
        if not (version := version_of_library(value.__name__)):
            refuse(function, f"it uses the module {value.__name__} as a whole")
        if outside := OUTSIDE.intersection(rest):
            refuse(function, f"it calls {value.__name__}.{sorted(outside)[0]}")
        yield version
        while isinstance(value, ModuleType) and rest:
            value, *rest = getattr(value, rest[0], MISSING), *rest[1:]
        self._check_drawing(value, function)
        if isinstance(value, FunctionType | Tensor | nn.Module) or type(value) in PLAIN:
            yield value  # it may be somebody else's, put there

    def _check_drawing(self, value: Any, function: FunctionType) -> None:
        if (
            not isinstance(value, type | FunctionType | BuiltinFunctionType)
            or self._model is not None
        ):
            return
        known = value.__name__ in DRAWING and version_of_library(value.__module__ or "torch")
        if known and SEEDED not in function.__code__.co_names:
            refuse(function, f"it draws random numbers ({value.__name__}) of no seed of its own")

    def _of_module(self, module: nn.Module) -> list[Any]:
        """All that a module holds, and of its methods those that a run may come to."""
        if self._model is None:
            self._model, self._named = module, names_of_run(module)
            try:
                return [self.of(module)]
            finally:
                self._model, self._named = None, set()
        if deciding := getattr(type(module), "deciding_parts", None):  # it says so itself
            return [full_name(type(module)), *deciding(module)]
        own = {name: value for name, value in vars(module).items() if name not in OF_EVERY_MODULE}
        hooks = [[*module._forward_hooks.values()], [*module._forward_pre_hooks.values()]]
        held: list[Any] = [module._parameters, module._buffers, module._modules]
        members: list[Any] = [full_name(type(module)), own, *hooks, *[dict(each) for each in held]]
        for each in type(module).__mro__:
            if version := version_of_library(each.__module__):
                members.append(version)
                continue
            for name, member in sorted(vars(each).items()):
                if name in self._named and name not in (*UNREAD, *MAKING, *SAYING):
                    members += [name, member]
        return members


def names_of_run(model: nn.Module) -> set[str]:
    """Every name that the code of a run of a model may look up, starting with ``forward``."""
    classes = {each for part in model.modules() for each in type(part).__mro__}
    members: dict[str, list[FunctionType]] = {}
    for each in classes:
        if version_of_library(each.__module__):
            continue
        for name, member in vars(each).items():
            inner = (getattr(member, key, None) for key in ("fget", "__func__", "func"))
            for found in (member, *inner):
                if isinstance(without_checks(found), FunctionType):
                    members.setdefault(name, []).append(without_checks(found))
    dunder = [name for name in members if name.startswith("__") and name not in MAKING]
    names = {"forward", *dunder}
    waiting = [*names]
    for part in model.modules():  # functions put on one part alone
        for value in vars(part).values():
            while isinstance(value, functools.partial):
                value = value.func
            value = without_checks(getattr(value, "__func__", value))
            if isinstance(value, FunctionType):
                waiting += lookups_in(value.__code__).names - names
                names |= lookups_in(value.__code__).names
    while waiting:
        for function in members.get(waiting.pop(), ()):
            fresh = lookups_in(function.__code__).names - names
            names |= fresh
            waiting += fresh
    return names


def full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def contents_of_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is bound to the name yet
        return MISSING


def is_generated(member: Any) -> bool:
    """Whether a class's function was made by ``dataclass`` or the like."""
    return isinstance(member, FunctionType) and member.__code__.co_filename == "<string>"


def is_all_python(value: Any) -> bool:
    """Whether an object is nothing but its attributes: no part of it is held by compiled code, and
    it does not say of itself how it is to be made again."""
    kind = type(value)
    if kind.__reduce_ex__ is not object.__reduce_ex__ or kind.__reduce__ is not object.__reduce__:
        return False
    state = getattr(kind, "__getstate__", None)
    if state is not getattr(object, "__getstate__", None) and not isinstance(state, FunctionType):
        return False
    if isinstance(value, list | tuple | set | frozenset | dict | str | bytes | int | float):
        return False
    try:
        object.__reduce_ex__(value, 2)
    except Exception:  # what compiled classes say, each in its own way
        return False
    return hasattr(value, "__dict__") or any(slots_of(each) for each in kind.__mro__)


def slots_of(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def refuse(value: Any, why: str = "") -> NoReturn:
    name = getattr(value, "__qualname__", None) or reprlib.repr(value)
    raise UsageError(
        f"a sweep that can be resumed must know all that decides its answers again, and {name} "
        f"({type(value).__name__}) cannot be known again{f': {why}' if why else ''}; make model, "
        "metric and interventions of functions, numbers and tensors, or sweep without a run"
    )
