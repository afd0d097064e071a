"""Crops and flips, the same for both frames of a pair and reproducible for every row of every batch."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

_JAW_BROWS_NOSE = (*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1))
_EYES = (45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40)
_LIPS = (*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1))
#: The 68 Multi-PIE points as a mirror shows them: point k of the mirrored face is point MIRROR[k] of the face.
MIRROR = np.array((*_JAW_BROWS_NOSE, *_EYES, *_LIPS))


@dataclass(frozen=True)
class Draws:
    """What happens to the frames of B pairs, to source and target alike.

    Attributes:
        size: side of the crop, pixels.
        corner: (B, 2) int64, row and column of the crop's first pixel.
        flip: (B,) bool, whether the crop is mirrored.
        contrast: (B,) float64 factors of the levels 0..255, or None where colours stay.
        brightness: (B,) float64 levels that are added, or None.
    """

    size: int
    corner: np.ndarray
    flip: np.ndarray
    contrast: np.ndarray | None = None
    brightness: np.ndarray | None = None

    def tables(self) -> np.ndarray | None:
        """(B, 256) uint8: what albumentations makes of each level; None where colours stay."""
        if self.contrast is None or self.brightness is None:
            return None
        factor, added = (values.astype(np.float32)[:, None] for values in (self.contrast, self.brightness))  # (B, 1)
        return np.clip(np.arange(256, dtype=np.float32) * factor + added, 0, 255).astype(np.uint8)


class Augmentation(ABC):
    """What a loader does to a batch: numbers are drawn for all pairs at once, then frames and landmarks are changed."""

    @abstractmethod
    def side(self, length: int) -> int:
        """Side in pixels of what becomes of frames of `length` px."""

    @abstractmethod
    def draw(self, key: tuple[int, ...], pairs: int, length: int, first: int = 0) -> Draws:
        """The draws of `pairs` pairs of frames (`length` px); equal `key`, equal draws.

        Args:
            key: names the batch.
            pairs: B.
            length: side of the frames.
            first: place of the first pair in the batch that several processes share; pair `first + i` is drawn the
                same whatever `first`.
        """

    def __call__(
        self, pixels: np.ndarray, key: tuple[int, ...], first: int = 0, points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment a batch.

        Args:
            pixels: (2B, L, L, 3) uint8, sources then targets.
            key: as for `draw`.
            first: as for `draw`.
            points: (2B, 68, 2) landmarks, -1..1 from edge to edge, or None.

        Returns:
            (2B, size, size, 3) uint8, and the landmarks in the same way; points cropped away lie beyond -1..1.
        """
        draws = self.draw(key, len(pixels) // 2, pixels.shape[1], first)
        return self.change(pixels, draws), move(points, draws, pixels.shape[1])

    def change(self, pixels: np.ndarray, draws: Draws) -> np.ndarray:
        """(2B, size, size, 3) uint8: the frames (2B, L, L, 3) as `draws` says; they stay what they are."""
        cropped = crop(pixels, draws)
        if draws.contrast is not None and draws.brightness is not None:
            for row, (factor, added) in enumerate(zip(draws.contrast.tolist(), draws.brightness.tolist(), strict=True)):
                for frame in (row, len(draws.flip) + row):
                    cropped[frame] = self._colours.apply(cropped[frame], alpha=factor, beta=added)
        return cropped

    @cached_property
    def _colours(self) -> Any:
        """Imported here because that takes a second and would ask the network for news."""
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations

        return albumentations.RandomBrightnessContrast(p=1.0)


class PairFlip(Augmentation):
    """Horizontal flip of source and target alike and nothing else, as StarGAN and GANimation augment.

    Action units say nothing of a side, so they stay as they are; landmarks are mirrored.

    Args:
        probability: of a flip.
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability

    def side(self, length: int) -> int:
        """The frames keep their size."""
        return length

    def draw(self, key: tuple[int, ...], pairs: int, length: int, first: int = 0) -> Draws:
        """See `Augmentation`."""
        (side,) = _uniform(key, pairs, 1, first)
        return Draws(length, np.zeros((pairs, 2), np.int64), side < self.probability)


class PairAugmentation(Augmentation):
    """Random crop and horizontal flip of source and target alike, and a change of brightness and contrast if asked.

    Args:
        size: side of the crop, pixels; the frames come in larger (`DatasetConfig.load_size`).
        flip: probability of a flip.
        jitter: brightness and contrast change by up to this share; 0 leaves the colours alone.
    """

    def __init__(self, size: int, flip: float = 0.5, jitter: float = 0.0) -> None:
        self.size = size
        self.flip = flip
        self.jitter = jitter

    def side(self, length: int) -> int:
        """That of the crop."""
        return self.size

    def draw(self, key: tuple[int, ...], pairs: int, length: int, first: int = 0) -> Draws:
        """See `Augmentation`; all corners are equally likely, and all contrasts and brightnesses within the jitter."""
        if length < self.size:
            raise ValueError(f"frames of {length} px are smaller than the crop of {self.size}")
        down, right, side, factor, added = _uniform(key, pairs, 5, first)
        corner = (np.stack([down, right], 1) * (length - self.size + 1)).astype(np.int64)  # (B, 2)
        if self.jitter == 0:
            return Draws(self.size, corner, side < self.flip)
        factor, added = (self.jitter * (2 * share - 1) for share in (factor, added))
        return Draws(self.size, corner, side < self.flip, 1 + factor, 255 * added)


def _uniform(key: tuple[int, ...], pairs: int, numbers: int, first: int) -> np.ndarray:
    """(numbers, B) float64 in [0, 1); those of a pair depend on `key` and its place in the shared batch alone."""
    return np.random.default_rng(key).random((first + pairs, numbers))[first:].T


def crop(pixels: np.ndarray, draws: Draws) -> np.ndarray:
    """(2B, size, size, 3) uint8: the frames (2B, L, L, 3) cropped and mirrored."""
    pairs, size = len(draws.flip), draws.size
    cropped = np.empty((2 * pairs, size, size, 3), np.uint8)
    for row, ((top, left), flip) in enumerate(zip(draws.corner.tolist(), draws.flip.tolist(), strict=True)):
        for frame in (row, pairs + row):
            part = pixels[frame, top : top + size, left : left + size]
            if flip:
                cv2.flip(part, 1, dst=cropped[frame])  # numpy takes ten times as long for a mirrored copy
            else:
                cropped[frame] = part
    return cropped


def move(points: np.ndarray | None, draws: Draws, length: int) -> np.ndarray | None:
    """`points` (2B, 68, 2) of frames of `length` px, -1..1 from edge to edge, in units of the crop; None stays None."""
    if points is None:
        return None
    flip, ratio = np.tile(draws.flip, 2), length / draws.size
    # the crop's edges are at -1 and 1: x of its frame is there ratio * x + shift, and minus that in the mirror
    shift = (
        ratio - 1 - np.tile(draws.corner[:, ::-1], (2, 1)) * (2 / draws.size)
    )  # (B, 2) rows first -> (2B, 2) x first
    sign = np.stack([np.where(flip, -1.0, 1.0), np.ones(len(flip))], 1)  # (2B, 2)
    scale, shift = ((sign * values)[:, None].astype(points.dtype) for values in (ratio, shift))  # (2B, 1, 2)
    moved = points * scale + shift
    moved[flip] = moved[flip].take(MIRROR, 1)
    return moved
