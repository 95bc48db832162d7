"""How does a file come onto the disk whole, or not at all?"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from interp.errors import UsageError


def write_atomically(path: Path, content: bytes) -> Path:
    """Put ``content`` at ``path``, on disk when this returns; else leave ``path`` as it was.

    Raises:
        UsageError: the disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # says that somebody writes it
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)  # a rename lasts once its folder is on disk
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path


def remove_unfinished(folder: Path) -> None:
    """Remove what processes were writing in a folder when they were killed; what others write there
    now stays: they hold its lock from its first byte on."""
    for leftover in folder.glob(".*.partial"):
        with suppress(OSError), leftover.open("rb") as file:
            if os.fstat(file.fileno()).st_size:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn what the disk says into one sentence."""
    try:
        yield
    except OSError as error:
        raise UsageError(refusal(path, error.strerror or str(error))) from error


def refusal(path: Path, reason: str) -> str:
    return (
        f"cannot write {path} ({reason}): make room or choose another folder, "
        f"then start again; what was saved before is whole"
    )


def note(sentence: str) -> None:
    """Tell the person at the terminal what was found damaged and is mended."""
    print(f"note: {sentence}", file=sys.stderr, flush=True)
