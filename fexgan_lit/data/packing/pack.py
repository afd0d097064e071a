"""Decode and resize every frame once into one raw file of uint8 pixels, memory-mapped; a killed build goes on."""

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

#: (height, width) of a frame that was read, or the reason why it was not.
Read = tuple[int, int] | str


JOURNAL = "journal"


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive rows of a data set, read.

    Attributes:
        pixels: (L, L, 3) uint8 arrays, the readable frames.
        read: what became of each row, readable or not.
    """

    pixels: list[np.ndarray]
    read: list[Read]


class PixelLog:
    """Appends pieces to `pixels` in `folder`; to be used in a `with` block.

    Args:
        folder: of the build; a journal in it is taken up if it began with the same `key` and `frame_bytes`.
        pixels: name of the pixel file.
        key: identifies the data set and the settings of the pack.
        frame_bytes: of one frame.

    Attributes:
        read: what became of the rows so far.
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
            self._pixels.close()  # may still have something to write, and fail
        finally:
            self._journal.close()

    def append(self, piece: Piece) -> None:
        """Write a piece; it counts from the moment its line is written."""
        # write() and not a writable memory map: on a full disk the one raises, the other kills.
        # One write for the piece: giving up the interpreter for every frame would cost more than copying does.
        pixels = b"".join(frame.data for frame in map(np.ascontiguousarray, piece.pixels))
        self._pixels.write(pixels)
        self._pixels.flush()
        self._journal.write(_line({"read": piece.read, "crc": zlib.crc32(pixels)}))
        self._journal.flush()
        self.read += piece.read

    def _agreed(self, pixels: Path, journal: Path, head: bytes) -> tuple[int, int]:
        """Bytes of journal and pixels that agree with each other; what they say was read goes to `read`."""
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
    """CRC-32 of every 16 MiB of a file, by several threads."""

    def check(start: int) -> int:
        with path.open("rb") as file:
            file.seek(start)
            return zlib.crc32(file.read(_BLOCK))

    with ThreadPoolExecutor(min(4, cores(None))) as pool:  # zlib lets go of the interpreter
        return list(pool.map(check, range(0, path.stat().st_size, _BLOCK)))


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says, or None where it was cut short or damaged."""
    text = line[9:].rstrip(b"\n")
    if not line.endswith(b"\n") or line[:8] != b"%08x" % zlib.crc32(text):
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry


#: Raise when the bytes of a pack would come out differently.
FORMAT = 2
#: Bytes of a file that share a checksum.
_BLOCK = 16 << 20
_LOG = logging.getLogger(__name__)


Progress = Callable[[int, int], None]


_PIXELS, _TABLE, _FACTS = "frames.u8", "table.parquet", "pack.json"


#: Frames read and written at once: this many, or fewer where they come to more than this many bytes.
_CHUNK, _CHUNK_BYTES = 16, 4 << 20


#: Frames that take longer to draw than worker processes take to start.
_WORTH_PROCESSES = 200


@dataclass(frozen=True, eq=False)
class Pack:
    """A data set decoded.

    Attributes:
        folder: holds frames.u8, table.parquet and pack.json.
        images: (N, L, L, 3) uint8 RGB, memory-mapped, read-only; or streamed.
        table: the N rows, with `height` and `width` of the original pictures.
        sizes: how many frames had which original size, as {"128x128": 4200} (width x height).
        cropped: frames that were not square and lost their sides.
        reused: whether it was there already.
    """

    folder: Path
    images: Images
    table: FrameTable
    sizes: dict[str, int]
    cropped: int
    reused: bool

    @property
    def mapped(self) -> np.ndarray:
        """`images` of a memory-mapped pack.

        Raises:
            TypeError: the pack is streamed.
        """
        if not isinstance(self.images, np.ndarray):
            raise TypeError(f"the pack {self.folder.name} is streamed")
        return self.images


@dataclass(frozen=True)
class PackPlan:
    """What to pack and where: `name` and `cache_dir` place the folder; `workers` None means all cores."""

    name: str
    size: int
    cache_dir: str | None = None
    workers: int | None = None


def prepare_pack(table: FrameTable, source: FrameSource, plan: PackPlan, progress: Progress | None = None) -> Pack:
    """The pack of `table`, from the cache or built now; unreadable frames become drops of its table.

    Args:
        table: rows to pack, in the order of `source`.
        source: gives (plan.size, plan.size, 3) frames.
        plan: name, size and place.
        progress: called with (frames done, frames in all) now and then, from this thread.

    A build that was killed goes on where it stopped, as long as neither the files nor the settings have changed.

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
            # Whoever held the lock before may have built it meanwhile.
            return _usable_pack(folder, table) or _build(
                _Build(folder, table, source, plan, key, resumable=held), progress
            )
    except OSError as error:
        raise UserError(_cache_trouble(folder, error)) from error


def open_pack(folder: Path, table: FrameTable, check: bool = True) -> Pack | None:
    """The pack in `folder` if it is whole, with the drops and notes of `table`, the index of today; else None.

    Args:
        folder: of the pack.
        table: the index of today.
        check: compare the checksums of its files, which reads them once.
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
    """As `open_pack`, but None if a file that was refused to the builder can be opened now."""
    pack = open_pack(folder, table)
    if pack is None or table.root is None:
        return pack
    refused = (drop.path for drop in pack.table.drops if drop.reason.startswith(CANNOT_BE_READ))
    return None if any(os.access(table.root / path, os.R_OK) for path in refused) else pack


@dataclass(frozen=True, eq=False)
class _Build:
    """One pack to be made: where, of what, and whether a later build may take up what this one leaves."""

    folder: Path
    table: FrameTable
    source: FrameSource
    plan: PackPlan
    key: str
    resumable: bool


def _build(build: _Build, progress: Progress | None) -> Pack:
    folder, table = build.folder, build.table
    if folder.exists():  # or it would have been opened
        _LOG.warning("%s is built anew: a checksum differs, it is not whole, or more files can be read now", folder)
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
    """What `open_pack` needs to know; `height` and `width` (n,) are those of the original pictures."""
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
    """Write the readable frames in row order, after those that are there; returns what became of every row."""
    count, frame_bytes = len(build.table), build.plan.size**2 * 3
    with PixelLog(folder, _PIXELS, build.key, frame_bytes) as log:
        _check_space(folder, (count - len(log.read)) * frame_bytes)
        chunk = max(1, min(_CHUNK, _CHUNK_BYTES // frame_bytes))
        chunks = [range(start, min(start + chunk, count)) for start in range(len(log.read), count, chunk)]
        for piece in _read_in_order(build.source, chunks, cores(build.plan.workers)):
            log.append(piece)
            if progress is not None:
                progress(len(log.read), count)
        return log.read


def _read_in_order(source: FrameSource, chunks: list[range], workers: int) -> Iterator[Piece]:
    """Pieces in row order, read by several workers, few of them ahead."""
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
    """Threads where reading frees the interpreter (decoding does); else processes, if there is enough to do."""
    if source.holds_interpreter and count >= _WORTH_PROCESSES and workers > 1:
        # Unlike the standard library's, these processes do not import the caller's script again.
        from joblib.externals.loky import ProcessPoolExecutor

        pool = ProcessPoolExecutor(workers, initializer=cv2.setNumThreads, initargs=(1,))
        try:
            yield pool
        finally:
            pool.shutdown(kill_workers=True)
        return
    threads = ThreadPoolExecutor(1 if source.holds_interpreter else workers)
    # OpenCV's own threads would only get into the way of these.
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)
        cv2.setNumThreads(before)


def _read_chunk(source: FrameSource, rows: range) -> Piece:
    """The rows read; one that cannot be is represented by the reason."""
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
