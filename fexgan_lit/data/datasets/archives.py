"""Unpack a data set that comes as one archive, once, into the cache and never outside of it."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from fexgan_lit.data.table import Drop
from fexgan_lit.utils.cache import builder_lock, cache_root, partial_folder, publish, remove_leftovers
from fexgan_lit.utils.errors import UserError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: Largest allowed ratio of unpacked to packed size; images compress little, so a larger ratio suggests a zip bomb.
MAX_RATIO = 200

_FILES, _FACTS = "files", "unpacked.json"
_MACOS = "folder of macOS"
#: Errors of a file system that rejects a name: the member is skipped. Any other error stops the unpacking.
_NAME_TROUBLE = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, struct.error,
    UnicodeDecodeError,
)  # fmt: skip


@dataclass(frozen=True)
class Unpacked:
    """The `folder` that an archive was unpacked to, and the members that were `skipped`."""

    folder: Path
    skipped: tuple[Drop, ...]


class _Member(NamedTuple):
    """A member that is not a folder: its name, whether it is a plain file, its size in bytes, and how to write it."""

    name: str
    plain: bool
    size: int
    extract: Callable[[], object]


def is_archive(path: Path) -> bool:
    """Return whether the file name has an extension that `unpack` supports."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, cache_dir: str | None = None) -> Unpacked:
    """Unpack `archive` into the cache, or open it there if it was unpacked before.

    The key in the cache is the archive's path, size and time of last change. Absolute names, names with `..`, links
    and devices are skipped. The content is written to a temporary folder, which is then renamed, so that the cache
    never holds an incomplete folder.

    Raises:
        UserError: the file is not an archive, is encrypted or damaged, is far larger unpacked than packed, or does not
            fit on the disk.
    """
    if not is_archive(archive):
        raise UserError(
            f"dataset.root={archive} is a file; expected a folder, or an archive ending in {', '.join(SUFFIXES)}. "
            "Unpack it yourself and give the folder."
        )
    final = _place(archive, cache_dir)
    found = _open(final)
    if found is not None:
        return found
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with builder_lock(final) as held:
            if held:
                remove_leftovers(final)
            # The process that held the lock before may have unpacked the archive.
            return _open(final) or _unpack(archive, final)
    except _DAMAGE as error:
        raise UserError(
            f"dataset.root={archive} is a file that cannot be opened as an archive: damaged or incomplete "
            f"({error or type(error).__name__}); get it again, or unpack it yourself and give the folder."
        ) from error
    except RuntimeError as error:  # encrypted, or compressed in a way that zipfile does not know
        raise UserError(
            f"dataset.root={archive}: {error}; unpack it yourself (for example: 7z x FILE) and give the folder."
        ) from error
    except OSError as error:
        raise UserError(
            f"dataset.root={archive} cannot be unpacked to {final.parent} ({error.strerror or error}); nothing was "
            "kept. Make room, or choose another place with dataset.cache_dir=DIR (or the variable FEXGAN_LIT_CACHE)."
        ) from error


def _place(archive: Path, cache_dir: str | None) -> Path:
    facts = archive.stat()
    key = hashlib.sha256(f"{os.path.realpath(archive)}\0{facts.st_size}\0{facts.st_mtime_ns}".encode()).hexdigest()
    name = re.sub(r"[^\w.-]", "_", archive.name.partition(".")[0])[:60] or "archive"
    return cache_root(cache_dir) / "unpacked" / f"{name}-{key[:12]}"


def _open(final: Path) -> Unpacked | None:
    try:
        facts = json.loads((final / _FACTS).read_text(encoding="utf-8"))
        return Unpacked(final / _FILES, tuple(Drop(**drop) for drop in facts["skipped"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _unpack(archive: Path, final: Path) -> Unpacked:
    shutil.rmtree(final, ignore_errors=True)  # incomplete: `_open` opens complete folders
    with partial_folder(final) as place:
        (place / _FILES).mkdir()
        skipped = _extract(archive, place / _FILES)
        facts = {"archive": str(archive), "skipped": [asdict(drop) for drop in skipped]}
        (place / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        publish(place, final)
    return Unpacked(final / _FILES, tuple(skipped))


def _extract(archive: Path, target: Path) -> list[Drop]:
    """Write every plain file below `target` with its time of change, and return the other members as drops."""
    packed = archive.stat().st_size
    limit, total = min(packed * MAX_RATIO, shutil.disk_usage(target).free), 0
    skipped: dict[str, Drop] = {}
    opened = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    for name, plain, size, extract in opened(archive, target):
        reason = _refusal(name) or (None if plain else "archive member that is a link or a device")
        if reason is None:
            total += size
            if total > limit:
                raise UserError(
                    f"dataset.root={archive}: {total / 1e9:.2f} GB unpacked, from {packed / 1e9:.3f} GB; that is more "
                    f"than {MAX_RATIO} times its size or than the disk has room for, so nothing was unpacked. Make "
                    "room, choose another place with dataset.cache_dir=DIR, or, if you trust it, unpack it yourself "
                    "and give the folder."
                )
            try:
                extract()
            except OSError as error:
                if error.errno not in _NAME_TROUBLE:
                    raise
                reason = f"archive member that cannot be written ({error.strerror})"
        if reason is not None:
            path = "__MACOSX" if reason == _MACOS else name.encode("utf-8", "replace").decode().lstrip("/")
            skipped.setdefault(path, Drop(path, reason))
    return list(skipped.values())


def _tar_members(archive: Path, target: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as content:
        for member in content:
            member.name = member.name.replace("\\", "/")
            if not member.isdir():  # hard links are refused too: they may point to any file
                extract = partial(content.extract, member, target, filter="data")
                yield _Member(member.name, member.isreg(), member.size, extract)


def _zip_members(archive: Path, target: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            if not member.flag_bits & 0x800:  # decoded as cp437, but macOS writes UTF-8 without the flag
                with contextlib.suppress(UnicodeError):
                    member.filename = member.filename.encode("cp437").decode("utf-8")
            member.filename = member.filename.replace("\\", "/")
            if not member.is_dir():
                plain = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
                yield _Member(member.filename, plain, member.file_size, partial(_unzip, content, member, target))


def _unzip(content: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    path = content.extract(member, target)
    with contextlib.suppress(ValueError, OverflowError):  # the date does not exist
        changed = time.mktime((*member.date_time, 0, 0, -1))
        os.utime(path, (changed, changed))


def _refusal(name: str) -> str | None:
    """Return the reason why a member of this name is not written, or None."""
    path = PurePosixPath(name)
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or not path.parts:
        return "archive member whose path leaves the archive"
    if path.parts[0] == "__MACOSX":
        return _MACOS
    return None if name.encode("utf-8", "replace").decode() == name else "name is not valid Unicode"
