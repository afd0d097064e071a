"""A training set enlarged with generated images: requests, the images on disk, one index over real and generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.frames import FrameSet, resize_batch, to_float, to_uint8
from fexgan_lit.data.reference import affect_expression, frame_expression
from fexgan_lit.data.targets import TargetCells
from fexgan_lit.evaluation.measure import check_finite
from fexgan_lit.expression import Expression

if TYPE_CHECKING:
    from fexgan_lit.evaluation.methods import Trained

#: Marks a request without a real target frame.
NOBODY = -1


def chosen_frames(frames: FrameSet, rows: np.ndarray) -> FrameSet:
    """Return only the frames `rows` (n,), in that order."""
    optional = ("intensity", "aus", "landmarks", "take", "moment", "time_s")
    known = {name: values[rows] for name in optional if (values := getattr(frames, name)) is not None}
    return replace(
        frames, rows=frames.rows[rows], affect=frames.affect[rows], identity=frames.identity[rows], **known
    )  # fmt: skip


def draw_share(frames: FrameSet, rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Sample a `share` of the `rows` (n,) of every affect, at least one each; sorted ascending."""
    if share >= 1:
        return rows
    groups = [rows[frames.affect[rows] == k] for k in np.unique(frames.affect[rows])]
    drawn = [rng.choice(group, max(1, round(share * len(group))), replace=False) for group in groups]
    return np.sort(np.concatenate(drawn))


@dataclass(frozen=True)
class Requests:
    """Images to be generated.

    Attributes:
        source: (G,) int64, rows of the source frames.
        affect: (G,) int64, target affects, which are also the labels for the classifier.
        target: (G,) int64, rows of real frames of the same identity with that affect; `NOBODY` if there is none.
    """

    source: np.ndarray
    affect: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.source)


def draw_requests(frames: FrameSet, count: int, min_intensity: float, rng: np.random.Generator) -> Requests:
    """Sample `count` requests: sources in shuffled passes, affects uniform over those in `frames`.

    Args:
        frames: the real frames that sources and targets come from.
        count: number of requests.
        min_intensity: frames with a lower intensity (0..1) are not targets, except neutral ones.
        rng: the random number generator.
    """
    passes = -(-count // len(frames))
    source = np.concatenate([rng.permutation(len(frames)) for _ in range(passes)])[:count]
    affect = rng.choice(np.unique(frames.affect), count)
    cells, identity = TargetCells(frames, min_intensity), frames.identity[source]
    shown = cells.frames_per_cell[identity, affect] > 0
    target = np.full(count, NOBODY, np.int64)
    target[shown] = cells.draw(rng, source[shown], affect[shown])
    return Requests(source, affect.astype(np.int64), target)


def wanted_expression(frames: FrameSet, requests: Requests) -> Expression:
    """Return the expressions of the real target frames; for requests without one, those of `affect_expression`."""
    shown = np.flatnonzero(requests.target != NOBODY)
    unseen = np.flatnonzero(requests.target == NOBODY)
    parts = [frame_expression(frames, requests.target[shown])] if len(shown) else []
    parts += [affect_expression(frames, int(requests.source[i]), int(requests.affect[i])) for i in unseen]
    stacked = Expression.stack(parts)
    back = torch.from_numpy(np.argsort(np.concatenate([shown, unseen])))
    return replace(stacked, **{name: values[back] for name, values in stacked.known.items()})


@dataclass(frozen=True, eq=False)
class Pool:
    """Generated images with their labels.

    Attributes:
        images: (G, S, S, 3) uint8 RGB, memory-mapped.
        affect: (G,) int64, target affects.
    """

    images: np.ndarray
    affect: np.ndarray


@torch.no_grad()
def generate_pool(
    method: Trained,
    frames: FrameSet,
    requests: Requests,
    size: int,
    batch_size: int,
    path: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Pool:
    """Generate the images of all `requests` batch by batch and write them to the file `path`.

    Args:
        method: the system.
        frames: the frames to which the rows of `requests` refer.
        requests: the images to generate.
        size: side in pixels of the stored images.
        batch_size: images per batch.
        path: file for the pixels, G * size * size * 3 bytes.
        progress: called with the number of images done and their total.

    Raises:
        UserError: a generated image has values that are not finite.
    """
    system, count = method.system, len(requests)
    with path.open("wb") as out:  # write, not mmap: a full disk then raises OSError instead of a bus error
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            some = Requests(requests.source[part], requests.affect[part], requests.target[part])
            source = frames.floats(some.source, system.image_size).to(system.device)
            shown = frame_expression(frames, some.source).to(system.device)
            faces = system.synthesize(source, shown, wanted_expression(frames, some).to(system.device))
            check_finite(faces, method.name)
            out.write(resize_batch(to_uint8(faces), size).tobytes())
            if progress is not None:
                progress(min(start + batch_size, count), count)
    return Pool(np.memmap(path, np.uint8, "r", shape=(count, size, size, 3)), requests.affect)


@dataclass(frozen=True, eq=False)
class Enlarged:
    """Real and generated images under one index: 0..n-1 are real, larger indices are generated.

    Attributes:
        real: n real frames.
        pool: the generated images, or None.
    """

    real: FrameSet
    pool: Pool | None = None

    def rows(self, times: int) -> np.ndarray:
        """Return the indices of all real and `times` as many generated images, (N,) int64.

        If the pool holds fewer images than that, they are repeated.

        Raises:
            ValueError: `times` is not 0 and there is no pool.
        """
        n = len(self.real)
        if times == 0:
            return np.arange(n)
        if self.pool is None:
            raise ValueError("no generated frames")
        return np.concatenate([np.arange(n), n + np.arange(times * n) % len(self.pool.affect)])

    def floats(self, index: np.ndarray, size: int) -> Tensor:
        """Return the images of `index` (B,) as (B, 3, size, size) in [-1, 1]."""
        true = index < len(self.real)
        images = torch.empty(len(index), 3, size, size)
        if true.any():
            images[torch.from_numpy(true)] = self.real.floats(index[true], size)
        if self.pool is not None and not true.all():
            pixels = np.asarray(self.pool.images[index[~true] - len(self.real)])
            images[torch.from_numpy(~true)] = to_float(resize_batch(pixels, size))
        return images

    def affect_of(self, index: np.ndarray) -> np.ndarray:
        """Return the labels of `index`, (B,) int64: those of real frames, or the target affects of generated images."""
        affect, true = np.empty(len(index), np.int64), index < len(self.real)
        affect[true] = self.real.affect[index[true]]
        if self.pool is not None:
            affect[~true] = self.pool.affect[index[~true] - len(self.real)]
        return affect
