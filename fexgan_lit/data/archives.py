"""Unpacking a data set that comes as one archive: once, into the cache, and nothing outside of it."""

from __future__ import annotations

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
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from fexgan_lit.data.cache import builder_lock, cache_root, partial_folder, publish, remove_leftovers
from fexgan_lit.data.table import Drop
from fexgan_lit.errors import UserError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: An archive may hold so many times its own size; pictures hardly shrink, so more means a bomb.
MAX_RATIO = 200

_FILES, _FACTS = "files", "unpacked.json"
_COPY = 1 << 20
_DRIVE = re.compile(r"[A-Za-z]:")
#: A member whose name a file system refuses is left out; any other trouble ends the unpacking.
_NAME_TROUBLE = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, struct.error,
    UnicodeDecodeError,
)  # fmt: skip


@dataclass(frozen=True)
class Unpacked:
    """The `folder` an archive was unpacked to, and its members that were `skipped`."""

    folder: Path
    skipped: tuple[Drop, ...]


@dataclass(frozen=True)
class _Member:
    """One entry: its name, why it is refused (None: it is a plain file), size in bytes, time and content."""

    name: str
    reason: str | None
    size: int
    modified: float
    source: zipfile.ZipInfo | tarfile.TarInfo


def is_archive(path: Path) -> bool:
    """Whether the name says that `unpack` may be tried."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, cache_dir: str | None = None) -> Unpacked:
    """The content of `archive`, from the cache or unpacked now; keyed by its path, size and time of last change.

    Absolute names, names with `..`, links and devices are skipped. It is written beside its place and renamed, so
    that it is whole or absent.

    Raises:
        UserError: not an archive, encrypted, damaged, far larger unpacked than packed, or no room on the disk.
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
            # Whoever held the lock before may have unpacked it meanwhile.
            return _open(final) or _unpack(archive, final)
    except _DAMAGE as error:
        raise UserError(
            f"dataset.root={archive} is a file that cannot be opened as an archive: damaged or incomplete "
            f"({error or type(error).__name__}); get it again, or unpack it yourself and give the folder."
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
    shutil.rmtree(final, ignore_errors=True)  # not whole, or it would have been opened
    with partial_folder(final) as partial:
        target = partial / _FILES
        target.mkdir()
        opened = _open_zip if archive.name.lower().endswith(".zip") else _open_tar
        with closing(opened(archive)) as content:
            skipped = _write_members(content, target, archive)
        facts = {"archive": str(archive), "skipped": [asdict(drop) for drop in skipped]}
        (partial / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        publish(partial, final)
    return Unpacked(final / _FILES, tuple(skipped))


def _write_members(content: zipfile.ZipFile | tarfile.TarFile, target: Path, archive: Path) -> list[Drop]:
    """Write every plain file below `target`; the others come back as drops."""
    limit = min(archive.stat().st_size * MAX_RATIO, shutil.disk_usage(target).free)
    if isinstance(content, zipfile.ZipFile):  # its directory tells the sizes before anything is written
        _check_size(sum(info.file_size for info in content.infolist()), limit, archive)
    skipped: dict[str, Drop] = {}
    total = 0
    for member in _members(content, archive):
        reason = member.reason
        if reason is None:
            total += member.size
            _check_size(total, limit, archive)
            reason = _write_member(content, member, target)
        if reason is not None:
            drop = Drop("__MACOSX", "folder of macOS") if member.name.startswith("__MACOSX/") else None
            skipped.setdefault("__MACOSX" if drop else member.name, drop or Drop(_printable(member.name), reason))
    return list(skipped.values())


def _write_member(content: zipfile.ZipFile | tarfile.TarFile, member: _Member, target: Path) -> str | None:
    """Write one file; the reason where its name does not allow it."""
    path = target / member.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        out = path.open("xb")
    except OSError as error:
        if error.errno not in _NAME_TROUBLE:
            raise
        return f"archive member that cannot be written ({error.strerror})"
    source = _content(content, member)
    with out, source:
        shutil.copyfileobj(source, out, _COPY)
        written = out.tell()
    if written != member.size:
        raise EOFError(f"{member.name} ends early")
    os.utime(path, (member.modified, member.modified))
    return None


def _content(content: zipfile.ZipFile | tarfile.TarFile, member: _Member) -> IO[bytes]:
    if isinstance(content, zipfile.ZipFile) and isinstance(member.source, zipfile.ZipInfo):
        return content.open(member.source)
    if isinstance(content, tarfile.TarFile) and isinstance(member.source, tarfile.TarInfo):
        reader = content.extractfile(member.source)
        if reader is not None:
            return reader
    raise RuntimeError(f"{member.name} is no file of this archive")


def _open_zip(archive: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)


def _open_tar(archive: Path) -> tarfile.TarFile:
    return tarfile.open(archive, "r:*")


def _members(content: zipfile.ZipFile | tarfile.TarFile, archive: Path) -> Iterator[_Member]:
    """All entries but folders."""
    if isinstance(content, tarfile.TarFile):
        for entry in content:
            if not entry.isdir():
                # Hard links count as links: what they point at may lie anywhere.
                kind = None if entry.isreg() else "archive member that is a link or a device"
                yield _Member(_clean(entry.name), _name_refusal(entry.name) or kind, entry.size, entry.mtime, entry)
        return
    for info in content.infolist():
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            raise UserError(
                f"dataset.root={archive} is encrypted; unpack it with its password (for example: 7z x FILE) and give "
                "the folder."
            )
        _check_method(info, archive)
        mode = info.external_attr >> 16
        plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
        kind = None if plain else "archive member that is a link or a device"
        name = _zip_name(info)
        yield _Member(_clean(name), _name_refusal(name) or kind, info.file_size, _zip_time(info), info)


def _check_method(info: zipfile.ZipInfo, archive: Path) -> None:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        raise UserError(
            f"dataset.root={archive}: {info.filename} is compressed in a way Python cannot read (method "
            f"{info.compress_type}); unpack it yourself and give the folder."
        )


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name; without the flag for UTF-8 it is read as an old code page, though macOS writes UTF-8 all the same."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _zip_time(info: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0.0


def _clean(name: str) -> str:
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _name_refusal(name: str) -> str | None:
    """Why a name may not be written."""
    name = name.replace("\\", "/")
    if name.startswith("/") or _DRIVE.match(name) or ".." in name.split("/") or "\0" in name or not _clean(name):
        return "archive member whose path leaves the archive"
    if name.startswith("__MACOSX/"):
        return "folder of macOS"
    if _printable(name) != name:
        return "name is not valid Unicode"
    return None


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _check_size(total: int, limit: int, archive: Path) -> None:
    if total > limit:
        packed = archive.stat().st_size
        raise UserError(
            f"dataset.root={archive}: {total / 1e9:.2f} GB unpacked, from {packed / 1e9:.3f} GB; that is more than "
            f"{MAX_RATIO} times its size or than the disk has room for, so nothing was unpacked. Make room, choose "
            "another place with dataset.cache_dir=DIR, or, if you trust it, unpack it yourself and give the folder."
        )
