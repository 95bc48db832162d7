"""How is a trained model cut without building it again?

The code object of the edited function gives way to one that passes its arguments on: to the edited
function in the chosen layers, elsewhere to the function as it was. Each is compiled by itself, as
the file would be, so that a name, a ``global`` or a ``yield`` that is cut means what it means in
the edited file. The function object stays: its globals, its closure (zero-argument ``super()``
works), its signature, every decorator around it. Weights are neither copied nor touched, and
everything is undone on exit.

    with perform(cut, model):
        damaged = model(tokens)
"""

import __future__

import ast
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from types import CodeType, FunctionType
from typing import Any, cast

from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from interp.errors import SurgeryError
from interp.surgery.edits import Edit, Surgery
from interp.surgery.kept import Kept, afresh
from interp.surgery.loaded import codes_within, loaded_functions, made_on_import, places
from interp.surgery.modules import edited_name, know_lines
from interp.surgery.stand_ins import STAND_INS
from interp.surgery.syntax import FUNCTION, FunctionNode, Source, Syntax, parse

_numbers = count()


@contextmanager
def perform(
    surgery: Surgery,
    model: nn.Module | None = None,
    *,
    names: Mapping[str, Any] | None = None,
    kept: Sequence[Kept] | None = None,
) -> Iterator[None]:
    """Inside the block, the functions that a surgery edits run as edited.

    Args:
        surgery: what is cut, in which layers.
        model: whose layers are meant; needed only where the surgery is made in some layers.
        names: what names that the edited code reads stand for, beyond the function's own globals.
        kept: what files keep of earlier runs, to be made anew; None is what ``lru_cache`` keeps in
            the surgery's file.

    Raises:
        SurgeryError: a function that is not loaded, or was loaded from another text than the file
            holds now; a layer that the model does not have.
    """
    if surgery.layers is not None and model is None:
        raise SurgeryError(f"{surgery.id} is made in some layers: say of which model")
    filename = edited_name(surgery)
    syntax = parse(surgery.source)
    codes: dict[FunctionType, tuple[FunctionNode, CodeType]] = {}
    for node, edits in by_function(surgery).items():
        edited = edited_function(syntax, node, edits)
        code = compile_function(syntax, node, edited.body, filename)
        functions = loaded_functions(surgery.source, node)
        if not functions:
            raise SurgeryError(
                f"{surgery.qualname} of {surgery.source.path} is not loaded: import the file "
                "before operating on it"
            )
        codes |= dict.fromkeys(functions, (node, code))
        codes |= inner_codes(surgery.source, node, code)
    know_lines(filename, surgery.text)
    with ExitStack() as stack:
        chosen: Callable[[], bool] = everywhere
        if surgery.layers is not None:
            assert model is not None
            chosen = stack.enter_context(inside_layers(model, surgery.layers))
        known = {**STAND_INS, **(names or {})}
        stack.enter_context(swap_codes(syntax, codes, known, filename, chosen))
        cut = {part for node in by_function(surgery) for part in syntax.qualname[node].split(".")}
        stack.enter_context(afresh([Kept(surgery.source)] if kept is None else kept, cut))
        yield


def inner_codes(
    source: Source, node: FunctionNode, code: CodeType
) -> dict[FunctionType, tuple[FunctionNode, CodeType]]:
    """The functions that a function made when its file was imported, each with its ``def`` and
    what ``code``, other code for the function that made it, makes of it.

    Raises:
        SurgeryError: it would read a variable that the function in memory does not hold.
    """
    syntax = parse(source)
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
        passing[function] = passing_on(syntax, node, function, name, filename)
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
    closure = tuple(cells[name] for name in code.co_freevars)
    return FunctionType(code, function.__globals__, function.__name__, None, closure)


def set_code(function: FunctionType, code: CodeType) -> None:
    with warnings.catch_warnings():  # that a generator gives way to a function is meant
        warnings.simplefilter("ignore", DeprecationWarning)
        function.__code__ = code


def passing_on(
    syntax: Syntax, node: FunctionNode, function: FunctionType, name: str, filename: str
) -> CodeType:
    """The code of a function that passes its arguments on to what ``name`` gives."""
    load = ast.Load()
    taken = node.args
    given: list[ast.expr] = [ast.Name(a.arg, load) for a in (*taken.posonlyargs, *taken.args)]
    if taken.vararg:
        given.append(ast.Starred(ast.Name(taken.vararg.arg, load), load))
    code = function.__code__
    only = code.co_varnames[code.co_argcount :]  # names as the compiler spells private ones
    named = [
        ast.keyword(spelt, ast.Name(argument.arg, load))
        for spelt, argument in zip(only, taken.kwonlyargs, strict=False)
    ]
    if taken.kwarg:
        named.append(ast.keyword(None, ast.Name(taken.kwarg.arg, load)))
    call = ast.Call(ast.Call(ast.Name(name, load), [], []), given, named)
    # a function keeps its closure only while its code has as many free variables
    free = [ast.Expr(ast.Name(cell, load)) for cell in code.co_freevars]
    body = [ast.copy_location(item, node) for item in (*free, ast.Return(call))]
    return compile_function(syntax, node, body, filename, ast.FunctionDef, code.co_freevars)


def layer_in_name(name: str) -> int | None:
    """The layer in a module's dotted name: its first number."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def layer_modules(model: nn.Module) -> dict[int, list[nn.Module]]:
    """The modules that are a layer, by number: ``blocks.2`` but not ``blocks.2.experts.0``. Of a
    list of modules, which is never called, the modules in it."""
    found: dict[int, list[nn.Module]] = {}
    for name, module in model.named_modules():
        *outer, last = name.split(".")
        if last.isdigit() and not any(part.isdigit() for part in outer):
            found.setdefault(int(last), []).extend(called_modules(module))
    return found


def called_modules(module: nn.Module) -> Iterator[nn.Module]:
    """The module itself; of a container without a ``forward``, the modules in it."""
    if type(module).forward is not nn.Module.forward:
        yield module
    else:
        for inner in module.children():
            yield from called_modules(inner)


@contextmanager
def following_layers(model: nn.Module) -> Iterator[Callable[[], int | None]]:
    """Inside the block, a function that says in which layer of ``model`` the run is just now.

    No hook is put on any module: ``nn.TransformerEncoderLayer`` takes another way where one is.
    """
    layer_by_id = {
        id(module): layer for layer, modules in layer_modules(model).items() for module in modules
    }
    running: list[int] = []

    def enter(module: nn.Module, *_: Any) -> None:
        if id(module) in layer_by_id:
            running.append(layer_by_id[id(module)])

    def leave(module: nn.Module, *_: Any) -> None:
        if id(module) in layer_by_id and running:
            running.pop()

    handles = [
        register_module_forward_pre_hook(cast(Any, enter)),
        register_module_forward_hook(cast(Any, leave), always_call=True),
    ]
    try:
        yield lambda: running[-1] if running else None
    finally:
        for handle in handles:
            handle.remove()


def check_layers(model: nn.Module, layers: Sequence[int]) -> None:
    """Raise ``SurgeryError`` where a model does not have the layers that are asked for."""
    known = sorted(layer_modules(model))
    if isinstance(layers, (str, int)) or not layers:
        raise SurgeryError(f"layers is {layers!r}: give numbers out of {known}, as in layers=[0]")
    if missing := [layer for layer in layers if layer not in known]:
        raise SurgeryError(
            f"{type(model).__name__} has no layer {missing[0]}; its layers are {known}"
        )


@contextmanager
def inside_layers(model: nn.Module, layers: Sequence[int]) -> Iterator[Callable[[], bool]]:
    if layers:
        check_layers(model, layers)
    with following_layers(model) as current:
        yield lambda: current() in layers


def by_function(surgery: Surgery) -> dict[FunctionNode, list[Edit]]:
    """The edits, by the outermost function in which they are."""
    syntax = parse(surgery.source)
    found: dict[FunctionNode, list[Edit]] = {}
    for edit in surgery.edits:
        found.setdefault(syntax.owner_at(edit.start), []).append(edit)
    return found


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
