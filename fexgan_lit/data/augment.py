"""Crops and flips, the same for both frames of a pair and reproducible for every row of every batch."""

from __future__ import annotations

import os
import random
from typing import Any, Protocol

import numpy as np

_JAW_BROWS_NOSE = (*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1))
_EYES = (45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40)
_LIPS = (*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1))
#: The 68 Multi-PIE points as a mirror shows them: point k of the mirrored face is point MIRROR[k] of the face.
MIRROR = np.array((*_JAW_BROWS_NOSE, *_EYES, *_LIPS))


class Augmentation(Protocol):
    """What a loader does to a batch: see `PairAugmentation`."""

    def __call__(
        self, pixels: np.ndarray, key: tuple[int, ...], first: int = 0, points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment a batch; equal `key`, equal result."""
        ...


class PairFlip:
    """Horizontal flip of source and target alike and nothing else, as StarGAN and GANimation augment.

    Action units say nothing of a side, so they stay as they are; landmarks are mirrored.

    Args:
        probability: of a flip.
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability

    def __call__(
        self, pixels: np.ndarray, key: tuple[int, ...], first: int = 0, points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As `PairAugmentation`; the frames (2B, L, L, 3) keep their size."""
        flipped = np.flatnonzero(np.tile(self._flips(key, first, len(pixels) // 2), 2))
        mirrored = pixels.copy()
        mirrored[flipped] = pixels[flipped, :, ::-1]
        if points is None:
            return mirrored, None
        moved = points.copy()
        moved[flipped] = points[flipped][:, MIRROR] * np.array((-1, 1), points.dtype)
        return mirrored, moved

    def _flips(self, key: tuple[int, ...], first: int, pairs: int) -> np.ndarray:
        """(B,) bool; one number a row, so no row depends on the others."""
        draws = np.random.SeedSequence(key).generate_state(first + pairs)[first:]
        return draws < self.probability * 2**32


class PairAugmentation:
    """Random crop and horizontal flip of source and target alike, and a change of brightness and contrast if asked.

    Args:
        size: side of the crop, pixels; the frames come in larger (`DatasetConfig.load_size`).
        flip: probability of a flip.
        jitter: brightness and contrast change by up to this share; 0 leaves the colours alone.
    """

    def __init__(self, size: int, flip: float = 0.5, jitter: float = 0.0) -> None:
        self.size = size
        self._compose = _compose(size, flip, jitter)

    def __call__(
        self, pixels: np.ndarray, key: tuple[int, ...], first: int = 0, points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment a batch; equal `key`, equal result.

        Args:
            pixels: (2B, L, L, 3) uint8, sources then targets.
            key: names the batch.
            first: place of the first pair in the batch that several processes share.
            points: (2B, 68, 2) landmarks, -1..1 from edge to edge, or None.

        Returns:
            (2B, size, size, 3) uint8, and the landmarks in the same way; points cropped away lie beyond -1..1.
        """
        pairs = len(pixels) // 2
        # one seed a row, so no row depends on the others
        seeds = np.random.SeedSequence(key).generate_state(first + pairs)[first:]
        cropped = np.empty((2 * pairs, self.size, self.size, 3), np.uint8)
        moved = None if points is None else np.empty_like(points)
        for row, seed in enumerate(seeds.tolist()):
            # One state for all steps; set_random_seed would start each step at the same number.
            self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
            done = self._compose(image=pixels[row], target=pixels[pairs + row], keypoints=_markers(pixels.shape[1]))
            cropped[row], cropped[pairs + row] = done["image"], done["target"]
            if points is not None and moved is not None:
                both = [row, pairs + row]
                moved[both] = _move(points[both], np.asarray(done["keypoints"]), pixels.shape[1], self.size)
        return cropped, moved


def _markers(length: int) -> np.ndarray:
    """(2, 2) two pixels whose way through crop and flip tells that of every point."""
    return np.array([[0.0, 0.0], [length - 1.0, length - 1.0]], np.float32)


def _move(points: np.ndarray, markers: np.ndarray, length: int, size: int) -> np.ndarray:
    """`points` (P, 68, 2) as crop and flip moved the two `markers` (2, 2), in units of the crop."""
    pixels = (points + 1) * (length / 2) - 0.5
    scale = (markers[1] - markers[0]) / (length - 1)  # (2,) -1 in x if flipped
    moved = (pixels * scale + markers[0] + 0.5) * (2 / size) - 1
    return moved[:, MIRROR] if scale[0] < 0 else moved


def _compose(size: int, flip: float, jitter: float) -> Any:
    """The albumentations pipeline; imported here because that takes a second and would ask the network for news."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    steps: list[Any] = [A.RandomCrop(size, size), A.HorizontalFlip(p=flip)]
    if jitter > 0:
        steps.append(A.RandomBrightnessContrast(brightness_limit=jitter, contrast_limit=jitter, p=1.0))
    # markers that the crop leaves behind still tell where everything went
    marks = A.KeypointParams(format="xy", remove_invisible=False)
    return A.Compose(steps, additional_targets={"target": "image"}, keypoint_params=marks, seed=0)
