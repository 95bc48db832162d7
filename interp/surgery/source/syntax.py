"""Where in a file does each piece of syntax stand?

Edits are made on bytes, so that whatever is not edited stays as it was. ``ast`` knows lines and
UTF-8 columns; this module turns them into byte spans of one source text.

    source = read_source("gpt/model.py")
    syntax = parse(source)
    syntax.code(syntax.tree.body[0])
"""

import ast
import inspect
import linecache
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType

from interp.code_text import lines_of, one_line
from interp.errors import SurgeryError
from interp.surgery.source.files import decode_python, module_name

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
SCOPE = (*FUNCTION, ast.ClassDef)
SILENT = (ast.Lambda, ast.Raise, ast.Assert, ast.JoinedStr)
NO_CODE = (ast.Global, ast.Nonlocal)


@dataclass(frozen=True)
class Edit:
    """Bytes ``start`` to ``stop`` of a source give way to ``replacement``.

    Args:
        start: first byte that goes, of the source in UTF-8.
        stop: the byte after the last that goes.
        replacement: what stands there instead, with as many line ends as what went.
        line: the line of the statement it touches.
        before: the statement's code on one line.
        after: the same with the edit made.
    """

    start: int
    stop: int
    replacement: str
    line: int
    before: str
    after: str


@dataclass(frozen=True)
class Source:
    """One file of Python, as read.

    Args:
        path: where the file is.
        text: what it says, line ends as in the file.
        module: the name under which it is imported, so that its relative imports work.
        folders: how many of its folders are part of its name, where others are called the same.
    """

    path: Path
    text: str
    module: str
    folders: int = field(default=0, compare=False)

    @property
    def file(self) -> str:
        """The file's own name, with the folders that tell it from others of that name."""
        return "/".join(self.path.parts[-1 - self.folders :])

    @property
    def package(self) -> str:
        return self.module.rpartition(".")[0]

    def __repr__(self) -> str:
        return f"Source({str(self.path)!r})"


def tell_apart(sources: Sequence[Source]) -> list[Source]:
    """The same files, each with as many folders in its name as tell it from the others."""
    found = list(sources)
    while len({source.file for source in found}) < len({source.path for source in found}):
        names = [source.file for source in found]
        found = [
            replace(source, folders=source.folders + (names.count(source.file) > 1))
            for source in found
        ]
    return found


def read_source(file: str | Path | ModuleType) -> Source:
    """A file, or an imported module's file, as text to operate on; of a module of edited source,
    which is on no disk, the edited text.

    Raises:
        SurgeryError: no such file, not Python text, a syntax error (with its line), or a module
            whose source is not available.
    """
    if isinstance(file, ModuleType):
        name = file.__name__
        try:
            path = Path(inspect.getsourcefile(file) or "")
        except TypeError:
            path = Path()
        if not path.is_file():
            if edited := "".join(linecache.getlines(str(path))):
                return Source(path, edited, name)
            raise SurgeryError(
                f"the source of module {name} is not available (compiled, or typed at a prompt): "
                "surgery needs a .py file"
            )
    else:
        path = Path(file).resolve()
        if not path.is_file():
            raise SurgeryError(f"{str(file)!r} is not a file: surgery needs the path of a .py file")
        name = module_name(path)
    try:
        text = decode_python(path)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise SurgeryError(f"{path} is not Python text: {error}") from None
    source = Source(path, text, name)
    parse(source)
    return source


class Syntax:
    """A parsed source: the tree, and for each node its parent, its scope and its bytes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.data = source.text.encode()
        self.tree = ast.parse(source.text)
        self.parent: dict[ast.AST, ast.AST] = {}
        self.qualname: dict[ast.AST, str] = {self.tree: ""}
        self._line_starts = [0]
        for line in self.data.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))
        self._index(self.tree, "")

    def _index(self, node: ast.AST, scope: str) -> None:
        for child in ast.iter_child_nodes(node):
            self.parent[child] = node
            inner = scope
            if isinstance(child, SCOPE):
                separator = ".<locals>." if isinstance(self._scope_node(node), FUNCTION) else "."
                inner = f"{scope}{separator}{child.name}" if scope else child.name
            self.qualname[child] = inner
            self._index(child, inner)

    def _scope_node(self, node: ast.AST) -> ast.AST:
        while not isinstance(node, (*SCOPE, ast.Module)):
            node = self.parent[node]
        return node

    def span(self, node: ast.AST) -> tuple[int, int]:
        """First byte of the node, and the byte after its last."""
        assert isinstance(node, (ast.expr, ast.stmt, ast.keyword))
        assert node.end_lineno is not None and node.end_col_offset is not None
        return (
            self._line_starts[node.lineno - 1] + node.col_offset,
            self._line_starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def start(self, node: ast.AST) -> int:
        """First byte of the node, its decorators included."""
        start = self.span(node)[0]
        for decorator in getattr(node, "decorator_list", []):
            start = min(start, self.data.rindex(b"@", 0, self.span(decorator)[0]))
        return start

    def colon(self, statement: ast.With | ast.AsyncWith) -> int:
        """The byte of the colon before a statement's body."""
        start = self.span(statement)[0]
        lines = lines_of(self.data[start : self.start(statement.body[0])].decode())
        depth = 0
        for token in tokenize.generate_tokens(iter(lines).__next__):
            if token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
                if token.string == ":" and depth == 0:
                    row, column = token.start
                    before = "".join(lines[: row - 1]) + lines[row - 1][:column]
                    return start + len(before.encode())
        raise AssertionError("a statement with a body has a colon")

    def code(self, node: ast.AST) -> str:
        """The node's own text, as it stands in the file."""
        start, stop = self.span(node)
        return self.data[start:stop].decode()

    def statement(self, node: ast.AST) -> ast.stmt:
        """The statement that ``node`` is, or is a part of."""
        while not isinstance(node, ast.stmt):
            node = self.parent[node]
        return node

    def function(self, node: ast.AST) -> FunctionNode | None:
        """The function in whose body ``node`` stands."""
        while node in self.parent:
            node = self.parent[node]
            if isinstance(node, FUNCTION):
                return node
            if isinstance(node, ast.ClassDef):
                return None
        return None

    def owner_at(self, position: int) -> FunctionNode:
        """The outermost function that holds the byte at ``position``."""
        for node in ast.walk(self.tree):  # outside in
            if isinstance(node, FUNCTION):
                start, stop = self.span(node)
                if start <= position < stop:
                    return node
        raise AssertionError("surgeries are made inside functions")

    def outermost(self, node: ast.AST) -> FunctionNode | None:
        """The outermost function in which a node stands."""
        found = None
        while node in self.parent:
            node = self.parent[node]
            found = node if isinstance(node, FUNCTION) else found
        return found

    def with_body_at(self, first: int, last: int) -> FunctionNode | None:
        """The outermost function in whose body lines stand, all of them."""
        for node in self.outermost_functions():
            if node.body[0].lineno <= first and last <= (node.end_lineno or node.lineno):
                return node
        return None

    def line_start(self, node: FunctionNode) -> int:
        """First byte of the line on which a function's ``def`` stands."""
        return self._line_starts[node.lineno - 1]

    def spliced(self, start: int, stop: int, edits: Iterable[Edit]) -> str:
        """Bytes ``start`` to ``stop``, with the edits that lie in between made."""
        pieces, position = [], start
        for edit in sorted(edits, key=lambda edit: edit.start):
            pieces += [self.data[position : edit.start], edit.replacement.encode()]
            position = edit.stop
        return b"".join([*pieces, self.data[position:stop]]).decode()

    def functions(self) -> Iterator[FunctionNode]:
        for node in ast.walk(self.tree):
            if isinstance(node, FUNCTION):
                yield node

    def shown(self, statement: ast.stmt) -> str:
        """A statement's own code on one line: of one that has a body, without it."""
        return one_line(self.spliced(self.span(statement)[0], self.header_stop(statement), ()))

    def header_stop(self, statement: ast.stmt) -> int:
        """Where a statement's own code ends: before its body, if it has one."""
        if isinstance(statement, ast.Match):
            return self.data.index(b"case", self.span(statement.subject)[1])
        body = getattr(statement, "body", None)
        return self.start(body[0]) if body else self.span(statement)[1]

    def outermost_functions(self) -> Iterator[FunctionNode]:
        """Functions and methods that stand in no other function."""
        for node in self.functions():
            inside = self.parent[node]
            while not isinstance(inside, (*FUNCTION, ast.Module)):
                inside = self.parent[inside]
            if isinstance(inside, ast.Module):
                yield node

    @cached_property
    def bodies(self) -> tuple[ast.expr | ast.stmt, ...]:
        """The statements and expressions that compute when functions run: no annotations,
        decorators, default values or docstrings, and no part of what only says what went wrong."""
        return tuple(node for function in self.functions() for node in self._body(function))

    def _body(self, function: FunctionNode) -> Iterator[ast.expr | ast.stmt]:
        stack: list[ast.AST] = list(reversed(function.body))
        if ast.get_docstring(function, clean=False) is not None:
            stack.pop()
        while stack:
            item = stack.pop()
            if isinstance(item, (*SCOPE, *SILENT)):
                if isinstance(item, ast.stmt):
                    yield item
                continue
            if isinstance(item, (ast.expr, ast.stmt)):
                yield item
            skipped = item.annotation if isinstance(item, ast.AnnAssign) else None
            children = [kid for kid in ast.iter_child_nodes(item) if kid is not skipped]
            stack.extend(reversed(children))

    @cached_property
    def statements(self) -> tuple[ast.stmt, ...]:
        """Every statement that does something when functions run."""
        nodes = [node for node in self.bodies if isinstance(node, ast.stmt)]
        return tuple(node for node in nodes if not isinstance(node, NO_CODE))

    @cached_property
    def module_names(self) -> frozenset[str]:
        """The names that the file imports or defines."""
        names = set()
        for node in self.tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            elif isinstance(node, (*FUNCTION, ast.ClassDef)):
                names.add(node.name)
        return frozenset(names)

    def statement_at(self, position: int) -> ast.stmt | None:
        """The innermost statement that computes and holds the byte at ``position``; None where
        none of a function does."""
        found = [node for node, start, stop in self._spans if start <= position < stop]
        return found[-1] if found else None

    @cached_property
    def _spans(self) -> list[tuple[ast.stmt, int, int]]:
        spans = [(node, self.start(node), self.span(node)[1]) for node in self.statements]
        return sorted(spans, key=lambda span: (span[1], -span[2]))  # outside in

    @cached_property
    def bound(self) -> dict[FunctionNode, dict[str, int]]:
        """For each function, the names that it binds, and the first line on which it does."""
        found: dict[FunctionNode, dict[str, int]] = {}
        for function in self.functions():
            lines = {argument.arg: function.lineno for argument in function.args.args}
            for item in ast.walk(function):
                if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store):
                    lines[item.id] = min(item.lineno, lines.get(item.id, item.lineno))
            found[function] = lines
        return found


@lru_cache(maxsize=32)
def parse(source: Source) -> Syntax:
    """The syntax of ``source``. Raises ``SurgeryError`` where Python cannot parse it."""
    try:
        return Syntax(source)
    except SyntaxError as error:
        raise SurgeryError(
            f"{source.path}, line {error.lineno}, has a syntax error ({error.msg}): "
            "surgery needs a file that Python can read"
        ) from None


def count_line_ends(data: bytes) -> int:
    return len(data.splitlines()) - (not data.endswith((b"\n", b"\r"))) if data else 0
