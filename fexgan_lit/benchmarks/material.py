"""What the data suite works on: pictures on disk, and packs as large as one likes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fexgan_lit.data.frames import FrameSet, Images
from fexgan_lit.data.studio import CartoonStudio
from fexgan_lit.data.table import FrameTable
from fexgan_lit.expression import AFFECTS

IDENTITIES = ("anna", "bob")


def pictures(count: int, size: int) -> Iterator[np.ndarray]:
    """`count` cartoon faces, (size, size, 3) uint8 RGB, each a little shifted and noisy as no two frames are alike."""
    studio = CartoonStudio(identities=len(IDENTITIES), takes=1, frames=1, size=64)
    faces = [cv2.resize(studio.render(row), (size, size)) for row in range(len(studio))]
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 12, (size // 4, size // 4, 3), dtype=np.uint8)
        noise = cv2.resize(coarse, (size, size))
        yield cv2.add(np.roll(faces[number % len(faces)], number % 5, axis=1), noise)


def write_pictures(root: Path, count: int, size: int, kind: str) -> list[str]:
    """Write `count` pictures of `kind` (.png or .jpg) in MH-FED's folder form; returns their paths below `root`."""
    paths = frame_paths(count, kind)
    for folder in sorted({(root / path).parent for path in paths}):
        folder.mkdir(parents=True)
    for path, picture in zip(paths, pictures(count, size), strict=True):
        cv2.imwrite(str(root / path), picture[..., ::-1])
    return paths


def write_tiny(root: Path, count: int) -> None:
    """`count` pictures of 4x4 pixels in MH-FED's folder form; what counts is that there are many."""
    content = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    paths = frame_paths(count, ".png")
    for folder in sorted({(root / path).parent for path in paths}):
        folder.mkdir(parents=True)
    for path in paths:
        (root / path).write_bytes(content)


def frame_paths(count: int, kind: str) -> list[str]:
    """`count` paths, spread evenly over identities and affects."""
    cells = [f"{identity}/{affect}" for identity in IDENTITIES for affect in AFFECTS]
    return sorted(f"{cells[number % len(cells)]}/{number // len(cells):06d}{kind}" for number in range(count))


def table_of(root: Path, paths: list[str]) -> FrameTable:
    """The table of `paths`, without listing the folder."""
    import pandas as pd

    parts = [path.split("/") for path in paths]
    labels = {"path": paths, "identity": [p[0] for p in parts], "affect": [p[1] for p in parts]}
    return FrameTable(pd.DataFrame(labels), AFFECTS, IDENTITIES, root)


def sparse_frames(path: Path, count: int, size: int) -> FrameSet:
    """A memory-mapped pack of `count` black frames that takes no room on disk, as a training split."""
    path.touch()
    os.truncate(path, count * size * size * 3)
    return frames_of(np.memmap(path, np.uint8, "r", shape=(count, size, size, 3)))


def frames_of(images: Images) -> FrameSet:
    """A split of all `images`, in which every identity shows every affect."""
    number = np.arange(len(images))
    return FrameSet(
        images=images,
        rows=number,
        affect=number % len(AFFECTS),
        identity=number // len(AFFECTS) % len(IDENTITIES),
        intensity=None,
        affects=AFFECTS,
        identities=IDENTITIES,
    )


def read_through(frames: FrameSet) -> None:
    """Bring a pack into the system's cache, as the first epoch does; holds little of it in memory itself."""
    with Path(str(getattr(frames.images, "filename", ""))).open("rb") as pack:
        while pack.read(1 << 24):
            pass
