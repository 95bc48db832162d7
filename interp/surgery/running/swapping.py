"""How does a function that is loaded run other code?

Its code object is swapped for one that passes its arguments on: to the edited function where it is
meant, elsewhere to the function as it was. The function object stays: its globals, its closure
(zero-argument ``super()`` works), every decorator around it.

    with swap_codes(syntax, {function: (node, code)}, names, filename):
        model(tokens)
"""

import __future__

import ast
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from types import CellType, CodeType, FunctionType
from typing import Any

from interp.errors import SurgeryError
from interp.surgery.running.loaded import codes_within, made_on_import, places
from interp.surgery.source.syntax import FUNCTION, Edit, FunctionNode, Syntax

_numbers = count()


def everywhere() -> bool:
    return True


@contextmanager
def swap_codes(
    syntax: Syntax,
    codes: Mapping[FunctionType, tuple[FunctionNode, CodeType]],
    names: Mapping[str, Any],
    filename: str,
    chosen: Callable[[], bool] = everywhere,
) -> Iterator[None]:
    """Inside the block the functions run other code where ``chosen`` says so, and their globals
    hold ``names`` too.

    Args:
        syntax: of the file from which the functions were loaded.
        codes: for each function, its ``def`` and the code to run.
        names: what the code reads beyond the functions' own globals.
        filename: under which the code runs.
        chosen: asked at each call.
    """
    passing: dict[FunctionType, CodeType] = {}
    known = dict(names)
    for function, (node, code) in codes.items():
        name = f"_surgery_{next(_numbers)}"
        known[name] = either(like(function, code), like(function, function.__code__), chosen)
        passing[function] = passing_on(syntax, node, function, code, name, filename)
    before = {function: function.__code__ for function in codes}
    spaces = {id(function.__globals__): function.__globals__ for function in codes}
    added = [(space, name) for space in spaces.values() for name in known if name not in space]
    try:
        for space, name in added:
            space[name] = known[name]
        for function, code in passing.items():
            set_code(function, code)
        yield
    finally:
        for function, code in before.items():
            set_code(function, code)
        for space, name in added:
            del space[name]


def either(
    one: FunctionType, other: FunctionType, chosen: Callable[[], bool]
) -> Callable[[], FunctionType]:
    return lambda: one if chosen() else other


def like(function: FunctionType, code: CodeType) -> FunctionType:
    """A function with other code and the same globals and closure. It is given every argument, and
    needs no default values."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if "__class__" in code.co_freevars and "__class__" not in cells:  # an edit brought in super()
        cells["__class__"] = CellType(class_of_method(function))
    closure = tuple(cells[name] for name in code.co_freevars)
    return FunctionType(code, function.__globals__, function.__name__, None, closure)


def class_of_method(function: FunctionType) -> Any:
    """The class in whose body a method was defined."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split(".")[:-1]:
        found = getattr(found, part)
    return found


def set_code(function: FunctionType, code: CodeType) -> None:
    with warnings.catch_warnings():  # a generator becomes a function, as is meant
        warnings.simplefilter("ignore", DeprecationWarning)
        function.__code__ = code


def passing_on(
    syntax: Syntax,
    node: FunctionNode,
    function: FunctionType,
    edited: CodeType,
    name: str,
    filename: str,
) -> CodeType:
    """The code of a function that passes the arguments of ``edited`` on to what ``name`` gives."""
    load = ast.Load()
    taken = node.args
    given: list[ast.expr] = [ast.Name(a.arg, load) for a in (*taken.posonlyargs, *taken.args)]
    if taken.vararg:
        given.append(ast.Starred(ast.Name(taken.vararg.arg, load), load))
    free_names = function.__code__.co_freevars
    only = edited.co_varnames[edited.co_argcount :]  # names as the compiler spells private ones
    named = [
        ast.keyword(spelt, ast.Name(argument.arg, load))
        for spelt, argument in zip(only, taken.kwonlyargs, strict=False)
    ]
    if taken.kwarg:
        named.append(ast.keyword(None, ast.Name(taken.kwarg.arg, load)))
    call = ast.Call(ast.Call(ast.Name(name, load), [], []), given, named)
    # a function keeps its closure only while its code has as many free variables
    free = [ast.Expr(ast.Name(cell, load)) for cell in free_names]
    body = [ast.copy_location(item, node) for item in (*free, ast.Return(call))]
    return compile_function(syntax, node, body, filename, ast.FunctionDef, free_names)


def compile_function(
    syntax: Syntax,
    node: FunctionNode,
    body: Sequence[ast.stmt],
    filename: str,
    kind: type[FunctionNode] | None = None,
    free: Sequence[str] = (),
) -> CodeType:
    """The code object of a function with another body, as if compiled where it stands; ``kind``
    makes a plain function of an ``async`` one, and ``free`` are the variables of functions around
    it."""
    function = (kind or type(node))(**dict(ast.iter_fields(node)))
    ast.copy_location(function, node)
    function.args = bare_arguments(node.args)
    function.body = list(body)
    function.decorator_list = []
    function.returns = None
    statement: ast.stmt = function
    *outer, own = syntax.qualname[node].replace(".<locals>", "<locals>").split(".")
    names = [*(name.removesuffix("<locals>") for name in outer), own]
    for name in reversed(outer):
        bare: Any = ast.ClassDef(name, [], [], [statement], [])
        if name.endswith("<locals>"):
            held = [ast.arg(one) for one in free]
            taken = ast.arguments([], held, None, [], [], None, [])
            bare = ast.FunctionDef(name.removesuffix("<locals>"), taken, [statement], [])
        bare.type_params = []  # Python 3.12 and later
        statement = ast.copy_location(bare, node)
    module = ast.fix_missing_locations(ast.Module([statement], []))
    flags = future_flags(syntax)
    code = compile(module, filename, "exec", flags=flags, dont_inherit=True)
    for name in names:
        code = next(
            item for item in code.co_consts if isinstance(item, CodeType) and item.co_name == name
        )
    return code


def future_flags(syntax: Syntax) -> int:
    """What a file imports from ``__future__``, for the compiler."""
    names = [
        alias.name
        for statement in syntax.tree.body
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        for alias in statement.names
    ]
    flags = 0
    for name in names:
        flags |= getattr(__future__, name).compiler_flag
    return flags


def bare_arguments(arguments: ast.arguments) -> ast.arguments:
    """The same parameters without annotations and default values, which the code never reads."""

    def bare(argument: ast.arg) -> ast.arg:
        return ast.copy_location(ast.arg(argument.arg), argument)

    return ast.arguments(
        posonlyargs=[bare(argument) for argument in arguments.posonlyargs],
        args=[bare(argument) for argument in arguments.args],
        vararg=arguments.vararg and bare(arguments.vararg),
        kwonlyargs=[bare(argument) for argument in arguments.kwonlyargs],
        kw_defaults=[None] * len(arguments.kwonlyargs),
        kwarg=arguments.kwarg and bare(arguments.kwarg),
        defaults=[],
    )


def edited_function(syntax: Syntax, node: FunctionNode, edits: Sequence[Edit]) -> FunctionNode:
    """The tree of one function with edits made, its lines those of the file."""
    text = syntax.spliced(syntax.line_start(node), syntax.span(node)[1], edits)
    if node.col_offset:
        text = "\n" * (node.lineno - 2) + "if True:\n" + text
    else:
        text = "\n" * (node.lineno - 1) + text
    for found in ast.walk(ast.parse(text)):
        if isinstance(found, FUNCTION):
            return found
    raise AssertionError("an edit lies within its function")


def inner_codes(
    syntax: Syntax, node: FunctionNode, code: CodeType
) -> dict[FunctionType, tuple[FunctionNode, CodeType]]:
    """The functions that a function made when its file was imported, each with its ``def`` and
    what ``code``, other code for the function that made it, makes of it.

    Raises:
        SurgeryError: it would read a variable that the function in memory does not hold.
    """
    source = syntax.source
    inside = {
        (syntax.qualname[inner], inner.lineno): inner
        for inner in ast.walk(node)
        if isinstance(inner, FUNCTION) and inner is not node
    }
    if not inside:
        return {}
    lines = places(source)
    made = made_on_import(source)
    found: dict[FunctionType, tuple[FunctionNode, CodeType]] = {}
    for other in codes_within([code]):
        place = other.co_qualname, lines.get((other.co_qualname, other.co_firstlineno), 0)
        for function in made.get(place, ()):
            if place in inside:
                if missing := {*other.co_freevars} - {*function.__code__.co_freevars}:
                    raise SurgeryError(
                        f"{place[0]} was made when the file was imported and holds no "
                        f"{min(missing)}, which it would read with the cut"
                    )
                found[function] = inside[place], other
    return found
