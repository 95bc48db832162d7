"""How does a reader's line come by another stream?"""

import ast
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from interp.circuits.graph import Reader
from interp.circuits.twins.copying import (
    check_bound,
    copy_chain,
    in_brackets,
    is_read_elsewhere,
    patched,
)
from interp.circuits.twins.making import READ, EdgeEdits, no_module, under
from interp.circuits.twins.places import CodeSite
from interp.circuits.twins.slicing import (
    Chain,
    argument_for,
    callers,
    names_bound_by,
    trace_back,
)
from interp.errors import SurgeryError
from interp.surgery.running.observing import place_of
from interp.surgery.source.syntax import Syntax, parse


def read_edge(making: EdgeEdits, reader: Reader, site: CodeSite | None) -> None:
    """Hands a reader the other stream.

    Args:
        site: where its value is made; None of the logits.
    """
    if site is None:
        read_logits(making)
    elif reader.kind == "mlp":
        read_mlp(making, reader, site)
    else:
        read_head(making, reader, site)


def reader_kind(reader: Reader) -> str | None:
    """Which value of its layer a reader makes, of ``KINDS``; None of the logits."""
    return None if reader.kind == "logits" else reader.kind


def read_logits(making: EdgeEdits) -> None:
    """The first line behind the layers that makes something else of the stream."""
    stream = making.lines.summed.blocks.last
    end = max(
        each.number for all in making.run.noted.values() for each in all if each.layer is not None
    )
    found: list[tuple[int, Syntax, ast.stmt]] = []
    for source in making.run.sources:
        syntax = parse(source)
        for statement in syntax.statements:
            value = getattr(statement, "value", None)
            if not isinstance(value, ast.expr):
                continue
            times = making.run.times(syntax, value, None)
            often = len(making.run.noted.get((source, place_of(value)), []))
            if not times or often > 1 or times[-1].number < end:
                continue
            if making.run.is_value(syntax, value, None, stream):
                continue
            if list(leaves_of(making, syntax, value, None, stream)):
                found.append((times[-1].number, syntax, statement))
    if not found:
        raise SurgeryError("no line behind the layers reads the stream")
    _, syntax, statement = min(found, key=lambda each: each[0])
    value = getattr(statement, "value")  # noqa: B009
    for leaf in leaves_of(making, syntax, value, None, stream):
        making.of(syntax).put(leaf, partial(patch_leaf, syntax, leaf))


def patch_leaf(syntax: Syntax, leaf: ast.expr, code: str) -> str:
    return in_brackets(leaf, syntax, patched(code))


def leaves_of(
    making: EdgeEdits, syntax: Syntax, node: ast.AST, layer: int | None, value: Tensor
) -> Sequence[ast.expr]:
    """The outermost expressions of another that are a value."""
    if isinstance(node, ast.expr) and making.run.is_value(syntax, node, layer, value):
        return [node]
    return [
        leaf
        for child in ast.iter_child_nodes(node)
        for leaf in leaves_of(making, syntax, child, layer, value)
    ]


def read_mlp(making: EdgeEdits, reader: Reader, site: CodeSite) -> None:
    layer = reader.layer
    assert layer is not None
    *_, chain = chains_to(making, site, layer, taken_stream(making, layer, "mlp"))
    edits = making.of(chain.syntax)
    condition = making.is_module("reader", chain.module, chain.own)
    if is_read_elsewhere(making, chain):
        read_early(making, chain, condition)
        return
    for leaf in chain.leaves:
        statement = chain.syntax.statement(leaf)
        own = names_bound_by(statement) if isinstance(statement, ast.Assign) else []
        if isinstance(leaf, ast.Name) and own == [leaf.id]:
            changed = f"{leaf.id} = {patched(leaf.id)}"  # the line itself binds it anew
            edits.before(statement, [f"if {condition}:", f"    {changed}"])
        else:
            edits.put(leaf, partial(patch_leaf_where, chain.syntax, leaf, condition))


def patch_leaf_where(syntax: Syntax, leaf: ast.expr, condition: str, code: str) -> str:
    return in_brackets(leaf, syntax, f"{patched(code)} if {condition} else {code}")


def read_head(making: EdgeEdits, reader: Reader, site: CodeSite) -> None:
    layer, head, kind = reader.layer, reader.head, reader.kind
    assert layer is not None and head is not None
    first, *outer = chains_to(making, site, layer, taken_stream(making, layer, kind))
    condition = making.is_module("reader", first.module, first.own)
    for chain in outer:
        hand_in(making, chain)
    width = making.lines.summed.blocks.values[layer][kind].shape[-1]
    part = making.index(site, head, width)
    copied, code = copy_chain(making, first, dict.fromkeys(first.parameters, READ))
    name = making.name_of(site, kind)
    other, targets = f"edge_{name}", f"edge_{name}"
    if site.name and isinstance(site.statement, ast.Assign):  # which may bind several
        bound = names_bound_by(site.statement)
        targets = ", ".join(other if each == name else "_" for each in bound)
    making_other = [*copied, f"{targets} = {code}"]
    taking_it = [f"{name} = {name}.clone()", f"{name}{part} = {other}{part}"]
    if outer:
        check_bound(first, site.statement)
        making.behind(site, name, under(condition, [*making_other, *taking_it]))
        return
    starts = first.statements[0] if first.statements else site.statement
    check_bound(first, starts)
    making.of(site.syntax).before(starts, under(condition, making_other))
    making.behind(site, name, under(condition, taking_it))


def hand_in(making: EdgeEdits, chain: Chain) -> None:
    """Before a method is called, what it would be handed of the other stream."""
    reader = making.modules["reader"]
    condition = making.is_module(
        "reader", reader, making.lines.spelt(reader, chain.own, chain.module)
    )
    if chain.parameters and chain.leaves:
        raise SurgeryError(f"the stream comes to {chain.function.name} in several ways")
    copied, code = copy_chain(making, chain, dict.fromkeys(chain.parameters, READ))
    if not copied and code == READ:
        return  # it hands on what it was handed
    starts = chain.statements[0] if chain.statements else chain.syntax.statement(chain.end)
    check_bound(chain, starts)
    last = chain.statements[-1] if chain.statements else None
    if (
        last is not None
        and isinstance(chain.end, ast.Name)
        and names_bound_by(last) == [chain.end.id]
    ):
        code = copied.pop().partition(" = ")[2]
    lines = [*copied, f"{READ} = {code}"]
    making.of(chain.syntax).before(starts, [f"if {condition}:", *(f"    {line}" for line in lines)])


def taken_stream(making: EdgeEdits, layer: int, kind: str) -> Tensor:
    """What a reader of a layer takes from."""
    blocks = making.lines.summed.blocks
    entering = blocks.entering[layer]
    if kind == "mlp" and not blocks.is_parallel(layer):
        return entering + blocks.values[layer]["attn"]
    return entering


def chains_to(making: EdgeEdits, site: CodeSite, layer: int, stream: Tensor) -> list[Chain]:
    """How a value follows from the stream: in its own function, then in those that called
    it."""
    if site.module is None:
        raise no_module(site.syntax, site.function)
    chain = trace_back(
        *(making.run, site.syntax, site.function, site.module, site.node, layer, stream)
    )
    return [chain, *outer_chains(making, chain, stream)]


def outer_chains(making: EdgeEdits, chain: Chain, stream: Tensor) -> list[Chain]:
    """How what a function is handed follows from the stream in those that called it, the innermost
    first."""
    if chain.leaves:
        return []
    for syntax, function, module, call in callers(
        making.run, chain.function, chain.module, chain.layer
    ):
        for name in sorted(chain.parameters):
            handed = argument_for(call, chain.function, name)
            if handed is None:
                continue
            there = trace_back(*(making.run, syntax, function, module, handed, chain.layer, stream))
            try:
                further = outer_chains(making, there, stream)
            except SurgeryError:
                continue
            chain.parameters = {name}
            return [there, *further]
    raise SurgeryError(
        f"how {chain.function.name} of {chain.syntax.source.file} comes by the stream is not "
        "seen in the model's own files"
    )


def read_early(making: EdgeEdits, chain: Chain, condition: str) -> None:
    """Before others read what a chain makes too, its end is made of the other stream."""
    copied, code = copy_chain(making, chain, {})
    check_bound(chain, chain.statements[0])
    lines = [*copied, f"{READ} = {code}"]
    edits = making.of(chain.syntax)
    edits.before(chain.statements[0], under(condition, lines))
    edits.put(
        chain.end,
        lambda own: in_brackets(chain.end, chain.syntax, f"{READ} if {condition} else {own}"),
    )
