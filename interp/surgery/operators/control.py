"""Cuts of the order in which things run: loops, branches, contexts, whole statements."""

import ast
from collections.abc import Collection, Iterator

from interp.surgery.operators.view import Proposal, View
from interp.surgery.source.edits import add_brackets, replace_header, replace_statement
from interp.surgery.source.syntax import FUNCTION, Syntax

LOOPS = (ast.For, ast.AsyncFor, ast.While)
WHOLE = (ast.Try, ast.TryStar, ast.Match, ast.AsyncFor, *FUNCTION, ast.ClassDef)
NOT_CUT = (ast.If, ast.For, ast.While, ast.With, ast.AsyncWith, ast.Pass, ast.Global, ast.Nonlocal)


def trim_loop(view: View, node: ast.For) -> Iterator[Proposal]:
    """A loop without its first turn, without its last, and backwards."""
    code = add_brackets(view.code(node.iter))
    for name, cut in (("first", "[1:]"), ("last", "[:-1]"), ("reverse", "[::-1]")):
        reading = "the loop runs backwards" if name == "reverse" else f"without the {name} turn"
        yield view.proposal("trim-loop", node.iter, name, reading, f"list({code}){cut}")


def force_branch(view: View, node: ast.If | ast.IfExp | ast.While) -> Iterator[Proposal]:
    """``if c:`` as if the condition held, and as if it did not; ``while c:`` as if it did not, for
    else it would never end."""
    condition = view.code(node.test)
    for value in (True, False):
        reading = f"as if {condition} were {value}"
        if isinstance(node, ast.IfExp):
            taken = view.code(node.body if value else node.orelse)
            yield view.proposal("force-branch", node, str(value), reading, taken)
        elif not (isinstance(node, ast.While) and (value or isinstance(node.test, ast.Constant))):
            yield view.proposal("force-branch", node.test, str(value), reading, str(value))


def drop_context(view: View, node: ast.With | ast.AsyncWith) -> Iterator[Proposal]:
    """``with torch.no_grad():`` becomes ``if True:``: the block runs as it would without."""
    target = ", ".join(view.code(item.context_expr) for item in node.items)
    edits = (replace_header(view.syntax, node, "if True"),)
    reading = f"the block runs without {target}"
    yield Proposal("drop-context", node, target, reading, edits)


def deletions(view: View, covered: Collection[ast.stmt]) -> Iterator[Proposal]:
    """A rebound name keeps its value, a bare call is not made; and where no other operator cuts a
    statement, the whole of it goes."""
    for node in view.syntax.statements:
        if isinstance(node, NOT_CUT) or not view.ran(node) or never_ends(view.syntax, node):
            continue
        if rebinds(view.syntax, node) or isinstance(node, ast.Expr) or node not in covered:
            whole = view.syntax.shown(node) if isinstance(node, WHOLE) else view.code(node)
            target = " ".join(whole.split("=")[0].split())
            edits = (replace_statement(view.syntax, node, "pass"),)
            yield Proposal("delete-statement", node, target, "the statement is left out", edits)


def never_ends(syntax: Syntax, node: ast.stmt) -> bool:
    """Whether a statement is the ``break`` of a ``while``, without which the loop may run on."""
    inner: ast.AST = node
    while isinstance(node, ast.Break) and not isinstance(inner, LOOPS):
        inner = syntax.parent[inner]
    return isinstance(inner, ast.While)


def rebinds(syntax: Syntax, node: ast.stmt) -> bool:
    """Whether a statement gives a new value to a name that had one."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    function = syntax.function(node)
    assert function is not None
    return syntax.bound[function].get(node.targets[0].id, node.lineno) < node.lineno
