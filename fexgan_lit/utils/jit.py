"""Loops that numba compiles: kept on disk where there is a place for them, loaded while nobody waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def kept(compiler: Callable[..., Any], function: Callable[..., Any], *signature: Any, **options: Any) -> Any:
    """`function` as `compiler` (`numba.njit`, `numba.cfunc`) makes it, and what an earlier process kept of it."""
    try:
        return compiler(*signature, cache=True, **options)(function)
    except RuntimeError:  # no folder in which numba could keep it
        return compiler(*signature, **options)(function)


def in_a_thread(task: Callable[[], Result]) -> Future[Result]:
    """What `task` gives, in time, from a thread of its own, for which the process waits before it ends."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(task)
    finally:
        pool.shutdown(wait=False)
