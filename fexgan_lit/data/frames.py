"""One split of a data set as arrays, and the two ways between stored pixels and what networks see."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames of one split; all arrays but `images` are aligned by row of the split.

    Attributes:
        images: (N, L, L, 3) uint8 RGB, usually a memory-mapped pack shared by all splits.
        rows: (n,) int64, rows of `images` that belong to this split.
        affect: (n,) int64, index into `affects`.
        identity: (n,) int64, index into `identities`.
        intensity: (n,) float32 in 0..1 (NaN where unknown), or None where the data set does not know it.
        aus: (n, 17) float32 in [0, 1], in the order of `ACTION_UNITS`, or None.
        landmarks: (n, 68, 2) float32, -1..1 from edge to edge of the frame, x then y, or None.
        take: (n,) int64, frames of one number show one take, or None.
        moment: (n,) int64; frames of one number share character, pose, gaze and light, or None.
        time_s: (n,) float32 seconds since the take began, or None.
        affects: class order of the data set.
        identities: sorted names.
    """

    images: np.ndarray
    rows: np.ndarray
    affect: np.ndarray
    identity: np.ndarray
    intensity: np.ndarray | None
    affects: tuple[str, ...]
    identities: tuple[str, ...]
    aus: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    take: np.ndarray | None = None
    moment: np.ndarray | None = None
    time_s: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, index: np.ndarray) -> np.ndarray:
        """(B, L, L, 3) uint8 copy of the frames at `index` (B,), rows of this split."""
        # A plain ndarray view skips the bookkeeping of np.memmap; the fancy index then copies B frames, no more.
        return self.images.view(np.ndarray)[self.rows[index]]

    def floats(self, index: np.ndarray, size: int) -> Tensor:
        """(B, 3, size, size) float32 in [-1, 1] of the frames at `index`, resized as a whole where L != size."""
        return to_float(resize_batch(self.pixels(index), size))


def resize_batch(images: np.ndarray, size: int) -> np.ndarray:
    """(B, L, L, 3) uint8 to (B, size, size, 3): area averaging when shrinking, bicubic when growing."""
    length = images.shape[1]
    if length == size:
        return images
    how = cv2.INTER_AREA if size < length else cv2.INTER_CUBIC
    resized = np.empty((len(images), size, size, 3), np.uint8)
    for row, image in enumerate(images):
        cv2.resize(image, (size, size), dst=resized[row], interpolation=how)
    return resized


def to_float(images: np.ndarray | Tensor) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in [-1, 1], in the channels-last memory format.

    Channels-last is how the bytes lie already; a transposed copy would cost three times as much.
    """
    tensor = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    return tensor.float().div_(127.5).sub_(1).permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)


def to_uint8(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) float in [-1, 1] to (B, H, W, 3) uint8; values outside are clamped, the rest rounded."""
    scaled = images.detach().float().add(1).mul(127.5).round().clamp_(0, 255)
    return scaled.permute(0, 2, 3, 1).to("cpu", torch.uint8).contiguous().numpy()  # (B, 3, H, W) -> (B, H, W, 3)
