"""How is something found out about a model without leaving a trace on it?"""

import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from interp.errors import SurgeryError
from interp.surgery.guarding import guarded


def run_apart(task: Callable[[], Any], what: str, limit_s: float) -> Any:
    """What a task gives that runs in a fork.

    Raises:
        SurgeryError: ``what``, and what became of the task.
    """
    runs = guarded([partial(with_imports, task)], limit_s=limit_s, workers=1, memory_gib=NO_LIMIT)
    _, outcome = next(runs)
    if outcome.status != "done":
        raise SurgeryError(f"{what}: {outcome.detail}")
    value, imported = outcome.value
    for module in imported:  # here too, or every later fork would spend a second on it
        with suppress(Exception):
            importlib.import_module(module)
    return value


NO_LIMIT = float("inf")


def with_imports(task: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What a task gives, and the modules that it has loaded."""
    before = set(sys.modules)
    value = task()
    return value, [name for name in sys.modules if name not in before]
