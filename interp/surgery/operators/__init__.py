"""Which cuts are there?

Each operator is generic over models: a pattern of syntax, a condition on what the expressions were
when they ran, what stands there instead, and a reading in a few words of what that takes away. None
knows a model by name. Without observations every operator that needs none proposes what the syntax
alone allows.

    for proposal in propose(parse(source)):
        print(proposal.operator, proposal.target)
"""

import ast
from collections.abc import Iterator
from typing import cast

from interp.surgery.operators.calls import bypass_call, identity_module, linked_calls, swap_axis
from interp.surgery.operators.constants import (
    flip_bool,
    linked_sizes,
    pin_attribute,
    set_constant,
    untie,
)
from interp.surgery.operators.control import deletions, drop_context, force_branch, trim_loop
from interp.surgery.operators.dataflow import Dataflow
from interp.surgery.operators.sums import cut_sum, cut_update, drop_factor
from interp.surgery.operators.values import reference_places, stand_in
from interp.surgery.operators.view import Proposal, View
from interp.surgery.running.observing import Observations
from interp.surgery.source.syntax import FunctionNode, Syntax

__all__ = ["OPERATORS", "Proposal", "View", "propose", "reference_places"]

# From the most telling to the least: the first whose effect is known is a line's headline.
OPERATORS = (
    "cut-skip",
    "cut-branch",
    "drop-term",
    "bypass-call",
    "drop-factor",
    "untie",
    "pin-attribute",
    "trim-loop",
    "drop-context",
    "flip-bool",
    "swap-axis",
    "identity-module",
    "delete-statement",
    "zero",
    "mean",
    "shuffle",
    "set-constant",
    "force-branch",
)


def propose(syntax: Syntax, observations: Observations | None = None) -> list[Proposal]:
    """Every cut that every operator proposes, in the order of the file.

    Args:
        syntax: the file's.
        observations: from a run; only what ran is cut then, and types decide what can be cut.
    """
    view = View(syntax, observations)
    proposals: list[Proposal] = []
    lines = None if observations is None else observations.lines
    flows: dict[FunctionNode, Dataflow] = {}
    for node in syntax.bodies:
        statement = syntax.statement(node)
        function = syntax.function(node)
        assert function is not None
        if not view.ran(statement):
            continue
        if function not in flows:
            flows[function] = Dataflow(function, lines)
        proposals += cuts_of(view, node, function, flows[function])
    proposals += linked_calls(syntax, proposals)
    proposals += linked_sizes(view)
    edits = [edit for proposal in proposals for edit in proposal.edits]
    covered = {syntax.statement_at(edit.start) for edit in edits} - {None}
    proposals += deletions(view, cast(set[ast.stmt], covered))
    order = {operator: rank for rank, operator in enumerate(OPERATORS)}
    return sorted(proposals, key=lambda p: (p.edits[0].line, order[p.operator], not p.safe))


def cuts_of(
    view: View, node: ast.expr | ast.stmt, function: FunctionNode, flow: Dataflow
) -> Iterator[Proposal]:
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            yield from cut_sum(view, node, flow)
        case ast.BinOp(op=ast.Mult() | ast.Div()):
            yield from drop_factor(view, node)
        case ast.Call():
            yield from bypass_call(view, node)
            yield from swap_axis(view, node)
            yield from identity_module(view, node)
        case ast.Constant(value=bool()):
            yield from flip_bool(view, node)
        case ast.Constant(value=int() | float()):
            yield from set_constant(view, node)
        case ast.For():
            yield from trim_loop(view, node)
        case ast.With() | ast.AsyncWith():
            yield from drop_context(view, node)
        case ast.If() | ast.IfExp() | ast.While():
            yield from force_branch(view, node)
        case ast.AugAssign():
            yield from cut_update(view, node)
        case ast.Assign() | ast.AnnAssign() | ast.Return():
            if isinstance(node, ast.Assign) and function.name == "__init__":
                yield from pin_attribute(view, node)
            if isinstance(node, ast.Assign):
                yield from untie(view, node)
            yield from stand_in(view, node)
