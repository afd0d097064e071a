"""Memory that training frees and takes again in every iteration, kept by the process meanwhile."""

from __future__ import annotations

import ctypes
import sys

#: Names of glibc's options in <malloc.h>, and what they are set to.
_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2
_NEVER, _STEP = 2**31 - 1, 64 << 20


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, instead of giving it back to the system at once.

    glibc takes every large block from the system anew and gives it back when it is freed. The system hands out each
    page when it is first written to, zeroed: in an iteration of a full-width FExGAN on a processor some 80,000 pages,
    which takes a quarter of its time. Meant for the rest of this process; the most it holds grows by some percent.

    Returns:
        whether the system's allocator can be told so: glibc's can, others are left alone.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _STEP}
    return all(mallopt(option, value) for option, value in options.items())
