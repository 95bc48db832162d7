"""Which experiments are there, what question does each answer, and what is known of one?

    for name, question in questions().items(): ...
    record_of(run).parts(run)

An experiment is a file of the folder above. The list reads their first lines and imports none of
them, so that it is shown at once.
"""

import ast
import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.support.record import Experiment
    from interp.runs import SavedRun


@cache
def questions() -> dict[str, str]:
    """Each command's name, and the first line of its docstring."""
    found = {}
    for path in sorted(Path(__file__).parents[1].glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    found.pop("__main__", None)
    return found


def record_of(run: "SavedRun") -> "Experiment":
    """What is known of the experiment that made a run.

    Raises:
        UsageError: no experiment that is known here has made it.
    """
    from gpt.errors import (  # late: it brings torch, for which a list need not wait
        UsageError,
        nearest,
    )

    name = str(run.description.get("experiment", ""))
    known = questions()
    found = getattr(module(name), "EXPERIMENT", None) if name in known else None
    if found is None:
        raise UsageError(
            f"{run.folder} is of an experiment {name!r} that has no page; nearest: "
            f"{nearest(name, known)}"
        )
    return found


def command_of(name: str) -> tuple[Callable[[Any], Any], type]:
    """What a command does, and its options."""
    return module(name).main, module(name).Config


def module(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.{name}")
