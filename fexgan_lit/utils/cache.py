"""The cache folder: its location, locks for builders, and atomic publication of what they build."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fexgan_lit.utils.files import flush_to_disk

_LOG = logging.getLogger(__name__)
_PARTIAL = ".partial-"
_RESUMABLE = "resumable"
#: Seconds for which interrupted builds of other data sets are kept.
_KEPT_S = 7 * 24 * 3600


def cache_root(cache_dir: str | None) -> Path:
    """Return `cache_dir`, else $FEXGAN_LIT_CACHE, else ~/.cache/fexgan_lit."""
    chosen = cache_dir or os.environ.get("FEXGAN_LIT_CACHE") or "~/.cache/fexgan_lit"
    return Path(chosen).expanduser()


@functools.cache  # one warning a folder
def holds_cache(folder: str) -> bool:
    """Return whether `folder` contains packs; if not, log that the default cache is used instead."""
    there = any((Path(folder).expanduser() / kind).is_dir() for kind in ("packs", "streams"))
    if not there:
        _LOG.warning("dataset.cache_dir=%s of the run holds no cache; the usual one is used in its place", folder)
    return there


@contextlib.contextmanager
def builder_lock(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock for building `folder`; yield False if it is taken (`wait=False`) or the disk has no locks.

    The operating system releases the lock when the process ends, in whatever way, so its holder is the only builder. On
    disks without locks (some network disks) two processes may build at once; the rename at the end stays atomic.
    """
    locks = folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{folder.name}.lock")
    held = False
    with contextlib.suppress(OSError, NotImplementedError):  # a Timeout is an OSError
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            _LOG.info("waiting for another process that prepares %s", folder.name)
            lock.acquire()
        held = True
    try:
        yield held
    finally:
        lock.release()


@contextlib.contextmanager
def partial_folder(final: Path, resumable: bool = False) -> Iterator[Path]:
    """Yield a folder beside `final` to build in, and remove its remains afterwards.

    A `resumable` folder, which requires the lock of `final`, may contain the files of an earlier build, and stays after
    Ctrl-C or a kill.
    """
    partial = final.with_name(f"{final.name}{_PARTIAL}{_RESUMABLE if resumable else os.getpid()}")
    if not resumable:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
    except KeyboardInterrupt:
        if not resumable:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, final: Path) -> None:
    """Rename the finished and flushed `partial` to `final`; if another process was first, its folder stays."""
    for place in (*(path for path in partial.iterdir() if path.is_file()), partial):
        flush_to_disk(place)
    try:
        partial.rename(final)
        flush_to_disk(final.parent)
    except OSError:
        if not final.is_dir():
            raise


def remove_leftovers(final: Path) -> None:
    """Remove the remains of killed builds except resumable ones; the caller holds the lock of `final`.

    Resumable are the build of `final` itself and, for a week, builds of other data sets. A build whose name differs
    from `final` only in the last part is of an earlier state of the same data set.
    """
    family = final.name.rpartition("-")[0]
    for partial in final.parent.glob(f"*{_PARTIAL}*"):
        name, _, kind = partial.name.partition(_PARTIAL)
        if kind == _RESUMABLE and (name == final.name or (name.rpartition("-")[0] != family and _is_recent(partial))):
            continue
        if name == final.name:
            shutil.rmtree(partial, ignore_errors=True)
            continue
        with builder_lock(final.with_name(name), wait=False) as held:
            if held:
                shutil.rmtree(partial, ignore_errors=True)


def _is_recent(folder: Path) -> bool:
    """Return whether a file in `folder` was written within the last week."""
    with contextlib.suppress(OSError):
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir())) > time.time() - _KEPT_S
    return False
