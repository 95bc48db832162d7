"""Cuts of settings: a flag turned, a number changed, an attribute pinned, a weight untied."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence

from interp.surgery.operators.view import Proposal, View, is_number
from interp.surgery.source.edits import merge_statements, replace_node


def flip_bool(view: View, node: ast.Constant) -> Iterator[Proposal]:
    """``is_causal=True`` becomes ``is_causal=False``."""
    parent = view.syntax.parent[node]
    code = view.code(node)
    name = str(parent.arg) if isinstance(parent, ast.keyword) else code
    reading = f"{name} is {not node.value} instead of {code}"
    yield view.proposal("flip-bool", node, name, reading, str(not node.value))


def set_constant(view: View, node: ast.Constant) -> Iterator[Proposal]:
    """A float ten times as large; a whole number that multiplies or divides becomes 1."""
    code = view.code(node)
    parent = view.syntax.parent[node]
    if isinstance(node.value, float) and node.value != 0:
        value = repr(10 * node.value) if abs(node.value) >= 1e-3 else f"{10 * node.value:.6g}"
    elif isinstance(parent, ast.BinOp) and isinstance(node.value, int) and node.value > 1:
        if not isinstance(parent.op, (ast.Mult, ast.Div, ast.FloorDiv)):
            return
        if view.observations is not None and not is_number(view.seen(parent)):
            return  # a size: linked_sizes
        value = "1"
    else:
        return
    reading = f"{value} instead of {code}"
    yield view.proposal("set-constant", node, code, reading, value)


def linked_sizes(view: View) -> Iterator[Proposal]:
    """A whole factor of a size becomes 1 wherever the same expression sets one, together: the
    width of the MLP in the layer that makes it and in the layer that reads it."""
    if view.observations is None:
        return
    uses: dict[tuple[str, str], list[ast.Constant]] = defaultdict(list)
    for node in view.syntax.bodies:
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Mult, ast.FloorDiv)):
            continue
        seen = view.seen(node)
        if seen is None or seen.value is None:
            continue
        for side in (node.left, node.right):
            if isinstance(side, ast.Constant) and type(side.value) is int and side.value > 1:
                uses[view.syntax.qualname[node], view.code(node)].append(side)
    for (_, code), constants in uses.items():
        edits = [replace_node(view.syntax, constant, "1") for constant in constants]
        merged = merge_statements(view.syntax.source, edits)
        reading = f"1 instead of {view.code(constants[0])} in {code}"
        yield Proposal("set-constant", constants[0], code, reading, merged)


def pin_attribute(view: View, node: ast.Assign) -> Iterator[Proposal]:
    """``self.n_head = config.n_head`` in ``__init__`` becomes ``self.n_head = 1``."""
    seen = view.seen(node.value)
    if view.observations is not None and (seen is None or (seen.value or 0) <= 1):
        return
    for target in own_attributes(node.targets):
        if isinstance(node.value, (ast.Attribute, ast.Name, ast.BinOp)):
            reading = f"{target.attr} is 1"
            yield view.proposal("pin-attribute", node.value, view.code(target), reading, "1")


def untie(view: View, node: ast.Assign) -> Iterator[Proposal]:
    """``self.a.weight = self.b.weight`` is left out: each keeps its own."""
    target, value = node.targets[0], node.value
    if (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Attribute)
        and isinstance(value, ast.Attribute)
        and target.attr == value.attr == "weight"
    ):
        reading = f"{view.code(target)} is a weight of its own"
        yield view.proposal("untie", node, view.code(target), reading, "pass")


def own_attributes(targets: Sequence[ast.expr]) -> list[ast.Attribute]:
    return [
        target
        for target in targets
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    ]
