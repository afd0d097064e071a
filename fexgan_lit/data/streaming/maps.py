"""Chunk files mapped into memory, a bounded number of them."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from fexgan_lit.data.frames import _HELD_BYTES, _mapped_bytes
from fexgan_lit.data.streaming.layout import Geometry, chunk_name

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
