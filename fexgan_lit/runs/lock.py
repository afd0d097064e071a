"""The lock of a run folder: only one process at a time trains in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fexgan_lit.utils.errors import UserError

LOCK = ".lock"


class InWorkError(UserError):
    """Raised if another process trains in the folder."""


@contextlib.contextmanager
def held(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Lock the folder for this process; the lock is reentrant, and the OS releases it when the process dies.

    Raises:
        InWorkError: another process still holds the lock after `patience_s` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout as error:
        raise InWorkError(f"another process trains in {folder}. Wait for it to end, or stop it.") from error
    try:
        os.utime(folder / LOCK)
        yield
    finally:
        lock.release()


def in_work(folder: Path) -> bool:
    """Return whether another process trains in the folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK).acquire(timeout=0):
            return False
    except Timeout:
        return True


def last_taken(folder: Path) -> int | None:
    """Return when a process last locked the folder, in nanoseconds of file system time; None if never."""
    try:
        return (folder / LOCK).stat().st_mtime_ns
    except FileNotFoundError:
        return None
