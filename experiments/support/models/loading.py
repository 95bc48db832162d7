"""How is somebody's file imported, without its training being run?

The files of its folder are found beside it, as when it is run as a script; nothing is written into
that folder. What stands at the top level of each is trimmed (``top_level``).

    loaded = load_foreign("lecture.py", {"vocab_size": 65})
    loaded.module.GPT
"""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from itertools import groupby
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from experiments.support.models.blaming import blame, silence
from experiments.support.models.top_level import TRAINS, Left, without_training
from gpt.errors import UsageError
from interp.surgery.source.imports import INSTALLED
from interp.surgery.source.syntax import read_source

OURS = ("gpt", "interp", "experiments")
PREFIX = "studied_"


@dataclass
class Loaded:
    """A file that was imported, with those of its folder.

    Attributes:
        module: the file's own.
        folder: where the files beside it are looked for.
        left: by path, what was left out of each.
    """

    module: ModuleType
    folder: Path
    left: dict[Path, Left] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """A sentence for each file of which statements were left out."""
        said = []
        for path, left in self.left.items():
            if any(reason == TRAINS for *_, reason in left.lines):
                lines = [(first, last) for first, last, _ in left.lines]
                said.append(
                    f"{path.name} {TRAINS} at the top level: "
                    f"{spans(lines)} left out, its classes are as they stand"
                )
            packages = {reason for *_, reason in left.lines if reason.startswith("imports")}
            said += [f"{path.name} {reason}: what needs it was left out" for reason in packages]
        return said


def spans(lines: Sequence[tuple[int, int]]) -> str:
    """Lines in words, neighbours together."""
    numbers = sorted({n for first, last in lines for n in range(first, last + 1)})
    groups = [
        [number for _, number in group]
        for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    parts = [f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups]
    if len(parts) > 6:
        parts = [*parts[:5], f"{len(parts) - 5} more"]
    one = len(numbers) == 1
    return f"{'line' if one else 'lines'} {', '.join(parts)} {'is' if one else 'are'}"


def load_foreign(
    path: str, known: Mapping[str, Any] | None = None, *, afresh: bool = True
) -> Loaded:
    """Import a file: as the module that it is in its package, else by itself.

    Args:
        path: of the file.
        known: what the names of constants stand for instead of what the file says.
        afresh: forget the files of another folder first, whose names may be those of files here.

    Raises:
        UsageError: it cannot be imported, and why.
        SurgeryError: a file that is none, or with a syntax error.
    """
    source = read_source(path)
    if str(source.path).startswith(INSTALLED):
        with blame(f"{path} cannot be imported"):
            return Loaded(importlib.import_module(source.module), source.path.parent)
    root, name = source.path.parent, source.path.stem
    up = levels(ast.parse(source.text))
    while (root / "__init__.py").is_file() or up > 0:
        name, root, up = f"{root.name}.{name}", root.parent, up - 1
    if root == Path(__file__).resolve().parents[3]:  # one of ours
        return Loaded(importlib.import_module(name), source.path.parent)
    found = Loaded(ModuleType(name), root)
    if afresh:
        forget()
    finder = FolderFinder(root, known or {}, found.left)
    sys.meta_path.insert(0, finder)
    with explain_left(path, found.left), blame(f"{path} cannot be imported"), silence():
        if "." in name:
            found.module = importlib.import_module(finder.own_name(name))
        else:
            found.module = finder.module(name, source.path)
    return found


@contextmanager
def explain_left(named: str, left: Mapping[Path, Left]) -> Iterator[None]:
    """Say of a name that is not there for it was left out of a file what would give it."""
    try:
        yield
    except UsageError as error:
        cause = error.__cause__
        name = cause.name if isinstance(cause, NameError) else ""
        if isinstance(cause, ImportError):
            name = "".join(re.findall(r"cannot import name '(\w+)'", str(cause))[:1])
        for path, one in left.items():
            if name in one.names:
                line, reason = one.names[name]
                package = re.findall(r"imports (\w+), which is not installed", reason)
                remedy = (
                    f"give it with --set {name}=VALUE, or build the model by a function, as in "
                )
                remedy += "--build build.py:make"
                raise UsageError(
                    f"{named} needs {name} of {path.name}, line {line}, which was left out, for it "
                    f"{reason}: {f'install it (pip install {package[0]})' if package else remedy}"
                ) from cause
        raise


def levels(tree: ast.Module) -> int:
    """How many folders up the relative imports of a file reach, itself in one of them."""
    return max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)


def forget() -> None:
    """Drop what was imported from beside another file, whose names may be those of files here."""
    for finder in [item for item in sys.meta_path if isinstance(item, FolderFinder)]:
        sys.meta_path.remove(finder)
    for name, module in list(sys.modules.items()):
        loader = getattr(module, "__loader__", None)
        if isinstance(loader, Trimmed) or name.startswith(PREFIX):
            del sys.modules[name]


class FolderFinder(MetaPathFinder):
    """Finds the files of a folder before those that are installed, and what is nowhere else in the
    folders around it, as if the command were started there."""

    def __init__(self, root: Path, known: Mapping[str, Any], left: dict[Path, Left]) -> None:
        self.root = root
        self.around = [folder for folder in list(root.parents)[:3] if folder != Path(root.anchor)]
        self.known = known
        self.left = left
        self.hidden = frozenset(
            name for name in names_in(root) if name in OURS or is_loaded_elsewhere(name, root)
        )

    def own_name(self, name: str) -> str:
        """The name under which a module of the folder is imported: one that nobody else has."""
        top = name.partition(".")[0]
        return PREFIX + name if top in self.hidden else name

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, _ = name.partition(".")
        if top in sys.stdlib_module_names or top in OURS:
            return None
        outer = sys.modules.get(name.rpartition(".")[0])
        is_file = getattr(outer, "__file__", None) is not None
        if is_file and not isinstance(getattr(outer, "__loader__", None), Trimmed):
            return None  # a part of an installed package
        plain = name.removeprefix(PREFIX)
        wanted = plain if plain.partition(".")[0] in self.hidden else name
        spec = PathFinder.find_spec(wanted, [str(self.root)] if path is None else path)
        if spec is None and path is None and PathFinder.find_spec(wanted) is None:
            spec = PathFinder.find_spec(wanted, list(map(str, self.around)))
        origin = getattr(spec, "origin", None)
        if spec is not None and origin is None and wanted != name:  # a folder without __init__.py
            named = ModuleSpec(name, None, is_package=True)
            named.submodule_search_locations = list(spec.submodule_search_locations or ())
            return named
        if spec is None or origin is None:
            return spec if path is None else None
        outermost = [self.root, *self.around][-1]
        if not Path(origin).is_relative_to(outermost) or origin.startswith(INSTALLED):
            return None
        if not origin.endswith(".py"):
            return spec
        inner = spec.submodule_search_locations
        return importlib.util.spec_from_file_location(
            name,
            origin,
            loader=Trimmed(name, origin, self),
            submodule_search_locations=None if inner is None else list(inner),
        )

    def module(self, name: str, path: Path) -> ModuleType:
        """The file itself, under a name that no other module has; those beside it may import it
        under its own."""
        spec = importlib.util.spec_from_file_location(
            PREFIX + name, path, loader=Trimmed(PREFIX + name, str(path), self)
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        if name not in sys.stdlib_module_names and name not in OURS:
            sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


class Trimmed(SourceFileLoader):
    """Compiles a file without its training; never reads or writes compiled files."""

    def __init__(self, name: str, path: str, finder: FolderFinder) -> None:
        super().__init__(name, path)
        self.finder = finder

    def get_code(self, fullname: str) -> CodeType:
        path = Path(self.get_filename(fullname))
        tree = ast.parse(self.get_data(str(path)), str(path))
        tree, self.finder.left[path] = without_training(tree, self.finder.known, is_there)
        tree = ast.fix_missing_locations(RenameImports(self.finder.hidden).visit(tree))
        return compile(tree, str(path), "exec", dont_inherit=True)


def names_in(folder: Path) -> set[str]:
    """What can be imported from a folder, but for what Python itself has under that name."""
    names = {path.stem for path in folder.glob("*.py")}
    names |= {path.parent.name for path in folder.glob("*/__init__.py")}
    names |= {name for name in OURS if any((folder / name).glob("*.py"))}
    return names - sys.stdlib_module_names


def is_loaded_elsewhere(name: str, folder: Path) -> bool:
    """Whether a name stands for a module that was imported from another place."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not Path(file).resolve().is_relative_to(folder)


class RenameImports(ast.NodeTransformer):
    """Lets imports, but those in functions, whose code must be what the file says, find what the
    folder has under a name that another module has too."""

    def __init__(self, hidden: Collection[str]) -> None:
        self.hidden = hidden

    def is_hidden(self, name: str | None) -> bool:
        return (name or "").partition(".")[0] in self.hidden

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level == 0 and self.is_hidden(node.module):
            node.module = f"{PREFIX}{node.module}"
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        bound = []
        for alias in node.names:
            if self.is_hidden(alias.name):
                top = alias.name.partition(".")[0]
                if alias.asname is None:  # import gpt.layers binds gpt
                    given = ast.parse(f"{top} = {PREFIX}{top}").body[0]
                    bound.append(ast.copy_location(given, node))
                alias.name = PREFIX + alias.name
        return [node, *bound]


def is_there(name: str) -> bool:
    """Whether a package or a file beside can be imported."""
    if name in sys.modules or name in OURS:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def modules_beside(loaded: Loaded) -> list[ModuleType]:
    """The file's module and those of its folder that it has imported, each once."""
    found = [loaded.module]
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        is_here = isinstance(getattr(module, "__loader__", None), Trimmed) and file is not None
        if is_here and all(module is not other for other in found):
            found.append(module)
    return found
