"""How is a part of a computation repeated in the source with another value?"""

import ast

from interp.circuits.twins.making import OTHER, WROTE, EdgeEdits
from interp.circuits.twins.slicing import (
    Chain,
    last_binding,
    names_bound_by,
)
from interp.errors import SurgeryError
from interp.surgery.source.syntax import Syntax


def copy_chain(making: EdgeEdits, chain: Chain, given: dict[str, str]) -> tuple[list[str], str]:
    """The statements of a chain, and its end, of other values.

    Args:
        given: what stands in the place of a parameter; of "", in the place of the leaves.
    """
    edits = making.of(chain.syntax)

    def code(node: ast.expr) -> str:
        renamed: dict[ast.expr, str] = {}
        for part in ast.walk(node):
            if part in chain.leaves and isinstance(part, ast.expr):
                plain = edits.code(part, {})
                renamed[part] = given.get("") or in_brackets(part, chain.syntax, patched(plain))
            elif isinstance(part, ast.Name) and part in chain.handed:
                renamed[part] = given.get(part.id, part.id)
            elif isinstance(part, ast.Name) and part in chain.depends and part.id in chain.names:
                renamed[part] = f"edge_{part.id}"
        return edits.code(node, renamed)

    lines = []
    for statement in chain.statements:
        assert statement.value is not None
        bound = [f"edge_{n}" if n in chain.names else "_" for n in names_bound_by(statement)]
        equals = "="
        if isinstance(statement, ast.AugAssign):
            raise SurgeryError(f"line {statement.lineno} changes a value in place")
        lines.append(f"{', '.join(bound)} {equals} {code(statement.value)}")
    return lines, code(chain.end)


def check_bound(chain: Chain, at: ast.stmt) -> None:
    """What a copy reads beside must be what it was, where the copy stands."""
    bindings = [
        node
        for node in ast.walk(chain.function)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign))
    ]
    for statement in [*chain.statements, chain.end]:
        for node in ast.walk(statement):
            if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
                continue
            if node in chain.depends and node.id in chain.names | chain.parameters:
                continue
            if any(node in ast.walk(leaf) for leaf in chain.leaves):
                continue
            then = last_binding(bindings, chain.syntax, node)
            now = max(
                (b for b in bindings if node.id in names_bound_by(b) and b.lineno < at.lineno),
                key=lambda b: b.lineno,
                default=None,
            )
            if then is not now:
                raise SurgeryError(
                    f"line {node.lineno} of {chain.syntax.source.file} reads {node.id!r}, "
                    f"which is another one on line {at.lineno}"
                )


def is_read_elsewhere(making: EdgeEdits, chain: Chain) -> bool:
    """Whether what a chain makes is read outside it too."""
    within = set()
    for statement in [*chain.statements, chain.end]:
        within |= set(ast.walk(statement))
    bindings = [
        node
        for node in ast.walk(chain.function)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign))
    ]
    return any(
        isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and node not in within
        and last_binding(bindings, chain.syntax, node) in chain.statements
        and making.run.times(chain.syntax, node, chain.layer)
        for node in ast.walk(chain.function)
    )


def patched(code: str) -> str:
    return f"{code} - {WROTE} + {OTHER}"


def in_brackets(node: ast.expr, syntax: Syntax, code: str) -> str:
    """Code of a sum, in brackets where something beside it would take a part of it."""
    parent = syntax.parent[node]
    alone = isinstance(parent, (ast.Call, ast.Assign, ast.Return, ast.keyword))
    return (
        code
        if alone and not (isinstance(parent, ast.Call) and parent.func is node)
        else f"({code})"
    )
