"""Who writes to a run's folder?

The lock belongs to the folder, not to its path: whoever holds it knows when the folder was removed
or replaced meanwhile.
"""

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from interp.errors import UsageError
from interp.runs.files import saving

PATIENCE_S = 0.3
"""How long to wait for a lock: someone who asks who holds it has it for a moment."""


def hold(folder: Path) -> int:
    """Make the folder where there is none, and lock it for as long as the returned descriptor is
    open; the system closes that when the process dies, however it dies.

    Raises:
        UsageError: another process holds it, and which; the disk refuses. A folder that was made
            for nothing is gone again.
    """
    deadline = time.monotonic() + PATIENCE_S
    with saving(folder):
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:  # removed since, by one that could not begin
                continue
            except OSError:
                leave(folder)
                raise
            try:
                if try_lock(descriptor, folder, deadline):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def try_lock(descriptor: int, folder: Path, deadline: float) -> bool:
    """Whether the lock is ours now; not where the folder was removed in the meantime."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            who = os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
            raise UsageError(
                f"{folder} is held by {who}: wait until it ends, or choose another --name"
            ) from None
    if not is_at(descriptor, folder / "lock"):
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that lies at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def holder(folder: Path) -> str | None:
    """Who writes to a run's folder now, as in ``process 4711 on laptop``; None if nobody does."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return (folder / "lock").read_text()
    except FileNotFoundError:
        pass
    return None


def leave(folder: Path) -> None:
    """Remove a folder if nothing is in it."""
    with suppress(OSError):
        folder.rmdir()
