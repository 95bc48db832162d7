"""How does a loaded file become what its edited text says, and go back?

Bodies of functions are the smaller part: a person may also edit a default value, a constant of a
class or of the module, or add a method. What of this Python reads again when the model runs or is
built is put in place and taken out again; what it read once and for all, such as a decorator, is
refused.

    with rewritten(cut) as changed:      # the names outside functions that stand for something else
        model(tokens)
"""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from interp.errors import SurgeryError
from interp.surgery.cutting.kept import (
    Assignment,
    is_data,
    mentioned_names,
    mentions_by_name,
    names_of,
    reach,
)
from interp.surgery.cutting.modules import edited_name
from interp.surgery.running.loaded import loaded_functions, made_on_import
from interp.surgery.running.swapping import compile_function, swap_codes
from interp.surgery.source.edits import Surgery
from interp.surgery.source.files import decode_python
from interp.surgery.source.imports import local_file
from interp.surgery.source.syntax import FUNCTION, FunctionNode, Source, Syntax, parse

MISSING = object()
Definition = FunctionNode | ast.ClassDef
Key = tuple[str, int]  # a name, and how many of that name stand above it in the scope


class RewriteError(SurgeryError):
    """An edit of something that Python reads only once, when the file is imported."""


@contextmanager
def rewritten(
    surgery: Surgery, names: Mapping[str, Any], chosen: Callable[[], bool]
) -> Iterator[frozenset[str]]:
    """Inside the block, the file's module is what its edited text says.

    Args:
        surgery: the edits; of bodies of functions alone where it is made in some layers.
        names: what names that the edited code reads stand for, beyond the module's.
        chosen: says, at each call of a function, whether its edited body is meant.

    Raises:
        RewriteError: the edit is of something that is read when the file is imported.
    """
    made = Rewriting(surgery)
    made.look(parse(surgery.source).tree.body, made.syntax.tree.body, made.module, "")
    if surgery.layers is not None and (made.headers or made.put):
        raise RewriteError(
            f"{surgery.id} edits more than bodies of functions, which cannot be made in some "
            "layers only: leave layers out"
        )
    with ExitStack() as stack:
        filename = edited_name(surgery)
        stack.enter_context(swap_codes(made.syntax, made.codes, names, filename, chosen))
        stack.callback(made.undo)
        for put in made.put:
            put()
        for head in made.headers:
            head()
        yield frozenset(made.changed)


@dataclass
class Rewriting:
    """What is found on the way through a file and its edited text, and what was done about it."""

    surgery: Surgery
    codes: dict[FunctionType, tuple[FunctionNode, CodeType]] = field(default_factory=dict)
    put: list[Callable[[], None]] = field(default_factory=list)
    headers: list[Callable[[], None]] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    undone: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        source = self.surgery.source
        self.syntax: Syntax = parse(Source(source.path, self.surgery.text, source.module))
        self.parts = mentions_by_name(self.syntax)
        module = sys.modules.get(source.module)
        if module is None:
            raise SurgeryError(f"{source.path} is not loaded: import it before operating on it")
        self.module: ModuleType = module

    @property
    def source(self) -> Source:
        return self.surgery.source

    def refuse(self, what: str, line: int) -> RewriteError:
        return RewriteError(
            f"line {line} of the edited {self.source.file} changes {what}, which Python reads when "
            "the file is imported: only a model that is built and trained from the edited file has "
            "it"
        )

    def look(
        self, before: Sequence[ast.stmt], after: Sequence[ast.stmt], owner: Any, scope: str
    ) -> None:
        """Find what differs in one scope: the module's, or a class's."""
        old_defs, new_defs = definitions(before), definitions(after)
        known = [ast.dump(item) for item in before if not is_definition(item)]
        common = [ast.dump(item) for item in after if ast.dump(item) in known]
        if common != [text for text in known if text in common]:
            raise self.refuse("the order of statements", after[0].lineno)
        for key, old in old_defs.items():
            if key not in new_defs and key[0] not in {name for name, _ in new_defs}:
                self.remove(owner, key[0], old)
        gone = {name for item in before for name in bound_by(item)}
        gone -= {name for item in after for name in bound_by(item)}
        for name in sorted(gone):
            self.remove(owner, name, before[0])
        for item in after:
            if isinstance(item, FUNCTION):
                self.look_at_function(item, old_defs.get(key_of(item, new_defs)), owner)
            elif isinstance(item, ast.ClassDef):
                self.look_at_class(item, old_defs.get(key_of(item, new_defs)), owner, scope)
            else:
                self.look_at_statement(item, ast.dump(item) in known, owner)

    def look_at_function(self, new: FunctionNode, old: ast.stmt | None, owner: Any) -> None:
        if old is None:
            self.add(owner, new)
            return
        assert isinstance(old, FUNCTION)
        if dumps(new.decorator_list) != dumps(old.decorator_list) or type(new) is not type(old):
            raise self.refuse("a decorator", new.lineno)
        if self.reads_changed(new.decorator_list):
            raise self.refuse("what a decorator is given", new.decorator_list[0].lineno)
        heads = signature(new) != signature(old) or self.reads_changed(defaults_of(new))
        if not heads and dumps(new.body) == dumps(old.body):
            return
        functions = loaded_functions(self.source, old)
        inner = f"{self.syntax.qualname[new]}.<locals>"
        if not functions:
            raise self.refuse(f"{new.name}, which is not loaded", new.lineno)
        if any(name.startswith(inner) for name, _ in made_on_import(self.source)):
            raise self.refuse(f"{new.name}, whose inner functions were made then", new.lineno)
        self.changed.add(new.name)
        code = compile_function(self.syntax, new, new.body, edited_name(self.surgery))
        for function in functions:
            if missing := {*code.co_freevars} - {*function.__code__.co_freevars, "__class__"}:
                raise self.refuse(f"{new.name}, which would read {min(missing)}", new.lineno)
            self.codes[function] = new, code
            if heads:
                self.headers.append(partial(self.set_defaults, function, new, owner))

    def look_at_class(
        self, new: ast.ClassDef, old: ast.stmt | None, owner: Any, scope: str
    ) -> None:
        if old is None:
            self.add(owner, new)
            return
        assert isinstance(old, ast.ClassDef)
        head = [*new.bases, *new.keywords, *new.decorator_list]
        if dumps(head) != dumps([*old.bases, *old.keywords, *old.decorator_list]):
            raise self.refuse(f"what the class {new.name} is made of", new.lineno)
        if dumps(new.body) == dumps(old.body) and not self.reads_changed([new]):
            return
        held = vars(owner).get(new.name)
        qualname = f"{scope}.{new.name}" if scope else new.name
        own = isinstance(held, type) and held.__module__ == self.source.module
        if not own or held.__qualname__ != qualname:
            raise self.refuse(f"the class {new.name}, which another has replaced", new.lineno)
        simple = [item for item in new.body if not is_definition(item)]
        before = [item for item in old.body if not is_definition(item)]
        fixed = new.decorator_list or type(held) is not type or is_tuple_class(held)
        if fixed and (dumps(simple) != dumps(before) or self.reads_changed(simple)):
            raise self.refuse(f"a field of {new.name}", new.lineno)
        self.look(old.body, new.body, held, qualname)

    def look_at_statement(self, item: ast.stmt, is_known: bool, owner: Any) -> None:
        """A statement outside functions: one that binds names is run again."""
        if is_docstring(item) or runs_as_script_only(item):
            return
        names = bound_by(item)
        if is_known:
            if not self.changed & reach(self.parts, read_by(item)):
                return
            values = [vars(owner).get(name) for name in names]
            if not names or not all(is_data(value, self.source.module) for value in values):
                if not self.changed & mentioned_names(item):
                    return  # a function that it may call changes; what it made stays, as in a cut
                raise self.refuse(f"what line {item.lineno} has made", item.lineno)
        elif isinstance(item, ast.AnnAssign) and item.value is None:
            return
        elif not names:
            raise self.refuse("a statement outside functions", item.lineno)
        self.changed |= {*names}
        code = compile(ast.Module([item], []), edited_name(self.surgery), "exec", dont_inherit=True)

        def run() -> None:
            local = dict(vars(owner))
            exec(code, vars(self.module), local)
            for name in names:
                self.set(owner, name, local[name])

        self.put.append(run)

    def add(self, owner: Any, new: Definition) -> None:
        """A function or class that the file does not have."""
        if new.decorator_list and isinstance(new, FUNCTION):
            plain = {"staticmethod", "classmethod", "property"}
            if not {ast.unparse(item) for item in new.decorator_list} <= plain:
                raise self.refuse(f"a decorated function, {new.name}", new.lineno)
        self.changed.add(new.name)
        body = ast.Module([new], [])
        name = edited_name(self.surgery)

        def run() -> None:
            space = vars(self.module)
            if isinstance(new, FUNCTION) and isinstance(owner, type):
                code = compile_function(self.syntax, new, new.body, name)
                cells = tuple(CellType(owner) for _ in code.co_freevars)
                made: Any = FunctionType(code, space, new.name, None, cells)
                made.__defaults__, made.__kwdefaults__ = self.defaults(None, new, owner)
                for decorator in reversed(new.decorator_list):
                    made = {"staticmethod": staticmethod, "classmethod": classmethod}.get(
                        ast.unparse(decorator), property
                    )(made)
                self.set(owner, new.name, made)
                return
            local: dict[str, Any] = {}
            exec(compile(body, name, "exec", dont_inherit=True), space, local)
            self.set(owner, new.name, local[new.name])

        self.put.append(run)

    def remove(self, owner: Any, name: str, at: ast.stmt) -> None:
        if name not in vars(owner):
            raise self.refuse(f"{name}, which is not there", at.lineno)
        self.changed.add(name)
        self.put.append(partial(self.set, owner, name, MISSING))

    def reads_changed(self, nodes: Sequence[ast.AST]) -> bool:
        return bool(self.changed) and bool(self.changed.intersection(*[mentioned_in_all(nodes)]))

    def set_defaults(self, function: FunctionType, new: FunctionNode, owner: Any) -> None:
        before = function.__defaults__, function.__kwdefaults__

        def back() -> None:
            function.__defaults__, function.__kwdefaults__ = before

        self.undone.append(back)
        function.__defaults__, function.__kwdefaults__ = self.defaults(function, new, owner)

    def defaults(
        self, function: FunctionType | None, new: FunctionNode, owner: Any
    ) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
        """The default values of a function as its edited text gives them."""
        space, local = vars(self.module), dict(vars(owner))

        def value(node: ast.expr) -> Any:
            code = compile(ast.Expression(node), edited_name(self.surgery), "eval")
            return eval(code, space, local)

        taken = new.args
        named = {
            argument.arg: value(default)
            for argument, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True)
            if default is not None
        }
        return tuple(map(value, taken.defaults)) or None, named or None

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Let a name stand for something else, also where another file has imported it."""
        old = vars(owner).get(name, MISSING)
        holders = [owner] if isinstance(owner, type) else [owner, *self.importers(name, old)]
        for holder in holders:
            self.undone.append(partial(assign, holder, name, old))
            assign(holder, name, value)

    def importers(self, name: str, value: Any) -> list[ModuleType]:
        """The modules that hold a name because they imported it from this file; none of one that
        the file does not have yet."""
        if value is MISSING:
            return []
        found = []
        for module in list(sys.modules.values()):
            held = getattr(module, "__dict__", {})
            if module is self.module or held.get(name, MISSING) is not value:
                continue
            path = local_file(module) if isinstance(module, ModuleType) else None
            if path is None or path == self.source.path:
                continue
            try:
                tree = ast.parse(decode_python(path))
            except (OSError, SyntaxError, ValueError):
                raise self.refuse(
                    f"{name}, which {path.name} has too and cannot be read", 1
                ) from None
            own = self.source.module.rpartition(".")[2]
            imports = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                and (node.module or "").rpartition(".")[2] in (own, "")
                and any(alias.name in (name, "*") for alias in node.names)
            ]
            if not imports:
                continue
            if name in mentioned_in_all([n for n in tree.body if not is_definition(n)]):
                raise self.refuse(f"{name}, from which {path.name} makes something", 1)
            found.append(module)
        return found

    def undo(self) -> None:
        while self.undone:
            self.undone.pop()()


def assign(owner: Any, name: str, value: Any) -> None:
    if value is not MISSING:
        setattr(owner, name, value)
    elif name in vars(owner):
        delattr(owner, name)


def definitions(body: Sequence[ast.stmt]) -> dict[Key, Definition]:
    found: dict[Key, Definition] = {}
    for item in body:
        if isinstance(item, (*FUNCTION, ast.ClassDef)):
            found[key_of(item, found)] = item
    return found


def key_of(item: Definition, among: Mapping[Key, Definition]) -> Key:
    """The name of a definition and its number among those of its name."""
    alike = [key for key in among if key[0] == item.name]
    own = [key for key in alike if among[key] is item]
    return own[0] if own else (item.name, len(alike))


def is_definition(item: ast.stmt) -> bool:
    return isinstance(item, (*FUNCTION, ast.ClassDef))


def is_docstring(item: ast.stmt) -> bool:
    return isinstance(item, ast.Pass) or (
        isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
    )


def runs_as_script_only(item: ast.stmt) -> bool:
    return isinstance(item, ast.If) and "__name__" in mentioned_names(item.test)


def is_tuple_class(held: Any) -> bool:
    return issubclass(held, tuple)


def bound_by(item: ast.stmt) -> list[str]:
    """The names that an assignment or an import binds; none of any other statement."""
    if isinstance(item, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).partition(".")[0] for alias in item.names]
    return names_of(item) if isinstance(item, Assignment) else []


def read_by(item: ast.stmt) -> set[str]:
    value = getattr(item, "value", None) if isinstance(item, Assignment) else item
    return mentioned_names(value) if isinstance(value, ast.AST) else set()


def mentioned_in_all(nodes: Sequence[ast.AST]) -> set[str]:
    return set().union(*map(mentioned_names, nodes)) if nodes else set()


def defaults_of(node: FunctionNode) -> list[ast.AST]:
    return [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]


def signature(node: FunctionNode) -> list[str]:
    """Parameters and default values, without annotations: nothing reads them when it runs."""
    taken = node.args
    kinds = (taken.posonlyargs, taken.args, [taken.vararg], taken.kwonlyargs, [taken.kwarg])
    names = [",".join(one.arg for one in kind if one is not None) for kind in kinds]
    return [*names, *dumps(taken.defaults), *(str(d and ast.dump(d)) for d in taken.kw_defaults)]


def dumps(nodes: Sequence[ast.AST]) -> list[str]:
    return [ast.dump(node) for node in nodes]
