"""Which experiments are there, what question does each answer, and what is known of one?

    for name, question in questions().items(): ...
    experiment("heads").parts(run)

An experiment is a file of this folder. The list reads their first lines and imports none of them,
so that it is shown at once.
"""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.support.record import Experiment


def questions() -> dict[str, str]:
    """Each command's name, and the first line of its docstring."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    found.pop("__main__", None)
    return found


def experiment(name: str) -> "Experiment | None":
    """What is known of an experiment that makes runs; None where no file of that name has any."""
    if name not in questions():
        return None
    return getattr(module(name), "EXPERIMENT", None)


def command(name: str) -> tuple[Callable[[Any], Any], type]:
    """What a command does, and its options."""
    return module(name).main, module(name).Config


def module(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.{name}")
