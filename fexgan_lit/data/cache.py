"""The cache folder: where packs live, who may build one, and how a build becomes visible all at once."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_LOG = logging.getLogger(__name__)
_PARTIAL = ".partial-"


def cache_root(cache_dir: str | None) -> Path:
    """`cache_dir`, else $FEXGAN_LIT_CACHE, else ~/.cache/fexgan_lit."""
    chosen = cache_dir or os.environ.get("FEXGAN_LIT_CACHE") or "~/.cache/fexgan_lit"
    return Path(chosen).expanduser()


@contextlib.contextmanager
def builder_lock(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the right to build `folder`; gives False where it is taken (`wait=False`) or cannot be had here.

    The lock goes with the process, however that ends, so whoever holds it knows that no other builder lives.
    Without locks (Windows, some network disks) two may build at once; the rename at the end stays atomic.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    locks = folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"{folder.name}.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except OSError:
            held = False
            if wait:
                _LOG.info("waiting for another process that prepares %s", folder.name)
                with contextlib.suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    held = True
        yield held


@contextlib.contextmanager
def partial_folder(final: Path) -> Iterator[Path]:
    """A fresh folder beside `final` to build in; whatever is left of it at the end is removed."""
    partial = final.with_name(f"{final.name}{_PARTIAL}{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, final: Path) -> None:
    """Make the finished `partial` visible as `final`; if another process was first, theirs stays."""
    try:
        partial.rename(final)
    except OSError:
        if not final.is_dir():
            raise


def remove_leftovers(final: Path) -> None:
    """Remove what killed builds left in the cache; to be called with the lock of `final` held."""
    for partial in final.parent.glob(f"*{_PARTIAL}*"):
        owner = final.with_name(partial.name.partition(_PARTIAL)[0])
        if owner == final:
            shutil.rmtree(partial, ignore_errors=True)
            continue
        with builder_lock(owner, wait=False) as held:
            if held:
                shutil.rmtree(partial, ignore_errors=True)
