"""Inputs of the suites: image files, packs of any size, and tasks that load batches from them.

`python -m fexgan_lit.benchmarks.inputs` loads batches in a separate process and prints its peak memory.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.data.frames import FrameSet, Images
from fexgan_lit.data.pairs import PairLoader, PairSampler
from fexgan_lit.data.table import FrameTable
from fexgan_lit.data.transforms import Augmentation
from fexgan_lit.expression import AFFECTS
from fexgan_lit.synthetic import CartoonStudio
from fexgan_lit.systems.motion_texture.srvf import COORDINATES, Motions, srvf
from fexgan_lit.utils.hardware import peak_bytes

IDENTITIES = ("anna", "bob")
CPU = torch.device("cpu")


def pictures(count: int, size: int) -> Iterator[np.ndarray]:
    """Yield `count` cartoon faces, (size, size, 3) uint8 RGB, with shifts and noise so that no two are alike."""
    studio = CartoonStudio(identities=len(IDENTITIES), takes=1, frames=1, size=64)
    faces = [cv2.resize(studio.render(row), (size, size)) for row in range(len(studio))]
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 12, (size // 4, size // 4, 3), dtype=np.uint8)
        noise = cv2.resize(coarse, (size, size))
        yield cv2.add(np.roll(faces[number % len(faces)], number % 5, axis=1), noise)


def random_motions(count: int, affects: int, steps: int) -> Motions:
    """Return `count` motions of random smooth ways of the landmarks, whose affects take turns."""
    g = torch.Generator().manual_seed(0)
    time, way = torch.linspace(0, 1, steps + 1)[:, None], torch.randn(2, count, 1, COORDINATES, generator=g)
    q, length = srvf(0.01 * (time * way[0] + (time * torch.pi).sin() * way[1]))
    return Motions(q, length, torch.arange(count) % affects, torch.zeros(count, dtype=torch.long), [], {})


def frame_paths(count: int, kind: str) -> list[str]:
    """Return `count` paths in MH-FED's folder layout, spread evenly over identities and affects."""
    cells = [f"{identity}/{affect}" for identity in IDENTITIES for affect in AFFECTS]
    return sorted(f"{cells[number % len(cells)]}/{number // len(cells):06d}{kind}" for number in range(count))


def write_pictures(root: Path, count: int, kind: str, images: Iterable[np.ndarray]) -> list[str]:
    """Write `count` RGB images as files of `kind` (.png or .jpg); return their paths relative to `root`."""
    paths = frame_paths(count, kind)
    for folder in {(root / path).parent for path in paths}:
        folder.mkdir(parents=True)
    for path, image in zip(paths, images, strict=False):
        cv2.imwrite(str(root / path), image[..., ::-1])
    return paths


def table_of(root: Path, paths: list[str]) -> FrameTable:
    """Return the table of `paths` without listing the folder."""
    import pandas as pd

    parts = [path.split("/") for path in paths]
    labels = {"path": paths, "identity": [p[0] for p in parts], "affect": [p[1] for p in parts]}
    return FrameTable(pd.DataFrame(labels), AFFECTS, IDENTITIES, root)


def frames_of(images: Images) -> FrameSet:
    """Return a split with all `images`, in which every identity has every affect."""
    rows = np.arange(len(images))
    affect, identity = rows % len(AFFECTS), rows // len(AFFECTS) % len(IDENTITIES)
    return FrameSet(images, rows, affect, identity, None, AFFECTS, IDENTITIES)


def sparse_frames(path: Path, count: int, size: int) -> FrameSet:
    """Return a memory-mapped pack of `count` black frames as a sparse file, which takes no disk space."""
    path.touch()
    os.truncate(path, count * size * size * 3)
    return frames_of(np.memmap(path, np.uint8, "r", shape=(count, size, size, 3)))


def cached_frames(scratch: Path, count: int, size: int) -> FrameSet:
    """Return `sparse_frames` that are in the page cache, as after a first epoch."""
    path = scratch / f"{count}_{size}.u8"
    frames = sparse_frames(path, count, size)
    with path.open("rb") as pack:
        while pack.read(1 << 24):
            pass
    return frames


def pair_loader(
    settings: BenchmarkSettings, frames: FrameSet, augmentation: Augmentation | None = None
) -> PairLoader:  # fmt: skip
    """Return a loader of training batches of `frames`."""
    sampler = PairSampler(frames, settings.batch_size, seed=0)
    return PairLoader(frames, sampler, settings.image_size, augmentation)


def drawing(loader: PairLoader, batches: int = 1, device: torch.device = CPU) -> Callable[[], None]:
    """Return a task that loads the next `batches` batches and moves them to `device`; it cycles through an epoch."""
    numbers = itertools.cycle(range(len(loader)))

    def draw() -> None:
        for _ in range(batches):
            loader.batch(0, next(numbers)).to(device)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    return draw


class FolderFrames(Dataset):
    """Data set that opens, decodes, resizes and scales a file on access, (3, size, size) float32 in [-1, 1]."""

    def __init__(self, root: Path, paths: list[str], size: int) -> None:
        self.root, self.paths, self.size = root, paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.root / self.paths[index]) as file:
            picture = file.convert("RGB")
            if picture.size != (self.size, self.size):
                picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.asarray(picture).copy())
        return pixels.permute(2, 0, 1).float().div_(127.5).sub_(1)  # (H, W, 3) -> (3, H, W)


def feed_memory(pack: Path, frames: int, size: int, batch_size: int, batches: int) -> tuple[int, int]:
    """Return the peak memory in MiB of a separate process after its first batch and after all `batches`."""
    numbers = [str(number) for number in (frames, size, batch_size, batches)]
    command = [sys.executable, "-m", "fexgan_lit.benchmarks.inputs", str(pack), *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (our own arguments)
    first, most = json.loads(done.stdout)
    return first, most


def main() -> None:
    """Load pairs from a sparse pack and print the peak memory as JSON."""
    frames, size, batch_size, batches = map(int, sys.argv[2:])
    split = sparse_frames(Path(sys.argv[1]), frames, size)
    draw = drawing(PairLoader(split, PairSampler(split, batch_size, seed=0), size))
    draw()
    first = peak_bytes() >> 20
    for _ in range(batches):
        draw()
    sys.stdout.write(json.dumps([first, peak_bytes() >> 20]))


if __name__ == "__main__":
    main()
