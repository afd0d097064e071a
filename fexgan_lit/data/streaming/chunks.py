"""The chunks of a pack on this machine: those of a folder, or those fetched from a store into a bounded cache."""

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

#: Files mapped at a time; each holds a file descriptor.
_MOST = 256


class ChunkMaps:
    """The chunks in `folder` as arrays.

    Mapped pages are let go of before they count for much of this process's memory.
    """

    def __init__(self, folder: Path, geometry: Geometry) -> None:
        self.folder, self.geometry = folder, geometry
        self._maps: OrderedDict[int, tuple[mmap.mmap, np.ndarray]] = OrderedDict()
        self._turn = threading.Lock()
        self._before = 0

    def path(self, chunk: int) -> Path:
        """The file of a chunk."""
        return self.folder / chunk_name(chunk)

    def whole(self, chunk: int) -> bool:
        """Whether the file of a chunk is there in its full length."""
        try:
            return self.path(chunk).stat().st_size == self.geometry.chunk_bytes(chunk)
        except OSError:
            return False

    def view(self, chunk: int) -> np.ndarray:
        """(n, L, L, 3) uint8, read-only.

        Raises:
            OSError: the file is not there or cannot be read.
            ValueError: it is shorter than it should be.
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
        """Forget the map of a chunk whose file goes away."""
        with self._turn:
            self._maps.pop(chunk, None)

    def let_go(self) -> None:
        """Give pages back if many are held; they stay in the system's own cache."""
        if not hasattr(mmap, "MADV_DONTNEED") or _mapped_bytes() <= self._before + _HELD_BYTES:
            return
        with self._turn:
            for mapped, _ in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)
        self._before = _mapped_bytes()


#: Seconds between two tries to fetch a chunk; a store that fails for longer than all of them ends the run.
_PAUSES_S = (1.0, 5.0, 15.0)


#: Seconds after which a file that is not whole counts as left over.
_LEFT_S = 24 * 3600


#: How often a chunk that was fetched may turn out not to be readable.
_VIEWS = 5


class Chunks(Protocol):
    """Gives the frames of a chunk, and is told beforehand which ones are wanted."""

    def expect(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """The chunks that are read from now on, and those after them."""

    def serves(self, chunk: int) -> bool:
        """Whether frames of a chunk should be read from its file; else one by one with `part`."""

    def view(self, chunk: int) -> np.ndarray:
        """(n, L, L, 3) uint8, read-only; waits for the chunk if need be."""

    def part(self, chunk: int, within: int) -> np.ndarray:
        """(L, L, 3) uint8, one frame of a chunk that is not here; may be called from several threads."""

    def let_go(self) -> None:
        """Give memory back; called now and then."""


class FolderChunks:
    """The chunks of a folder, read where they lie."""

    def __init__(self, place: FolderStore, facts: ChunkedFacts) -> None:
        self._maps = ChunkMaps(place.folder, facts.geometry)
        self.let_go = self._maps.let_go

    def expect(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Nothing to do."""

    def serves(self, chunk: int) -> bool:
        """Always."""
        return True

    def view(self, chunk: int) -> np.ndarray:
        """As `Chunks`.

        Raises:
            UserError: the file is missing or not whole.
        """
        try:
            return self._maps.view(chunk)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._maps.path(chunk)}, a chunk of the pack, is missing or not whole ({error}); write the pack to "
                "a new place with prepare."
            ) from error

    def part(self, chunk: int, within: int) -> np.ndarray:
        """As `Chunks`."""
        return self.view(chunk)[within]


class CachedChunks:
    """The chunks of a store, fetched in the background into `folder`, which holds at most `limit` bytes.

    Chunks that were announced with `expect` are fetched in that order and stay until others are expected; then the
    ones used longest ago go first. Where the whole pack fits, any chunk is fetched when one of its frames is read;
    elsewhere frames outside the expected chunks are read one by one, so that they displace nothing.
    """

    def __init__(self, place: S3Store, facts: ChunkedFacts, folder: Path, limit: int) -> None:
        self._place, self._facts, self._limit = place, facts, limit
        self._maps = ChunkMaps(folder, facts.geometry)
        self.let_go = self._maps.let_go
        self._all_fit = facts.geometry.total_bytes <= limit
        self._change = threading.Condition()
        self._here: OrderedDict[int, None] = OrderedDict()  # the one used longest ago first
        self._unchecked: set[int] = set()  # left by an earlier run
        self._expected: frozenset[int] = frozenset()
        self._queue: list[int] = []
        self._busy = False
        self._failure: Exception | None = None
        self._look_around()

    def expect(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """As `Chunks`."""
        with self._change:
            self._expected = frozenset(now) | frozenset(soon)
            self._queue = [chunk for chunk in dict.fromkeys((*now, *soon)) if chunk not in self._here]
            self._start()

    def serves(self, chunk: int) -> bool:
        """As `Chunks`."""
        return self._all_fit or chunk in self._expected or chunk in self._here

    def view(self, chunk: int) -> np.ndarray:
        """As `Chunks`.

        Raises:
            UserError: it cannot be fetched.
        """
        trouble: Exception | None = None
        for _ in range(_VIEWS):
            self._await(chunk)
            try:
                self._check_left(chunk)
                return self._maps.view(chunk)
            except (OSError, ValueError) as error:  # damaged, another process needed the room, or somebody meddled
                trouble = error
                with self._change:
                    self._here.pop(chunk, None)
        raise UserError(_cache_trouble(self._maps.folder, trouble or OSError())) from trouble

    def part(self, chunk: int, within: int) -> np.ndarray:
        """As `Chunks`."""
        geometry = self._facts.geometry
        start = geometry.offset(chunk) + within * geometry.stride
        read = self._place.read_part(chunk_name(chunk), start, geometry.frame_bytes)
        if len(read) != geometry.frame_bytes:
            raise UserError(_broken(self._place, chunk, "is missing or too short"))
        return np.frombuffer(read, np.uint8).reshape(geometry.size, geometry.size, 3)

    @property
    def held_bytes(self) -> int:
        """Bytes of the chunks that are here."""
        with self._change:
            return sum(map(self._facts.geometry.chunk_bytes, self._here))

    def _look_around(self) -> None:
        """Find the chunks that an earlier run has left."""
        try:
            self._maps.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(_cache_trouble(self._maps.folder, error)) from error
        for left in self._maps.folder.glob("chunk-*.bin.*"):
            if _changed_s(left) < time.time() - _LEFT_S:  # of a process that was killed
                left.unlink(missing_ok=True)
        there = [chunk for chunk in range(self._facts.geometry.chunks) if self._maps.whole(chunk)]
        self._unchecked.update(there)
        self._here.update(dict.fromkeys(sorted(there, key=lambda chunk: _changed_s(self._maps.path(chunk)))))

    def _check_left(self, chunk: int) -> None:
        """Before it is first used, compare the checksum of a chunk that an earlier run left; a damaged one goes."""
        if chunk in self._unchecked:
            self._unchecked.discard(chunk)
            if _crc(self._maps.path(chunk)) != self._facts.checks[chunk]:
                self._maps.path(chunk).unlink(missing_ok=True)
                raise ValueError("its checksum differs")

    def _await(self, chunk: int) -> None:
        with self._change:
            if chunk not in self._here:
                self._failure = None  # of what was fetched ahead; it is tried again
                self._queue = [chunk, *(other for other in self._queue if other != chunk)]
            while chunk not in self._here:
                if self._failure is not None:
                    raise self._failure
                self._start()
                self._change.wait()
            self._here.move_to_end(chunk)

    def _start(self) -> None:
        """Let a thread work off the queue, if there is none; with the lock held."""
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
            except Exception as error:  # whoever waits for the chunk is told
                with self._change:
                    self._failure, self._busy = error, False
                    self._change.notify_all()
                return
            with self._change:
                self._here[chunk] = None
                self._change.notify_all()

    def _fetch(self, chunk: int) -> None:
        """Fetch a chunk, or find that another process has."""
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
            raise UserError(_broken(self._place, chunk, "is not what was written"))

    def _make_room(self, needed: int) -> None:
        """Remove chunks that are not expected, those used longest ago first, until `needed` more bytes fit."""
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
    """Raise a UserError where the disk of the cache has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"streaming keeps up to {needed / 1e9:.2f} GB more in {folder}, which has {free / 1e9:.2f} GB free; make "
            "room, choose another place with dataset.cache_dir=DIR, or smaller windows with dataset.window_gb."
        )


def _changed_s(path: Path) -> float:
    """When a file was changed; 0 where it has just gone."""
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
        f"the cache folder {folder} cannot be used ({reason}); make room or make it writable, choose "
        "another place with dataset.cache_dir=DIR, or smaller windows with dataset.window_gb."
    )
