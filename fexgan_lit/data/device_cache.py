"""Training frames held on the device: the memory check, the upload, and batches made there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.frames import FrameSet, resize_batch
from fexgan_lit.data.pairs import PairBatch, PairLoader, pair_labels
from fexgan_lit.data.streaming.sampler import WindowLoader
from fexgan_lit.data.transforms import Draws, PairAugmentation, PairPipeline, move
from fexgan_lit.utils.errors import UserError


def one_copy(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Copy `arrays` to `device` in one transfer, with their shapes and types, without synchronisation.

    A transfer costs a GPU about as much time as a kernel, however small it is. On the CPU the tensors share one block
    of new memory.
    """
    # the widest types come first, so that every array is aligned to its own type
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    count = sum(array.nbytes for _, array in ordered)
    block = torch.empty(count, dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.concatenate([array.ravel().view(np.uint8) for _, array in ordered], out=block.numpy())
    there = block.to(device, non_blocking=True)  # torch keeps the pinned block until the copy is done
    tensors: dict[str, Tensor] = {}
    start = 0
    for dtype, group in itertools.groupby(ordered, lambda item: item[1].dtype):
        same = list(group)
        end = start + sum(array.nbytes for _, array in same)
        typed = there[start:end].view(torch_type(dtype)).split([array.size for _, array in same])
        tensors |= {name: part.view(array.shape) for (name, array), part in zip(same, typed, strict=True)}
        start = end
    return tensors


def torch_type(dtype: np.dtype) -> torch.dtype:
    """Return the torch type of the same bytes."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


#: Frames uploaded at once, so that the host never holds a second copy of all frames.
_PIECE = 256


class ResidentPairs(PairLoader):
    """The batches of a `PairLoader`, made on a device that holds the frames as uint8.

    The loader's own code draws and gathers small arrays (rows, crops, labels, action units, landmarks) on the host and
    copies them in one transfer per batch. The device gathers, crops, mirrors, recolours and scales the pixels, without
    synchronisation. The batches equal those of the loader bit for bit.

    Args:
        pairs: the loader whose batches are made.
        device: device of the frames and of every tensor of a batch.

    Attributes:
        pixels: (n, L, L, 3) uint8 on `device`, the frames of the split by row.

    Raises:
        UserError: the batches would differ from the loader's (see `obstacle`).
    """

    def __init__(self, pairs: PairLoader, device: torch.device) -> None:
        if reason := obstacle(pairs):
            raise UserError(f"the training frames cannot be held on {device}: {reason}")
        super().__init__(pairs.frames, pairs.pair_sampler, pairs.image_size, pairs.augmentation, pairs.first)
        self.device = device
        self.pixels = upload(pairs.frames, resident_side(pairs), device)
        side, size, batch = self.pixels.shape[1], self.image_size, self.pair_sampler.batch_size
        across = torch.arange(size, device=device)
        self._lines, self._columns = (across * side)[:, None], across  # (S, 1), (S,): steps down and to the right
        # offset of each of the 2B frames' tables; source and target of a pair share one table
        self._tables = (torch.arange(2 * batch, device=device, dtype=torch.int32) % batch * 256).view(-1, 1, 1, 1)
        # a tensor, not a number: CUDA multiplies by the reciprocal of a number, which rounds differently
        self._half = torch.full((), 127.5, device=device)

    def batch(self, epoch: int, batch: int) -> PairBatch:
        """Return batch `batch` of `epoch` on the device, without changing the loader's position or synchronising."""
        rows, points = self.rows(epoch, batch)
        draws, length = None, self.pixels.shape[1]
        if isinstance(self.augmentation, PairAugmentation):
            key, first = self.augmentation_key(epoch, batch)
            draws = self.augmentation.draw(key, len(rows) // 2, length, first)
            points = move(points, draws, length)
        given = pair_labels(self.frames, rows, points)
        there = one_copy(given | self._walk(rows, draws), self.device)
        labels = {name: there[name] for name in given}
        frames = self._cut(there["first"], there.get("step"))
        images = self._scaled(frames) if "tables" not in there else self._recoloured(frames, there["tables"])
        source, target = images.permute(0, 3, 1, 2).chunk(2)  # (2B, S, S, 3) -> (2B, 3, S, S) -> two (B, 3, S, S)
        return PairBatch(source, target, **labels)

    def _walk(self, rows: np.ndarray, draws: Draws | None) -> dict[str, np.ndarray]:
        """Return the indices of the pixels of each of the 2B frames, and the lookup tables of their levels.

        `first` (2B,) is a row of `pixels` without augmentation; with augmentation, the index of the crop's first pixel
        among all pixels. `step` (2B,) is 1, or -1 for a mirrored crop, which is read from right to left. `tables`
        (B, 256) uint8 are present if colours change.
        """
        if draws is None:
            return {"first": rows}
        side = self.pixels.shape[1]
        (top, left), flip = np.tile(draws.corner, (2, 1)).T, np.tile(draws.flip, 2)
        first = (rows * side + top) * side + left + flip * (draws.size - 1)
        walk = {"first": first, "step": np.where(flip, -1, 1)}
        tables = draws.tables()
        return walk if tables is None else walk | {"tables": tables}

    def _cut(self, first: Tensor, step: Tensor | None) -> Tensor:
        """Gather the frames or crops, (2B, S, S, 3) uint8; see `_walk`."""
        if step is None:
            return self.pixels.index_select(0, first)
        columns = first[:, None] + step[:, None] * self._columns  # (2B, S)
        numbers = columns[:, None] + self._lines  # (2B, 1, S) + (S, 1) -> (2B, S, S)
        # (n, L, L, 3) -> (n * L * L, 3) -> (2B * S * S, 3) -> (2B, S, S, 3)
        return self.pixels.view(-1, 3).index_select(0, numbers.view(-1)).view(*numbers.shape, 3)

    def _scaled(self, levels: Tensor) -> Tensor:
        """Scale uint8 levels to float32 in [-1, 1], rounded as `to_float` rounds."""
        return levels.float().div_(self._half).sub_(1)

    def _recoloured(self, frames: Tensor, tables: Tensor) -> Tensor:
        """Apply each pair's lookup table (B, 256) to the uint8 frames; (2B, S, S, 3) float32 in [-1, 1]."""
        places = frames + self._tables  # (2B, S, S, 3) int32, indices into all tables
        return self._scaled(tables).view(-1).index_select(0, places.view(-1)).view(places.shape)


def obstacle(pairs: PairLoader) -> str | None:
    """Return why a loader's frames cannot be held on the device in one size, or None if they can."""
    if isinstance(pairs, WindowLoader) and pairs.pair_sampler.windows > 1:
        return "they are streamed in windows"
    if isinstance(pairs.augmentation, PairPipeline):
        return "albumentations transforms frames on the CPU (dataset.augmentation)"
    length, size = pairs.frames.images.shape[1], pairs.image_size
    if not isinstance(pairs.augmentation, PairAugmentation) or (cut := pairs.augmentation.side(length)) == size:
        return None
    return (
        f"the augmentation gives {cut} px, which are then resized to {size} px; expected frames packed at a size that "
        "needs no resizing afterwards (dataset.augmentation=none resizes before the upload)"
    )


def resident_side(pairs: PairLoader) -> int:
    """Return the side in pixels of the frames on the device: as packed, or resized if nothing is cropped."""
    return pairs.image_size if pairs.augmentation is None else pairs.frames.images.shape[1]


def resident_bytes(pairs: PairLoader) -> int:
    """Return the bytes of a loader's frames on a device."""
    return len(pairs.frames) * resident_side(pairs) ** 2 * 3


def upload(frames: FrameSet, side: int, device: torch.device) -> Tensor:
    """Copy all frames of a split to `device`, (n, side, side, 3) uint8, resized as `resize_batch` does."""
    pixels = torch.empty((len(frames), side, side, 3), dtype=torch.uint8, device=device)
    for start in range(0, len(frames), _PIECE):
        rows = np.arange(start, min(start + _PIECE, len(frames)))
        pixels[start : start + len(rows)] = torch.from_numpy(resize_batch(frames.pixels(rows), side))
    return pixels


def gigabytes(count: int) -> str:
    """Format bytes as GB (10^9), or as MB below 0.1 GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


#: Share of a device's free memory that frames may take with `auto`; the rest is for the networks.
_SHARE = 0.5


class Feed(NamedTuple):
    """The loader to train from, and the terminal line about where its frames are; None prints nothing."""

    loader: PairLoader
    line: str | None


def placed(pairs: PairLoader, wanted: str, device: torch.device) -> Feed:
    """Return `pairs`, or a loader that makes the same batches on `device`, depending on the free memory.

    Args:
        pairs: the loader.
        wanted: `trainer.data_on_device`: auto, true or false.
        device: the training device.

    Raises:
        UserError: `wanted` is true and the frames do not fit or cannot be held there.
    """
    if wanted == "false" or (wanted == "auto" and device.type != "cuda"):
        return Feed(pairs, None)
    if reason := reason_against(pairs, wanted, device, free_bytes(device)):
        if wanted == "true":
            raise UserError(f"trainer.data_on_device=true: {reason}. Use trainer.data_on_device=false or auto")
        return Feed(pairs, f"data       read from the pack: {reason}")
    return Feed(ResidentPairs(pairs, device), f"data       on {device}, {gigabytes(resident_bytes(pairs))}")


def reason_against(pairs: PairLoader, wanted: str, device: torch.device, free: int | None) -> str | None:
    """Return why the frames are not held on `device`, or None if they are.

    Args:
        pairs: the loader.
        wanted: `auto` uses up to half of the free memory, `true` all of it.
        device: the training device.
        free: free bytes of the device; None if unknown, which only `true` allows: the frames are then taken to fit.
    """
    if reason := obstacle(pairs):
        return reason
    needed = resident_bytes(pairs)
    if free is None or needed <= free * (1 if wanted == "true" else _SHARE):
        return None
    least = "" if wanted == "true" else "; auto uses at most half of it"
    return f"the training frames take {gigabytes(needed)}, {device} has {gigabytes(free)} free{least}"


def free_bytes(device: torch.device) -> int | None:
    """Return the available bytes of a device's memory, or None if the system does not report them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
