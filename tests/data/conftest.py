"""Small data sets written by the tests themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.expression import AFFECTS

FORMS = {
    "ferg": "{identity}/{identity}_{affect}/{identity}_{affect}_{n}.png",
    "mhfed": "{identity}/{affect}/{n:04d}.png",
    "flat": "{identity}_{affect}_{n:03d}.png",
}


def picture(seed: int, height: int = 40, width: int | None = None) -> np.ndarray:
    """(H, W, 3) uint8 with content that differs from seed to seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width or height, 3), dtype=np.uint8)


@pytest.fixture
def write_cast(tmp_path: Path) -> Callable[..., Path]:
    """Writes a data set in one of FORMS and returns its root."""

    def write(
        form: str = "mhfed",
        identities: Iterable[str] = ("anna", "bob"),
        affects: Iterable[str] = AFFECTS,
        count: int = 2,
        size: int = 40,
        name: str = "set",
    ) -> Path:
        root = tmp_path / name
        number = 0
        for identity in identities:
            for affect in affects:
                for n in range(1, count + 1):
                    path = root / FORMS[form].format(identity=identity, affect=affect, n=n)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(cv2.imencode(".png", picture(number, size))[1].tobytes())
                    number += 1
        return root

    return write


@pytest.fixture
def frame_set() -> Callable[..., FrameSet]:
    """A FrameSet of constant pictures: frame i is filled with the value i % 251."""

    def make(counts: np.ndarray, size: int = 8, intensity: np.ndarray | None = None) -> FrameSet:
        counts = np.asarray(counts)  # (I, K) frames of each cell
        identity, affect = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
        n = len(identity)
        images = np.empty((n, size, size, 3), np.uint8)
        images[:] = (np.arange(n) % 251).astype(np.uint8)[:, None, None, None]
        return FrameSet(
            images=images,
            rows=np.arange(n),
            affect=affect,
            identity=identity,
            intensity=intensity,
            affects=AFFECTS[: counts.shape[1]],
            identities=tuple(f"p{i}" for i in range(counts.shape[0])),
        )

    return make
