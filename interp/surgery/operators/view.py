"""What does an operator know of the code that it looks at, and what does it propose?"""

import ast
from dataclasses import dataclass

from interp.surgery.running.observing import Axes, Observations, Seen
from interp.surgery.source.edits import replace_node
from interp.surgery.source.syntax import Edit, Syntax


@dataclass(frozen=True)
class Proposal:
    """A cut that an operator proposes: what is cut, where, and what it takes away.

    ``safe`` predicts that shapes fit after the cut; it ranks, and never keeps a cut from being
    tried.
    """

    operator: str
    node: ast.AST
    target: str
    reading: str
    edits: tuple[Edit, ...]
    safe: bool = True


@dataclass(frozen=True)
class View:
    """A file's syntax, and what is known of its expressions from a run."""

    syntax: Syntax
    observations: Observations | None = None

    def code(self, node: ast.AST) -> str:
        return self.syntax.code(node)

    def seen(self, node: ast.AST) -> Seen | None:
        return None if self.observations is None else self.observations.of(node)

    def axes(self, node: ast.AST) -> Axes | None:
        return None if self.observations is None else self.observations.axes_of(node)

    def ran(self, statement: ast.stmt) -> bool:
        return self.observations is None or bool(self.observations.phases(statement))

    def fits(self, node: ast.expr, into: ast.expr) -> bool:
        """Whether ``node`` has the shape of what it would stand for."""
        one, other = self.seen(node), self.seen(into)
        return one is None or other is None or one.shape == other.shape

    def proposal(
        self,
        operator: str,
        node: ast.expr | ast.stmt,
        target: str,
        reading: str,
        code: str,
        safe: bool = True,
    ) -> Proposal:
        edits = (replace_node(self.syntax, node, code),)
        return Proposal(operator, node, target, reading, edits, safe)


def is_number(seen: Seen | None) -> bool:
    """Whether a value takes part in the computation: a tensor or a float, no count of things."""
    return seen is None or seen.is_tensor or seen.kind is float
