"""Which lines compute a value that a line only rearranges?

A hook point on heads often stands behind ``z = z.transpose(1, 2)``: that line makes the value, and
says nothing of what it is. The lines to read beside it are those that made ``z``.

    computing_lines(source, 123)    # [119, 122]: one in each branch
"""

import ast
from collections.abc import Sequence
from functools import lru_cache

REARRANGEMENTS = {
    *("transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "rearrange"),
    *("view", "reshape", "flatten", "unflatten", "contiguous", "squeeze", "unsqueeze", "mT", "T"),
}


def computing_lines(source: str, line: int) -> list[int]:
    """The nearest earlier lines that compute what a line only gives another shape.

    Follows the name that is rearranged back through the function, through further rearrangements
    and hook points that hand it on; where branches each make it, there is a line for each.

    Args:
        source: the text of a file.
        line: the number of a line on which a statement begins.

    Returns:
        Numbers of lines, in order; none where the line computes something itself, or what it
        rearranges was made elsewhere, as a parameter is.
    """
    path = path_to_statement(statements_of(source), line)
    statement = path[-1][0][path[-1][1]] if path else None
    name = rearranged_name(statement)
    if name is None:
        return []
    return sorted({maker.lineno for maker in makers_before(path, name)})


@lru_cache(8)  # a page asks for many lines of one file
def statements_of(source: str) -> list[ast.stmt]:
    """What a file says; nothing where it cannot be read."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError):
        return []


BlockPath = list[tuple[list[ast.stmt], int]]  # from the outermost: a block, and the place in it


def path_to_statement(block: list[ast.stmt], line: int) -> BlockPath:
    """Where the statement that begins on a line stands; empty where none does."""
    for place, statement in enumerate(block):
        if statement.lineno == line:
            return [(block, place)]
        for inner in held_blocks(statement):
            if found := path_to_statement(inner, line):
                return [(block, place), *found]
    return []


def held_blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks that a statement holds."""
    held = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
    held += [handler.body for handler in getattr(statement, "handlers", [])]
    held += [case.body for case in getattr(statement, "cases", [])]
    return [block for block in held if block]


def rearranged_name(statement: ast.stmt | None) -> str | None:
    """The name whose value a statement gives another shape, and nothing else."""
    value = getattr(statement, "value", None)
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Return):
        return None
    if isinstance(value, ast.Call) and getattr(value.func, "attr", "").startswith("hook_"):
        value = first_given(value)  # a hook point alone changes no shape
    return None if isinstance(value, ast.Name) else rearranged(value)


def rearranged(value: ast.expr | None) -> str | None:
    """The name under any number of rearrangements: ``z`` in ``rearrange(z.mT, "b h p -> b p h")``,
    and under a hook point that hands it on."""
    while value is not None and not isinstance(value, ast.Name):
        called = value.func if isinstance(value, ast.Call) else value
        name = getattr(called, "attr", getattr(called, "id", ""))
        if name not in REARRANGEMENTS and not name.startswith("hook_"):
            return None
        of = getattr(called, "value", None)
        is_method = isinstance(called, ast.Attribute) and name in REARRANGEMENTS
        if is_method and not (isinstance(of, ast.Name) and of.id in FUNCTIONS_OF):
            value = of
        else:
            value = first_given(value)
    return value.id if value is not None else None


FUNCTIONS_OF = {"torch", "einops", "np", "jnp", "F"}


def first_given(value: ast.expr) -> ast.expr | None:
    return value.args[0] if isinstance(value, ast.Call) and value.args else None


def makers_before(path: BlockPath, name: str) -> list[ast.stmt]:
    """The statements that bind a name, last before a place, to more than another shape of it."""
    for depth in range(len(path) - 1, -1, -1):
        block, place = path[depth]
        if isinstance(block[place], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return []  # of what is outside, a function sees no order
        found, sure = makers_in(block[:place], path[:depth], name)
        if sure:
            return found
        if found:
            return [*found, *makers_before(path[:depth], name)]
    return []


def makers_in(
    block: Sequence[ast.stmt], above: BlockPath, name: str
) -> tuple[list[ast.stmt], bool]:
    """The last statements of a block that bind a name, and whether one of them surely runs."""
    found: list[ast.stmt] = []
    for place in range(len(block) - 1, -1, -1):
        statement = block[place]
        if held_blocks(statement):
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            here = [*above, (list(block), place)]
            ends = [makers_in(inner, here, name) for inner in held_blocks(statement)]
            found += [maker for makers, _ in ends for maker in makers]
            whole = isinstance(statement, ast.With) or (
                isinstance(statement, ast.If) and bool(statement.orelse)
            )
            if whole and all(sure for _, sure in ends):
                return found, True
        elif name in names_stored(statement):
            before = rearranged_of(statement, name)
            if before is None:
                return [*found, statement], True
            more = makers_before([*above, (list(block), place)], before)
            return [*found, *more], True
    return found, False


def names_stored(statement: ast.stmt) -> set[str]:
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def rearranged_of(statement: ast.stmt, name: str) -> str | None:
    """The name whose rearrangement a statement binds to ``name``, place by place where several are
    bound at once; None where it computes."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target, value = statement.targets[0], statement.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=False)
        value = next((v for t, v in pairs if isinstance(t, ast.Name) and t.id == name), value)
    elif not isinstance(target, ast.Name):
        return None
    return rearranged(value)
