"""What does somebody's file do wrong, in one sentence?

with blame("model.py:GPT cannot be built"):
    model = GPT()
"""

import contextlib
import io
import linecache
import logging
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt.errors import DivergedError, UsageError
from interp.surgery.source.imports import INSTALLED

ROOT = Path(__file__).resolve().parents[3]
OURS = tuple(str(ROOT / name) + os.sep for name in ("gpt", "interp", "experiments"))
GPU = re.compile(r"CUDA|NVIDIA|HIP|\bMPS\b|cuda", re.ASCII)


@contextmanager
def blame(what: str, hint: str = "") -> Iterator[None]:
    """Turn whatever somebody's file raises, its own exits included, into one sentence.

    Args:
        what: what cannot be done.
        hint: what may help, said at the end.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, UsageError) and not isinstance(error, DivergedError):
            raise
        raise UsageError(f"{what}: {error_line(error)}{remedy(error) or hint}") from error


def error_line(error: BaseException) -> str:
    """An exception's name, what it says, and the line of somebody's file that it came from."""
    try:
        said = " ".join(str(error).split())
    except Exception:
        said = "it cannot say why"
    said = f"{type(error).__name__}: {said}"[:300]
    place = own_line(error)
    return f"{said} ({place})" if place else said


def own_line(error: BaseException) -> str:
    """The deepest line of somebody's own file that an exception passed; empty where it passed
    none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*INSTALLED, *OURS, "<")):
            number = frame.lineno or 0
            code = " ".join((frame.line or linecache.getline(frame.filename, number)).split())
            name = frame.filename.partition(".py:")[0].removesuffix(".py") + ".py"
            return f"{Path(name).name}:{number}: {code[:80]}"
    return ""


def remedy(error: BaseException) -> str:
    """What to do about an error of a kind that is known; empty for another."""
    said = error_line(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"; install it (pip install {error.name.partition('.')[0]}) or take the import out"
    if isinstance(error, AttributeError) and "onfig" in type(error.obj).__name__:
        return f"; give it with --set {error.name}=VALUE"
    if isinstance(error, FileNotFoundError):
        return "; it reads a file while it is imported or built: move that into a function"
    if isinstance(error, (RuntimeError, AssertionError)) and GPU.search(said):
        return (
            "; it asks for a GPU, and none is used here: where it says cuda, write "
            "device=idx.device or .to(idx.device)"
        )
    return ""


@contextmanager
def silence() -> Iterator[None]:
    """Inside the block what somebody's file prints is not shown; how it sets up logging is not
    kept."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
