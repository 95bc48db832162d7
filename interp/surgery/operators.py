"""Which cuts are there?

Each operator is generic over models: a pattern of syntax, what stands there instead, and a reading
in a few words of what that takes away. None knows a model by name.

    for proposal in propose(parse(source)):
        print(proposal.operator, proposal.target)
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interp.surgery.dataflow import Dataflow
from interp.surgery.edits import Edit, replace_node
from interp.surgery.syntax import Syntax


@dataclass(frozen=True)
class Proposal:
    """A cut that an operator proposes: what is cut, where, and what it takes away."""

    operator: str
    node: ast.AST
    target: str
    reading: str
    edits: tuple[Edit, ...]


def propose(syntax: Syntax) -> Iterator[Proposal]:
    """Every cut that every operator proposes, in the order of the file."""
    flows = {function: Dataflow(function) for function in syntax.functions()}
    for node in syntax.bodies(syntax.tree):
        function = syntax.function(node)
        assert function is not None
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
            yield from cut_sum(syntax, node, flows[function])
        elif isinstance(node, ast.Call):
            yield from bypass_call(syntax, node)
        elif isinstance(node, ast.Assign) and function.name == "__init__":
            yield from pin_attribute(syntax, node)


def proposal(
    syntax: Syntax, operator: str, node: ast.expr, target: str, reading: str, code: str
) -> Proposal:
    return Proposal(operator, node, target, reading, (replace_node(syntax, node, code),))


def cut_sum(syntax: Syntax, node: ast.BinOp, flow: Dataflow) -> Iterator[Proposal]:
    """``x + f(x)``: without the skip, without the branch. ``a + b``: without each term."""
    left, right = syntax.code(node.left), syntax.code(node.right)
    added = isinstance(node.op, ast.Add)
    for skip, branch in ((node.left, node.right), (node.right, node.left)):
        if added and flow.is_skip(skip, branch) and not flow.is_skip(branch, skip):
            kept, dropped = syntax.code(branch), syntax.code(skip)
            reading = f"no skip: only the branch {kept} passes"
            yield proposal(syntax, "cut-skip", node, dropped, reading, kept)
            reading = f"no branch: {dropped} passes {kept} by"
            yield proposal(syntax, "cut-branch", node, kept, reading, dropped)
            return
    yield proposal(syntax, "drop-term", node, right, f"without the term {right}", left)
    without = right if added else f"-{right}"
    yield proposal(syntax, "drop-term", node, left, f"without the term {left}", without)


def bypass_call(syntax: Syntax, node: ast.Call) -> Iterator[Proposal]:
    """``f(x)`` gives way to ``x``, and ``x.m()`` to ``x``."""
    if isinstance(node.func, ast.Attribute) and not is_named(syntax, node.func.value):
        called, kept = f".{node.func.attr}", syntax.code(node.func.value)
    elif node.args and not isinstance(node.args[0], ast.Starred):
        called, kept = syntax.code(node.func), syntax.code(node.args[0])
    else:
        return
    reading = f"{called.removeprefix('self.')} is passed by"
    yield proposal(syntax, "bypass-call", node, called, reading, kept)


def is_named(syntax: Syntax, node: ast.expr) -> bool:
    """Whether a dotted name starts at ``self``, ``cls`` or something the file imports or defines:
    what is called on it is a function or module, not a method of a value."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return isinstance(node, ast.Name) and node.id in {"self", "cls", *module_names(syntax)}


def module_names(syntax: Syntax) -> set[str]:
    names = set()
    for statement in syntax.tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
        elif isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            names.add(statement.name)
    return names


def pin_attribute(syntax: Syntax, node: ast.Assign) -> Iterator[Proposal]:
    """``self.n_head = config.n_head`` in ``__init__`` becomes ``self.n_head = 1``."""
    for target in own_attributes(node.targets):
        if isinstance(node.value, (ast.Attribute, ast.Name, ast.BinOp)):
            name = syntax.code(target)
            reading = f"{target.attr} is 1"
            yield proposal(syntax, "pin-attribute", node.value, name, reading, "1")


def own_attributes(targets: Sequence[ast.expr]) -> list[ast.Attribute]:
    return [
        target
        for target in targets
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    ]
