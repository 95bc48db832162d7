"""What is edited for one edge, file by file?

making = EdgeEdits(lines, edge)
making.of(syntax).after(statement, ["y = x"])
making.surgery()
"""

import ast
from collections.abc import Sequence

from torch import nn

from interp.circuits.graph import Edge
from interp.circuits.twins.editing import TextEdits
from interp.circuits.twins.places import CodeSite, EdgeLines
from interp.errors import SurgeryError
from interp.surgery.source.edits import Surgery
from interp.surgery.source.own import of_files, to_text
from interp.surgery.source.syntax import FunctionNode, Source, Syntax, parse

EDGE = "EDGE"
WROTE, OTHER, READ, SHAPE = (f'{EDGE}["{key}"]' for key in ("wrote", "other", "read", "shape"))


class EdgeEdits:
    """One edge's edits.

    Args:
        lines: of the model.
        edge: which.
    """

    def __init__(self, lines: EdgeLines, edge: Edge) -> None:
        self.lines, self.edge, self.run = lines, edge, lines.run
        self.edits: dict[Source, TextEdits] = {}
        self.modules: dict[str, nn.Module] = {}

    def of(self, syntax: Syntax) -> TextEdits:
        """Those of one file."""
        return self.edits.setdefault(syntax.source, TextEdits(syntax))

    def is_module(self, key: str, module: nn.Module, spelt: str = "self") -> str:
        """The condition that a line runs in a module, which the model's ``forward`` names."""
        self.modules[key] = module
        return f'{spelt} is {EDGE}["{key}"]'

    def name_of(self, site: CodeSite, otherwise: str) -> str:
        """What a value is called in the edited source: as it is, or by a name that is free."""
        if site.name:
            return site.name
        held = {node.id for node in ast.walk(site.function) if isinstance(node, ast.Name)}
        taken = held | {argument.arg for argument in site.function.args.args}
        return f"whole_{otherwise}" if otherwise in taken else otherwise

    def behind(self, site: CodeSite, name: str, lines: Sequence[str]) -> None:
        """Puts lines behind that which makes a value and binds it to a name."""
        edits = self.of(site.syntax)
        if site.name:
            edits.after(site.statement, lines)
        else:
            edits.before(site.statement, [lambda: f"{name} = {edits.made(site.node)}", *lines])
            edits.put(site.node, lambda _: name)

    def index(self, site: CodeSite, head: int, width: int) -> str:
        """How a head's part of a value is taken out of it, where the model makes it.

        Args:
            width: of a head.
        """
        if "head" not in site.axes:
            return f"[..., {head * width}:{(head + 1) * width}]"
        return "[" + ", ".join([*[":"] * site.axes.index("head"), str(head)]) + "]"

    def surgery(self) -> Surgery:
        """All of them, and where the model's ``forward`` names the modules that are meant."""
        for source in self.run.sources:
            if EDGE in parse(source).module_names:
                raise SurgeryError(f"{source.file} has a name {EDGE} of its own")
        self._name_modules()
        used = [*self.edits]
        for number, source in enumerate(used):
            line = f'{EDGE} = {{"other": 0}}  # {self.edge}: [batch pos d_model]; 0 cuts the edge'
            if number:
                line = f"from {used[0].module} import {EDGE}"
            self.edits[source].at_top([line])
        texts = {source: edits.text for source, edits in self.edits.items()}
        if len(texts) == 1:
            return to_text(*next(iter(texts.items())), str(self.edge))
        return of_files(texts, str(self.edge))

    def _name_modules(self) -> None:
        if not self.modules:
            return
        for syntax, function, module in self.run.functions(None):
            if module is self.run.root and function.name == "forward":
                own = function.args.args[0].arg
                named = sorted(self.modules.items(), reverse=True)  # the writer first
                keys = ", ".join(f'{EDGE}["{key}"]' for key, _ in named)
                values = ", ".join(self.lines.spelt(each, own) for _, each in named)
                self.of(syntax).at_start(function, [f"{keys} = {values}"])
                return
        kind = type(self.run.root).__name__
        raise SurgeryError(f"the forward of {kind} does not stand in the model's own files")


def no_module(syntax: Syntax, function: FunctionNode) -> SurgeryError:
    return SurgeryError(
        f"{function.name} of {syntax.source.file} is a function that does not know in which layer "
        "it runs"
    )


def under(condition: str, lines: Sequence[str]) -> list[str]:
    """Lines that run where a condition holds."""
    return [f"if {condition}:", *(f"    {line}" for line in lines)] if condition else [*lines]
