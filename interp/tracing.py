"""Which line of a model's source made the value that a hook point has just been handed?

tracer = LineTracer()
with tracer.tracing():                    # while the model runs, in a forward pre-hook:
    tracer.line_of(sys._getframe(1), value)
"""

import ast
import itertools
import linecache
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, no_type_check


@dataclass(frozen=True)
class SourceLine:
    """The line of a model's source that computes a value.

    Args:
        file: the source file as its package names it, such as ``gpt/model.py``.
        line: the number of the line on which the computation starts.
        code: the statement, on one line.
        path: where the file lies on this machine.
    """

    file: str
    line: int
    code: str
    path: str = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}: {self.code}"


class LineTracer:
    """Which statement made a value.

    While ``tracing``, it notes the lines that run in each live frame of the model's code: that
    trail decides which of several assignments to a name was the last to run.
    """

    def __init__(self) -> None:
        self.trails: dict[FrameType, list[int]] = {}
        self.known: dict[CodeType, bool] = {}
        self.sources: dict[str, SourceFile] = {}
        self.hook_calls: set[ast.Call] = set()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        with tracer_set(self._on_call):
            yield
        self.trails.clear()

    def line_of(self, frame: FrameType | None, value: Any) -> SourceLine | None:
        """The line that made ``value``.

        Args:
            frame: a frame inside the call of the hook point.
            value: what the hook point was handed.

        Returns:
            None where no frame is of a file of source, as under ``python -c``.
        """
        with tracer_set(None):
            return self._line_of(frame, value)

    def _line_of(self, frame: FrameType | None, value: Any) -> SourceLine | None:
        wrapped = False
        while frame is not None and not is_model_code(frame):
            wrapped = wrapped or frame.f_code.co_filename.startswith(TRANSFORMER_LENS)
            frame = frame.f_back
        if frame is None:
            return None
        source = self._source(frame)
        call = source.call_at(frame)
        if call is None:
            return source.line(frame.f_lineno)
        statement = source.owners[call]
        argument = call.args[0] if call.args else call
        name = argument.id if isinstance(argument, ast.Name) else ""
        if wrapped:  # the call is of the wrapper: is the value what it was handed, or its result?
            if not name or frame.f_locals.get(name) is not value:
                return source.line(call.lineno, statement)
        else:
            self.hook_calls.add(call)
            if not name:
                return source.line(argument.lineno, statement)
            if bound_names(statement) - {name}:
                return source.line(call.lineno, statement)
        maker = self._maker(frame, source, statement, name) or statement
        return source.line(maker.lineno, maker)

    def _maker(
        self, frame: FrameType, source: "SourceFile", statement: ast.stmt, name: str
    ) -> ast.stmt | None:
        """The statement that last bound ``name`` to more than what a hook point passed on."""
        trail = list(self.trails.get(frame, ()))
        while trail and source.statements.get(trail[-1]) is statement:
            trail.pop()
        for line in reversed(trail):
            found = source.statements.get(line)
            if found and name in bound_names(found) and not self._passes_on(found, name):
                return found
        return None

    def _passes_on(self, statement: ast.stmt, name: str) -> bool:
        """Whether a statement reads ``x = self.hook_x(x)``."""
        call = getattr(statement, "value", None)
        if call not in self.hook_calls:
            return False
        return isinstance(call.args[0], ast.Name) and call.args[0].id == name

    def _source(self, frame: FrameType) -> "SourceFile":
        path = frame.f_code.co_filename
        if path not in self.sources:
            self.sources[path] = SourceFile(path, frame.f_globals.get("__name__", ""))
        return self.sources[path]

    @no_type_check  # these two run on every call and every line: checks would take seconds
    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Callable | None:
        code = frame.f_code
        if code not in self.known:
            self.known[code] = is_model_code(frame)
        if not self.known[code]:
            return None
        self.trails[frame] = []
        return self._on_line

    @no_type_check
    def _on_line(self, frame: FrameType, event: str, arg: Any) -> Callable | None:
        if event == "line" and frame in self.trails:
            self.trails[frame].append(frame.f_lineno)
        elif event == "return":
            self.trails.pop(frame, None)
        return self._on_line


@contextmanager
def tracer_set(tracer: Callable | None) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        yield
    finally:
        sys.settrace(before)


class SourceFile:
    """A file of a model's source, by line and by position.

    Where the file holds no parsable source (a shell's input), every lookup finds nothing.
    """

    def __init__(self, path: str, module: str) -> None:
        self.path = path
        written = written_in(path)
        self.file = Path(*Path(written).parts[-package_depth(written, module) :]).as_posix()
        self.lines = linecache.getlines(path)
        self.statements: dict[int, ast.stmt] = {}
        self.calls: dict[tuple[int | None, int | None], ast.Call] = {}
        self.owners: dict[ast.Call, ast.stmt] = {}
        for statement in ast.walk(ast.parse("".join(self.lines))):
            if isinstance(statement, ast.stmt):
                self._add(statement)

    def _add(self, statement: ast.stmt) -> None:
        for part in header(statement):
            for node in ast.walk(part):
                if isinstance(node, ast.Call):
                    self.calls[node.end_lineno, node.end_col_offset] = node
                    self.owners[node] = statement
        # ast.walk comes to a compound statement before the statements that it holds
        for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1):
            self.statements[line] = statement

    def call_at(self, frame: FrameType) -> ast.Call | None:
        """The call that a frame is in the middle of; no two calls end at the same place."""
        positions = itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None)
        _, line, _, column = next(positions)
        return self.calls.get((line, column))

    def line(self, number: int, statement: ast.stmt | None = None) -> SourceLine:
        """A line by its number; its code is the whole statement, unless that holds others."""
        code = "".join(self.lines[number - 1 : number])
        if statement and not hasattr(statement, "body"):
            if statement.end_lineno == statement.lineno:
                whole = self.lines[statement.lineno - 1].encode()
                code = whole[statement.col_offset : statement.end_col_offset].decode()
            else:
                code = ast.unparse(statement)
        return SourceLine(self.file, number, " ".join(code.split()), self.path)


def header(statement: ast.stmt) -> list[ast.AST]:
    """The parts of a statement that are not statements themselves."""
    parts = ast.iter_child_nodes(statement)
    return [part for part in parts if isinstance(part, ast.expr | ast.withitem)]


def bound_names(statement: ast.stmt) -> set[str]:
    """The names that a statement assigns to, not counting the statements that it holds."""
    nodes = (node for part in header(statement) for node in ast.walk(part))
    return {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def written_in(filename: str) -> str:
    """The file that code is of, by the name under which it runs: edited code runs under one of its
    own, ``model.py:219:untie#0123456789ab``."""
    return re.sub(r":[\d+]*:[^/#]*#[0-9a-f]{12}$", "", filename)


def package_depth(path: str, module: str) -> int:
    """How many of a path's last parts its module's name accounts for."""
    if module == "__main__":
        return 1
    return len(module.split(".")) + (Path(path).name == "__init__.py")


def folder_of_package(package: str) -> str:
    """Where a package lies, without importing it: beartype cannot be, once nnsight was."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent) + "/"


TRANSFORMER_LENS = folder_of_package("transformer_lens")
BETWEEN = (
    TRANSFORMER_LENS,
    *map(folder_of_package, ("torch", "jaxtyping", "beartype")),
    str(Path(__file__).with_name("hooking.py")),
    "<@beartype",  # the checks that it writes
    "<frozen ",
    "<string>",
)


def is_model_code(frame: FrameType) -> bool:
    """Whether a frame is of a model's own file, not of what calls hooks or checks types."""
    return not frame.f_code.co_filename.startswith(BETWEEN)
