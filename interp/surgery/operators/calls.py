"""Cuts of calls: passed by, over another axis, of a module that does nothing."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

from torch import nn

from interp.surgery.operators.constants import own_attributes
from interp.surgery.operators.view import Proposal, View
from interp.surgery.source.edits import add_brackets, merge_statements
from interp.surgery.source.syntax import Syntax

AXIS_NAMES = {"dim", "axis"}
PARTS_OF = (ast.Call, ast.keyword, ast.List, ast.Tuple, ast.Dict, ast.ListComp, ast.GeneratorExp)
AXIS_METHODS = {"softmax", "log_softmax", "mean", "sum", "cumsum", "var", "std", "norm", "amax"}


def bypass_call(view: View, node: ast.Call) -> Iterator[Proposal]:
    """``f(x)`` becomes ``x``, and ``x.m()`` becomes ``x``."""
    kept = passed_by(view, node)
    if kept is None:
        return
    method = isinstance(node.func, ast.Attribute) and node.func.value is kept
    called = f".{node.func.attr}" if method else view.code(node.func)  # type: ignore[attr-defined]
    reading = f"{called.removeprefix('self.')} is passed by"
    code = view.code(kept)
    result = view.seen(node)
    fits = view.fits(kept, node)
    if result is not None and result.parts:
        code = f"({add_brackets(code)}, {', '.join(['None'] * (len(result.parts) - 1))})"
        fits = True
    yield view.proposal("bypass-call", node, called, reading, code, fits)


def passed_by(view: View, node: ast.Call) -> ast.expr | None:
    """What would pass a call by: the value whose method it is, else an argument."""
    receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
    arguments = [a for a in node.args if not isinstance(a, ast.Starred)]
    arguments += [keyword.value for keyword in node.keywords if keyword.arg]
    if view.observations is None:
        if receiver is not None and not is_named(view.syntax, receiver):
            return receiver
        return node.args[0] if node.args and arguments[:1] == node.args[:1] else None
    result = view.seen(node)
    if result is not None and len(result.parts) > 1:
        result = result.parts[0]
    if result is None or not result.is_tensor:
        return None
    candidates = [receiver, *arguments] if receiver is not None else arguments
    tensors = [
        (item, found)
        for item in candidates
        if (found := view.seen(item)) is not None
        and found.is_tensor
        and found.is_float_tensor >= result.is_float_tensor
    ]
    same = [item for item, found in tensors if found.shape == result.shape]
    if receiver is not None and tensors and tensors[0][0] is receiver:
        return receiver
    return same[0] if same else tensors[0][0] if tensors else None


def is_named(syntax: Syntax, node: ast.expr) -> bool:
    """Whether a dotted name starts at ``self``, ``cls`` or something the file imports or defines:
    what is called on it is a function or module, not a method of a value."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return isinstance(node, ast.Name) and node.id in {"self", "cls", *syntax.module_names}


def swap_axis(view: View, node: ast.Call) -> Iterator[Proposal]:
    """``softmax(dim=-1)`` over another axis."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in AXIS_METHODS:
        return
    named = [keyword.value for keyword in node.keywords if keyword.arg in AXIS_NAMES]
    for axis in [*named, *node.args]:
        if not isinstance(axis, (ast.Constant, ast.UnaryOp)):
            continue
        try:
            number = ast.literal_eval(axis)
        except ValueError:
            continue
        if type(number) is int:
            other = {-1: -2, 0: 1}.get(number, number + 1 if number < 0 else number - 1)
            reading = f"{node.func.attr} over axis {other} instead of {number}"
            yield view.proposal("swap-axis", axis, f".{node.func.attr}", reading, str(other))
            return


def identity_module(view: View, node: ast.Call) -> Iterator[Proposal]:
    """``self.ln = LayerNorm(...)`` becomes ``self.ln = nn.Identity()``, and so does each of the
    modules that another is made of: ``nn.Sequential(nn.Linear(...), nn.ReLU())``."""
    parent = view.syntax.parent[node]
    result = view.seen(node)
    if result is None or not issubclass(result.kind, nn.Module):
        return
    made: list[tuple[str, str]] = []
    if isinstance(parent, ast.Assign) and parent.value is node:
        made = [(view.code(found), found.attr) for found in own_attributes(parent.targets)]
    elif isinstance(parent, PARTS_OF):
        made = [(view.code(node.func), view.code(node.func))]
    for target, shown in made:
        for name, code in (("nn", "nn.Identity()"), ("torch", "torch.nn.Identity()")):
            if name in view.syntax.module_names:
                reading = f"{shown} does nothing"
                yield view.proposal("identity-module", node, target, reading, code)
                break


def linked_calls(syntax: Syntax, proposals: Iterable[Proposal]) -> Iterator[Proposal]:
    """Calls of one name on one line, passed by together."""
    together: dict[tuple[int, str], list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        if proposal.operator == "bypass-call":
            together[proposal.edits[0].line, proposal.target].append(proposal)
    for (_, target), linked in together.items():
        edits = sorted((p.edits[0] for p in linked), key=lambda edit: edit.start)
        apart = all(one.stop <= two.start for one, two in pairwise(edits))
        if len(linked) > 1 and apart:
            yield replace(
                linked[0],
                target=f"every {target}",
                edits=merge_statements(syntax.source, edits),
                reading=f"every {target.removeprefix('self.')} is passed by",
            )
