"""Stand-in faces for metric tests: the background says who it is, the place of a bright square says which affect."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.metrics.effnet import EffnetExtractor

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


def make_moving_frames(count: int = 96, seed: int = 0, size: int = 32) -> FrameSet:
    """Frames with geometry: where the square is says the landmarks, how bright it is AU12; AU45 shows nowhere."""
    rng = np.random.default_rng(seed)
    identity, affect = rng.integers(0, 3, count), rng.integers(0, 4, count)
    level, place = rng.uniform(0, 1, count), rng.integers(4, 20, (count, 2))
    images = np.full((count, size, size, 3), 20.0)
    for i in range(count):
        left, top = place[i]
        images[i, ..., identity[i]] += 60.0
        images[i, top : top + 8, left : left + 8] = 100 + 150 * level[i]
    images = np.clip(images + rng.normal(0, 4, images.shape), 0, 255).astype(np.uint8)
    aus = np.zeros((count, 17), np.float32)
    aus[:, 8], aus[:, 16] = level, rng.uniform(0, 1, count)
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    ring = 0.25 * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (68, 2)
    centres = 2 * (place + 4) / size - 1
    landmarks = (centres[:, None] + ring).astype(np.float32)
    rows = np.arange(count, dtype=np.int64)
    return FrameSet(images, rows, affect, identity, None, AFFECTS, IDENTITIES, aus=aus, landmarks=landmarks)


class SmallEffnet(nn.Module):
    """The parts of EfficientNet that are used, with random weights and three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.BatchNorm2d(6), nn.ReLU6())
        self.blocks = nn.Sequential(nn.Conv2d(6, 8, 2, stride=2), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 2, stride=2))
        self.head = nn.Sequential(nn.Conv2d(8, 10, 1), nn.BatchNorm2d(10), nn.ReLU6())

    def extract_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)))


def small_effnet() -> EffnetExtractor:
    """The extractor with the small network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SmallEffnet()
        return EffnetExtractor(net, list(net.blocks), stages=(0, 2), feature_size=10)
