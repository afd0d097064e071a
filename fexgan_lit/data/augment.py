"""FExGAN's augmentation, the same for both frames of a pair and reproducible for every row of every batch."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np


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

    def __call__(self, pixels: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """(2B, L, L, 3) uint8, sources then targets, to (2B, size, size, 3); equal `key`, equal result."""
        pairs = len(pixels) // 2
        seeds = np.random.SeedSequence(key).generate_state(pairs)  # one a row, so no row depends on the others
        cropped = np.empty((2 * pairs, self.size, self.size, 3), np.uint8)
        for row, seed in enumerate(seeds.tolist()):
            # One state for all steps; set_random_seed would start each step at the same number.
            self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
            done = self._compose(image=pixels[row], target=pixels[pairs + row])
            cropped[row], cropped[pairs + row] = done["image"], done["target"]
        return cropped


def _compose(size: int, flip: float, jitter: float) -> Any:
    """The albumentations pipeline; imported here because that takes a second and would ask the network for news."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    steps: list[Any] = [A.RandomCrop(size, size), A.HorizontalFlip(p=flip)]
    if jitter > 0:
        steps.append(A.RandomBrightnessContrast(brightness_limit=jitter, contrast_limit=jitter, p=1.0))
    return A.Compose(steps, additional_targets={"target": "image"}, seed=0)
