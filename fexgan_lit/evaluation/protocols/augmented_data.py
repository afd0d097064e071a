"""A training set made larger with generated faces: what is asked for, the faces on disk, both under one numbering."""

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

#: Stands for "no true frame" among the rows of targets.
NOBODY = -1


def chosen_frames(frames: FrameSet, rows: np.ndarray) -> FrameSet:
    """The frames `rows` (n,) alone, in that order."""
    optional = ("intensity", "aus", "landmarks", "take", "moment", "time_s")
    known = {name: values[rows] for name in optional if (values := getattr(frames, name)) is not None}
    return replace(
        frames, rows=frames.rows[rows], affect=frames.affect[rows], identity=frames.identity[rows], **known
    )  # fmt: skip


def draw_share(frames: FrameSet, rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A `share` of the `rows` (n,) of every affect, one at least, ascending."""
    if share >= 1:
        return rows
    groups = [rows[frames.affect[rows] == k] for k in np.unique(frames.affect[rows])]
    drawn = [rng.choice(group, max(1, round(share * len(group))), replace=False) for group in groups]
    return np.sort(np.concatenate(drawn))


@dataclass(frozen=True)
class Requests:
    """Faces to be generated.

    Attributes:
        source: (G,) int64, rows of the frames they are made from.
        affect: (G,) int64, wanted; the label under which a classifier gets to see them.
        target: (G,) int64, true frames of the source's person that show it; `NOBODY` where there is none.
    """

    source: np.ndarray
    affect: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.source)


def draw_requests(frames: FrameSet, count: int, min_intensity: float, rng: np.random.Generator) -> Requests:
    """Ask for `count` faces: sources in shuffled passes, affects uniform over those that `frames` show.

    Args:
        frames: true frames; all that is known of anybody.
        count: faces.
        min_intensity: weaker frames (0..1) are no targets, neutral apart.
        rng: source of the random numbers.
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
    """What the true target frames show; where a person never shows the affect, see `affect_expression`."""
    shown = np.flatnonzero(requests.target != NOBODY)
    unseen = np.flatnonzero(requests.target == NOBODY)
    parts = [frame_expression(frames, requests.target[shown])] if len(shown) else []
    parts += [affect_expression(frames, int(requests.source[i]), int(requests.affect[i])) for i in unseen]
    stacked = Expression.stack(parts)
    back = torch.from_numpy(np.argsort(np.concatenate([shown, unseen])))
    return replace(stacked, **{name: values[back] for name, values in stacked.known.items()})


@dataclass(frozen=True, eq=False)
class Pool:
    """Generated faces.

    Attributes:
        images: (G, S, S, 3) uint8 RGB, memory-mapped.
        affect: (G,) int64, what was asked for.
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
    """Let a system answer all `requests`, batch by batch, straight to the file `path`.

    Args:
        method: the system.
        frames: that `requests` speak of.
        requests: what is wanted.
        size: side in pixels at which the faces are kept.
        batch_size: faces at a time.
        path: of the pixels; its size is that of all faces.
        progress: told of the faces done.

    Raises:
        UserError: the system gives values that are not finite.
    """
    system, count = method.system, len(requests)
    with path.open("wb") as out:  # written, not mapped: a full disk is then an error with a name
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
    """True frames and generated ones under one numbering: 0..n-1 are true, what follows is generated.

    Attributes:
        real: n true frames.
        pool: generated ones, or None.
    """

    real: FrameSet
    pool: Pool | None = None

    def rows(self, times: int) -> np.ndarray:
        """All true frames and `times` as many generated ones; where the pool has fewer they come again, (N,) int64.

        Raises:
            ValueError: generated frames are asked for and there is no pool.
        """
        n = len(self.real)
        if times == 0:
            return np.arange(n)
        if self.pool is None:
            raise ValueError("no generated frames")
        return np.concatenate([np.arange(n), n + np.arange(times * n) % len(self.pool.affect)])

    def floats(self, index: np.ndarray, size: int) -> Tensor:
        """(B, 3, size, size) in [-1, 1] of the numbers `index` (B,)."""
        true = index < len(self.real)
        images = torch.empty(len(index), 3, size, size)
        if true.any():
            images[torch.from_numpy(true)] = self.real.floats(index[true], size)
        if self.pool is not None and not true.all():
            pixels = np.asarray(self.pool.images[index[~true] - len(self.real)])
            images[torch.from_numpy(~true)] = to_float(resize_batch(pixels, size))
        return images

    def affect_of(self, index: np.ndarray) -> np.ndarray:
        """(B,) int64: what true frames show, and what was asked of generated ones."""
        affect, true = np.empty(len(index), np.int64), index < len(self.real)
        affect[true] = self.real.affect[index[true]]
        if self.pool is not None:
            affect[~true] = self.pool.affect[index[~true] - len(self.real)]
        return affect
