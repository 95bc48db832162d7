"""What is somebody's model built from?

Sizes by the names that people give them; a config of the class that the model takes, of the dict or
object that its file holds, or made of the names that the code reads from it.

    sizes = sizes_of(preset)
    model = GPT(**arguments(GPT, module, sizes))
"""

import ast
import contextlib
import copy
import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from torch import nn

from experiments.support.models.sizes import KINDS, MISSING, Sizes, sizes_of
from gpt.errors import UsageError
from gpt.train import Preset
from interp.surgery.source.imports import local_file
from interp.surgery.source.syntax import read_source

CONFIG_WORDS = ("config", "cfg", "conf", "args", "arg", "params", "param", "hparams", "hps", "opt")


def arguments(
    found: Callable[..., Any], module: ModuleType, sizes: Sizes | Preset
) -> dict[str, Any]:
    """What a class or a function is called with: sizes by their usual names, a config made of them.

    Raises:
        UsageError: a parameter without default that is neither.
    """
    sizes = sizes_of(sizes) if isinstance(sizes, Preset) else sizes
    name = getattr(found, "__name__", "the model")
    hints = hints_of(found, module)
    given = {}
    for parameter in list(inspect.signature(found).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(parameter.name, parameter.annotation)
        if parameter.name in sizes.given or parameter.name in sizes.named:
            given[parameter.name] = sizes.of(parameter.name, parameter.default)
            if given[parameter.name] is parameter.default:
                del given[parameter.name]
        elif takes_config(parameter, annotation):
            given[parameter.name] = small_config(found, module, parameter.name, annotation, sizes)
        elif parameter.default is parameter.empty:
            raise UsageError(
                f"{name} takes {parameter.name!r}, which nothing here can tell: give it with --set "
                f"{parameter.name}=VALUE, or write a function that builds the model, as in --build "
                f"build.py:make"
            )
        else:
            sizes.left[parameter.name] = parameter.default
    return given


def hints_of(found: Callable[..., Any], module: ModuleType) -> dict[str, Any]:
    """The annotations of parameters, those in quotes too where they can be looked up."""
    function = found.__init__ if isinstance(found, type) else found  # type: ignore[misc]
    try:
        return typing.get_type_hints(function)
    except Exception:
        raw = getattr(function, "__annotations__", {})
        return {
            name: vars(module).get(hint, hint) if isinstance(hint, str) else hint
            for name, hint in raw.items()
        }


def takes_config(parameter: inspect.Parameter, annotation: Any) -> bool:
    """Whether a parameter is a config, by its name or by what it is annotated with."""
    words = parameter.name.lower().strip("_").split("_")
    if any(word in CONFIG_WORDS or word.endswith("config") for word in words):
        return parameter.default in (MISSING, None) or not isinstance(
            parameter.default, int | float | str | bool
        )
    kind = class_in(annotation)
    return parameter.default is MISSING and kind is not None and is_dataclass(kind)


def class_in(annotation: Any) -> type | None:
    """The class that an annotation names, also in ``GPTConfig | None``."""
    if isinstance(annotation, type) and annotation is not MISSING:
        return annotation
    found = [part for part in typing.get_args(annotation) if isinstance(part, type)]
    return next((part for part in found if part is not type(None)), None)


def small_config(
    found: Callable[..., Any], module: ModuleType, name: str, annotation: Any, sizes: Sizes
) -> Any:
    """A small config as the model takes it.

    Raises:
        UsageError: nothing tells what some of it is.
    """
    read = read_from_config(module, name)
    kind = class_in(annotation)
    if kind in (dict, typing.Mapping, Mapping):
        kind = None
    kind = kind or getattr(found, "config_class", None) or fitting_class(module, read, name)
    if kind is not None and kind not in (object, SimpleNamespace, int, float, str):
        return filled(kind, found, sizes, read)
    made = held_config(found, module, name, read)
    if made is not None:
        return resized(made, sizes, read)
    if not read.names:
        raise UsageError(
            f"{getattr(found, '__name__', 'the model')} takes {name!r}, and nothing in its file "
            f"tells what it is: write a function that builds the model, as in --build "
            f"build.py:make, with def make(vocab_size, block_size): return the model"
        )
    values = {key: sizes.of(key, MISSING) for key in sorted(read.names)}
    values |= {key: read.defaults[key] for key in read.defaults if values[key] is MISSING}
    require_all(found, name, values)
    return made_of(values, read)


def require_all(found: Any, name: str, values: Mapping[str, Any]) -> None:
    missing = [key for key, value in values.items() if value is MISSING]
    if missing:
        asked = " ".join(f"--set {key}=VALUE" for key in missing)
        raise UsageError(
            f"{getattr(found, '__name__', 'the model')} reads {', '.join(missing)} from its "
            f"{name}, which nothing here can tell: give {asked}"
        )


@dataclass
class Read:
    """What code reads from a config: as attributes, as keys, and with which defaults."""

    attributes: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    defaults: dict[str, Any] = field(default_factory=dict)
    literals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        return self.attributes | self.keys


def read_from_config(module: ModuleType, name: str) -> Read:
    """What the file's code reads from a config that it calls ``name``, or by a usual word."""
    known = {name, *CONFIG_WORDS}
    read = Read()
    tree = ast.parse(read_source(module).text)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}

    def is_config(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr in known
        return isinstance(node, ast.Name) and node.id in known

    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            literal = literal_of(node)
            if isinstance(literal, dict) and all(isinstance(key, str) for key in literal):
                read.literals.append(literal)
        if isinstance(node, ast.Subscript) and is_config(node.value):
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                read.keys.add(node.slice.value)
        elif isinstance(node, ast.Attribute) and is_config(node.value):
            if id(node) not in called and isinstance(node.ctx, ast.Load):
                read.attributes.add(node.attr)
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            default = literal_of(node.args[-1])
            get = isinstance(node.func, ast.Attribute) and node.func.attr == "get"
            if get and is_config(node.func.value) and isinstance(node.args[0], ast.Constant):  # type: ignore[attr-defined]
                read.defaults[str(node.args[0].value)] = default
    read.keys |= {*read.defaults} if read.keys or not read.attributes else set()
    return read


def literal_of(node: ast.AST) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return MISSING


def fitting_class(module: ModuleType, read: Read, name: str) -> type | None:
    """The class of the file, or one that it imported, that has most of what is read from a config;
    None where none has any."""
    best, most = None, 0.0
    for item in vars(module).values():
        if not isinstance(item, type) or issubclass(item, nn.Module | BaseException):
            continue
        own = is_dataclass(item) or item.__module__ == module.__name__
        if not own and not any(word in item.__name__.lower() for word in CONFIG_WORDS):
            continue
        fields = fields_of(item)
        fit = len(fields & read.names) / max(1, len(read.names)) if read.names else 0.0
        if any(word in item.__name__.lower() for word in CONFIG_WORDS):
            fit += 0.01 if fields else 0.0
        if fit > most:
            best, most = item, fit
    return best if most > (0.3 if read.names else 0.0) else None


def fields_of(kind: type) -> set[str]:
    """What a config of a class holds: its fields, its attributes, and what ``__init__`` takes."""
    found = {name for name in dir(kind) if not name.startswith("_")}
    if is_dataclass(kind):
        found |= {item.name for item in dataclasses.fields(kind)}
    with contextlib.suppress(TypeError, ValueError):
        found |= {*inspect.signature(kind).parameters}
    try:
        tree = ast.parse(inspect.cleandoc(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def filled(kind: type, found: Any, sizes: Sizes, read: Read) -> Any:
    """A config of a class, with what is known of its sizes."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    given = {}
    for name, parameter in parameters.items():
        value = sizes.of(name, parameter.default)
        if value is MISSING and parameter.default is MISSING:
            given[name] = MISSING
        elif value is not parameter.default:
            given[name] = key_value_heads(name, value, parameter.default, parameters, sizes)
        elif not read.names or name in read.names:
            sizes.left[name] = parameter.default
    require_all(found, kind.__name__, given)
    made = kind(**given)
    for name in sizes.given:
        if name not in parameters and name in read.names:  # the class has it not, the code reads it
            object.__setattr__(made, name, sizes.of(name, MISSING))
    home = sys.modules.get(kind.__module__)
    if not is_dataclass(kind) and home is not None and local_file(home) is not None:
        set_known(made, sizes, {*parameters})
    return made


def key_value_heads(
    name: str, value: Any, default: Any, parameters: Mapping[str, Any], sizes: Sizes
) -> Any:
    """Key/value heads in the ratio to heads that the file has, so that the same lines run."""
    if KINDS.get(name) != "n_kv_head" or name in sizes.given or not isinstance(default, int):
        return value
    heads = [p.default for n, p in parameters.items() if KINDS.get(n) == "n_head"]
    if heads and isinstance(heads[0], int) and heads[0] % max(1, default) == 0:
        return max(1, int(value) // (heads[0] // max(1, default)))
    return value


def set_known(made: Any, sizes: Sizes, done: set[str]) -> None:
    """Set on an object the sizes that it has by name and was not built with."""
    for name in dir(made):
        if name.startswith("_") or name in done:
            continue
        default = getattr(made, name)
        if isinstance(default, int | float | str | bool | type(None)):
            value = sizes.of(name, default)
            if value is not default:
                setattr(made, name, value)
            else:
                sizes.left[name] = default


def held_config(found: Any, module: ModuleType, name: str, read: Read) -> Any:
    """A config that the file holds: under a name at its top level, as a dict in a function, or from
    a method of the class; None where there is none."""
    for key in dir(found):
        if "config" in key.lower() and key.startswith(("get_", "default")):
            method = inspect.getattr_static(found, key)
            if isinstance(method, staticmethod | classmethod):
                return getattr(found, key)()
    held = [
        item
        for key, item in vars(module).items()
        if isinstance(item, dict | SimpleNamespace)
        and not key.startswith("_")
        and has_most(item if isinstance(item, dict) else vars(item), read)
    ]
    if held:
        return copy.deepcopy(held[0])
    literals = [item for item in read.literals if has_most(item, read)]
    if literals:
        literal = max(literals, key=lambda item: len({*item} & read.names))
        return made_of(copy.deepcopy(literal), read)
    return None


def has_most(values: Mapping[str, Any], read: Read) -> bool:
    return bool(read.names) and len({*values} & read.names) > len(read.names) / 2


def made_of(values: Mapping[str, Any], read: Read) -> Any:
    """A dict or an object of some values, as the code reads them."""
    if read.keys and not read.attributes:
        return dict(values)
    return Either(values) if read.keys else SimpleNamespace(**values)


class Either(dict[str, Any]):
    """A dict whose values can be read as attributes too."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.__dict__ = self


def resized(made: Any, sizes: Sizes, read: Read) -> Any:
    """A config that a file holds, with the sizes that are known."""
    if not isinstance(made, dict):
        set_known(made, sizes, set())
        missing = {name for name in read.names if not hasattr(made, name)}
        for name in missing & {*sizes.given}:
            setattr(made, name, sizes.of(name, MISSING))
        return made
    for name in [*made, *(read.names - {*made})]:
        value = sizes.of(name, made.get(name, MISSING))
        if value is not MISSING:
            made[name] = value
        if name not in sizes.given and name in made and made[name] == value:
            sizes.left[name] = value
    return made
