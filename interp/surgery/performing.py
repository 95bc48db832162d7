"""How is a trained model cut without building it again?

The code object of the edited function gives way to one that holds both bodies, the edited and the
original, and takes the edited one in the chosen layers. The function itself stays: its globals, its
closure (zero-argument ``super()`` works), its signature, every decorator around it. Weights are
neither copied nor touched, and everything is undone on exit.

    with performed(cut, model):
        damaged = model(tokens)
"""

import ast
import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import count
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from interp.errors import SurgeryError
from interp.surgery.edits import Edit, Surgery
from interp.surgery.modules import edited_name, know_lines
from interp.surgery.stand_ins import STAND_INS
from interp.surgery.syntax import FUNCTION, FunctionNode, Source, Syntax, parse

_numbers = count()


@contextmanager
def performed(
    surgery: Surgery,
    model: nn.Module | None = None,
    *,
    names: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Inside the block, the functions that a surgery edits run as edited.

    Args:
        surgery: what is cut, in which layers.
        model: whose layers are meant; needed only where the surgery is made in some layers.
        names: what names that the edited code reads stand for, beyond the function's own globals.

    Raises:
        SurgeryError: a function that is not loaded, or was loaded from another text than the file
            holds now; a layer that the model does not have.
    """
    if surgery.layers is not None and model is None:
        raise SurgeryError(f"{surgery.id} is made in some layers: say of which model")
    here = f"_surgery_{next(_numbers)}"
    filename = edited_name(surgery)
    codes: dict[FunctionType, CodeType] = {}
    for node, edits in by_function(surgery).items():
        code = both_bodies(surgery.source, node, edits, filename, here)
        functions = loaded_functions(surgery.source, node)
        if not functions:
            raise SurgeryError(
                f"{surgery.qualname} of {surgery.source.path} is not loaded: import the file "
                "before operating on it"
            )
        codes |= dict.fromkeys(functions, code)
    know_lines(filename, surgery.text)
    with ExitStack() as stack:
        chosen: Callable[[], bool] = everywhere
        if surgery.layers is not None:
            assert model is not None
            chosen = stack.enter_context(inside_layers(model, surgery.layers))
        stack.enter_context(swapped(codes, {**STAND_INS, **(names or {}), here: chosen}))
        yield


def everywhere() -> bool:
    return True


@contextmanager
def swapped(codes: Mapping[FunctionType, CodeType], names: Mapping[str, Any]) -> Iterator[None]:
    """Inside the block the functions run other code, and their globals hold ``names`` too."""
    before = {function: function.__code__ for function in codes}
    spaces = {id(function.__globals__): function.__globals__ for function in codes}
    added = [(space, name) for space in spaces.values() for name in names if name not in space]
    try:
        for space, name in added:
            space[name] = names[name]
        for function, code in codes.items():
            function.__code__ = code
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code
        for space, name in added:
            del space[name]


def layer_of(name: str) -> int | None:
    """The layer in a module's dotted name: its first number."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def layer_modules(model: nn.Module) -> dict[int, list[nn.Module]]:
    """The modules that are a layer, by number: ``blocks.2`` but not ``blocks.2.experts.0``."""
    found: dict[int, list[nn.Module]] = {}
    for name, module in model.named_modules():
        *outer, last = name.split(".")
        if last.isdigit() and not any(part.isdigit() for part in outer):
            found.setdefault(int(last), []).append(module)
    return found


@contextmanager
def following_layers(model: nn.Module) -> Iterator[Callable[[], int | None]]:
    """Inside the block, a function that says in which layer of ``model`` the run is just now."""
    running: list[int] = []
    handles = []
    for layer, modules in layer_modules(model).items():
        for module in modules:

            def enter(*_: Any, layer: int = layer) -> None:
                running.append(layer)

            def leave(*_: Any) -> None:
                running.pop()

            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield lambda: running[-1] if running else None
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def inside_layers(model: nn.Module, layers: Sequence[int]) -> Iterator[Callable[[], bool]]:
    known = layer_modules(model)
    if missing := [layer for layer in layers if layer not in known]:
        raise SurgeryError(
            f"{type(model).__name__} has no layer {missing[0]}; its layers are {sorted(known)}"
        )
    with following_layers(model) as current:
        yield lambda: current() in layers


def by_function(surgery: Surgery) -> dict[FunctionNode, list[Edit]]:
    """The edits, by the outermost function in which they are."""
    syntax = parse(surgery.source)
    found: dict[FunctionNode, list[Edit]] = {}
    for edit in surgery.edits:
        found.setdefault(syntax.owner_at(edit.start), []).append(edit)
    return found


@lru_cache(maxsize=64)
def functions_by_place(source: Source) -> dict[tuple[str, int], tuple[FunctionType, ...]]:
    """Every function loaded from the file, by qualified name and line of its ``def``; found
    however deep decorators hide it."""
    lines = places(source)
    found: dict[tuple[str, int], list[FunctionType]] = {}
    for item in gc.get_objects():
        if type(item) is not FunctionType or item.__code__.co_filename != str(source.path):
            continue
        name = item.__code__.co_qualname
        line = lines.get((name, item.__code__.co_firstlineno))
        if line is not None:
            found.setdefault((name, line), []).append(item)
    return {place: tuple(functions) for place, functions in found.items()}


def places(source: Source) -> dict[tuple[str, int], int]:
    """The line of a function's ``def``, by its qualified name and where its code may begin: there,
    or at a decorator."""
    syntax = parse(source)
    return {
        (syntax.qualname[node], line): node.lineno
        for node in syntax.functions()
        for line in (node.lineno, *(decorator.lineno for decorator in node.decorator_list))
    }


def loaded_functions(source: Source, node: FunctionNode) -> tuple[FunctionType, ...]:
    """The function objects that were loaded from one ``def`` of a file; none where it was not."""
    place = parse(source).qualname[node], node.lineno
    functions = functions_by_place(source).get(place)
    if functions is None:  # loaded since, or never
        functions_by_place.cache_clear()
        functions = functions_by_place(source).get(place)
    if functions is None:
        return ()
    check_unchanged(source, place)
    return functions


@lru_cache(maxsize=4096)
def check_unchanged(source: Source, place: tuple[str, int]) -> None:
    """Once for each function, before it is first operated on.

    Raises:
        SurgeryError: what was loaded is not what the file says.
    """
    code = codes_of_file(source)[place]
    if any(f.__code__.co_code != code.co_code for f in functions_by_place(source)[place]):
        raise SurgeryError(
            f"{place[0]} as loaded is not what {source.path} says now: the file was edited since "
            "it was imported; start Python afresh"
        )


@lru_cache(maxsize=64)
def codes_of_file(source: Source) -> dict[tuple[str, int], CodeType]:
    """The code of every function as the file says now, by qualified name and line of ``def``."""
    lines = places(source)
    codes, found = [compile(source.text, str(source.path), "exec", dont_inherit=True)], {}
    while codes:
        code = codes.pop()
        codes += [item for item in code.co_consts if isinstance(item, CodeType)]
        line = lines.get((code.co_qualname, code.co_firstlineno))
        if line is not None:
            found[code.co_qualname, line] = code
    return found


def both_bodies(
    source: Source, node: FunctionNode, edits: Sequence[Edit], filename: str, here: str
) -> CodeType:
    """The function with the edited body where the name ``here`` says so, else with its own."""
    syntax = parse(source)
    chosen = ast.Call(ast.Name(here, ast.Load()), [], [])
    either = ast.If(chosen, edited_function(syntax, node, edits).body, node.body)
    ast.copy_location(either, node.body[0])
    return compiled(syntax, node, [either], filename)


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


def compiled(
    syntax: Syntax, node: FunctionNode, body: Sequence[ast.stmt], filename: str
) -> CodeType:
    """The code object of a function with another body, as if compiled where it stands."""
    function = copy.copy(node)
    function.args = bare_arguments(node.args)
    function.body = list(body)
    function.decorator_list = []
    function.returns = None
    statement: ast.stmt = function
    names = syntax.qualname[node].split(".")
    for name in reversed(names[:-1]):
        bare = ast.ClassDef(name, [], [], [statement], [])
        bare.type_params = []  # type: ignore[attr-defined]  # Python 3.12 and later
        statement = ast.copy_location(bare, node)
    module = ast.fix_missing_locations(ast.Module([statement], []))
    code = compile(module, filename, "exec", dont_inherit=True)
    for name in names:
        code = next(
            item for item in code.co_consts if isinstance(item, CodeType) and item.co_name == name
        )
    return code


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
