"""How much memory does a run need at its peak?"""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch


def highest_memory(run: Callable[[], None], device: str) -> float:
    """Bytes by which a run raises the device's memory in use at its peak (of the processor, the
    process' resident memory; Linux)."""
    run()  # what is kept from a first run is not the run's
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - held
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # nor what the C library holds ready
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024.0 * int(status.split(f"{field}:")[1].split()[0])
