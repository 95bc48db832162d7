"""How is memory that nobody uses any more given back before a sweep passes its budget?

The C library keeps what is freed, in pieces, for the next request. After many batches of unlike
sizes the pieces can be several times what is in use.
"""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


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
