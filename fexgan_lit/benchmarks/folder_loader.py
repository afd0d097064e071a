"""The usual way to feed images: a Dataset that opens each file with Pillow, and torch's DataLoader around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class FolderFrames(Dataset):
    """Each file opened, decoded, resized and scaled when it is asked for; (3, size, size) float32 in [-1, 1]."""

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


def folder_loader(frames: FolderFrames, batch_frames: int, workers: int) -> DataLoader:
    """Shuffled batches of `batch_frames` frames; workers stay alive between epochs, as they should."""
    return DataLoader(
        frames, batch_frames, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
