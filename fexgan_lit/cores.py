"""The processor: how many workers to start on it, and its name."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cores(asked: int | None = None) -> int:
    """`asked`, else the cores this process may use; a container often has fewer than the machine."""
    if asked:
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
