"""How many workers to start."""

from __future__ import annotations

import os


def cores(asked: int | None = None) -> int:
    """`asked`, else the cores this process may use; a container often has fewer than the machine."""
    if asked:
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
