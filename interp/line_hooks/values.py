"""Which expressions of a model's own files make values that can be hooked, and how?

A value is hooked where a line gives it a name (``x = y``, ``x += y``, ``q, k = y``), and where it
has none but is returned, or handed on, as in ``self.down(self.act(x) * y)``. The function then runs
a copy of its code in which that expression is passed to a function first.

    for made in made_values(parse(source)):
        print(made.names, made.line)     # ('query_states',) 242
"""

import ast
import copy
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from interp.surgery.running.observing import Place, place_of
from interp.surgery.source.syntax import FUNCTION, FunctionNode, Syntax

INPUT, OUTPUT, RETURNED = "input", "output", "returned"


_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class Made:
    """An expression, or an update such as ``x += …``, whose value can be hooked.

    Args:
        syntax: of the file; kept, for the nodes below are its own.
        place: where in the file it stands.
        names: of the value, or of each part of a tuple; a part without a name has "".
        function: the outermost function that holds it.
        statement: that it belongs to, which is shown.
        is_call: whether it is a call, which may be one of a module.
        is_argument: whether it is what a call is handed.
        is_unpacked: whether it is only taken apart, each part to a name: ``q, k, v = qkv``.
        number: by which the code that passes it on knows it.
    """

    syntax: Syntax
    place: Place
    names: tuple[str, ...]
    function: FunctionNode
    statement: ast.stmt
    is_call: bool = False
    is_argument: bool = False
    is_unpacked: bool = False
    number: int = field(default_factory=_numbers.__next__)

    @property
    def line(self) -> int:
        """The number of the line on which its statement begins."""
        return self.statement.lineno

    def name_of(self, part: int | None) -> str:
        """The name of the value, or of a part of a tuple; "" where it has none."""
        if part is None or len(self.names) > 1:
            return self.names[part or 0] if (part or 0) < len(self.names) else ""
        return f"{self.names[0]}_{part}"


class Origin(NamedTuple):
    """Where in a run a value is made: what a module returns, or what a line makes inside it.

    Args:
        path: the module's.
        made: the expression; None for what the module returns.
        turn: which time the line makes it in one call of the module, from 0.
        part: of a tuple.
    """

    path: str
    made: Made | None = None
    turn: int = 0
    part: int | None = None

    @property
    def told(self) -> tuple[Any, ...]:
        """The same as words and numbers, which mean the same in another process."""
        made = self.made and (str(self.made.syntax.source.path), *self.made.place)
        return self.path, made, self.turn, self.part


@lru_cache(maxsize=64)
def made_values(syntax: Syntax) -> tuple[Made, ...]:
    """Every expression of a file whose value can be hooked, function by function. Views of models
    of one file have these in common, and what was compiled for them."""
    return tuple(find_made(syntax))


def find_made(syntax: Syntax) -> Iterator[Made]:
    for function in syntax.outermost_functions():
        statement: ast.stmt = function
        for node in in_own_frame(function):
            if isinstance(node, ast.stmt):
                statement = node
            for target, names in named_in(node):
                yield Made(
                    *(syntax, place_of(target), names, function, statement),
                    is_call=isinstance(target, ast.Call),
                    is_argument=isinstance(node, ast.Call),
                    is_unpacked=len(names) > 1 and len(getattr(node, "targets", ())) == 1,
                )


def in_own_frame(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a function does, in the order of the file: nothing of a function within it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTION, ast.Lambda, ast.ClassDef, ast.arguments)):
            yield child
            yield from in_own_frame(child)


def named_in(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, tuple[str, ...]]]:
    """The values that a statement or a call gives a name to, with their names."""
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        names = bound_names_of(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        value = node if isinstance(node, ast.AugAssign) else node.value
        if names and value is not None:
            yield value, names
    elif isinstance(node, ast.Return) and node.value is not None:
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        yield from ((part, (RETURNED,)) for part in parts if is_unnamed(part))
    elif isinstance(node, ast.Call) and node.args and is_unnamed(node.args[0]):
        yield node.args[0], (INPUT,)


def bound_names_of(target: ast.expr) -> tuple[str, ...]:
    """The names that an assignment binds; none where it changes a part of something."""
    if isinstance(target, ast.Name):
        return (target.id,)
    if isinstance(target, ast.Attribute):
        return (target.attr,)
    if isinstance(target, (ast.Tuple, ast.List)):
        if any(isinstance(part, ast.Starred) for part in target.elts):
            return ()
        return tuple("".join(bound_names_of(part)[:1]) for part in target.elts)
    return ()


def is_unnamed(node: ast.expr) -> bool:
    return not isinstance(node, (ast.Name, ast.Attribute, ast.Constant, ast.Starred))


class Passing(ast.NodeTransformer):
    """Passes the value of chosen places to a function, with its number."""

    def __init__(self, function: str, numbers: dict[Place, int]) -> None:
        self.function = function
        self.numbers = numbers

    def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
        if isinstance(node, (*FUNCTION, ast.Lambda, ast.ClassDef)):
            return node
        place = place_of(node) if isinstance(node, (ast.expr, ast.stmt)) else None
        self.generic_visit(node)
        number = self.numbers.get(place) if place else None
        if number is None:
            return node
        if isinstance(node, ast.AugAssign):
            read = copy.deepcopy(node.target)
            read.ctx = ast.Load()
            after = ast.Assign([copy.deepcopy(node.target)], self.passed(number, read))
            return [node, ast.copy_location(after, node)]
        assert isinstance(node, ast.expr)
        return ast.copy_location(self.passed(number, node), node)

    def passed(self, number: int, value: ast.expr) -> ast.Call:
        return ast.Call(ast.Name(self.function, ast.Load()), [ast.Constant(number), value], [])


def passing_body(made: Collection[Made], function: str) -> list[ast.stmt]:
    """The body of a function of a file, in which chosen values are passed on by number."""
    node = next(iter(made)).function
    transform = Passing(function, {each.place: each.number for each in made})
    body: list[ast.stmt] = []
    for statement in copy.deepcopy(node.body):
        changed = transform.visit(statement)
        body += changed if isinstance(changed, list) else [changed]  # type: ignore[list-item]
    return body
