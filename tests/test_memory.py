"""The allocator of a process that trains keeps what is freed."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
from fexgan_lit.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)
def work():
    for megabytes in (40, 24, 40):
        np.ones(megabytes << 20, np.uint8)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Pages that the system handed out while large blocks were taken and freed again."""
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, timeout=60)
    if done.returncode == 3:
        pytest.skip("the allocator here takes no options")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_blocks_taken_again_cost_no_new_pages():
    given_back, kept = faults("give back"), faults("keep")
    assert given_back > 1000  # else there would be nothing to gain here
    assert kept < given_back / 50
