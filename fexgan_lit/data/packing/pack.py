"""Decode and resize every frame once into a memory-mapped file of uint8 pixels; an interrupted build is resumed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fexgan_lit.data.frames import Images
from fexgan_lit.data.images import CANNOT_BE_READ, FrameError
from fexgan_lit.data.packing.sources import FrameSource, content_key
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.utils.cache import builder_lock, cache_root, partial_folder, publish, remove_leftovers
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import cores

#: (height, width) of a frame that was read, or the reason why it could not be read.
Read = tuple[int, int] | str


JOURNAL = "journal"


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive rows of a data set after reading.

    Attributes:
        pixels: the readable frames, (L, L, 3) uint8 arrays.
        read: the result of each row, readable or not.
    """

    pixels: list[np.ndarray]
    read: list[Read]


class PixelLog:
    """A file of pixels with a journal, to which pieces are appended; a context manager.

    Args:
        folder: the folder of the build. A journal in it is continued if it has the same `key` and `frame_bytes`.
        pixels: name of the pixel file.
        key: identifies the data set and the settings of the pack.
        frame_bytes: size of a frame in bytes.

    Attributes:
        read: the results of the rows so far.
    """

    def __init__(self, folder: Path, pixels: str, key: str, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        head = _line({"key": key, "frame_bytes": frame_bytes})
        self.read: list[Read] = []
        text_length, pixel_length = self._agreed(folder / pixels, folder / JOURNAL, head)
        self._pixels, self._journal = (folder / pixels).open("ab"), (folder / JOURNAL).open("ab")
        self._pixels.truncate(pixel_length)
        self._journal.truncate(text_length)
        if not text_length:
            self._journal.write(head)

    def __enter__(self) -> PixelLog:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._pixels.close()  # flushes its buffer, which may fail
        finally:
            self._journal.close()

    def append(self, piece: Piece) -> None:
        """Write a piece; it is valid as soon as its line in the journal is written."""
        # write() raises an error on a full disk; a writable memory map would kill the process.
        # A single write is used because releasing the interpreter for every frame costs more than the copy.
        pixels = b"".join(frame.data for frame in map(np.ascontiguousarray, piece.pixels))
        self._pixels.write(pixels)
        self._pixels.flush()
        self._journal.write(_line({"read": piece.read, "crc": zlib.crc32(pixels)}))
        self._journal.flush()
        self.read += piece.read

    def _agreed(self, pixels: Path, journal: Path, head: bytes) -> tuple[int, int]:
        """Return the lengths in bytes up to which journal and pixels agree, and add the rows they contain to `read`."""
        if not journal.is_file() or not pixels.is_file():
            return 0, 0
        lines = journal.read_bytes().splitlines(keepends=True)
        if not lines or lines[0] != head:
            return 0, 0
        text_length, pixel_length = len(head), 0
        with pixels.open("rb") as stored:
            for line in lines[1:]:
                entry = _entry(line)
                if entry is None:
                    break
                read: list[Read] = [each if isinstance(each, str) else (each[0], each[1]) for each in entry["read"]]
                wanted = sum(not isinstance(each, str) for each in read) * self._frame_bytes
                found = stored.read(wanted)
                if len(found) != wanted or zlib.crc32(found) != entry["crc"]:
                    break
                self.read += read
                text_length, pixel_length = text_length + len(line), pixel_length + wanted
        return text_length, pixel_length


def block_checks(path: Path) -> list[int]:
    """Compute the CRC-32 of every 16 MiB of a file in several threads."""

    def check(start: int) -> int:
        with path.open("rb") as file:
            file.seek(start)
            return zlib.crc32(file.read(_BLOCK))

    with ThreadPoolExecutor(min(4, cores(None))) as pool:  # zlib releases the interpreter lock
        return list(pool.map(check, range(0, path.stat().st_size, _BLOCK)))


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Parse a line of the journal; return None if it is truncated or damaged."""
    text = line[9:].rstrip(b"\n")
    if not line.endswith(b"\n") or line[:8] != b"%08x" % zlib.crc32(text):
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry


#: Version of the format; increment it when the bytes of a pack change.
FORMAT = 2
#: Bytes of a file per checksum.
_BLOCK = 16 << 20
_LOG = logging.getLogger(__name__)


Progress = Callable[[int, int], None]


_PIXELS, _TABLE, _FACTS = "frames.u8", "table.parquet", "pack.json"


#: Largest number of frames, and of bytes, that are read and written at once.
_CHUNK, _CHUNK_BYTES = 16, 4 << 20


#: Number of frames from which rendering takes longer than the start of worker processes.
_WORTH_PROCESSES = 200


@dataclass(frozen=True, eq=False)
class Pack:
    """A decoded data set.

    Attributes:
        folder: contains frames.u8, table.parquet and pack.json.
        images: (N, L, L, 3) uint8 RGB, memory-mapped and read-only, or streamed.
        table: the N rows, with `height` and `width` of the original images.
        sizes: number of frames by original size, as {"128x128": 4200} (width x height).
        cropped: number of frames that were not square, of which the central square was kept.
        reused: whether the pack existed before.
    """

    folder: Path
    images: Images
    table: FrameTable
    sizes: dict[str, int]
    cropped: int
    reused: bool

    @property
    def mapped(self) -> np.ndarray:
        """Return the `images` of a memory-mapped pack.

        Raises:
            TypeError: the pack is streamed.
        """
        if not isinstance(self.images, np.ndarray):
            raise TypeError(f"the pack {self.folder.name} is streamed")
        return self.images


@dataclass(frozen=True)
class PackPlan:
    """Settings of a pack: the folder follows from `name` and `cache_dir`; `workers` None means all cores."""

    name: str
    size: int
    cache_dir: str | None = None
    workers: int | None = None


def prepare_pack(table: FrameTable, source: FrameSource, plan: PackPlan, progress: Progress | None = None) -> Pack:
    """Open the pack of `table` in the cache or build it; unreadable frames become drops of its table.

    An interrupted build is continued if neither the files nor the settings have changed.

    Args:
        table: rows to pack, in the order of `source`.
        source: reads frames of shape (plan.size, plan.size, 3).
        plan: name, size and location of the pack.
        progress: called regularly with (frames done, total frames), from this thread.

    Raises:
        UserError: the cache folder cannot be written, the disk is full, or no frame can be read.
    """
    key = content_key(table, source, {"format": FORMAT, "size": plan.size})
    folder = cache_root(plan.cache_dir) / "packs" / f"{plan.name}-{plan.size}px-{key[:12]}"
    found = _usable_pack(folder, table)
    if found is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with builder_lock(folder) as held:
            if held:
                remove_leftovers(folder)
            # The process that held the lock before may have built the pack.
            return _usable_pack(folder, table) or _build(
                _Build(folder, table, source, plan, key, resumable=held), progress
            )
    except OSError as error:
        raise UserError(_cache_trouble(folder, error)) from error


def open_pack(folder: Path, table: FrameTable, check: bool = True) -> Pack | None:
    """Open the pack in `folder`, or return None if it is incomplete or damaged.

    Args:
        folder: the folder of the pack.
        table: the current index; its drops and notes replace those of the pack.
        check: whether to verify the checksums, which reads all files once.
    """
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        shape = (facts["frames"], facts["size"], facts["size"], 3)
        whole = facts["format"] == FORMAT and (folder / _PIXELS).stat().st_size == int(np.prod(shape))
        if whole and check:
            whole = all(block_checks(folder / name) == kept for name, kept in facts["checks"].items())
        packed = FrameTable.load(folder / _TABLE, table.root) if whole else None
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
    if packed is None or len(packed) != shape[0]:
        return None
    unreadable = tuple(Drop(**drop) for drop in facts["unreadable"])
    packed = replace(packed, drops=(*table.drops, *unreadable), notes=table.notes)
    images = np.memmap(folder / _PIXELS, np.uint8, "r", shape=shape)
    return Pack(folder, images, packed, facts["sizes"], facts["cropped"], reused=True)


def _usable_pack(folder: Path, table: FrameTable) -> Pack | None:
    """Call `open_pack`, but return None if a file that the build had no permission to read can be read now."""
    pack = open_pack(folder, table)
    if pack is None or table.root is None:
        return pack
    refused = (drop.path for drop in pack.table.drops if drop.reason.startswith(CANNOT_BE_READ))
    return None if any(os.access(table.root / path, os.R_OK) for path in refused) else pack


@dataclass(frozen=True, eq=False)
class _Build:
    """The arguments of a build; `resumable` tells whether a later build may continue this one."""

    folder: Path
    table: FrameTable
    source: FrameSource
    plan: PackPlan
    key: str
    resumable: bool


def _build(build: _Build, progress: Progress | None) -> Pack:
    folder, table = build.folder, build.table
    if folder.exists():  # the folder exists but could not be opened
        _LOG.warning("%s is rebuilt: a checksum differs, it is incomplete, or more files can be read now", folder)
        shutil.rmtree(folder, ignore_errors=True)
    with partial_folder(folder, build.resumable) as partial:
        read = _write_pixels(partial, build, progress)
        rows = np.array([row for row, each in enumerate(read) if not isinstance(each, str)], dtype=np.int64)
        drops = [Drop(table.paths[row], each) for row, each in enumerate(read) if isinstance(each, str)]
        if not len(rows):
            raise UserError(_nothing_readable(table, drops))
        height, width = np.array([each for each in read if not isinstance(each, str)], dtype=np.int32).T
        kept = table.select(rows)
        kept = replace(kept, frame=kept.frame.assign(height=height, width=width))
        kept.save(partial / _TABLE)
        facts = _facts(build.plan.size, height, width, drops)
        facts["checks"] = {name: block_checks(partial / name) for name in (_PIXELS, _TABLE)}
        (partial / _FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        (partial / JOURNAL).unlink()
        publish(partial, folder)
    built = open_pack(folder, table, check=False)
    if built is None:
        raise RuntimeError(f"the pack {folder} was just written and cannot be opened")
    return replace(built, reused=False)


def _facts(size: int, height: np.ndarray, width: np.ndarray, drops: list[Drop]) -> dict[str, Any]:
    """Return the metadata that `open_pack` reads; `height` and `width` (n,) are those of the original images."""
    sizes = zip(width.tolist(), height.tolist(), strict=True)
    return {
        "format": FORMAT,
        "frames": len(height),
        "size": size,
        "sizes": dict(Counter(f"{w}x{h}" for w, h in sizes)),
        "cropped": int((height != width).sum()),
        "unreadable": [{"path": drop.path, "reason": drop.reason} for drop in drops],
    }


def _write_pixels(folder: Path, build: _Build, progress: Progress | None) -> list[Read]:
    """Write the readable frames in row order, after existing ones, and return the result of every row."""
    count, frame_bytes = len(build.table), build.plan.size**2 * 3
    with PixelLog(folder, _PIXELS, build.key, frame_bytes) as log:
        _check_space(folder, (count - len(log.read)) * frame_bytes)
        chunk, together = max(1, min(_CHUNK, _CHUNK_BYTES // frame_bytes)), build.source.together
        chunk = max(together, chunk - chunk % together)
        chunks = [range(start, min(start + chunk, count)) for start in range(len(log.read), count, chunk)]
        for piece in _read_in_order(build.source, chunks, cores(build.plan.workers)):
            log.append(piece)
            if progress is not None:
                progress(len(log.read), count)
        return log.read


def _read_in_order(source: FrameSource, chunks: list[range], workers: int) -> Iterator[Piece]:
    """Yield pieces in row order; several workers read a few pieces ahead."""
    with _worker_pool(source, sum(map(len, chunks)), workers) as pool:
        ahead: deque[Future[Piece]] = deque()
        for chunk in chunks:
            ahead.append(pool.submit(_read_chunk, source, chunk))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@contextlib.contextmanager
def _worker_pool(source: FrameSource, count: int, workers: int) -> Iterator[Executor]:
    """Use threads if reading releases the interpreter lock (decoding does), else processes if the job is large."""
    if source.holds_interpreter and count >= _WORTH_PROCESSES and workers > 1:
        # Unlike those of the standard library, loky's processes do not import the caller's script again.
        from joblib.externals.loky import ProcessPoolExecutor

        pool = ProcessPoolExecutor(workers, initializer=cv2.setNumThreads, initargs=(1,))
        try:
            yield pool
        finally:
            pool.shutdown(kill_workers=True)
        return
    threads = ThreadPoolExecutor(1 if source.holds_interpreter else workers)
    # OpenCV's own threads would compete with these.
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)
        cv2.setNumThreads(before)


def _read_chunk(source: FrameSource, rows: range) -> Piece:
    """Read the rows; an unreadable row is represented by the reason."""
    pixels: list[np.ndarray] = []
    read: list[Read] = []
    for row in rows:
        try:
            frame, size = source.read(row)
        except FrameError as error:
            read.append(str(error))
        else:
            pixels.append(frame)
            read.append(size)
    return Piece(pixels, read)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"the pack needs {needed / 1e9:.2f} GB and {folder} has {free / 1e9:.2f} GB free; make room, or choose "
            "another place with dataset.cache_dir=DIR (or the variable FEXGAN_LIT_CACHE)."
        )


def _cache_trouble(folder: Path, error: OSError) -> str:
    return (
        f"the cache folder {folder.parent} cannot be used ({error.strerror or error}); nothing was kept. Make room or "
        "make it writable, or choose another place with dataset.cache_dir=DIR (or the variable FEXGAN_LIT_CACHE)."
    )


def _nothing_readable(table: FrameTable, drops: list[Drop]) -> str:
    named = "; ".join(f"{drop.path} ({drop.reason})" for drop in drops[:5])
    more = f"; and {len(drops) - 5} more" if len(drops) > 5 else ""
    return f"dataset.root={table.root}: none of the {len(drops)} image files can be read: {named}{more}."
