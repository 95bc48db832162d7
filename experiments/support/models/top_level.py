"""Which statements of somebody's file run when a class is taken from it?

A script that trains has its classes beside statements that read data, build a model and train it.
These are left out, with all that needs what they made; definitions, imports and numbers stay.

    tree, left = without_training(ast.parse(text), {"vocab_size": 65})
"""

import ast
import builtins
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.support.models.options import parses_nothing, with_default_options

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORT = (ast.Import, ast.ImportFrom)

# What code calls that reads data, trains, or talks to the world outside.
ACTS = {
    *("open", "read", "read_text", "read_bytes", "readlines", "read_csv", "read_parquet", "input"),
    *("load", "loads", "load_dataset", "memmap", "fromfile", "loadtxt", "genfromtxt", "listdir"),
    *("urlretrieve", "urlopen", "download", "hf_hub_download", "snapshot_download"),
    *("get_encoding", "encoding_for_model", "from_pretrained", "parse_args", "parse_known_args"),
    *("backward", "step", "zero_grad", "fit", "train", "eval", "cuda", "main"),
    *("AdamW", "Adam", "SGD", "Muon", "DataLoader", "GradScaler"),
    *("init_process_group", "system", "exit", "quit", "interact", "exec", "makedirs", "mkdir"),
}
OUTSIDE = {"wandb", "mlflow", "subprocess", "requests", "urllib", "boto3", "comet_ml", "shutil"}
# Statements that call one of these change nothing but what a model may need.
HARMLESS = {
    *("print", "manual_seed", "manual_seed_all", "seed", "filterwarnings", "simplefilter"),
    *("basicConfig", "setLevel", "set_float32_matmul_precision", "set_default_dtype", "insert"),
    *("append", "extend", "update", "setdefault", "register", "add", "set_printoptions"),
    *("add_argument", "set_defaults"),
}
TRAINS = "reads data, builds a model or trains"


@dataclass
class Left:
    """What was left out of a file.

    Attributes:
        lines: first and last of each statement, and why it does not run.
        names: those that it would have bound, with their line and why they are not there.
        replaced: the constants that give way to ours, with what the file says.
    """

    lines: list[tuple[int, int, str]] = field(default_factory=list)
    names: dict[str, tuple[int, str]] = field(default_factory=dict)
    replaced: dict[str, Any] = field(default_factory=dict)


def without_training(
    tree: ast.Module,
    known: Mapping[str, Any],
    is_there: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
) -> tuple[ast.Module, Left]:
    """A file's tree with what trains left out, and constants that are known replaced.

    Args:
        tree: of the whole file; it is changed.
        known: numbers and words by the names that files have for them, such as ``vocab_size``.
        is_there: whether a package can be imported.
    """
    replaced = with_default_options(tree, known)
    trimmer = Trimmer(tree, known, is_there)
    tree.body = trimmer.kept(tree.body)
    trimmer.left.replaced |= replaced
    return ast.fix_missing_locations(tree), trimmer.left


class Trimmer:
    """Goes through the statements outside functions, in order."""

    def __init__(
        self, tree: ast.Module, known: Mapping[str, Any], is_there: Callable[[str], bool]
    ) -> None:
        self.known = known
        self.is_there = is_there
        self.left = Left()
        self.bound: set[str] = set()
        self.late_annotations = any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
        )
        self.functions = {node.name: node for node in tree.body if isinstance(node, FUNCTION)}
        self.classes = classes_of(tree)
        self.models = module_classes(self.classes)
        self.imported = {name for node in ast.walk(tree) for name in names_imported(node)}
        self.read = read_by_code(tree)
        outside = [node for node in tree.body if not is_main_guard(node)]
        self.at_import = {name for node in outside for name in names_bound(node)}
        self.is_script = any(map(self.acts, at_top_level(tree.body)))

    def kept(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The statements of a block that run."""
        found: list[ast.stmt] = []
        for statement in body:
            found += self.of(statement)
        return found

    def of(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, IMPORT):
            return self.import_of(node)
        if is_main_guard(node):
            return self.guard(node)
        if isinstance(node, ast.Assign | ast.AnnAssign) and self.is_constant(node):
            return [self.replace(node)]
        if isinstance(node, ast.ClassDef):
            plain = node.name not in self.models and not node.decorator_list
            if plain and self.known:  # class Config: n_embd = 384
                node.body = [
                    self.replace(item) if self.is_constant(item) else item for item in node.body
                ]
            outer = [*node.bases, *node.decorator_list, *node.keywords]
            return self.unless_missing(node, outer, [node.name])
        if isinstance(node, FUNCTION):
            given = [
                *node.decorator_list,
                *node.args.defaults,
                *filter(None, node.args.kw_defaults),
            ]
            return self.unless_missing(node, given, [node.name])
        if isinstance(node, ast.If) and not self.misses(node.test) and not self.acts(node.test):
            node.body, node.orelse = self.kept(node.body) or [ast.Pass()], self.kept(node.orelse)
            return [node]
        if isinstance(node, ast.Try) and not any(map(self.acts, node.body)):
            return [node]
        ends = isinstance(node, ast.Raise)
        if self.is_script and (ends or self.acts(node) or self.is_unknown_call(node)):
            return self.leave(node, TRAINS)
        return self.unless_missing(node, [node], names_bound(node))

    def guard(self, node: ast.stmt) -> list[ast.stmt]:
        """What runs as a script alone, and what is known of the names that it alone binds: code
        that reads them works in a script."""
        given: list[ast.stmt] = [node]
        for name in names_bound(node):
            if name not in self.read or name in self.at_import:
                continue
            if name in self.known:
                given.append(assignment(node, name, self.known[name]))
            else:
                self.left.names[name] = node.lineno, "is bound only where the file is a script"
        return given

    def run_by(self, node: ast.stmt) -> list[ast.AST]:
        """What runs when a statement is reached, of a function or class all but its body."""
        if isinstance(node, ast.ClassDef):
            inner = [part for item in node.body for part in self.run_by(item)]
            return [*node.bases, *node.decorator_list, *node.keywords, *inner]
        if not isinstance(node, FUNCTION):
            return [node]
        given = node.args
        parts = [*node.decorator_list, *given.defaults, *filter(None, given.kw_defaults)]
        if not self.late_annotations:
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            parts += [one.annotation for one in every if one is not None and one.annotation]
            parts += [node.returns] if node.returns else []
        return [*parts]

    def unless_missing(
        self, node: ast.stmt, read: Sequence[ast.AST], bound: list[str]
    ) -> list[ast.stmt]:
        """The statement, unless what it reads is not there; what it binds is then."""
        missing = [name for part in read for name in self.misses(part)]
        if missing:
            line, reason = self.left.names[missing[0]]
            return self.leave(node, f"needs {missing[0]} of line {line}, which {reason}")
        self.bound |= {*bound}
        for name in bound:
            self.left.names.pop(name, None)
        return [node]

    def leave(self, node: ast.stmt, reason: str) -> list[ast.stmt]:
        """The statement where it never runs, and those that bind what is known of its names."""
        self.left.lines.append((node.lineno, node.end_lineno or node.lineno, reason))
        # It stays in the tree: functions that read a name which an import binds are compiled to
        # other code, and must be what the file says.
        kept = ast.If(ast.copy_location(ast.Constant(False), node), [node], [])
        given: list[ast.stmt] = [ast.copy_location(kept, node)]
        for name in names_bound(node):
            if name in self.known:
                given.append(assignment(node, name, self.known[name]))
                self.left.names.pop(name, None)
                continue
            self.left.names[name] = node.lineno, reason
            if name in self.bound:  # what it stood for before is not what the file computes with
                gone = ast.Delete([ast.Name(name, ast.Del())])
                given.append(ast.copy_location(gone, node))
                self.bound.discard(name)
        return given

    def misses(self, node: ast.AST) -> list[str]:
        """The names that a piece of syntax reads and that were left out."""
        return [
            part.id
            for part in ast.walk(node)
            if isinstance(part, ast.Name)
            and isinstance(part.ctx, ast.Load)
            and part.id in self.left.names
        ]

    def import_of(self, node: ast.Import | ast.ImportFrom) -> list[ast.stmt]:
        """An import, unless a package that it names is not installed."""
        tops = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            tops = [node.module or ""]
        for name in tops:
            top = name.partition(".")[0]
            if not self.is_there(top):
                return self.leave(node, f"imports {top}, which is not installed")
        return [node]

    def is_constant(self, node: ast.stmt) -> bool:
        """Whether a statement binds a name that is known, which functions read, to a constant."""
        target = target_of(node)
        value = getattr(node, "value", None)
        if target not in self.known or value is None:
            return False
        if isinstance(self.known[target], str) and target == "device":
            return target in self.read and not isinstance(value, ast.Call)
        return is_numeric(value) and target in self.read

    def replace(self, node: Any) -> ast.stmt:
        name = target_of(node)
        given = assignment(node, name, self.known[name])
        if ast.dump(given.value) != ast.dump(node.value):
            self.left.replaced[name] = ast.unparse(node.value)
        node.value = given.value
        statement: ast.stmt = node
        return statement

    def is_unknown_call(self, node: ast.AST) -> bool:
        """Whether a statement does nothing but call what may do anything."""
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
            return False
        return called_name(node.value.func) not in HARMLESS

    def acts(self, node: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
        """Whether code reads data, builds or trains a model, itself or by functions it calls."""
        for part in within(node):
            if not isinstance(part, ast.Call) or parses_nothing(part):
                continue
            name, root = called_name(part.func), first_name(part.func)
            if root in OUTSIDE and root in self.imported:
                return True
            bare = isinstance(part.func, ast.Name)
            is_config = bare and name in {*self.classes} - {*self.models}
            if name in ACTS and not is_config:
                return True
            if bare and name in self.models:
                return True
            inner = self.called(name) if bare and name not in seen else []
            if any(self.acts(item, seen | {name}) for item in inner):
                return True
        return False

    def called(self, name: str) -> list[ast.stmt]:
        """The statements that run where a function or a class of the file is called."""
        if name in self.functions:
            return self.functions[name].body
        methods = list(getattr(self.classes.get(name), "body", ()))
        by_name = {item.name: item.body for item in methods if isinstance(item, FUNCTION)}
        found = [*by_name.get("__init__", ()), *by_name.get("__post_init__", ())]
        for part in [part for item in found for part in ast.walk(item)]:
            if isinstance(part, ast.Call) and first_name(part.func) == "self":
                found += by_name.get(called_name(part.func), [])
        return found


def at_top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a file is imported, without definitions and imports."""
    for node in body:
        if not isinstance(node, (*FUNCTION, ast.ClassDef, *IMPORT)) and not is_main_guard(node):
            yield node


def within(node: ast.AST) -> Iterator[ast.AST]:
    """A piece of syntax and its parts, but for the bodies of functions and classes in it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTION, ast.ClassDef, ast.Lambda)):
            yield from within(child)


def is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in {
        part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)
    }


def classes_of(tree: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def module_classes(classes: Mapping[str, ast.ClassDef]) -> set[str]:
    """The classes of a file that are modules of torch, by their bases."""
    found: set[str] = set()
    for _ in classes:
        for name, node in classes.items():
            bases = {called_name(base) for base in node.bases}
            if bases & found or any(base.endswith(("Module", "Model")) for base in bases):
                found.add(name)
    return found


def read_by_code(tree: ast.Module) -> set[str]:
    """The names that functions and classes of a file read, and those of which constants at the
    top level are made that these read. In a file of constants alone, all: others read them."""
    if not any(isinstance(node, (*FUNCTION, ast.ClassDef)) for node in tree.body):
        return {target_of(node) for node in tree.body} - {""}
    read: set[str] = set()
    for node in tree.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            read |= names_read(node)
    made = [(target_of(n), n.value) for n in tree.body if isinstance(n, ast.Assign)]
    for _ in made:
        for name, value in made:
            if name in read:
                read |= names_read(value)
    own = {target_of(item) for node in classes_of(tree).values() for item in node.body}
    return read | (own - {""})


def names_read(node: ast.AST) -> set[str]:
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    } - {*dir(builtins)}


def names_bound(node: ast.AST) -> list[str]:
    """The names that a statement binds where it stands."""
    if isinstance(node, (*FUNCTION, ast.ClassDef)):
        return [node.name]
    found = [*names_imported(node)]
    for part in within(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.append(part.id)
        elif isinstance(part, (*FUNCTION, ast.ClassDef)):
            found.append(part.name)
        elif part is not node:
            found += names_imported(part)
    return list(dict.fromkeys(found))


def names_imported(node: ast.AST) -> list[str]:
    if not isinstance(node, IMPORT):
        return []
    return [alias.asname or alias.name.partition(".")[0] for alias in node.names]


def target_of(node: ast.AST) -> str:
    """The one name that an assignment binds; empty where it is none."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    name = targets[0] if len(targets) == 1 else None
    return name.id if isinstance(name, ast.Name) else ""


def is_numeric(node: ast.AST) -> bool:
    """Whether an expression is made of numbers alone."""
    allowed = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
    parts = list(ast.walk(node))
    numbers = [part.value for part in parts if isinstance(part, ast.Constant)]
    return all(isinstance(part, allowed) for part in parts) and all(
        isinstance(number, int | float) for number in numbers
    )


def assignment(node: ast.stmt, name: str, value: Any) -> ast.Assign:
    given = ast.Assign([ast.Name(name, ast.Store())], ast.parse(repr(value), mode="eval").body)
    for part in ast.walk(given):
        ast.copy_location(part, node)
    return given


def called_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def first_name(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else ""
