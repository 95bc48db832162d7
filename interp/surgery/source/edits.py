"""What is a surgery?

One or more edits, made together: spans of bytes of a file and what stands there instead. Lines
keep their numbers, so that a traceback of the edited code is true of the file, and everything
outside the spans stays as it is, byte for byte. Edits of several files are made together too: those
of the others stand beside those of the first.

    cut.id       # model.py:197:cut-skip
    cut.label    # model.py:197  x = x + attn_out → x = attn_out
    print(cut.diff)
"""

import ast
import difflib
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from interp.code_text import lines_of, one_line
from interp.display import code_html
from interp.errors import SurgeryError
from interp.surgery.source.syntax import (
    Edit,
    Source,
    Syntax,
    count_line_ends,
    parse,
)


@dataclass(frozen=True)
class Surgery:
    """Edits that are made together, of one source or of several.

    Args:
        source: what is edited.
        qualname: the function or method that is cut, as in ``Block.forward``.
        operator: the kind of cut, as in ``cut-skip``.
        target: the code of what is cut.
        reading: what the cut takes away, in a few words.
        edits: in the order of the file, not overlapping.
        layers: the layers in which it is made; None is everywhere.
        detail: tells surgeries of one operator on one line apart.
        beside: what is cut in other files with it, for each a surgery; what is said of ``edits``,
            ``line``, ``lines`` and ``text`` is said of the first file.
    """

    source: Source
    qualname: str
    operator: str
    target: str
    reading: str
    edits: tuple[Edit, ...]
    layers: tuple[int, ...] | None = None
    detail: str = ""
    beside: tuple["Surgery", ...] = ()

    @property
    def parts(self) -> tuple["Surgery", ...]:
        """What is cut in each file, that of the first first."""
        return (replace(self, beside=()), *self.beside) if self.beside else (self,)

    @property
    def file(self) -> str:
        return self.source.file

    @property
    def line(self) -> int:
        """The first line it touches."""
        return self.edits[0].line

    @property
    def lines(self) -> tuple[int, ...]:
        """Every line it touches."""
        return tuple(dict.fromkeys(edit.line for edit in self.edits))

    @property
    def rewritten(self) -> dict[int, tuple[str, str]]:
        """The code before and after of every line it touches, by line."""
        return {edit.line: (edit.before, edit.after) for edit in self.edits}

    @property
    def before(self) -> str:
        """The code of every line it touches, as it was."""
        edits = (edit for part in self.parts for edit in part.edits)
        return "; ".join(dict.fromkeys(edit.before for edit in edits))

    @property
    def after(self) -> str:
        """The code of every line it touches, as it becomes."""
        edits = (edit for part in self.parts for edit in part.edits)
        return "; ".join(dict.fromkeys(edit.after for edit in edits))

    @property
    def id(self) -> str:
        """File, lines and operator, as in ``model.py:104:cut-skip``; of several files, each."""
        if self.beside:
            return "+".join(part.id for part in self.parts)
        lines = "+".join(str(line) for line in self.lines)
        detail = f"[{self.detail}]" if self.detail else ""
        where = "" if self.layers is None else "@" + ",".join(map(str, self.layers))
        return f"{self.file}:{lines}:{self.operator}{detail}{where}"

    @property
    def identity(self) -> str:
        """A hash of the source and of what becomes of it: two surgeries that are the same cut share
        it, whoever found them, in whichever order files are named."""
        if self.beside:
            parts = sorted(part.identity for part in self.parts)
            return hashlib.sha256("+".join(parts).encode()).hexdigest()
        return identity_of_edit(self.source.text, self.text, self.layers)

    @property
    def text(self) -> str:
        """The whole edited source, of the first file."""
        return splice(self.source, self.edits)

    def _repr_html_(self) -> str:
        return code_html(self.diff)

    @property
    def diff(self) -> str:
        """The surgery as a unified diff."""
        lines = [
            line
            for part in self.parts
            for line in difflib.unified_diff(
                lines_of(part.source.text),
                lines_of(part.text),
                f"a/{part.file}",
                f"b/{part.file}",
                n=1,
            )
        ]
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)

    @property
    def label(self) -> str:
        """For a figure's legend: file and line, code before and after, for each line it touches."""
        return "\n".join(
            f"{part.file}:{line}  {before} → {after}"
            for part in self.parts
            for line, (before, after) in part.rewritten.items()
        )

    def __repr__(self) -> str:
        return f"<Surgery {self.id}: {self.before} → {self.after}>"


def identity_of_edit(before: str, after: str, layers: Sequence[int] | None) -> str:
    """The hash of a source, of what becomes of it, and of where that is."""
    digest = hashlib.sha256(before.encode())
    digest.update(hashlib.sha256(after.encode()).digest())
    digest.update(repr(layers).encode())
    return digest.hexdigest()


def at_layers(surgery: Surgery, layers: Sequence[int] | None) -> Surgery:
    """The same surgery in some layers only; None is everywhere."""
    beside = tuple(at_layers(part, layers) for part in surgery.beside)
    return replace(surgery, layers=None if layers is None else tuple(layers), beside=beside)


def combine(surgeries: Sequence[Surgery]) -> Surgery:
    """Several surgeries as one, of one source or of several.

    Raises:
        SurgeryError: none given, different layers, or two that cut the same bytes.
    """
    if not surgeries:
        raise SurgeryError("there is nothing to combine: give at least one surgery")
    if any(surgery.layers != surgeries[0].layers for surgery in surgeries):
        raise SurgeryError("surgeries made together must be of the same layers")
    by_source: dict[Source, list[Surgery]] = {}
    for part in [part for surgery in surgeries for part in surgery.parts]:
        by_source.setdefault(part.source, []).append(part)
    first, *beside = map(combine_in_file, by_source.values())
    return replace(first, beside=tuple(beside))


def combine_in_file(surgeries: Sequence[Surgery]) -> Surgery:
    """Surgeries of one file as one."""
    first = surgeries[0]
    edits = sorted((e for s in surgeries for e in s.edits), key=lambda e: (e.start, e.stop))
    for one, two in itertools.pairwise(edits):
        if two.start < one.stop:
            raise SurgeryError(
                f"two surgeries cut the same code on line {two.line} of {first.file}: "
                f"{one.before!r} and {two.before!r}"
            )
    return Surgery(
        source=first.source,
        qualname="+".join(dict.fromkeys(s.qualname for s in surgeries)),
        operator="+".join(dict.fromkeys(s.operator for s in surgeries)),
        target=", ".join(dict.fromkeys(s.target for s in surgeries)),
        reading="; ".join(dict.fromkeys(s.reading for s in surgeries)),
        edits=merge_statements(first.source, edits),
        layers=first.layers,
        detail="+".join(dict.fromkeys(s.detail for s in surgeries if s.detail)),
    )


def merge_statements(source: Source, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Edits of one statement show, each, the statement with all of them made."""
    syntax = parse(source)
    shown = []
    for edit in edits:
        statement = syntax.statement_at(edit.start)
        together = [other for other in edits if syntax.statement_at(other.start) is statement]
        if statement is not None and len(together) > 1:
            edit = replace(edit, after=code_after(syntax, statement, together))
        shown.append(edit)
    return tuple(shown)


def splice(source: Source, edits: Sequence[Edit]) -> str:
    """The text of ``source`` with ``edits`` made."""
    syntax = parse(source)
    return syntax.spliced(0, len(syntax.data), edits)


def replace_node(syntax: Syntax, node: ast.AST, code: str) -> Edit:
    """The edit that puts ``code``, an expression or a simple statement, where ``node`` stands."""
    if isinstance(node, ast.stmt):
        return replace_statement(syntax, node, code)
    start, stop = syntax.span(node)
    return edit_of(syntax, syntax.statement(node), start, stop, fit_code(syntax, node, code))


def replace_statement(syntax: Syntax, node: ast.stmt, code: str) -> Edit:
    """The edit that puts a simple statement where one stands, its decorators included."""
    start, stop = syntax.start(node), syntax.span(node)[1]
    line_end = lost_lines(syntax, start, stop, code) * "\n"
    if syntax.data[stop:].lstrip(b" \t\f")[:1] == b";":  # the line goes on
        line_end = line_end.replace("\n", " \\\n")
    return edit_of(syntax, node, start, stop, code + line_end)


def replace_header(syntax: Syntax, node: ast.With | ast.AsyncWith, code: str) -> Edit:
    """The edit that puts ``code`` where all before the colon of a statement with a body stands."""
    start, stop = syntax.span(node)[0], syntax.colon(node)
    lines = lost_lines(syntax, start, stop, code)
    if lines:
        keyword, _, condition = code.partition(" ")
        code = f"{keyword} ({condition}{lines * chr(10)})"
    return edit_of(syntax, node, start, stop, code)


def edit_of(syntax: Syntax, statement: ast.stmt, start: int, stop: int, code: str) -> Edit:
    edit = Edit(start, stop, code, statement.lineno, syntax.shown(statement), "")
    return replace(edit, after=code_after(syntax, statement, [edit]))


def lost_lines(syntax: Syntax, start: int, stop: int, code: str) -> int:
    """How many line ends go with some bytes and do not come back with ``code``."""
    return count_line_ends(syntax.data[start:stop]) - count_line_ends(code.encode())


def fit_code(syntax: Syntax, node: ast.AST, code: str) -> str:
    """An expression's code with the brackets and line ends that it needs where ``node`` stands."""
    parent = syntax.parent[node]
    lost = lost_lines(syntax, *syntax.span(node), code)
    if lost > 0:
        inner = code[1:-1] if is_tuple(code) else code
        return f"({inner}{lost * chr(10)})"
    if isinstance(parent, ast.stmt):
        return on_one_statement(code)
    first = isinstance(parent, (ast.Attribute, ast.Subscript, ast.Await))
    first |= isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow)
    first |= isinstance(parent, ast.Call) and parent.func is node
    return f"({code})" if first and code[:1] == "-" else add_brackets(code)


def on_one_statement(code: str) -> str:
    """An expression's code, in brackets where it would end the statement before it is over or may
    not stand alone."""
    return code if parse_alone(code) else f"({code})"


def add_brackets(code: str) -> str:
    """An expression's code, in brackets where an operator beside it would take a part of it."""
    return code if is_atom(code) else f"({code})"


def parse_alone(code: str) -> ast.expr | None:
    """The expression that a text is without brackets around it; None where it is none."""
    try:
        return ast.parse(code, mode="eval").body
    except SyntaxError:
        return None


def is_tuple(code: str) -> bool:
    """Whether an expression is a tuple in brackets."""
    body = parse_alone(code)
    return isinstance(body, ast.Tuple) and body.col_offset == 0 and code[:1] == "("


def is_atom(code: str) -> bool:
    """Whether an expression needs no brackets wherever it is put."""
    atoms = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant)
    brackets = (ast.Tuple, ast.List, ast.Dict)
    body = parse_alone(code)
    if isinstance(body, ast.UnaryOp) and isinstance(body.operand, ast.Constant):
        return True  # a negative number: only a power or an attribute would bind before the sign
    return isinstance(body, atoms) or (isinstance(body, brackets) and code[:1] in "([{")


def code_after(syntax: Syntax, statement: ast.stmt, edits: Sequence[Edit]) -> str:
    """A statement's own code on one line, with ``edits`` made."""
    start, stop = syntax.start(statement), syntax.header_stop(statement)
    stop = max(stop, *(edit.stop for edit in edits))
    return one_line(syntax.spliced(start, stop, edits))
