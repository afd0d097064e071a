"""Batches of source/target pairs, reproducible from (seed, epoch, batch)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.frames import FrameSet, resize_batch, to_float
from fexgan_lit.data.targets import AnyTargets, ExactTargets, TargetCells
from fexgan_lit.data.transforms import Augmentation
from fexgan_lit.expression import Expression
from fexgan_lit.utils.errors import UserError

#: Keys of independent streams of random numbers.
_ORDER, _TARGETS, _AUGMENT, _VALIDATION, _STRANGERS, WINDOWS = range(6)


@dataclass(frozen=True)
class Share:
    """The part of every batch for this process: `rank` of `world` processes that train together."""

    rank: int = 0
    world: int = 1


@dataclass
class PairBatch:
    """B pairs of frames; both frames of a pair show one identity, unless they were drawn unpaired.

    Attributes:
        source: (B, 3, S, S) float32 in [-1, 1].
        target: (B, 3, S, S) float32 in [-1, 1].
        source_affect: (B,) int64, index into the affects of the data set.
        target_affect: (B,) int64.
        identity: (B,) int64, identity of the source.
        source_row: (B,) int64, row of the FrameSet the source came from.
        target_row: (B,) int64.
        source_aus: (B, 17) float32 in [0, 1], or None if the data set has no action units.
        target_aus: as `source_aus`.
        source_landmarks: (B, 68, 2) float32, -1..1 from edge to edge of the image, or None.
        target_landmarks: as `source_landmarks`.
    """

    source: Tensor
    target: Tensor
    source_affect: Tensor
    target_affect: Tensor
    identity: Tensor
    source_row: Tensor
    target_row: Tensor
    source_aus: Tensor | None = None
    target_aus: Tensor | None = None
    source_landmarks: Tensor | None = None
    target_landmarks: Tensor | None = None

    def source_expression(self, affects: int) -> Expression:
        """Return the expression of the sources: one-hot affects (B, `affects`), action units and landmarks if known."""
        return _expression(self.source_affect, affects, self.source_aus, self.source_landmarks)

    def target_expression(self, affects: int) -> Expression:
        """Return the expression of the targets; see `source_expression`."""
        return _expression(self.target_affect, affects, self.target_aus, self.target_landmarks)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """Return the batch with every tensor on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PairBatch:
        """Return the batch in page-locked memory, for faster copies to a GPU."""
        return self._each(Tensor.pin_memory)

    def copy(self) -> PairBatch:
        """Return a copy of the batch with the same memory format."""
        return self._each(Tensor.clone)

    def parts(self, largest: int | None) -> list[PairBatch]:
        """Split the batch in order into nearly equal parts of at most `largest` pairs; None does not split."""
        if largest is None or largest >= len(self):
            return [self]
        ends = np.linspace(0, len(self), -(-len(self) // largest) + 1).round().astype(int).tolist()
        return [self[start:end] for start, end in itertools.pairwise(ends)]

    def __getitem__(self, pairs: slice) -> PairBatch:
        """Return the pairs of a slice."""
        return self._each(lambda tensor: tensor[pairs])

    def _each(self, change: Callable[[Tensor], Tensor]) -> PairBatch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: None if value is None else change(value) for name, value in values.items()}
        return PairBatch(**changed)

    def __len__(self) -> int:
        return len(self.source)


def _expression(affect: Tensor, affects: int, aus: Tensor | None, landmarks: Tensor | None) -> Expression:
    one_hot = torch.nn.functional.one_hot(affect, affects).float()  # (B,) -> (B, K)
    return Expression(one_hot, aus, landmarks)


def philox(*key: int) -> np.random.Generator:
    """Return a generator whose numbers depend only on the integers of `key` (each >= 0)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


class PairSampler:
    """Selects the frames of batch b of epoch e.

    Every frame is a source once an epoch, except for a remainder smaller than a batch. The target shows the same
    identity with an affect drawn from those of the identity (the source's own included), or is any frame (`unpaired`).

    Args:
        frames: the training split.
        batch_size: pairs per batch and process.
        seed: non-negative; the same seed gives the same pairs.
        uniform_affects: whether target affects are uniform; if not, they are in proportion to the identity's frames.
        min_target_intensity: minimum intensity (0..1) of a target; neutral frames are always eligible.
        exact: whether targets are the sources' exact counterparts (see `ExactTargets`) and not random frames.
        share: processes that train together draw one batch of `world * batch_size` pairs, each its part; so two
            processes of 16 pairs together train on the pairs that one process of 32 trains on.
        unpaired: whether targets are drawn uniformly from all eligible frames, whatever their identity.

    Raises:
        UserError: there are fewer frames than a batch, a minimum is given without intensities, or exact targets are
            wanted and the frames have none.
    """

    def __init__(
        self,
        frames: FrameSet,
        batch_size: int,
        seed: int,
        uniform_affects: bool = True,
        min_target_intensity: float = 0.0,
        exact: bool = False,
        share: Share | None = None,
        unpaired: bool = False,
    ) -> None:
        self.share = share or Share()
        self._pairs = batch_size * self.share.world
        if self._pairs > len(frames):
            most = len(frames) // self.share.world * self.share.world
            raise UserError(
                f"dataset.batch_size={self._pairs} is more than the {len(frames)} training frames; "
                f"set dataset.batch_size={max(2, most)} or less."
            )
        self.cells = target_rule(frames, min_target_intensity, exact, unpaired)
        self.batch_size = batch_size
        self.seed = seed
        self.uniform_affects = uniform_affects
        self._frames = len(frames)
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._frames // self._pairs

    def indices(self, epoch: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the source and target rows, each (B,) int64, of `batch` (0..len(self)-1) of `epoch`."""
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of {len(self)}")
        source = self._epoch_order(epoch)[batch * self._pairs : (batch + 1) * self._pairs]
        rng = philox(self.seed, _TARGETS, epoch, batch)
        target = self._targets(rng, epoch, source)
        mine = slice(self.share.rank * self.batch_size, (self.share.rank + 1) * self.batch_size)
        return source[mine], target[mine]

    def _targets(self, rng: np.random.Generator, epoch: int, source: np.ndarray) -> np.ndarray:
        """Draw a target (B,) int64 for each row `source` (B,) of the whole batch."""
        return self.cells.sample(rng, source, self.uniform_affects)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """Return the permutation (n,) int64 of an epoch; the last one is cached, since drawing it takes O(n) time."""
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, philox(self.seed, _ORDER, epoch).permutation(self._frames))
        return self._order[1]


def target_rule(frames: FrameSet, min_intensity: float, exact: bool, unpaired: bool = False) -> TargetCells:
    """Return the rule for targets: random frames of the cell, exact counterparts, or any frames."""
    if unpaired:
        return AnyTargets(frames, min_intensity)
    return ExactTargets(frames, min_intensity) if exact else TargetCells(frames, min_intensity)


class PairLoader:
    """Training batches: iteration k is batch k mod E of epoch k div E, with E batches an epoch.

    A pass of `for batch in loader` yields E batches, starting at iteration `first()`. A resumed run therefore trains on
    the batches of an uninterrupted run, wherever it was stopped, and the loader has no state to save.

    Args:
        frames: the training split.
        sampler: selects the frames of a batch.
        image_size: side of the images in pixels.
        augmentation: augmentation of the frames, or None.
        first: returns the iteration at which a pass starts.
    """

    def __init__(
        self, frames: FrameSet, sampler: PairSampler, image_size: int, augmentation: Augmentation | None = None,
        first: Callable[[], int] = int,
    ) -> None:  # fmt: skip
        self.frames = frames
        self.pair_sampler = sampler
        self.image_size = image_size
        self.augmentation = augmentation
        self.first = first
        self._wait_s = 0.0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.pair_sampler)

    def batch(self, epoch: int, batch: int) -> PairBatch:
        """Return batch `batch` of `epoch` without changing the loader's position."""
        rows, points = self.rows(epoch, batch)
        if self.augmentation is None:
            return pair_batch(self.frames.floats(rows, self.image_size), pair_labels(self.frames, rows, points))
        key, first = self.augmentation_key(epoch, batch)
        pixels, points = self.augmentation(self.frames.pixels(rows), key, first, points)
        return pair_batch(to_float(resize_batch(pixels, self.image_size)), pair_labels(self.frames, rows, points))

    def rows(self, epoch: int, batch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the rows (2B,) int64, sources then targets, and their landmarks (2B, 68, 2) or None."""
        rows = np.concatenate(self.pair_sampler.indices(epoch, batch))
        return rows, None if self.frames.landmarks is None else self.frames.landmarks[rows]

    def augmentation_key(self, epoch: int, batch: int) -> tuple[tuple[int, ...], int]:
        """Return a batch's key for `augmentation`, and the index of this process's first pair in the whole batch."""
        sampler = self.pair_sampler
        return (sampler.seed, _AUGMENT, epoch, batch), sampler.share.rank * sampler.batch_size

    def __iter__(self) -> Iterator[PairBatch]:
        first = self.first()
        for iteration in range(first, first + len(self)):
            started = time.perf_counter()
            made = self.batch(*divmod(iteration, len(self)))
            self._wait_s += time.perf_counter() - started
            yield made

    def state_dict(self) -> dict[str, int]:
        """Return an empty state: a fit resumes by its iteration. Lightning warns about loaders without this method."""
        return {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Do nothing; see `state_dict`."""

    def take_wait(self) -> float:
        """Return the seconds spent making batches since the last call."""
        waited, self._wait_s = self._wait_s, 0.0
        return waited


@dataclass(frozen=True)
class FixedPairs:
    """A constant list of pairs: rows of the FrameSet, each (P,) int64, and the number of frames without a partner."""

    source: np.ndarray
    target: np.ndarray
    unpaired: int = 0

    def __len__(self) -> int:
        return len(self.source)


def fixed_pairs(
    frames: FrameSet,
    seed: int = 0,
    limit: int | None = None,
    min_target_intensity: float = 0.0,
    exact: bool = False,
) -> FixedPairs:
    """Pair every frame with one target of the same identity and another affect; `limit` picks that many at random."""
    cells = target_rule(frames, min_target_intensity, exact)
    rng = philox(seed, _VALIDATION)
    source = np.flatnonzero(cells.has_other(frames.identity, frames.affect))
    unpaired = len(frames) - len(source)
    if limit is not None and limit < len(source):
        source = np.sort(rng.choice(source, limit, replace=False))
    affect = cells.other_affect(rng, frames.identity[source], frames.affect[source])
    return FixedPairs(source, cells.draw(rng, source, affect), unpaired)


def fixed_strangers(frames: FrameSet, seed: int = 0, limit: int | None = None) -> FixedPairs:
    """Pair every frame with a random other frame of any identity; `limit` picks that many at random."""
    rng, n = philox(seed, _STRANGERS), len(frames)
    if n < 2:
        return FixedPairs(np.empty(0, np.int64), np.empty(0, np.int64), n)
    source = np.arange(n) if limit is None or limit >= n else np.sort(rng.choice(n, limit, replace=False))
    return FixedPairs(source, (source + rng.integers(1, n, len(source))) % n)


class FixedPairLoader:
    """Batches of fixed pairs in order; the last one may be smaller. Frames are resized, not cropped."""

    def __init__(self, frames: FrameSet, pairs: FixedPairs, batch_size: int, image_size: int) -> None:
        self.frames = frames
        self.pairs = pairs
        self.batch_size = batch_size
        self.image_size = image_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.pairs) // self.batch_size)

    def __iter__(self) -> Iterator[PairBatch]:
        for start in range(0, len(self.pairs), self.batch_size):
            source = self.pairs.source[start : start + self.batch_size]
            target = self.pairs.target[start : start + self.batch_size]
            rows = np.concatenate([source, target])
            points = None if self.frames.landmarks is None else self.frames.landmarks[rows]
            yield pair_batch(self.frames.floats(rows, self.image_size), pair_labels(self.frames, rows, points))


def pair_labels(frames: FrameSet, rows: np.ndarray, points: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the arrays of a `PairBatch` other than the images.

    Args:
        frames: the FrameSet.
        rows: (2B,) int64, sources then targets.
        points: (2B, 68, 2) landmarks of those rows, or None.
    """
    source, target = rows.reshape(2, -1)
    labels = {
        "source_affect": frames.affect[source],
        "target_affect": frames.affect[target],
        "identity": frames.identity[source],
        "source_row": source.copy(),
        "target_row": target.copy(),
    }
    if frames.aus is not None:
        labels |= {"source_aus": frames.aus[source], "target_aus": frames.aus[target]}
    if points is not None:
        labels |= {"source_landmarks": points[: len(source)], "target_landmarks": points[len(source) :]}
    return labels


def pair_batch(images: Tensor, labels: Mapping[str, np.ndarray]) -> PairBatch:
    """Make a batch of `images` (2B, 3, S, S), sources then targets, and the arrays of `pair_labels`."""
    source, target = images.chunk(2)
    return PairBatch(source, target, **{name: torch.from_numpy(values) for name, values in labels.items()})
