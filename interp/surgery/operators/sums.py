"""Cuts of sums and products: without the skip, the branch, a term, a factor."""

import ast
from collections.abc import Iterator

from interp.surgery.operators.dataflow import Dataflow
from interp.surgery.operators.view import Proposal, View, is_number
from interp.surgery.source.edits import add_brackets, on_one_statement


def cut_sum(view: View, node: ast.BinOp, flow: Dataflow) -> Iterator[Proposal]:
    """``x + f(x)``: without the skip, without the branch. ``a + b``: without each term."""
    if not is_number(view.seen(node)):
        return
    left, right = view.code(node.left), view.code(node.right)
    left_fits, right_fits = view.fits(node.left, node), view.fits(node.right, node)
    added = isinstance(node.op, ast.Add)
    for skip, branch in ((node.left, node.right), (node.right, node.left)):
        if added and flow.is_skip(skip, branch) and not flow.is_skip(branch, skip):
            kept, dropped = view.code(branch), view.code(skip)
            fits = view.fits(branch, node)
            reading = f"no skip: only the branch {kept} passes"
            yield view.proposal("cut-skip", node, dropped, reading, kept, fits)
            fits = view.fits(skip, node)
            reading = f"no branch: {dropped} passes {kept} by"
            yield view.proposal("cut-branch", node, kept, reading, dropped, fits)
            return
    yield view.proposal("drop-term", node, right, f"without the term {right}", left, left_fits)
    kept = right if added else f"-{add_brackets(right)}"
    yield view.proposal("drop-term", node, left, f"without the term {left}", kept, right_fits)


def cut_update(view: View, node: ast.AugAssign) -> Iterator[Proposal]:
    """``x += y`` and ``x *= y``: without the update, and ``y`` alone."""
    target, value = view.code(node.target), view.code(node.value)
    if isinstance(node.op, (ast.Add, ast.Sub)):
        reading = f"without the term {value}"
        yield view.proposal("cut-branch", node, value, reading, "pass")
        update = on_one_statement(value) if isinstance(node.op, ast.Add) else f"-({value})"
        reading = f"no skip: only {value} passes"
        yield view.proposal("cut-skip", node, target, reading, f"{target} = {update}")
    elif isinstance(node.op, (ast.Mult, ast.Div)):
        reading = f"without the factor {value}"
        yield view.proposal("drop-factor", node, value, reading, "pass")


def drop_factor(view: View, node: ast.BinOp) -> Iterator[Proposal]:
    """``a * b`` without each factor, ``a / b`` without the divisor."""
    if not is_number(view.seen(node)):
        return
    left, right = view.code(node.left), view.code(node.right)
    fits = view.fits(node.left, node)
    yield view.proposal("drop-factor", node, right, f"without the factor {right}", left, fits)
    if isinstance(node.op, ast.Mult):
        fits = view.fits(node.right, node)
        yield view.proposal("drop-factor", node, left, f"without the factor {left}", right, fits)
