"""How does a value that a line makes get to who watches it, and come back changed?

with passing_values(made, handed):     # handed(made, value): the value, or another
    model(tokens)

The functions that make the values run a copy of their code meanwhile, in which each value is passed
on first. What was compiled for one set of values is kept for the next run.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from types import CodeType, FunctionType
from typing import Any, no_type_check

from torch import Tensor, nn

from interp.line_hooks.values import Made, Origin, passing_body
from interp.surgery.running.layers import around_every_call
from interp.surgery.running.loaded import Version, loaded_at, version_of
from interp.surgery.running.swapping import (
    compile_function,
    inner_codes,
    set_code,
    swap_codes,
)
from interp.surgery.source.syntax import FunctionNode, Syntax

PASSED = "_line_hook"
Handed = Callable[[Made, Any], Any]
Codes = dict[FunctionType, tuple[FunctionNode, CodeType]]

_watching: list[tuple[dict[int, Made], Handed]] = []
_lock = threading.RLock()  # one thread at a time: they exchange the code of the same functions


@contextmanager
def passing_values(made: Collection[Made], handed: Handed) -> Iterator[None]:
    """Inside the block, the functions of a model's files pass these values to ``handed``, and go on
    with what it returns."""
    key = tuple(sorted(made, key=lambda each: each.number))
    sources = dict.fromkeys(each.syntax.source for each in key)
    with ExitStack() as stack:
        stack.enter_context(_lock)
        codes_of_files = prepared_codes(key, tuple(version_of(source) for source in sources))
        entry = ({each.number: each for each in key}, handed)
        _watching.append(entry)
        stack.callback(_watching.remove, entry)
        for syntax, codes in codes_of_files.items():
            stack.enter_context(running_codes(syntax, codes))
        yield


@no_type_check  # runs for every value: checks would take seconds
def pass_value(number: int, value: Any) -> Any:
    """Takes a value to those who watch it."""
    for made, handed in _watching:
        if number in made:
            if made[number].is_unpacked and isinstance(value, Tensor):
                value = value.unbind(0)  # as unpacking does
            value = handed(made[number], value)
    return value


PASSING = partial(pass_value)  # no function: new ones in a module mean that it was loaded again


@lru_cache(maxsize=64)
def prepared_codes(made: tuple[Made, ...], versions: tuple[Version, ...]) -> dict[Syntax, Codes]:
    """For each file, the functions to change and the code that each is to run.

    Args:
        made: the values that are passed on.
        versions: of the files: a file that was loaded again has other functions.
    """
    inside: dict[tuple[Syntax, FunctionNode], list[Made]] = {}
    for each in made:
        inside.setdefault((each.syntax, each.function), []).append(each)
    found: dict[Syntax, Codes] = {}
    for (syntax, node), chosen in inside.items():
        body = passing_body(chosen, PASSED)
        code = compile_function(syntax, node, body, str(syntax.source.path))
        codes = found.setdefault(syntax, {})
        functions = loaded_at(syntax.source, (syntax.qualname[node], node.lineno))
        codes |= dict.fromkeys(functions, (node, code))
        if functions:
            codes |= inner_codes(syntax, node, code)
    return found


@contextmanager
def running_codes(syntax: Syntax, codes: Codes) -> Iterator[None]:
    """Inside the block, functions run other code of their own, and find ``pass_value``."""
    plain = {
        function: code
        for function, (_, code) in codes.items()
        if code.co_freevars == function.__code__.co_freevars
    }
    others = {function: each for function, each in codes.items() if function not in plain}
    before = {function: function.__code__ for function in plain}
    spaces = {id(function.__globals__): function.__globals__ for function in codes}
    added = [space for space in spaces.values() if PASSED not in space]
    try:
        for space in added:
            space[PASSED] = PASSING
        for function, code in plain.items():
            set_code(function, code)
        with swap_codes(syntax, others, {}, str(syntax.source.path)):
            yield
    finally:
        for function, code in before.items():
            set_code(function, code)
        for space in added:
            del space[PASSED]


@no_type_check  # runs for every value: checks would take seconds
def tensors_in(value: Any) -> Iterator[tuple[int | None, Tensor]]:
    """A tensor, or those in a tuple or list, with their places in it."""
    if isinstance(value, Tensor):
        yield None, value
    elif type(value) in (tuple, list):
        yield from ((part, each) for part, each in enumerate(value) if isinstance(each, Tensor))


PointOf = Callable[[Origin], Callable[[Tensor], Tensor] | None]
AtOutput = Callable[[str, Any], Any]
FASTER = (nn.TransformerEncoderLayer, nn.TransformerEncoder, nn.MultiheadAttention)


@contextmanager
def passing_outputs(model: nn.Module, paths: Iterable[str], at: AtOutput) -> Iterator[None]:
    """Inside the block, what these modules return goes by ``at(path, output)``, which may give
    another.

    Where torch takes a faster way through a module without hooks, as through its encoder's layers,
    no hook is put on any: what is seen is then what runs without.
    """
    chosen = {path: model.get_submodule(path) for path in dict.fromkeys(paths)}
    with ExitStack() as stack:
        if chosen and any(isinstance(module, FASTER) for module in model.modules()):
            path_of = {id(module): path for path, module in chosen.items()}

            def leave(module: nn.Module, args: Any, output: Any) -> Any:
                path = path_of.get(id(module))
                return None if path is None else at(path, output)

            stack.enter_context(around_every_call(lambda module, args: None, leave))
        else:
            for path, module in chosen.items():
                hook = partial(at_output, path, at)
                stack.callback(module.register_forward_hook(hook).remove)
        yield


@no_type_check  # runs for every value: checks would take seconds
def at_output(path: str, at: AtOutput, module: nn.Module, args: Any, output: Any) -> Any:
    return at(path, output)


@no_type_check  # runs for every value: checks would take seconds
def replaced(
    value: Any, point_of: PointOf, path: str, made: Made | None = None, turn: int = 0
) -> Any:
    """A value, or a tuple, whose tensors have gone by what is there for each.

    Args:
        value: what a line made, or what a module returned.
        point_of: what is at an origin; None where nothing is.
        path, made, turn: of its origin.
    """
    if isinstance(value, Tensor):
        point = point_of(Origin(path, made, turn))
        return value if point is None else point(value)
    new = {
        part: point(tensor)
        for part, tensor in tensors_in(value)
        if (point := point_of(Origin(path, made, turn, part))) is not None
    }
    if not new:
        return value
    return type(value)(new.get(part, each) for part, each in enumerate(value))
