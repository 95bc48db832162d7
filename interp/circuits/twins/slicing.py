"""Which statements make one value of another, within a function and in those that called it?

chain = trace_back(run, syntax, function, node, layer, stream)
chain.statements, chain.leaves      # what is to be repeated, and where the stream is read
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from interp.circuits.twins.following import FollowedRun
from interp.surgery.source.syntax import FUNCTION, FunctionNode, Syntax

MEASURES = ("shape", "size", "ndim", "dim", "dtype", "device")
"""What is asked of a tensor that is the same whatever numbers it holds."""

Assigned = ast.Assign | ast.AnnAssign | ast.AugAssign


@dataclass(eq=False)
class Chain:
    """How one expression follows from a value, in one function.

    Args:
        end: the expression.
        statements: assignments on the way to it, in the order of the file.
        leaves: expressions on the way that are the value.
        names: the names that are bound on the way and follow from it.
        parameters: of the function, those that follow from the value.
        handed: names on the way that are a parameter as it was handed in.
        depends: every expression on the way that follows from it.
    """

    syntax: Syntax
    function: FunctionNode
    module: nn.Module
    layer: int | None
    end: ast.expr
    statements: list[Assigned] = field(default_factory=list)
    leaves: list[ast.expr] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    parameters: set[str] = field(default_factory=set)
    handed: set[ast.Name] = field(default_factory=set)
    depends: set[ast.expr] = field(default_factory=set)

    @property
    def own(self) -> str:
        """What the function calls the module that it is a method of."""
        return self.function.args.args[0].arg


def trace_back(
    run: FollowedRun,
    syntax: Syntax,
    function: FunctionNode,
    module: nn.Module,
    end: ast.expr,
    layer: int | None,
    value: Tensor,
) -> Chain:
    """How an expression follows from a value, as far as one function shows it."""
    chain = Chain(syntax, function, module, layer, end)
    bindings = list(assignments_that_ran(run, syntax, function, layer))
    seen: dict[ast.expr, bool] = {}

    def follows(node: ast.AST) -> bool:
        """Whether an expression follows from the value; notes what lies on the way."""
        if isinstance(node, ast.expr) and node in seen:
            return seen[node]
        if isinstance(node, (*FUNCTION, ast.Lambda)):
            return False
        if isinstance(node, ast.Attribute) and node.attr in MEASURES:
            return False
        found = False
        if isinstance(node, ast.expr) and run.is_value(syntax, node, layer, value):
            chain.leaves.append(node)
            found = True
        elif isinstance(node, ast.Name):
            found = isinstance(node.ctx, ast.Load) and name_follows(node)
        else:
            for child in ast.iter_child_nodes(node):
                found = follows(child) or found
        if isinstance(node, ast.expr):
            seen[node] = found
            if found:
                chain.depends.add(node)
        return found

    def name_follows(node: ast.Name) -> bool:
        held = run.value(syntax, node, layer)
        if not isinstance(held, (Tensor, tuple)):
            return False
        made = last_binding(bindings, syntax, node)
        if made is None:
            arguments = function.args
            known = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            if node.id in {argument.arg for argument in known[1:]}:
                chain.parameters.add(node.id)
                chain.handed.add(node)
                return True
            return False
        assert made.value is not None
        found = follows(made.value)
        if isinstance(made, ast.AugAssign):
            before = last_binding(bindings, syntax, made.target)
            found = found or (before is not None and name_of_binding(before, node.id))
        if found and made not in chain.statements:
            chain.statements.append(made)
            chain.names.add(node.id)
        return found

    def name_of_binding(made: Assigned, name: str) -> bool:
        assert made.value is not None
        if follows(made.value):
            if made not in chain.statements:
                chain.statements.append(made)
                chain.names.add(name)
            return True
        return False

    follows(end)
    chain.statements.sort(key=lambda each: each.lineno)
    return chain


def assignments_that_ran(
    run: FollowedRun, syntax: Syntax, function: FunctionNode, layer: int | None
) -> Iterator[Assigned]:
    """The assignments of a function that ran in a layer, in the order of the file."""
    for node in ast.walk(function):
        if not isinstance(node, Assigned) or node.value is None:
            continue
        if run.times(syntax, node.value, layer):
            yield node


def last_binding(bindings: list[Assigned], syntax: Syntax, node: ast.expr) -> Assigned | None:
    """The last of some assignments before a name that binds it."""
    name = node.id if isinstance(node, ast.Name) else ""
    statement = syntax.statement(node)
    before = [
        each
        for each in bindings
        if each is not statement
        and each.lineno <= statement.lineno
        and name in names_bound_by(each)
    ]
    return max(before, key=lambda each: each.lineno) if before else None


def names_bound_by(statement: Assigned) -> list[str]:
    """The names that an assignment binds, in their order."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    parts = [part for t in targets for part in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return [part.id if isinstance(part, ast.Name) else "" for part in parts]


def callers(
    run: FollowedRun, function: FunctionNode, module: nn.Module, layer: int | None
) -> Iterator[tuple[Syntax, FunctionNode, nn.Module, ast.Call]]:
    """The calls of a module's method that ran in a layer, or outside layers, with the methods in
    which they stand."""
    for where in dict.fromkeys([layer, None]):
        for syntax, outer, owner in run.functions(where):
            own = outer.args.args[0].arg
            for node in ast.walk(outer):
                if not isinstance(node, ast.Call):
                    continue
                called = attribute_of(node.func, own, owner)
                named = isinstance(node.func, ast.Attribute) and node.func.attr == function.name
                method = named and owner is module and outer is not function
                if called is module or (method and getattr(called, "__self__", None) is module):
                    yield syntax, outer, owner, node


def attribute_of(node: ast.expr, own: str, owner: nn.Module) -> object:
    """What ``self.a.b`` stands for; None where an expression is nothing of the kind."""
    if isinstance(node, ast.Name):
        return owner if node.id == own else None
    if isinstance(node, ast.Attribute):
        return getattr(attribute_of(node.value, own, owner), node.attr, None)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        held = attribute_of(node.value, own, owner)
        try:
            return held[node.slice.value]  # type: ignore[index]
        except (TypeError, KeyError, IndexError):
            return None
    return None


def argument_for(call: ast.Call, function: FunctionNode, name: str) -> ast.expr | None:
    """What a call hands to a parameter of a method."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    taken = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)][1:]
    if name not in taken or any(isinstance(each, ast.Starred) for each in call.args):
        return None
    place = taken.index(name)
    return call.args[place] if place < len(call.args) else None
