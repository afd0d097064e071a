"""Local access to the chunks of a pack: chunks in a folder, or fetched from a store into a bounded cache."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from fexgan_lit.data.frames import _HELD_BYTES, _mapped_bytes
from fexgan_lit.data.streaming.format import ChunkedFacts, Geometry, chunk_name
from fexgan_lit.data.streaming.storage import FolderStore, MissingError, S3Store
from fexgan_lit.utils.cache import builder_lock
from fexgan_lit.utils.errors import UserError

#: Maximum number of mapped files; each holds a file descriptor.
_MOST = 256


class ChunkMaps:
    """The chunks in `folder` as memory-mapped arrays.

    Mapped pages are released before they take much of this process's memory.
    """

    def __init__(self, folder: Path, geometry: Geometry) -> None:
        self.folder, self.geometry = folder, geometry
        self._maps: OrderedDict[int, tuple[mmap.mmap, np.ndarray]] = OrderedDict()
        self._turn = threading.Lock()
        self._before = 0

    def path(self, chunk: int) -> Path:
        """Return the file of a chunk."""
        return self.folder / chunk_name(chunk)

    def whole(self, chunk: int) -> bool:
        """Return whether the file of a chunk exists in its full length."""
        try:
            return self.path(chunk).stat().st_size == self.geometry.chunk_bytes(chunk)
        except OSError:
            return False

    def view(self, chunk: int) -> np.ndarray:
        """Return the frames of a chunk, (n, L, L, 3) uint8, read-only.

        Raises:
            OSError: the file is missing or cannot be read.
            ValueError: the file has the wrong length.
        """
        with self._turn:
            if chunk in self._maps:
                self._maps.move_to_end(chunk)
            else:
                self._maps[chunk] = self._map(chunk)
                if len(self._maps) > _MOST:
                    self._maps.popitem(last=False)
            return self._maps[chunk][1]

    def _map(self, chunk: int) -> tuple[mmap.mmap, np.ndarray]:
        with self.path(chunk).open("rb") as handle:
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        if len(mapped) != self.geometry.chunk_bytes(chunk):
            raise ValueError(f"{len(mapped)} bytes instead of {self.geometry.chunk_bytes(chunk)}")
        return mapped, self.geometry.view(mapped, chunk)

    def drop(self, chunk: int) -> None:
        """Close the map of a chunk before its file is removed."""
        with self._turn:
            self._maps.pop(chunk, None)

    def let_go(self) -> None:
        """Release mapped pages if there are many; they stay in the system's page cache."""
        if not hasattr(mmap, "MADV_DONTNEED") or _mapped_bytes() <= self._before + _HELD_BYTES:
            return
        with self._turn:
            for mapped, _ in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)
        self._before = _mapped_bytes()


#: Seconds between attempts to fetch a chunk; if the last attempt fails, the run ends.
_PAUSES_S = (1.0, 5.0, 15.0)


#: Age in seconds from which a partial file counts as left over.
_LEFT_S = 24 * 3600


#: Number of attempts to map a chunk after it was fetched.
_VIEWS = 5


class Chunks(Protocol):
    """Access to the frames of chunks, with prefetching."""

    def expect(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Announce the chunks that are read from now on (`now`), and those after them (`soon`)."""

    def serves(self, chunk: int) -> bool:
        """Return whether frames of a chunk should be read with `view`; if not, one by one with `part`."""

    def view(self, chunk: int) -> np.ndarray:
        """Return the frames of a chunk, (n, L, L, 3) uint8, read-only; block until the chunk is available."""

    def part(self, chunk: int, within: int) -> np.ndarray:
        """Return one frame (L, L, 3) uint8 of a chunk that is not available; may be called from several threads."""

    def let_go(self) -> None:
        """Release memory; called from time to time."""


class FolderChunks:
    """The chunks of a folder, read in place."""

    def __init__(self, place: FolderStore, facts: ChunkedFacts) -> None:
        self._maps = ChunkMaps(place.folder, facts.geometry)
        self.let_go = self._maps.let_go

    def expect(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Do nothing: chunks need no prefetching."""

    def serves(self, chunk: int) -> bool:
        """Return True."""
        return True

    def view(self, chunk: int) -> np.ndarray:
        """See `Chunks.view`.

        Raises:
            UserError: the file is missing or incomplete.
        """
        try:
            return self._maps.view(chunk)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._maps.path(chunk)}, a chunk of the pack, is missing or incomplete ({error}); write the pack to "
                "a new place with prepare."
            ) from error

    def part(self, chunk: int, within: int) -> np.ndarray:
        """See `Chunks.part`."""
        return self.view(chunk)[within]


class CachedChunks:
    """The chunks of a store, fetched in the background into `folder`, which holds at most `limit` bytes.

    Chunks announced with `expect` are fetched in that order and kept until other chunks are announced; the least
    recently used ones are then removed first. If the whole pack fits, reading a frame fetches its chunk. If not, frames
    outside the announced chunks are read one by one, so that they displace no chunk.
    """

    def __init__(self, place: S3Store, facts: ChunkedFacts, folder: Path, limit: int) -> None:
        self._place, self._facts, self._limit = place, facts, limit
        self._maps = ChunkMaps(folder, facts.geometry)
        self.let_go = self._maps.let_go
        self._all_fit = facts.geometry.total_bytes <= limit
        self._change = threading.Condition()
        self._here: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._expected: frozenset[int] = frozenset()
        self._queue: list[int] = []
        self._busy = False
        self._failure: Exception | None = None
        self._look_around()

    def expect(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """See `Chunks.expect`."""
        with self._change:
            self._expected = frozenset(now) | frozenset(soon)
            self._queue = [chunk for chunk in dict.fromkeys((*now, *soon)) if chunk not in self._here]
            self._start()

    def serves(self, chunk: int) -> bool:
        """See `Chunks.serves`."""
        return self._all_fit or chunk in self._expected or chunk in self._here

    def view(self, chunk: int) -> np.ndarray:
        """See `Chunks.view`.

        Raises:
            UserError: the chunk cannot be fetched.
        """
        trouble: Exception | None = None
        for _ in range(_VIEWS):
            self._await(chunk)
            try:
                return self._maps.view(chunk)
            except (OSError, ValueError) as error:  # another process removed or changed the file
                trouble = error
                with self._change:
                    self._here.pop(chunk, None)
        raise UserError(_cache_trouble(self._maps.folder, trouble or OSError())) from trouble

    def part(self, chunk: int, within: int) -> np.ndarray:
        """See `Chunks.part`."""
        geometry = self._facts.geometry
        start = geometry.offset(chunk) + within * geometry.stride
        read = self._place.read_part(chunk_name(chunk), start, geometry.frame_bytes)
        if len(read) != geometry.frame_bytes:
            raise UserError(_broken(self._place, chunk, "is missing or too short"))
        return np.frombuffer(read, np.uint8).reshape(geometry.size, geometry.size, 3)

    @property
    def held_bytes(self) -> int:
        """Bytes of the cached chunks."""
        with self._change:
            return sum(map(self._facts.geometry.chunk_bytes, self._here))

    def _look_around(self) -> None:
        """Find the chunks that earlier runs have cached."""
        try:
            self._maps.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(_cache_trouble(self._maps.folder, error)) from error
        for left in self._maps.folder.glob("chunk-*.bin.*"):
            if _changed_s(left) < time.time() - _LEFT_S:  # left by a killed process
                left.unlink(missing_ok=True)
        there = [chunk for chunk in range(self._facts.geometry.chunks) if self._maps.whole(chunk)]
        self._here.update(dict.fromkeys(sorted(there, key=lambda chunk: _changed_s(self._maps.path(chunk)))))

    def _await(self, chunk: int) -> None:
        with self._change:
            if chunk not in self._here:
                self._failure = None  # of a prefetch; this call tries again
                self._queue = [chunk, *(other for other in self._queue if other != chunk)]
            while chunk not in self._here:
                if self._failure is not None:
                    raise self._failure
                self._start()
                self._change.wait()
            self._here.move_to_end(chunk)

    def _start(self) -> None:
        """Start a thread that works through the queue, unless one runs; the caller holds the lock."""
        if self._queue and not self._busy:
            self._busy = True
            threading.Thread(target=self._work, name="chunks", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._change:
                while self._queue and self._queue[0] in self._here:
                    self._queue.pop(0)
                if not self._queue:
                    self._busy = False
                    self._change.notify_all()
                    return
                chunk = self._queue.pop(0)
            try:
                self._fetch(chunk)
            except Exception as error:  # raised in the thread that waits for the chunk
                with self._change:
                    self._failure, self._busy = error, False
                    self._change.notify_all()
                return
            with self._change:
                self._here[chunk] = None
                self._change.notify_all()

    def _fetch(self, chunk: int) -> None:
        """Fetch a chunk unless another process has."""
        path = self._maps.path(chunk)
        with builder_lock(path):
            self._make_room(self._facts.geometry.chunk_bytes(chunk))
            if self._maps.whole(chunk):
                return
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            try:
                self._fetch_to(partial, chunk)
                partial.replace(path)
            except OSError as error:
                raise UserError(_cache_trouble(path.parent, error)) from error
            finally:
                partial.unlink(missing_ok=True)

    def _fetch_to(self, partial: Path, chunk: int) -> None:
        for pause in (*_PAUSES_S, None):
            try:
                self._place.fetch(chunk_name(chunk), partial)
                break
            except MissingError as error:
                raise UserError(_broken(self._place, chunk, "is missing")) from error
            except UserError:
                if pause is None:
                    raise
                time.sleep(pause)
        if (
            partial.stat().st_size != self._facts.geometry.chunk_bytes(chunk)
            or _crc(partial) != self._facts.checks[chunk]
        ):
            raise UserError(_broken(self._place, chunk, "differs from what was written"))

    def _make_room(self, needed: int) -> None:
        """Remove chunks that are not announced, least recently used first, until `needed` more bytes fit."""
        size = self._facts.geometry.chunk_bytes
        with self._change:
            held = sum(map(size, self._here))
            for chunk in [each for each in self._here if each not in self._expected]:
                if held + needed <= self._limit:
                    break
                self._here.pop(chunk)
                self._maps.drop(chunk)
                with contextlib.suppress(OSError):
                    self._maps.path(chunk).unlink()
                held -= size(chunk)


def check_room(folder: Path, needed: int) -> None:
    """Raise a UserError if the disk of the cache has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"streaming needs up to {needed / 1e9:.2f} GB more in {folder}, which has {free / 1e9:.2f} GB free; free "
            "space, choose another folder with dataset.cache_dir=DIR, or smaller windows with dataset.window_gb."
        )


def _changed_s(path: Path) -> float:
    """Return the modification time of a file, or 0 if it was just removed."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _crc(path: Path) -> int:
    check = 0
    with path.open("rb") as handle:
        while piece := handle.read(1 << 22):
            check = zlib.crc32(piece, check)
    return check


def _broken(place: S3Store, chunk: int, how: str) -> str:
    return f"{place.name}/{chunk_name(chunk)}, a chunk of the pack, {how}; write the pack to a new place with prepare."


def _cache_trouble(folder: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or error
    return (
        f"the cache folder {folder} cannot be used ({reason}); free space, make it writable, choose another folder "
        "with dataset.cache_dir=DIR, or smaller windows with dataset.window_gb."
    )
