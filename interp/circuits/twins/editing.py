"""How is a file rewritten at several places at once, one of which may stand within another?

text = TextEdits(syntax)
text.put(node, lambda code: f"2 * {code}")
text.after(statement, ["y = x"])
text.text
"""

import ast
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from interp.code_text import lines_of, one_line
from interp.surgery.source.syntax import FunctionNode, Syntax

Line = str | Callable[[], str]
Putting = Callable[[str], str]


class TextEdits:
    """Changes of one file, made together.

    Args:
        syntax: of the file.
    """

    def __init__(self, syntax: Syntax) -> None:
        self.syntax = syntax
        self.put_at: dict[ast.expr, Putting] = {}
        self.inserted: dict[int, list[tuple[str, Line]]] = defaultdict(list)

    def put(self, node: ast.expr, make: Putting) -> None:
        """Puts other code where an expression stands, given what stands there else."""
        self.put_at[node] = make

    def before(self, statement: ast.stmt, lines: Sequence[Line]) -> None:
        """Puts lines before a statement, as deep as it stands."""
        self._insert(statement.lineno, statement, lines)

    def after(self, statement: ast.stmt, lines: Sequence[Line]) -> None:
        """Puts lines behind a statement, as deep as it stands."""
        self._insert((statement.end_lineno or statement.lineno) + 1, statement, lines)

    def at_start(self, function: FunctionNode, lines: Sequence[Line]) -> None:
        """Puts lines at the start of a function."""
        first, *others = function.body
        if ast.get_docstring(function, clean=False) is not None and others:
            self.after(first, lines)
        else:
            self.before(first, lines)

    def at_top(self, lines: Sequence[Line]) -> None:
        """Puts lines before the first function or class of the file."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        first = next(node for node in self.syntax.tree.body if isinstance(node, kinds))
        line = min([first.lineno, *(each.lineno for each in first.decorator_list)])
        self.inserted[line] += [("", text) for text in [*lines, "", ""]]

    def _insert(self, number: int, statement: ast.stmt, lines: Sequence[Line]) -> None:
        indent = " " * statement.col_offset
        self.inserted[number] += [(indent, line) for line in lines]

    def code(self, node: ast.expr | ast.stmt, renamed: Mapping[ast.expr, str]) -> str:
        """The code of a node on one line, with other code where some of its parts stand."""
        put: dict[ast.expr, Putting] = {}
        for part, text in renamed.items():
            put[part] = lambda _, text=text: text  # type: ignore[misc]
        return one_line(self._rendered(*self.syntax.span(node), put))

    def made(self, node: ast.expr) -> str:
        """The code of an expression on one line, with all that is put inside it."""
        inside = {part: make for part, make in self.put_at.items() if part is not node}
        return one_line(self._rendered(*self.syntax.span(node), inside))

    @property
    def text(self) -> str:
        """The whole file as it becomes."""
        lines = lines_of(self.syntax.source.text)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line.encode()))
        end = "\r\n" if "\r\n" in self.syntax.source.text else "\n"
        found, at = [], 0
        for number, inserted in sorted(self.inserted.items()):
            stop = starts[number - 1]
            found.append(self._rendered(at, stop, self.put_at))
            if found[-1] and not found[-1].endswith("\n"):  # the file's last line has no end
                found.append(end)
            for indent, added in inserted:
                code = added if isinstance(added, str) else added()
                found.append(f"{indent}{code}{end}" if code else end)
            at = stop
        found.append(self._rendered(at, starts[-1], self.put_at))
        return "".join(found)

    def _rendered(self, start: int, stop: int, put: Mapping[ast.expr, Putting]) -> str:
        """Some bytes of the file with parts put in their place, the inner ones first."""
        spans = [(*self.syntax.span(node), make) for node, make in put.items()]
        todo = sorted(
            (each for each in spans if start <= each[0] and each[1] <= stop),
            key=lambda each: (each[0], -each[1]),
        )

        def piece(begin: int, end: int, parts: list[tuple[int, int, Putting]]) -> str:
            found, at = "", begin
            while parts:
                first, last, make = parts.pop(0)
                within = []
                while parts and parts[0][1] <= last:
                    within.append(parts.pop(0))
                found += self.syntax.data[at:first].decode() + make(piece(first, last, within))
                at = last
            return found + self.syntax.data[at:end].decode()

        return piece(start, stop, todo)
