"""The frames of a chunked pack, indexed like the array of a memory-mapped pack."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fexgan_lit.data.streaming.chunks import Chunks
from fexgan_lit.data.streaming.format import Geometry
from fexgan_lit.data.streaming.storage import CONNECTIONS

#: Bytes of single frames kept in memory: those of the fixed validation pairs and of the figures.
_KEPT_BYTES = 256 << 20


class ChunkedImages:
    """(N, L, L, 3) uint8 in chunks; `images[rows]` copies the frames of an int64 array of rows.

    Args:
        geometry: layout of the pack.
        stored: (N,) int64, stored position of each row's frame.
        chunks: access to the chunks.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, geometry: Geometry, stored: np.ndarray, chunks: Chunks) -> None:
        self.geometry, self.chunks = geometry, chunks
        self.shape = (len(stored), geometry.size, geometry.size, 3)
        self._stored = stored
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self._stored)

    def chunk_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the chunk of each row's frame, (B,) int64."""
        return self._stored[rows] // self.geometry.chunk_frames

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return a copy of the frames of `rows` (B,), (B, L, L, 3) uint8."""
        stored = self._stored[rows]
        copied = np.empty((len(stored), *self.shape[1:]), np.uint8)
        with self._turn:
            self._copy(stored, copied)
        return copied

    def _copy(self, stored: np.ndarray, copied: np.ndarray) -> None:
        """Fill `copied` (B, L, L, 3) with the frames at the stored positions `stored` (B,), sorted by chunk."""
        chunk, within = np.divmod(stored, self.geometry.chunk_frames)
        single: list[int] = []
        for i in np.argsort(chunk, kind="stable").tolist():
            if not self.chunks.serves(int(chunk[i])):
                single.append(i)
                continue
            copied[i] = self.chunks.view(int(chunk[i]))[within[i]]
        if single:
            self._copy_single(stored[single], copied, single)
        self.chunks.let_go()

    def _copy_single(self, stored: np.ndarray, copied: np.ndarray, places: list[int]) -> None:
        """Copy frames whose chunks are not available, from memory or by one request each."""
        missing = [position for position in dict.fromkeys(stored.tolist()) if position not in self._kept]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for position, frame in zip(missing, pool.map(self._read, missing), strict=True):
                self._kept[position] = frame
        for place, position in zip(places, stored.tolist(), strict=True):
            copied[place] = self._kept[position]
            self._kept.move_to_end(position)
        while len(self._kept) * self.geometry.frame_bytes > _KEPT_BYTES:
            self._kept.popitem(last=False)

    def _read(self, position: int) -> np.ndarray:
        return self.chunks.part(*divmod(position, self.geometry.chunk_frames))
