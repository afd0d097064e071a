"""Sampling pairs of a streamed pack: the rule of a memory-mapped pack, applied to one window of chunks at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.data.pairs import WINDOWS, PairLoader, PairSampler, philox
from fexgan_lit.data.streaming.format import Geometry
from fexgan_lit.data.streaming.reader import ChunkedImages
from fexgan_lit.data.targets import TargetCells
from fexgan_lit.utils.errors import UserError


def window_count(geometry: Geometry, window_gb: float) -> int:
    """Return the number of windows of at most `window_gb` billion bytes, but at least one chunk, in a pack."""
    if geometry.total_bytes <= window_gb * 1e9:
        return 1
    return -(-geometry.chunks // max(1, int(window_gb * 1e9 // geometry.chunk_bytes(0))))


@dataclass(frozen=True, eq=False)
class _Epoch:
    """One epoch divided into windows.

    Attributes:
        order: (n,) int64 rows of the split, in the order of the sources.
        window: (n,) int64, the window of each row of the split.
        ends: (W,) int64, cumulative number of sources up to the end of each window.
    """

    order: np.ndarray
    window: np.ndarray
    ends: np.ndarray


class WindowSampler(PairSampler):
    """Samples pairs of a streamed pack so that source and target lie in one window of chunks.

    An epoch is a random order of the chunks, divided into windows of nearly equal size. Every frame is a source once an
    epoch, window by window and in random order within a window. Its target is drawn by the usual rule from the training
    frames of the same window. Chunks hold frames in random order, so a window is a random sample of the data set. A
    batch may span two windows. With one window the pairs equal those of `PairSampler` bit for bit.

    Args:
        frames: the training split of a streamed pack.
        windows: number of windows of an epoch.
        **options: options of `PairSampler`.

    Raises:
        UserError: see `PairSampler`; also exact targets with several windows.
    """

    def __init__(self, frames: FrameSet, windows: int, **options: Any) -> None:
        super().__init__(frames, **options)
        if windows > 1 and options.get("exact"):
            raise UserError(
                f"dataset.targets=exact: the exact counterpart of a frame may lie in another of the {windows} windows "
                "of this pack; expected dataset.targets=random, or one window with a larger dataset.window_gb."
            )
        if not isinstance(frames.images, ChunkedImages):
            raise TypeError("the frames are not streamed")
        self.windows, self.images = windows, frames.images
        self._chunks = self.images.geometry.chunks
        self._chunk = frames.images.chunk_of(frames.rows)  # (n,)
        self._last: tuple[int, _Epoch] | None = None
        self._cells = lru_cache(3)(self._cells_of)

    def chunks(self, epoch: int) -> list[np.ndarray]:
        """Return the chunks of every window of an epoch, each an int64 array in reading order."""
        order = philox(self.seed, WINDOWS, epoch).permutation(self._chunks)
        return np.array_split(order, self.windows)

    def span(self, epoch: int, batch: int) -> tuple[int, int]:
        """Return the first and the last window of the sources of a batch."""
        bounds = np.array([batch * self._pairs, (batch + 1) * self._pairs - 1])
        first, last = np.searchsorted(self._epoch(epoch).ends, bounds, side="right").tolist()
        return first, last

    def wanted(self, epoch: int, first: int, last: int) -> tuple[list[int], list[int]]:
        """Return the chunks of the windows `first` to `last` of an epoch, and those of the next window."""
        windows = self.chunks(epoch)
        after = windows[last + 1] if last + 1 < self.windows else self.chunks(epoch + 1)[0]
        return np.concatenate(windows[first : last + 1]).tolist(), after.tolist()

    def missing_cells(self, epoch: int) -> np.ndarray:
        """Return (W,) int64: how many (identity, affect) cells with targets have no target in each window."""
        there = self.cells.frames_per_cell > 0
        if self.windows == 1:
            return np.zeros(1, np.int64)
        found = [self._cells_of(epoch, window).frames_per_cell > 0 for window in range(self.windows)]
        return np.array([int((there & ~has).sum()) for has in found])

    def _targets(self, rng: np.random.Generator, epoch: int, source: np.ndarray) -> np.ndarray:
        if self.windows == 1:
            return super()._targets(rng, epoch, source)
        window, target = self._epoch(epoch).window[source], np.empty_like(source)
        for number in np.unique(window).tolist():
            mine = window == number
            target[mine] = self._cells(epoch, number).sample(rng, source[mine], self.uniform_affects)
        return target

    def _epoch_order(self, epoch: int) -> np.ndarray:
        return self._epoch(epoch).order

    def _epoch(self, epoch: int) -> _Epoch:
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, self._cut(super()._epoch_order(epoch), epoch)
        return self._last[1]

    def _cut(self, order: np.ndarray, epoch: int) -> _Epoch:
        """Divide an epoch into windows; `order` (n,) is the order of the sources without windows."""
        window_of_chunk = np.empty(self._chunks, np.int64)
        for number, chunks in enumerate(self.chunks(epoch)):
            window_of_chunk[chunks] = number
        window = window_of_chunk[self._chunk]  # (n,)
        ends = np.cumsum(np.bincount(window, minlength=self.windows))
        return _Epoch(order[np.argsort(window[order], kind="stable")], window, ends)

    def _cells_of(self, epoch: int, window: int) -> TargetCells:
        return self.cells.within(np.flatnonzero(self._epoch(epoch).window == window))


def stream_lines(sampler: PairSampler, root: str) -> tuple[str, ...]:
    """Describe the chunks, windows and missing cells of a streamed pack in lines; empty for a memory-mapped pack."""
    if not isinstance(sampler, WindowSampler):
        return ()
    geometry, windows = sampler.images.geometry, sampler.windows
    chunks = f"{geometry.chunks} chunks of {geometry.chunk_bytes(0) / 1e6:.3g} MB at {geometry.size} px"
    cut = "in one window" if windows == 1 else f"in {windows} windows of up to {-(-geometry.chunks // windows)} chunks"
    lines = [f"{root}: {chunks}, {cut} (dataset.window_gb)"]
    missing = sampler.missing_cells(0)
    if missing.any():
        lines.append(
            f"windows are small: in {int((missing > 0).sum())} of {windows}, up to {missing.max()} of the "
            f"{int((sampler.cells.frames_per_cell > 0).sum())} cells (identity, affect) have no target; other affects "
            "of the identity are drawn instead; increase dataset.window_gb"
        )
    return tuple(lines)


class WindowLoader(PairLoader):
    """A `PairLoader` that announces the chunks it will read, so that they are prefetched."""

    pair_sampler: WindowSampler
    _told: tuple[int, int, int] | None = None

    def batch(self, epoch: int, batch: int) -> Any:
        """See `PairLoader.batch`."""
        windows = epoch, *self.pair_sampler.span(epoch, batch)
        if windows != self._told:
            self._told = windows
            self.pair_sampler.images.chunks.expect(*self.pair_sampler.wanted(*windows))
        return super().batch(epoch, batch)
