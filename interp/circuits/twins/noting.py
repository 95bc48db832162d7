"""How does a writer's line note what it wrote?"""

import ast

import torch
from torch import Tensor

from interp.circuits.graph import Writer
from interp.circuits.twins.copying import (
    check_bound,
    copy_chain,
)
from interp.circuits.twins.making import SHAPE, WROTE, EdgeEdits, no_module, under
from interp.circuits.twins.places import FLAT, CodeSite
from interp.circuits.twins.slicing import (
    Chain,
    trace_back,
)
from interp.errors import SurgeryError
from interp.surgery.source.syntax import parse


def write_edge(making: EdgeEdits, writer: Writer, site: CodeSite | None) -> None:
    """Notes what a writer wrote.

    Args:
        site: where its value is made, of ``writer_kind``; None of embeddings.
    """
    if site is None:
        write_embedding(making, writer)
    elif writer.kind == "head":
        write_head(making, writer, site)
    else:
        note_written(making, site, in_writer(making, site))


def writer_kind(writer: Writer) -> str | None:
    """Which value of its layer a writer is seen in, of ``KINDS``; None of embeddings."""
    return {"head": "z", "attn": "attn", "mlp": "mlp"}.get(writer.kind)


def in_writer(making: EdgeEdits, site: CodeSite) -> str:
    if site.module is None:
        raise no_module(site.syntax, site.function)
    return making.is_module("writer", site.module, site.function.args.args[0].arg)


def note_written(making: EdgeEdits, site: CodeSite, condition: str) -> None:
    """Notes what a line wrote, where a condition holds; a copy, as a line behind may add to it in
    place."""
    name = making.name_of(site, "wrote")
    code = f"{name}.clone()"
    if site.axes == FLAT:
        making.of(site.syntax).at_start(
            site.function, under(condition, [f"{SHAPE} = {whole_parameter(making, site)}.shape"])
        )
        code = f"{name}.view({SHAPE}).clone()"
    making.behind(site, name, under(condition, [f"{WROTE} = {code}"]))


def whole_parameter(making: EdgeEdits, site: CodeSite) -> str:
    """What a function calls the stream that it is handed, whose texts stand apart."""
    layer, stream = making.edge.writer.layer, making.lines.summed.blocks.last
    names = {argument.arg for argument in site.function.args.args}
    for node in ast.walk(site.function):
        if isinstance(node, ast.Name) and node.id in names:
            held = making.run.times(site.syntax, node, layer)
            if held and getattr(held[0].value, "shape", None) == stream.shape:
                return node.id
    raise SurgeryError(
        f"{site.function.name} of {site.source.file} puts all texts behind one another, and is not "
        "handed them apart"
    )


def write_embedding(making: EdgeEdits, writer: Writer) -> None:
    value = making.lines.summed.written[writer]
    if writer.kind == "embed" and not making.lines.summed.graph.split_embed:
        found = list(bound_before_layers(making, value))
    else:
        line = making.lines.lines.get(f"hook_{writer.kind}")
        found = [
            site
            for syntax, statement in (making.lines.statements_at(line) if line else [])
            for site in making.lines.sites_in(syntax, statement, None, value)
            or making.lines.sites_in(syntax, statement, None, value[:1])
        ]
    if not found:
        raise SurgeryError(f"no line of its own gives {writer} a name")
    note_written(making, found[-1], "")


def bound_before_layers(making: EdgeEdits, value: Tensor) -> list[CodeSite]:
    """The assignments that bind a value before the first layer runs, in the order of the
    run."""
    found: list[tuple[int, CodeSite]] = []
    begin = min(
        each.number for all in making.run.noted.values() for each in all if each.layer is not None
    )
    for source in making.run.sources:
        syntax = parse(source)
        for statement in syntax.statements:
            if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
                continue
            for site in making.lines.sites_in(syntax, statement, None, value):
                times = making.run.times(syntax, site.node, None)
                if site.name and len(times) == 1 and times[0].number < begin:
                    found.append((times[0].number, site))
    return [site for _, site in sorted(found, key=lambda each: each[0])]


def write_head(making: EdgeEdits, writer: Writer, site: CodeSite) -> None:
    """A head's share is what attention's output is of what this head alone reads out."""
    layer, head = writer.layer, writer.head
    assert layer is not None and head is not None
    blocks = making.lines.summed.blocks
    if site.module is None:
        raise no_module(site.syntax, site.function)
    end = first_that_is(making, site, layer, blocks.values[layer]["attn"])
    chain = trace_back(
        *(making.run, site.syntax, site.function, site.module, end, layer, site.value)
    )
    if not chain.leaves or chain.parameters:
        raise SurgeryError(f"how attention of layer {layer} goes on from its heads is not seen")
    width = blocks.values[layer]["z"].shape[-1]
    part, name = making.index(site, head, width), making.name_of(site, "z")
    alone = f"edge_{name}"
    copied, code = copy_chain(making, chain, {"": alone})
    code += less_bias(making, chain, layer)
    check_bound(chain, site.statement)
    lines = [
        f"{alone} = {name}.new_zeros({name}.shape)",
        f"{alone}{part} = {name}{part}",
        *copied,
        f"{WROTE} = {code}",
    ]
    making.behind(site, name, under(in_writer(making, site), lines))


def first_that_is(making: EdgeEdits, site: CodeSite, layer: int, value: Tensor) -> ast.expr:
    """The first expression of a function, behind a line, that is a value."""
    for node in sorted(
        (n for n in ast.walk(site.function) if isinstance(n, ast.expr)),
        key=lambda n: (n.lineno, n.col_offset),
    ):
        behind = node.lineno > (site.statement.end_lineno or site.statement.lineno)
        if behind and making.run.is_value(site.syntax, node, layer, value):
            return node
    raise SurgeryError(
        f"{site.function.name} of {site.source.file} does not make what attention of layer "
        f"{layer} adds to the stream"
    )


def less_bias(making: EdgeEdits, chain: Chain, layer: int) -> str:
    """What is taken from a head's share: what attention adds when no head reads out
    anything."""
    blocks = making.lines.summed.blocks
    x, values = blocks.entering[layer], blocks.values[layer]
    everyone = torch.arange(len(x))
    setting = {"z": torch.zeros_like(values["z"])}
    nothing = blocks.call(layer, x, everyone, ["attn"], setting=setting)["attn"]
    if not nothing.any():
        return ""
    found = []
    for node in chain.depends:
        called = node.func if isinstance(node, ast.Call) else None
        text = ast.unparse(called) if called is not None else ""
        module = making.run.value(chain.syntax, called, chain.layer) if called else None
        if module is None and isinstance(called, ast.Attribute):
            module = getattr(chain.module, called.attr, None)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor) and torch.equal(bias.expand_as(nothing), nothing):
            found.append(f" - {text}.bias")
    if len(found) != 1:
        raise SurgeryError(
            f"attention of layer {layer} adds something where no head reads out anything, and "
            "no bias of its own files says what"
        )
    return found[0]
