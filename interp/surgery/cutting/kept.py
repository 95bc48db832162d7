"""What does a file keep from one run to the next?

Tables that are made when it is imported, results under module-level names, ``lru_cache``: a cut in
the code that makes them would not be seen, for what was made before the cut would be read again.

    kept = kept_by(source)
    with afresh([kept]):      # as if the file were imported now
        model(tokens)
"""

import ast
import dis
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interp.surgery.running.loaded import codes_within
from interp.surgery.source.syntax import FUNCTION, Source, Syntax, parse

CHANGES = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
    *("popleft", "remove", "setdefault", "sort", "update"),
}
PLAIN = (Tensor, bool, int, float, complex, str, bytes, type(None))
Assignment = ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Name:
    """A name, at the level of the module or of a class, that is made anew.

    Attributes:
        name: as it is bound.
        scope: the class; empty for the module.
        line: of the assignment.
        made_by: the functions and classes of the file that may take part in making it; none where
            functions change what it stands for.
    """

    name: str
    scope: str
    line: int
    made_by: frozenset[str]


@dataclass(frozen=True)
class Kept:
    """What a file keeps."""

    source: Source
    names: tuple[Name, ...] = ()


def kept_by(source: Source) -> Kept:
    """The names outside functions whose values functions change, or that functions of the file
    compute and others read."""
    syntax = parse(source)
    read, changed = globals_of(source)
    changed |= changed_names(syntax)
    parts = mentions_by_name(syntax)
    own = {node.name for node in syntax.tree.body if isinstance(node, (*FUNCTION, ast.ClassDef))}
    found: list[Name] = []
    for node, scope in reversed(list(assignments(syntax))):
        names = names_of(node)
        filled = [] if scope else [fill for name in names for fill in fills(syntax, name)]
        reached = reach(parts, mentioned_names(node.value).union(*map(mentioned_names, filled)))
        is_read = bool(scope) or bool({*names} & read)
        if reached & own and is_read:
            read |= reached  # what it is made of is made anew too
            found += [Name(name, scope, node.lineno, frozenset(reached & own)) for name in names]
        elif {*names} & changed:
            found += [Name(name, scope, node.lineno, frozenset()) for name in names]
    return Kept(source, tuple(reversed(found)))


def assignments(syntax: Syntax) -> Iterator[tuple[Any, str]]:
    """Assignments of a value to names at the level of the module or of a class, and the class."""
    for node in ast.walk(syntax.tree):
        if not isinstance(node, Assignment) or node.value is None or not names_of(node):
            continue
        inside = syntax.parent[node]
        if isinstance(inside, ast.Module):
            yield node, ""
        elif isinstance(inside, ast.ClassDef) and isinstance(syntax.parent[inside], ast.Module):
            yield node, inside.name


def names_of(node: Assignment) -> list[str]:
    """The names that an assignment binds; none where it does something else too."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    parts = [part for t in targets for part in (t.elts if isinstance(t, ast.Tuple) else [t])]
    found = [part.id for part in parts if isinstance(part, ast.Name)]
    return found if len(found) == len(parts) else []


def fills(syntax: Syntax, name: str) -> list[ast.stmt]:
    """The statements outside functions that change one name after it is bound and do nothing else:
    a loop that appends to it, ``n[k] = v``, ``n *= v``. They call no methods but its own."""
    found: list[ast.stmt] = []
    for node in syntax.tree.body:
        if isinstance(node, (ast.For, ast.Expr, ast.AugAssign, ast.Assign)):
            written, calls_others = set(), False
            for part in ast.walk(node):
                if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                    written.add(last_name(part.func.value))
                    calls_others |= part.func.attr not in CHANGES
                elif isinstance(part, ast.Subscript) and not isinstance(part.ctx, ast.Load):
                    written.add(last_name(part.value))
                elif isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
                    written.add(part.target.id)
            binds = isinstance(node, ast.Assign) and bool(names_of(node))
            if written == {name} and not calls_others and not binds:
                found.append(node)
    return found


def mentioned_names(tree: ast.AST) -> set[str]:
    """Every name and attribute that a piece of syntax mentions."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return found | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def mentions_by_name(syntax: Syntax) -> dict[str, set[str]]:
    """What each function, class and assigned name of a file mentions."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(syntax.tree):
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            found.setdefault(node.name, set()).update(mentioned_names(node))
    for node, _ in assignments(syntax):
        for name in names_of(node):
            found.setdefault(name, set()).update(mentioned_names(node.value))
    return found


def reach(parts: dict[str, set[str]], names: set[str]) -> set[str]:
    """The names, and all that these mention, at any remove."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        found |= waiting
        waiting = {inner for name in waiting for inner in parts.get(name, ())} - found
    return found


def run_on_import(syntax: Syntax) -> frozenset[str]:
    """The functions of a file that may have run when it was imported: those that code outside
    functions calls or decorates with, and those that these mention."""
    mentioned: set[str] = set()
    waiting: list[ast.AST] = list(syntax.tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, FUNCTION):
            mentioned = mentioned.union(*map(mentioned_names, node.decorator_list))
            waiting += [default for default in ast.walk(node.args) if isinstance(default, ast.Call)]
        elif isinstance(node, ast.ClassDef):
            mentioned = mentioned.union(*map(mentioned_names, node.decorator_list))
            waiting += [*node.bases, *node.keywords, *node.body]
        elif isinstance(node, ast.Call):
            mentioned |= mentioned_names(node)
        elif not isinstance(node, ast.If) or "__name__" not in mentioned_names(node.test):
            waiting += ast.iter_child_nodes(node)
    functions = {
        node.name: mentioned_names(node) for node in syntax.tree.body if isinstance(node, FUNCTION)
    }
    return frozenset(reach(functions, mentioned & {*functions}) & {*functions})


def globals_of(source: Source) -> tuple[set[str], set[str]]:
    """The module-level names that functions of a file read, and those that they bind."""
    read, written = set(), set()
    module = compile(source.text, str(source.path), "exec", dont_inherit=True)
    for code in codes_within([module]):
        for step in dis.get_instructions(code):
            if step.opname == "LOAD_GLOBAL":
                read.add(step.argval)
            elif step.opname == "STORE_GLOBAL":
                written.add(step.argval)
    return read, written


def changed_names(syntax: Syntax) -> set[str]:
    """Names and attributes into which functions write: ``n[k] = v``, ``cls.n[k] = v``,
    ``n.append(v)``, ``cls.n = v``."""
    found = set()
    for function in syntax.functions():
        for node in ast.walk(function):
            if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                found.add(last_name(node.value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in CHANGES:
                    found.add(last_name(node.func.value))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found |= {node.attr} if last_name(node.value) != "self" else set()
    return found - {""}


def last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


@contextmanager
def afresh(kept: Sequence[Kept], cut: Collection[str] | None = None) -> Iterator[None]:
    """Inside the block nothing is kept from before it, and after it all is as it was.

    Args:
        kept: by the files.
        cut: the names of the functions that are cut, and of their classes: what they have no part
            in making stays. None makes all anew.
    """
    before: list[tuple[Any, str, Any]] = []
    caches = [cache for item in kept for cache in caches_of(item.source)]
    try:
        for cache in caches:
            cache.cache_clear()
        with torch.random.fork_rng(devices=[]):
            for item in kept:
                for name in item.names:
                    if cut is None or not name.made_by or name.made_by & {*cut}:
                        before += make_anew(item.source, name)
        yield
    finally:
        for owner, attribute, value in reversed(before):
            setattr(owner, attribute, value)
        for cache in caches:
            cache.cache_clear()


def make_anew(source: Source, name: Name) -> list[tuple[Any, str, Any]]:
    """Evaluate a name's assignment again. Returns where it stood, and for what."""
    module = sys.modules.get(source.module)
    owner = getattr(module, name.scope, None) if name.scope else module
    if module is None or owner is None or name.name not in vars(owner):
        return []
    value = vars(owner)[name.name]
    if not is_data(value, source.module):
        return []
    found = assignments(parse(source))
    node = next(node for node, scope in found if (node.lineno, scope) == (name.line, name.scope))
    filled = [] if name.scope else fills(parse(source), name.name)
    code = compile(ast.Module([node, *filled], []), str(source.path), "exec", dont_inherit=True)
    local = dict(vars(owner))
    exec(code, vars(module), local)
    holders = [owner] if name.scope else modules_with(name.name, value, owner)
    for holder in holders:
        setattr(holder, name.name, local[name.name])
    return [(holder, name.name, value) for holder in holders]


def modules_with(name: str, value: Any, owner: Any) -> list[Any]:
    """The module, and those that imported the name from it."""
    others = [] if value is None else list(sys.modules.values())
    return [owner, *(m for m in others if m is not owner and getattr_of(m, name) is value)]


def getattr_of(module: Any, name: str) -> Any:
    """An attribute that stands; asking a lazy module for another would import it."""
    return getattr(module, "__dict__", {}).get(name)


def is_data(value: Any, module: str) -> bool:
    """Whether a value is numbers, words and tensors alone, a container for them or an object of the
    file that holds such: what a name may stand for anew without anything else noticing."""
    if isinstance(value, PLAIN):
        return not isinstance(value, nn.Parameter)
    if isinstance(value, dict):
        return all(is_data(item, module) for item in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(is_data(item, module) for item in value)
    own = type(value).__module__ == module and not isinstance(value, (nn.Module, type))
    return own and is_data(getattr(value, "__dict__", None), module)


def caches_of(source: Source) -> list[Any]:
    """The ``lru_cache`` functions and methods that a file holds."""
    module = sys.modules.get(source.module)
    if module is None:
        return []
    held = list(vars(module).values())
    for item in [item for item in held if isinstance(item, type)]:
        if item.__module__ == source.module:
            held += [getattr(method, "__func__", method) for method in vars(item).values()]
    return [item for item in held if hasattr(item, "cache_clear") and hasattr(item, "cache_info")]
