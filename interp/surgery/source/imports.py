"""Which files decide what a model computes, beside those that are studied?

Whatever they import, at any remove, that was written here: no part of Python or of an installed
package, whose versions a run writes down.

    hash_of_imports([source])   # another one when layers.py, which model.py imports, was edited
"""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from interp.surgery.source.files import decode_python
from interp.surgery.source.syntax import Source

INSTALLED = tuple(
    {str(Path(path).resolve()) for path in sysconfig.get_paths().values()}
    | {str(Path(path).resolve()) for path in sys.path if "site-packages" in path}
)


def hash_of_imports(sources: Sequence[Source]) -> str:
    """sha256 of the local files that sources import, as they are on disk now."""
    digest = hashlib.sha256()
    for path in imported_files(sources):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def imported_files(sources: Sequence[Source]) -> list[Path]:
    """The local files that sources import, at any remove, but for the sources themselves."""
    found: set[Path] = set()
    waiting = [(source.module, source.text) for source in sources]
    while waiting:
        for module in modules_imported(*waiting.pop()):
            file = local_file(module)
            if file is not None and file not in found and all(file != s.path for s in sources):
                found.add(file)
                waiting.append((module.__name__, decoded_or_empty(file)))
    return sorted(found)


def decoded_or_empty(file: Path) -> str:
    """A file's text; nothing where it is none, for what its module holds then tells of it."""
    try:
        return decode_python(file)
    except (OSError, SyntaxError, ValueError):
        return ""


def modules_imported(name: str, text: str) -> Iterable[ModuleType]:
    """The loaded modules that a file's import statements name, and where what its module holds was
    defined."""
    names = modules_named(name, text)
    space = vars(sys.modules[name]) if name in sys.modules else {}
    held = [item for key, item in space.items() if key not in ("__loader__", "__spec__")]
    names |= {item.__name__ if isinstance(item, ModuleType) else home_of(item) for item in held}
    names |= {".".join(n.split(".")[:end]) for n in names for end in range(1, n.count(".") + 1)}
    return [sys.modules[n] for n in sorted(names) if isinstance(sys.modules.get(n), ModuleType)]


def modules_named(name: str, text: str) -> set[str]:
    """The modules that import statements of a file name, and what they may name in them; none of a
    file with a syntax error."""
    names: set[str] = set()
    package = getattr(sys.modules.get(name), "__package__", None) or name.rpartition(".")[0]
    try:
        tree = ast.parse(text)
    except SyntaxError:  # edited since it was imported
        tree = ast.Module([], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")
            start = ".".join(outer[: len(outer) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (start, node.module) if part)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def home_of(item: Any) -> str:
    """The module in which an object, or its class, was defined."""
    home = vars(item).get("__module__") if isinstance(item, type) else None
    home = home or getattr(type(item), "__module__", "")
    if callable(item) and not isinstance(item, type) and type(item).__module__ == "builtins":
        home = getattr(item, "__module__", None) or home
    return home if isinstance(home, str) else ""


def local_file(module: ModuleType) -> Path | None:
    """The file of a module that was written here; None for one of Python or of a package."""
    file = vars(module).get("__file__")
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    if str(path).startswith(INSTALLED) or not path.is_file():
        return None
    return path
