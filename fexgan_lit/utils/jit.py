"""Numba loops, cached on disk if possible and loaded in the background."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def kept(compiler: Callable[..., Any], function: Callable[..., Any], *signature: Any, **options: Any) -> Any:
    """Compile `function` with `compiler` (`numba.njit`, `numba.cfunc`), or load it from numba's disk cache."""
    try:
        return compiler(*signature, cache=True, **options)(function)
    except RuntimeError:  # no folder is writable for numba's cache
        return compiler(*signature, **options)(function)


def in_a_thread(task: Callable[[], Result]) -> Future[Result]:
    """Run `task` in a new thread and return its future; the process waits for the thread before it exits."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(task)
    finally:
        pool.shutdown(wait=False)
