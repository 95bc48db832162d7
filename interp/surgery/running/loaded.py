"""Which functions are loaded from a file, and are they what the file says now?

loaded_functions(source, node)   # the function objects that one outermost def of the file made
made_within(functions)           # those that they made in turn, such as closures
"""

import gc
import sys
from collections.abc import Iterable
from functools import lru_cache, partial
from types import CellType, CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from interp.errors import SurgeryError
from interp.surgery.source.syntax import FunctionNode, Source, parse

Place = tuple[str, int]  # a function's qualified name, and the line of its def
Functions = dict[Place, tuple[FunctionType, ...]]
Version = tuple[int, ...]  # ids of what a module defines: other ones after it was loaded again

_found: dict[Source, tuple[Version, Functions]] = {}


def loaded_functions(source: Source, node: FunctionNode) -> tuple[FunctionType, ...]:
    """The function objects that were loaded from one ``def`` of a file; none where it was not.

    Raises:
        SurgeryError: what was loaded is not what the file says.
    """
    return loaded_at(source, (parse(source).qualname[node], node.lineno))


def loaded_at(source: Source, place: Place) -> tuple[FunctionType, ...]:
    """The function objects that were loaded from the ``def`` at a place of a file."""
    version = version_of(source)
    known = _found.get(source)
    if known is None or known[0] != version or not known[1]:
        for other in [other for other in _found if other.path == source.path]:
            del _found[other]  # or what is kept here would keep an older module alive
        known = _found[source] = version, functions_by_place(source)
    return known[1].get(place, ())


def made_on_import(source: Source) -> Functions:
    """The functions that functions of a file made when it was imported, such as what a decorator
    puts around a method, by qualified name and line of ``def``.

    Raises:
        SurgeryError: one of them is not what the file says.
    """
    module = sys.modules.get(source.module)
    lines, codes = places(source), codes_of_file(source)
    found: dict[Place, tuple[FunctionType, ...]] = {}
    seen: dict[int, Any] = {}
    waiting = [] if module is None else list(vars(module).values())
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, type) and item.__module__ == source.module:
            waiting += vars(item).values()
        elif isinstance(item, (staticmethod, classmethod)):
            waiting.append(item.__func__)
        elif isinstance(item, property):
            waiting += [item.fget, item.fset]
        elif isinstance(item, partial):
            waiting.append(item.func)
        elif isinstance(item, (list, tuple)):
            waiting += item
        elif type(item) is dict:
            waiting += item.values()
        elif isinstance(item, FunctionType):
            waiting += [cell.cell_contents for cell in item.__closure__ or () if is_full(cell)]
            waiting += vars(item).values()
            place = item.__code__.co_qualname, item.__code__.co_firstlineno
            if item.__code__.co_filename != str(source.path) or "<locals>" not in place[0]:
                continue
            if place in lines and is_same_code(item.__code__, codes[place[0], lines[place]]):
                known = place[0], lines[place]
                found[known] = (*found.get(known, ()), item)
    return found


def is_full(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def version_of(source: Source) -> Version:
    """Tells a file that was loaded again from the one that was loaded first."""
    module = sys.modules.get(source.module)
    held = [] if module is None else list(vars(module).values())
    return id(module), *(id(item) for item in held if isinstance(item, (FunctionType, type)))


def functions_by_place(source: Source) -> Functions:
    """Every function loaded from the file, by qualified name and line of its ``def``; found
    however deep decorators hide it.

    Raises:
        SurgeryError: one of them is not what the file says.
    """
    lines, codes = places(source), codes_of_file(source)
    found: dict[Place, list[FunctionType]] = {}

    def is_current(function: FunctionType) -> bool:
        place = function.__code__.co_qualname, function.__code__.co_firstlineno
        return place in lines and is_same_code(function.__code__, codes[place[0], lines[place]])

    functions = alive(source)
    if not all(map(is_current, functions)):
        gc.collect()  # those of a module that was loaded again, if nothing needs them any more
        functions = alive(source)
    for function in functions:
        name, line = function.__code__.co_qualname, function.__code__.co_firstlineno
        if not is_current(function):
            raise SurgeryError(
                f"{name} as loaded is not what {source.path} says now: the file was edited since "
                "it was imported; start Python afresh"
            )
        found.setdefault((name, lines[name, line]), []).append(function)
    return {place: tuple(functions) for place, functions in found.items()}


def alive(source: Source) -> list[FunctionType]:
    """The functions of the file that are in memory, but for those that others made."""
    return [
        item
        for item in gc.get_objects()
        if type(item) is FunctionType
        and item.__code__.co_filename == str(source.path)
        and "<" not in item.__code__.co_qualname
    ]


def places(source: Source) -> dict[Place, int]:
    """The line of a function's ``def``, by its qualified name and where its code may begin: there,
    or at a decorator."""
    syntax = parse(source)
    return {
        (syntax.qualname[node], line): node.lineno
        for node in syntax.functions()
        for line in (node.lineno, *(decorator.lineno for decorator in node.decorator_list))
    }


@lru_cache(maxsize=64)
def codes_of_file(source: Source) -> dict[Place, CodeType]:
    """The code of every function as the file says now, by qualified name and line of ``def``."""
    lines = places(source)
    module = compile(source.text, str(source.path), "exec", dont_inherit=True)
    return {
        (code.co_qualname, lines[code.co_qualname, code.co_firstlineno]): code
        for code in codes_within([module])
        if (code.co_qualname, code.co_firstlineno) in lines
    }


def codes_within(codes: Iterable[CodeType]) -> list[CodeType]:
    """Every code object inside others, at any depth."""
    inner = [item for code in codes for item in code.co_consts if isinstance(item, CodeType)]
    return inner + codes_within(inner) if inner else []


def is_same_code(one: CodeType, other: CodeType) -> bool:
    """Whether two code objects do the same: operations, constants and names alike."""
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and one.co_freevars == other.co_freevars
        and one.co_cellvars == other.co_cellvars
        and len(one.co_consts) == len(other.co_consts)
        and all(map(is_same_constant, one.co_consts, other.co_consts))
    )


def is_same_constant(one: object, other: object) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return is_same_code(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(is_same_constant, one, other))
    if isinstance(one, frozenset) and isinstance(other, frozenset):  # equal sets differ in order
        return {(type(each), repr(each)) for each in one} == {
            (type(each), repr(each)) for each in other
        }
    return type(one) is type(other) and repr(one) == repr(other)  # 0.0 is not -0.0, nor 1 True


def scripted_names(source: Source, model: nn.Module) -> frozenset[str]:
    """The classes and functions of a file that TorchScript runs in a model's stead: what it
    compiled is no Python any more, and no cut reaches it."""
    module = sys.modules.get(source.module)
    held = [] if module is None else list(vars(module).values())
    functions = {str(item.name) for item in held if isinstance(item, torch.jit.ScriptFunction)}
    classes = {
        str(part.original_name)
        for part in model.modules()
        if isinstance(part, torch.jit.ScriptModule)
    }
    return frozenset(functions | classes)
