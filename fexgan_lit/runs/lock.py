"""One process to a run folder: the one that trains holds a lock in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fexgan_lit.utils.errors import UserError

LOCK = ".lock"


class InWorkError(UserError):
    """Another process trains in this folder."""


@contextlib.contextmanager
def held(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep the folder for this process; the same process may ask again. The system lets go of it when a process dies.

    Raises:
        InWorkError: another process has it, and still has after `patience_s` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout as error:
        raise InWorkError(f"{folder} is in work: another process trains in it. Wait for it, or end it.") from error
    try:
        os.utime(folder / LOCK)
        yield
    finally:
        lock.release()


def in_work(folder: Path) -> bool:
    """Whether another process trains in the folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK).acquire(timeout=0):
            return False
    except Timeout:
        return True


def last_taken(folder: Path) -> int | None:
    """When the folder was last taken by a process, as the file system counts time; None if never."""
    try:
        return (folder / LOCK).stat().st_mtime_ns
    except FileNotFoundError:
        return None
