"""On which lines of a model's own files does each writer write, and does each reader read?

lines = EdgeLines.of(model, tokens)
lines.site("k", 3)          # the expression that is the keys of layer 3, and the name that it gets
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from jaxtyping import Int
from torch import Tensor, nn

from interp.circuits.contributions import SummedRun, take_apart
from interp.circuits.edges import reader_hook, writer_hook
from interp.circuits.graph import Edge
from interp.circuits.reading import KINDS
from interp.circuits.twins.following import FollowedRun, follow_run, same
from interp.circuits.twins.slicing import names_bound_by
from interp.errors import SurgeryError
from interp.hooking import evaluating
from interp.site import Model, source_lines
from interp.surgery.source.syntax import FunctionNode, Source, Syntax, parse, read_source
from interp.tracing import SourceLine

FLAT = ("batch pos", "d_model")
"""The axes of a stream whose texts stand one behind the other."""


@dataclass(frozen=True)
class CodeSite:
    """Where a value is made.

    Args:
        module: of which the function is a method; None of a plain function.
        node: the expression that is the value, or a tuple that holds it.
        name: that it is bound to; empty where it is bound to none.
        value: what it was; of a tuple, the part that is meant.
        axes: of the value; two in one are written ``head neuron``.
    """

    syntax: Syntax
    function: FunctionNode
    module: nn.Module | None
    statement: ast.stmt
    node: ast.expr
    name: str
    value: Tensor
    axes: tuple[str, ...] = ()

    @property
    def source(self) -> Source:
        return self.syntax.source


@dataclass(frozen=True)
class EdgePlace:
    """An edge as lines of code.

    Args:
        file, line, code: of the writer, in its layer and head.
        reader_file, reader_line, reader_code: of the reader.
        variable: what the reader's line binds; empty where it binds nothing.
    """

    edge: Edge
    file: str
    line: int | None
    code: str
    layer: int | None
    head: int | None
    reader_file: str
    reader_line: int | None
    reader_code: str
    variable: str

    def __str__(self) -> str:
        writer = f"{self.file}:{self.line}"
        return f"({writer}, layer {self.layer}, head {self.head}) -> " + (
            f"({self.reader_file}:{self.reader_line}, {self.variable})"
        )


@dataclass
class EdgeLines:
    """One run of a model as its lines show it, and as a sum of what its parts write.

    Args:
        lines: of hook points, by name.
    """

    model: Model
    summed: SummedRun
    run: FollowedRun
    lines: dict[str, SourceLine]
    chosen: dict[tuple[str, str, int], CodeSite] = field(default_factory=dict, init=False)
    _sites: dict[tuple[str, int], list[CodeSite]] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls, model: Model, tokens: Int[Tensor, "batch pos"], *, split_embed: bool = False
    ) -> "EdgeLines":
        """Raises what ``take_apart`` raises; ``SurgeryError`` where the files are not at hand."""
        with evaluating(model):
            some = tokens[:2]
            summed = take_apart(model, some, split_embed=split_embed)
            lines = source_lines(model, some)
            paths = dict.fromkeys(line.path for line in lines.values())
            own = [path for path in paths if "site-packages/torch/" not in path.replace("\\", "/")]
            if not own:
                raise SurgeryError("no line of this model's own files makes any of its values")
            run = follow_run(model, some, [source_at(path) for path in own])
        return cls(model, summed, run, lines)

    def place(self, edge: Edge) -> EdgePlace:
        """An edge as lines of code."""
        writer = self.lines.get(writer_hook(edge.writer))
        reader = self.lines.get(reader_hook(edge.reader, self.lines))
        return EdgePlace(
            edge,
            writer.file if writer else "",
            writer.line if writer else None,
            writer.code if writer else "",
            edge.writer.layer,
            edge.writer.head,
            reader.file if reader else "",
            reader.line if reader else None,
            reader.code if reader else "",
            variable_of(reader.code) if reader else "",
        )

    def sites(self, kind: str, layer: int) -> list[CodeSite]:
        """Where a value of a layer is made: the line of its hook first, then the lines on which
        modules of the layer give it a name, in the order of the run.

        Args:
            kind: of ``KINDS``.

        Raises:
            SurgeryError: no expression is the value.
        """
        if (kind, layer) not in self._sites:
            self._sites[kind, layer] = list(self._find_sites(kind, layer))
        if self._sites[kind, layer]:
            return self._sites[kind, layer]
        name = f"blocks.{layer}.{KINDS[kind]}"
        if name not in self.lines:
            raise SurgeryError(f"no line of the model's own files makes {name}")
        found = self.lines[name]
        raise SurgeryError(
            f"no expression on line {found.line} of {Path(found.path).name}, {found.code!r}, is "
            f"what {name} shows"
        )

    def _find_sites(self, kind: str, layer: int) -> Iterator[CodeSite]:
        shapes = list(self.shapes_of(kind, layer))
        line = self.lines.get(f"blocks.{layer}.{KINDS[kind]}")
        own = list(self.statements_at(line)) if line else []
        for syntax, statement in own:
            for axes, value in shapes:
                for site in self.sites_in(syntax, statement, layer, value):
                    yield replace(site, axes=axes)
        others = []
        for syntax, function, _ in self.run.functions(layer):
            for node in ast.walk(function):
                if not isinstance(node, (ast.Assign, ast.AnnAssign)):
                    continue
                if any(node is each for _, each in own):
                    continue
                for axes, value in shapes:
                    for site in self.sites_in(syntax, node, layer, value):
                        if site.name:
                            number = self.run.times(syntax, site.node, layer)[-1].number
                            others.append((number, replace(site, axes=axes)))
        yield from (site for _, site in sorted(others, key=lambda each: each[0]))

    def shapes_of(self, kind: str, layer: int) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """A value of a layer as its model may hold it, and what the axes then are."""
        blocks = self.summed.blocks
        value = blocks.values[layer][kind]
        made = blocks.axes(layer, kind)
        found = {made: blocks.as_made(layer, kind, value)}
        if made[-2:] == ("head", "neuron"):  # the line may not tell them apart
            found[*made[:-2], "head neuron"] = found[made].flatten(-2)
        if value.ndim == 4:
            found.setdefault(("batch", "pos", "head", "neuron"), value)
            found.setdefault(("batch", "pos", "head neuron"), value.flatten(-2))
            found.setdefault(("batch", "head", "pos", "neuron"), value.transpose(1, 2))
        else:
            found[FLAT] = value.flatten(0, 1)
        yield from found.items()

    def statements_at(self, line: SourceLine) -> Iterator[tuple[Syntax, ast.stmt]]:
        for source in self.run.sources:
            if str(source.path) == line.path:
                syntax = parse(source)
                for statement in syntax.statements:
                    if statement.lineno == line.line:
                        yield syntax, statement

    def sites_in(
        self, syntax: Syntax, statement: ast.stmt, layer: int | None, value: Tensor
    ) -> Iterator[CodeSite]:
        """The expressions of a statement that are a value, or the tuple that holds it."""
        function = syntax.outermost(statement)
        if function is None:
            return
        module = self.run.module_of(syntax, function, layer)
        bound = (
            names_bound_by(statement) if isinstance(statement, (ast.Assign, ast.AnnAssign)) else []
        )
        whole = getattr(statement, "value", None)
        for node in ast.walk(statement):
            if not isinstance(node, ast.expr):
                continue
            held = self.run.value(syntax, node, layer)
            if isinstance(held, Tensor) and self.run.is_value(syntax, node, layer, value):
                name = bound[0] if node is whole and len(bound) == 1 else ""
                yield CodeSite(syntax, function, module, statement, node, name, value)
            elif isinstance(held, tuple) and node is whole and len(bound) == len(held):
                for part, name in zip(held, bound, strict=True):
                    if isinstance(part, Tensor) and same(part, value) and name:
                        yield CodeSite(syntax, function, module, statement, node, name, value)

    @cached_property
    def paths(self) -> dict[int, str]:
        """The path of every module, by its id."""
        return paths_in(self.run.root)

    def spelt(self, module: nn.Module, own: str = "self", inside: nn.Module | None = None) -> str:
        """How code of the whole model says which module is meant: ``self.blocks[1].attn``.

        Args:
            inside: the module whose code says so; None is the model.

        Raises:
            SurgeryError: it is no part of the model, or none of that module.
        """
        paths = self.paths if inside is None else paths_in(inside)
        if id(module) not in paths:
            of = "the model" if inside is None else f"the {type(inside).__name__} that calls it"
            raise SurgeryError(f"a {type(module).__name__} that runs is no part of {of}")
        text = own
        for part in filter(None, paths[id(module)].split(".")):
            if part.isdigit():
                text += f"[{part}]"
            else:
                text += f".{part}" if part.isidentifier() else f"[{part!r}]"
        return text


def paths_in(root: nn.Module) -> dict[int, str]:
    return {id(module): path for path, module in root.named_modules()}


def source_at(path: str) -> Source:
    """A file of the model; of code that was edited and is on no disk, the text that tracebacks
    know. Raises ``SurgeryError`` where there is neither."""
    if Path(path).is_file():
        return read_source(path)
    modules = (each for each in sys.modules.values() if getattr(each, "__file__", "") == path)
    return read_source(next(modules, path))


def variable_of(code: str) -> str:
    """What a statement binds."""
    try:
        (statement,) = ast.parse(code).body
    except (SyntaxError, ValueError):
        return ""
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return ast.unparse(targets[0]) if targets[0] is not None else ""
