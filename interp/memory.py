"""How does a process get memory quickly, and give back what nobody uses any more?

The C library asks the system for a large tensor's memory anew each time, and the system clears it
page by page, which takes longer than filling it; or it keeps what is freed, in pieces, and after
many batches of unlike sizes the pieces can be several times what is in use. Work that goes through
the same sizes again and again wants the first not to happen, a sweep within a budget the second.
"""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
MOST = 2**31 - 1


def keep_freed() -> None:
    """From now on this process keeps the memory that it frees, for its next request.

    For a process that goes through the same sizes again and again, such as a training; it stays as
    large as it ever was. Does nothing where the C library is not glibc.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, MOST)


def keeping_within(budget: int) -> Callable[[], None]:
    """A function to call now and then: past half of ``budget`` more bytes than now, it gives back
    what is free. Does nothing where the system or its C library offers no such thing."""
    start = resident()

    def give_back() -> None:
        if start is not None and (resident() or 0) - start > budget // 2:
            with suppress(AttributeError):
                ctypes.CDLL(None).malloc_trim(0)

    return give_back


def resident() -> int | None:
    """The bytes of memory that this process holds; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
