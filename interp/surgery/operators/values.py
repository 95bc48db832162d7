"""Stand-ins for a value: zero, another position's, a mean."""

import ast
from collections.abc import Iterator, Sequence

from torch import Tensor

from interp.surgery.operators.stand_ins import MEAN
from interp.surgery.operators.view import Proposal, View
from interp.surgery.running.observing import Place, place_of
from interp.surgery.source.edits import add_brackets
from interp.surgery.source.syntax import Syntax


def stand_in(view: View, node: ast.Assign | ast.AnnAssign | ast.Return) -> Iterator[Proposal]:
    """An assigned float tensor becomes zero, each position's another one's, or a mean."""
    if view.observations is None:
        return
    for number, value in enumerate(assigned_values(node)):
        seen = view.seen(value)
        if seen is None:
            continue
        target = assigned_name(view, node, number)
        code = add_brackets(view.code(value))
        if seen.parts and all(part.is_float_tensor for part in seen.parts):
            new = f"tuple({zeros(view, 'part')} for part in {code})"
            yield view.proposal("zero", value, target, f"{target} is zero", new)
        if not seen.is_float_tensor or not issubclass(seen.kind, Tensor):
            continue
        code = view.code(value)
        yield view.proposal("zero", value, target, f"{target} is zero", zeros(view, code))
        axes = view.axes(value)
        if axes is None:
            continue
        new = f"surgery_shuffle({code}, {axes.positions[0]})"
        reading = f"each position's {target} is that of another, not later one"
        yield view.proposal("shuffle", value, target, reading, new)
        if len(axes.positions) == 1:  # of [query key] the mean would see the future
            new = f'{MEAN}({code}, "{mean_key(view.syntax, value)}")'
            reading = f"{target} is its mean over the reference texts"
            yield view.proposal("mean", value, target, reading, new)


def assigned_values(node: ast.AST) -> Sequence[ast.expr]:
    """What an assignment or a return hands on: one value, or those of a tuple."""
    value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Return)) else None
    if value is None:
        return []
    if isinstance(value, ast.Tuple) and not any(isinstance(e, ast.Starred) for e in value.elts):
        return value.elts
    return [value]


def assigned_name(view: View, node: ast.Assign | ast.AnnAssign | ast.Return, number: int) -> str:
    if isinstance(node, ast.Return):
        return "return"
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        target = target.elts[number] if number < len(target.elts) else target
    return view.code(target)


def reference_places(syntax: Syntax) -> dict[Place, str]:
    """Where the values stand whose means can stand in for them, and the means' names."""
    return {
        place_of(value): mean_key(syntax, value)
        for node in syntax.bodies
        for value in assigned_values(node)
    }


def zeros(view: View, code: str) -> str:
    if "torch" in view.syntax.module_names:
        return f"torch.zeros_like({code})"
    return f"({code}).clone().zero_()"


def mean_key(syntax: Syntax, node: ast.expr) -> str:
    """Names an assigned expression in the table of reference means."""
    return f"{syntax.source.file}:{node.lineno}:{node.col_offset}"
