"""Stand-in faces for metric tests: the background says who it is, the place of a bright square says which affect."""

from __future__ import annotations

import numpy as np

from fexgan_lit.data.frames import FrameSet

AFFECTS = ("joy", "neutral", "sadness", "surprise")
IDENTITIES = ("ada", "ben", "cy")
PLACES = ((4, 4), (4, 20), (20, 4), (20, 20))


def draw(affect: int, identity: int, rng: np.random.Generator, size: int = 32) -> np.ndarray:
    """One (size, size, 3) uint8 picture with a little noise."""
    image = np.full((size, size, 3), 40.0)
    image[..., identity] += 90.0
    top, left = PLACES[affect]
    image[top : top + 8, left : left + 8] = 240.0
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def make_frames(per_cell: int = 6, seed: int = 0, intensity: np.ndarray | None = None) -> FrameSet:
    """A FrameSet with `per_cell` frames of every identity and affect."""
    rng = np.random.default_rng(seed)
    cells = [(k, i) for k in range(len(AFFECTS)) for i in range(len(IDENTITIES)) for _ in range(per_cell)]
    images = np.stack([draw(k, i, rng) for k, i in cells])
    affect, identity = (np.array(column, dtype=np.int64) for column in zip(*cells, strict=True))
    rows = np.arange(len(cells), dtype=np.int64)
    return FrameSet(images, rows, affect, identity, intensity, AFFECTS, IDENTITIES)
