"""Which files run when a model is built and asked, and how many lines of each?

ran = files_that_ran(lambda: model(tokens))     # {Path: 23}
"""

import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import torch

from gpt.errors import UsageError, nearest

ROOT = Path(__file__).resolve().parents[3]
SKIPPED = (
    *(f"{ROOT}/{package}/" for package in ("gpt", "interp", "experiments")),
    f"{Path(torch.__file__).resolve().parent}/",
)
PYTHON = f"{Path(threading.__file__).resolve().parent}/"


def files_that_ran(task: Callable[[], Any]) -> dict[Path, int]:
    """How many lines of functions ran of each file, but for those of Python, of torch and of this
    project."""
    lines: dict[str, set[int]] = {}
    seen: dict[CodeType, bool] = {}

    def is_followed(code: CodeType) -> bool:
        if code not in seen:
            name = str(Path(code.co_filename).resolve())
            of_python = name.startswith(PYTHON) and "site-packages" not in name
            seen[code] = not (
                code.co_filename.startswith("<")
                or code.co_name == "<module>"
                or of_python
                or name.startswith(SKIPPED)
            )
        return seen[code]

    def follow(frame: FrameType, event: str, _: Any) -> Any:
        if not is_followed(frame.f_code):
            return None
        if event == "line":
            lines.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
        return follow

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        task()
    finally:
        sys.settrace(before)
    return {Path(name).resolve(): len(numbers) for name, numbers in lines.items()}


def choose_files(
    main: ModuleType, beside: Sequence[ModuleType], ran: dict[Path, int], asked: Sequence[str]
) -> tuple[list[ModuleType], list[str]]:
    """The files to study, that of the model's class first, and a sentence on the others that ran.

    Args:
        main: the module of the class.
        beside: those of its folder.
        ran: the lines that ran of each file.
        asked: the files that ``--files`` names; empty takes all of the folder that ran.

    Raises:
        UsageError: one that is asked for did not run, or is none.
    """
    by_path = {path_of_module(module): module for module in [*beside, main]}
    by_path |= {
        path_of_module(m): m
        for m in list(sys.modules.values())
        if isinstance(m, ModuleType)
        and path_of_module(m) in ran
        and path_of_module(m) not in by_path
    }
    if asked:
        chosen = [find_file(name, ran) for name in asked]
    else:
        own = {path_of_module(module) for module in beside}
        chosen = [path for path in by_path if path in own and path in ran]
        first = path_of_module(main)
        chosen = [first, *(path for path in chosen if path != first)]
    others = {path: count for path, count in ran.items() if path not in chosen}
    said = []
    if others:
        counts = [
            f"{path.name}, {count} line{'s' if count > 1 else ''}"
            for path, count in sorted(others.items(), key=lambda pair: -pair[1])
        ]
        more = f"; and {len(counts) - 5} files more" if len(counts) > 6 else ""
        said.append(f"also ran, not studied: {'; '.join(counts[: 5 if more else 6])}{more}")
    return [by_path[path] for path in chosen], said


def find_file(name: str, ran: dict[Path, int]) -> Path:
    """The file that ran and whose path ends in a name."""
    wanted = Path(name).parts
    found = [path for path in ran if path.parts[-len(wanted) :] == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"--files {name} is one of several, {', '.join(map(str, found))}: write more of it"
        )
    raise UsageError(
        f"--files {name}: no such file ran; nearest: {nearest(name, [p.name for p in ran])}"
    )


def path_of_module(module: ModuleType) -> Path:
    file = getattr(module, "__file__", None)
    return resolve_once(file, Path.cwd()) if isinstance(file, str) else Path()


@cache
def resolve_once(file: str, folder: Path) -> Path:
    """Where a file really is; looked up once, for thousands of modules are loaded."""
    return (folder / file).resolve()
