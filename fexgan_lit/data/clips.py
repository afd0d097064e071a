"""Clips for systems that generate videos: a batch of takes, each as T ordered frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.data.pairs import Share, philox
from fexgan_lit.utils.errors import UserError

#: Streams of random numbers that must not repeat those of the pairs.
_ORDER, _START = 16, 17

SPANS = ("take", "apex", "window")


@dataclass
class ClipBatch:
    """B clips of T frames.

    Attributes:
        frames: (B, T, 3, S, S) float32 in [-1, 1].
        affect: (B,) int64.
        identity: (B,) int64.
        rows: (B, T) int64, rows of the FrameSet.
        time_s: (B, T) float32 seconds since the take began, or None.
        aus: (B, T, 17) in [0, 1], or None.
        landmarks: (B, T, 68, 2) in -1..1, or None.
    """

    frames: Tensor
    affect: Tensor
    identity: Tensor
    rows: Tensor
    time_s: Tensor | None = None
    aus: Tensor | None = None
    landmarks: Tensor | None = None


class ClipSampler:
    """Selects the frames of the clips of batch b of epoch e; every take occurs once an epoch.

    Args:
        frames: a split with takes.
        length: number of frames T of a clip.
        batch_size: clips per batch and process.
        seed: non-negative; the same seed gives the same clips.
        span: extent of a clip: `take`, T frames spread evenly over the whole take; `apex`, spread from its first frame
            to its strongest (MotionGAN's neutral to apex); `window`, T consecutive frames from a random start.
        share: the part of every batch for this process.

    Attributes:
        short: takes with fewer than T frames, which are left out, as "nora/joy (5 frames)".

    Raises:
        UserError: the data set has no takes, has no intensities for `apex`, or has fewer usable takes than a batch.
    """

    def __init__(
        self,
        frames: FrameSet,
        length: int,
        batch_size: int,
        seed: int,
        span: str = "take",
        share: Share | None = None,
    ) -> None:
        self.length, self.batch_size, self.seed, self.span = length, batch_size, seed, span
        self.share = share or Share()
        self._frames = frames
        takes = rows_of_takes(frames, span)
        self._takes = [rows for rows in takes if len(rows) >= length]
        self.short = tuple(_describe(frames, rows) for rows in takes if len(rows) < length)
        if batch_size * self.share.world > len(self._takes):
            raise UserError(
                f"dataset.batch_size={batch_size}: {len(self._takes)} takes have the {length} frames of a clip, "
                f"{len(self.short)} are shorter; expected enough for one batch. Use a smaller batch or shorter clips."
            )

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._takes) // (self.batch_size * self.share.world)

    def indices(self, epoch: int, batch: int) -> np.ndarray:
        """Return the (B, T) int64 rows, ordered by time, of the clips of `batch` (0..len(self)-1) of `epoch`."""
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of {len(self)}")
        order = philox(self.seed, _ORDER, epoch).permutation(len(self._takes))
        first = (batch * self.share.world + self.share.rank) * self.batch_size
        luck = philox(self.seed, _START, epoch).random(len(self._takes))
        chosen = order[first : first + self.batch_size]
        return np.stack([self._clip(self._takes[take], luck[take]) for take in chosen])

    def _clip(self, rows: np.ndarray, luck: float) -> np.ndarray:
        if self.span == "window":
            start = int(luck * (len(rows) - self.length + 1))
            return rows[start : start + self.length]
        return rows[np.rint(np.linspace(0, len(rows) - 1, self.length)).astype(np.int64)]


class ClipLoader:
    """Batches of clips; each pass of `for batch in loader` is one epoch."""

    def __init__(self, frames: FrameSet, sampler: ClipSampler, image_size: int) -> None:
        self.frames = frames
        self.clip_sampler = sampler
        self.image_size = image_size
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.clip_sampler)

    def batch(self, epoch: int, batch: int) -> ClipBatch:
        """Return batch `batch` of `epoch` without changing the loader's position."""
        rows = self.clip_sampler.indices(epoch, batch)  # (B, T)
        frames, first = self.frames, rows[:, 0]
        images = frames.floats(rows.ravel(), self.image_size)  # (B * T, 3, S, S)

        def of_rows(values: np.ndarray | None) -> Tensor | None:
            return None if values is None else torch.from_numpy(values[rows])

        return ClipBatch(
            frames=images.unflatten(0, rows.shape),  # (B * T, 3, S, S) -> (B, T, 3, S, S)
            affect=torch.from_numpy(frames.affect[first]),
            identity=torch.from_numpy(frames.identity[first]),
            rows=torch.from_numpy(rows),
            time_s=of_rows(frames.time_s),
            aus=of_rows(frames.aus),
            landmarks=of_rows(frames.landmarks),
        )

    def __iter__(self) -> Iterator[ClipBatch]:
        for number in range(len(self)):
            yield self.batch(self.epoch, number)
        self.epoch += 1


def rows_of_takes(frames: FrameSet, span: str) -> list[np.ndarray]:
    """Return the rows of every take, ordered by time; for the span `apex`, only up to the strongest frame.

    Raises:
        UserError: the data set has no takes, or no intensities for `apex`.
    """
    if span not in SPANS:
        raise ValueError(f"span {span!r} is not one of {', '.join(SPANS)}")
    if frames.take is None:
        raise UserError(
            "this data set has no takes, so it has no clips; give them with "
            "dataset.annotations=FILE.csv (columns take, frame) or {take} in dataset.pattern."
        )
    if span == "apex" and frames.intensity is None:
        raise UserError(
            "clips from neutral to apex need the intensity of every frame; give dataset.annotations=FILE.csv with a "
            "column 'intensity', or use whole takes."
        )
    moment = np.arange(len(frames)) if frames.time_s is None else frames.time_s
    order = np.lexsort((moment, frames.take))
    ends = np.flatnonzero(np.diff(frames.take[order])) + 1
    takes = np.split(order, ends)
    if span != "apex" or frames.intensity is None:
        return takes
    return [
        rows[: int(frames.intensity[rows].argmax()) + 1] if frames.intensity[rows].any() else rows for rows in takes
    ]


def affect_of_take(frames: FrameSet, take: np.ndarray) -> int:
    """Return the affect of the first frame of `take` (F,) that is not neutral, as takes begin neutral; else neutral."""
    shown = frames.affect[take]
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else -1
    return int(next(iter(shown[shown != neutral]), neutral))


def _describe(frames: FrameSet, rows: np.ndarray) -> str:
    first = rows[0]
    return f"{frames.identities[frames.identity[first]]}/{frames.affects[frames.affect[first]]} ({len(rows)} frames)"
