"""Memory that a process keeps, counted in a process that does nothing else."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from interp.memory import keep_freed

if sys.argv[1] == "kept":
    keep_freed()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(2):
    torch.ones(2**24)  # 64 MiB: larger than what the C library keeps of its own accord
before = faults()
for _ in range(20):
    torch.ones(2**24)
print((faults() - before) * resource.getpagesize() / (20 * 2**26))
"""


def share_fetched_anew(how):
    """Of twenty tensors' bytes, those that the system had to clear."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="counts what glibc asks of Linux")
def test_a_process_that_keeps_its_memory_asks_for_none_twice():
    # Something small may come to lie in the way once or twice; then a tensor goes elsewhere.
    assert share_fetched_anew("kept") < 0.2
    assert share_fetched_anew("not") > 0.9
