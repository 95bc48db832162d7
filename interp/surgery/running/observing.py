"""Which lines run, and what is each expression?

The file's functions run once with a probe around every expression that is read. A probe hands its
value on as it is, so that the outcome is the same to the bit, and notes type, shape and dtype.

    observations = Observations(source)
    with observing(observations, "judge"):
        judge(model)
    observations.of(node).shape
"""

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any, cast

import torch
from torch import Tensor

from interp.status import Status
from interp.surgery.guarding.outcomes import has_name
from interp.surgery.running.loaded import loaded_functions
from interp.surgery.running.swapping import (
    compile_function,
    edited_function,
    inner_codes,
    swap_codes,
)
from interp.surgery.source.syntax import FUNCTION, NO_CODE, SCOPE, Edit, FunctionNode, Source, parse

Place = tuple[int, int, int, int, str]  # first and last line and column, kind of syntax
PROBE = "_surgery_probe"
STATEMENTS = frozenset(kind.__name__ for kind in ast.stmt.__subclasses__())


@dataclass
class Seen:
    """What one expression was, the first time that it ran; ``kind`` is its class, or the first
    above it that is found under its name: one made while a model is built, as parametrizations
    are, is known in that process alone."""

    kind: type
    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    value: int | None = None
    parts: "tuple[Seen, ...]" = ()  # of a tuple or a list

    @property
    def is_tensor(self) -> bool:
        return self.dtype is not None

    @property
    def is_float_tensor(self) -> bool:
        return self.dtype is not None and self.dtype.is_floating_point


def seen(value: Any) -> Seen:
    kind = next(cls for cls in type(value).__mro__ if has_name(cls))
    if isinstance(value, Tensor):
        return Seen(kind, tuple(value.shape), value.dtype)
    if isinstance(value, int) and not isinstance(value, bool):
        return Seen(kind, value=value)
    if type(value) in (tuple, list) and len(value) <= 8:
        return Seen(kind, parts=tuple(seen(part) for part in value))
    return Seen(kind)


@dataclass(frozen=True)
class Axes:
    """The axis along which a value holds one entry for each text, and those of the positions: two
    in attention scores [batch head query key]."""

    texts: int
    positions: tuple[int, ...]


@dataclass
class Observations:
    """What every expression of a file was, in which phases it ran, in which layers, and which of
    its axes are the texts and the positions."""

    source: Source
    axes: dict[Place, Axes] = field(default_factory=dict)
    seen: dict[Place, Seen] = field(default_factory=dict)
    ran_in: dict[Place, set[tuple[str, int | None]]] = field(default_factory=dict)

    def of(self, node: ast.AST) -> Seen | None:
        """What an expression was; None if it never ran."""
        return self.seen.get(place_of(node))

    def axes_of(self, node: ast.AST) -> Axes | None:
        """An expression's axes; None where it has none of texts or none of positions."""
        return self.axes.get(place_of(node))

    @property
    def lines(self) -> frozenset[int]:
        """Every line on which an expression that ran begins."""
        return frozenset(place[0] for place in self.ran_in)

    def phases(self, statement: ast.stmt) -> set[str]:
        """The phases in which a statement's own expressions ran; none: it is dead."""
        return {phase for phase, _ in self._ran_in(statement)}

    def layers(self, statement: ast.stmt, phase: str) -> set[int]:
        """The layers in which a statement ran in a phase."""
        ran = self._ran_in(statement)
        return {layer for when, layer in ran if when == phase and layer is not None}

    def _ran_in(self, statement: ast.stmt) -> set[tuple[str, int | None]]:
        own = [item for root in own_expressions(statement) for item in ast.walk(root)]
        places = [place_of(item) for item in own if isinstance(item, ast.expr)]
        places.append(place_of(statement))
        return set().union(*(self.ran_in.get(place, set()) for place in places))

    def note(self, place: Place, phase: str, layer: int | None, value: Any) -> None:
        ran_in = self.ran_in.setdefault(place, set())
        if (phase, layer) not in ran_in:
            ran_in.add((phase, layer))
            if place not in self.seen and not is_statement(place):
                self.seen[place] = seen(value)


@contextmanager
def observing(
    observations: Observations,
    phase: str,
    edits: Sequence[Edit] = (),
    layer: Callable[[], int | None] = lambda: None,
    watch: Callable[[Place, Any], None] | None = None,
) -> Iterator[None]:
    """Inside the block, every function of the file that is loaded notes what it reads.

    Args:
        observations: where it is noted.
        phase: the name of what runs now.
        edits: a preparatory surgery, made first.
        layer: says in which layer the run is just now.
        watch: is handed every value too, with its place.
    """
    source = observations.source
    syntax = parse(source)
    table: list[Place] = []
    codes: dict[FunctionType, tuple[FunctionNode, CodeType]] = {}
    for node in syntax.outermost_functions():
        functions = loaded_functions(source, node)
        if not functions:  # defined under a condition that did not hold
            continue
        start, stop = syntax.span(node)
        inside = [edit for edit in edits if start <= edit.start < stop]
        plain = edited_function(syntax, node, inside) if inside else node
        body = Probes(table).visit_body(copy.deepcopy(plain.body))
        code = compile_function(syntax, node, body, str(source.path))
        codes |= dict.fromkeys(functions, (node, code))
        codes |= inner_codes(syntax, node, code)

    trace_into = cast(Any, torch._C)._set_tracing_state

    def probe(index: int, value: Any) -> Any:
        tracing = torch._C._get_tracing_state()
        trace_into(None)  # torch.jit.trace is not to record what is noted
        observations.note(table[index], phase, layer(), value)
        if watch is not None and not is_statement(table[index]):
            watch(table[index], value)
        trace_into(tracing)
        return value

    with swap_codes(syntax, codes, {PROBE: probe}, str(source.path)):
        yield


class Probes(ast.NodeTransformer):
    """Puts a probe before every statement and around every expression that is read, except what is
    called, and what the syntax does not let be wrapped."""

    def __init__(self, table: list[Place]) -> None:
        self.table = table

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, (ast.JoinedStr, ast.Lambda, ast.Raise, ast.pattern)):
            return node
        if isinstance(node, ast.ClassDef):
            node.body = [
                self.visit(item) if isinstance(item, SCOPE) else item for item in node.body
            ]
            return node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = self.visit_body(node.body)
            return node
        if isinstance(node, ast.Call):
            return self.probed(node, self.visit_call(node))
        if isinstance(node, ast.AnnAssign):
            node.value = node.value and self.visit(node.value)
            return node
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, self.visit_body(value))
            elif isinstance(value, list):
                setattr(node, name, [self.visit_part(part) for part in value])
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
        unread = (ast.Starred, ast.Slice, ast.Yield, ast.YieldFrom, ast.Await)
        if not isinstance(node, ast.expr) or isinstance(node, unread):
            return node
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return node
        return self.probed(node, node)

    def visit_part(self, part: Any) -> Any:
        return self.visit(part) if isinstance(part, ast.AST) else part

    def visit_body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        probed: list[ast.stmt] = []
        for statement in body:
            if not isinstance(statement, NO_CODE):
                self.table.append(place_of(statement))
                mark = self.call_probe(statement, ast.Constant(None))
                probed.append(ast.copy_location(ast.Expr(mark), statement))
            probed.append(self.visit(statement))
        return probed

    def visit_call(self, node: ast.Call) -> ast.Call:
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        elif not isinstance(node.func, ast.Name):
            node.func = self.visit(node.func)
        node.args = [self.visit(argument) for argument in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        return node

    def probed(self, node: ast.expr, visited: ast.expr) -> ast.expr:
        self.table.append(place_of(node))
        return self.call_probe(node, visited)

    def call_probe(self, node: ast.expr | ast.stmt, value: ast.expr) -> ast.expr:
        """The call that notes a value at the place that the table has last."""
        name, index = ast.Name(PROBE, ast.Load()), ast.Constant(len(self.table) - 1)
        call = ast.Call(name, [index, value], [])
        for made in (name, index, value, call):
            if not hasattr(made, "lineno"):
                ast.copy_location(made, node)
        return call


def is_statement(place: Place) -> bool:
    return place[4] in STATEMENTS


def place_of(node: ast.AST) -> Place:
    assert isinstance(node, (ast.expr, ast.stmt))
    assert node.end_lineno is not None and node.end_col_offset is not None
    kind = type(node).__name__
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, kind


def own_expressions(statement: ast.stmt) -> list[ast.AST]:
    """A statement's own expressions, without those of its body."""
    if isinstance(statement, (ast.If, ast.While)):
        return [statement.test]
    if isinstance(statement, (ast.For, ast.AsyncFor)):
        return [statement.iter]
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        return [item.context_expr for item in statement.items]
    if isinstance(statement, ast.Match):
        return [statement.subject]
    if isinstance(statement, (*FUNCTION, ast.ClassDef, ast.Try, ast.TryStar)):
        return []
    return [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr)]


def why_without_cut(statement: ast.stmt, ran: bool) -> tuple[str, str]:
    """The status and its reason of a statement that no operator cuts; of one that only says what
    went wrong, and did not run, none."""
    if (
        not ran
        and own_expressions(statement)
        and not isinstance(statement, (ast.Raise, ast.Assert))
    ):
        return Status.DEAD, "the line never ran"
    if ran and isinstance(statement, ast.Break):
        return Status.TIMEOUT, "not cut: the loop would not end without it"
    return (Status.EQUIVALENT, "not cut: it computes nothing") if ran else ("", "")
