"""What becomes of a task, and was it the task's own doing?

What the machine did (no memory, no room on the disk, a process killed from outside) tells nothing
about the task: it is ``lost``.
"""

import errno
import io
import pickle
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from interp.errors import UsageError
from interp.status import Status

CRASHES = (
    signal.SIGSEGV,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGSYS,
)
"""Signals that a process brings on itself; any other comes from outside."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task: ``done`` and its value, or ``error``, ``timeout`` or ``lost`` and a
    sentence."""

    status: str
    value: Any = None
    detail: str = ""


def outcome_of(error: BaseException) -> Outcome:
    if is_the_machines(error):
        return Outcome(Status.LOST, detail=f"the machine had no room left: {one_sentence(error)}")
    return Outcome(Status.ERROR, detail=one_sentence(error))


def is_the_machines(error: BaseException | None) -> bool:
    """Whether an error tells of the machine, not of the code: no memory, no room, no process."""
    full = (errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    said = (  # torch raises RuntimeError where its allocators find no memory
        "not enough memory",
        "can't allocate memory",
        "Cannot allocate memory",
        "unable to allocate",
        "out of memory",
        "bad_alloc",
        "can't start new thread",
        "unable to mmap",
        "No space left on device",
        "ALLOC_FAILED",
    )
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, OSError) and error.errno in full:
            return True
        if isinstance(error, RuntimeError) and any(part in str(error) for part in said):
            return True
        error = error.__cause__ or error.__context__
    return False


def ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    told = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"crashed ({name})" if -code in CRASHES else f"was killed by {name}{told}"


def pickle_outcome(outcome: Outcome) -> bytes:
    """An outcome as bytes; raises what pickle raises where it cannot hold the value."""
    with suppress(Exception):  # nearly always: many times as fast
        return pickle.dumps(outcome)
    into = io.BytesIO()
    Pickler(into).dump(outcome)
    return into.getvalue()


def unpickle_outcome(said: bytes) -> Outcome:
    """An outcome that a fork of this process has pickled."""
    outcome: Outcome = Unpickler(io.BytesIO(said)).load()
    return outcome


class Pickler(pickle.Pickler):
    """Classes that have no name in a module go by their address, which a fork shares."""

    def persistent_id(self, item: Any) -> int | None:
        return id(item) if isinstance(item, type) and not has_name(item) else None


def has_name(cls: type) -> bool:
    """Whether a class is found under its name in its module."""
    found: Any = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


class Unpickler(pickle.Unpickler):
    def persistent_load(self, address: int) -> type:
        left: list[type] = [object]
        while left:
            found = left.pop()
            if id(found) == address:
                return found
            left += type.__subclasses__(found)
        raise pickle.UnpicklingError("it holds a class that was made while it ran")


def one_sentence(error: BaseException) -> str:
    """An exception on one line, shortened; one of ours is a sentence by itself."""
    whole = (
        [str(error)] if isinstance(error, UsageError) else traceback.format_exception_only(error)
    )
    text = " ".join("".join(whole).split())
    return text if len(text) <= 300 else text[:297] + "..."
