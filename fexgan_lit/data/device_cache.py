"""Training frames kept on the device: whether they fit, how they get there, and batches cut out of them there."""

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
    """`arrays` as tensors on `device`, with their shapes and types; nothing waits for the device.

    A copy costs a GPU about as much time as a kernel, however little it moves. On the CPU the tensors share one block
    of new memory.
    """
    # the widest numbers first, so that every array begins at a multiple of its own numbers' width
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
    """The torch type of the same bytes."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


#: Frames that are read and moved at once, so that the host never holds a second copy of all.
_PIECE = 256


class ResidentPairs(PairLoader):
    """The batches of a `PairLoader`, made on a device that holds the frames as uint8.

    What is small (rows, crops, labels, action units, landmarks) is drawn and gathered on the host by the loader's own
    code and goes over in one copy a batch; pixels are gathered, cropped, mirrored, recoloured and scaled on the
    device. Nothing of it waits for the device. The batches are those of the loader to the bit.

    Args:
        pairs: the loader whose batches these are.
        device: of the frames and of every tensor of a batch.

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
        # where the table of each of 2B frames begins; source and target of a pair have one table
        self._tables = (torch.arange(2 * batch, device=device, dtype=torch.int32) % batch * 256).view(-1, 1, 1, 1)
        # a number on the device: CUDA would multiply by the reciprocal of one on the host, and round otherwise
        self._half = torch.full((), 127.5, device=device)

    def batch(self, epoch: int, batch: int) -> PairBatch:
        """Batch number `batch` of `epoch`, on the device; moves nothing and waits for nothing."""
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
        """How to walk through the pixels of each of the 2B frames, and what each level becomes.

        `first` (2B,) is a row of `pixels` without an augmentation; with one, the number of the crop's first pixel
        among all, from where `step` (2B,), 1 or -1, leads along a line: a mirrored crop is walked from right to left.
        `tables` (B, 256) uint8 are there if colours change.
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
        """(2B, S, S, 3) uint8 frames or crops; see `_walk`."""
        if step is None:
            return self.pixels.index_select(0, first)
        columns = first[:, None] + step[:, None] * self._columns  # (2B, S)
        numbers = columns[:, None] + self._lines  # (2B, 1, S) + (S, 1) -> (2B, S, S)
        # (n, L, L, 3) -> (n * L * L, 3) -> (2B * S * S, 3) -> (2B, S, S, 3)
        return self.pixels.view(-1, 3).index_select(0, numbers.view(-1)).view(*numbers.shape, 3)

    def _scaled(self, levels: Tensor) -> Tensor:
        """uint8 levels as float32 in [-1, 1], rounded as `to_float` does."""
        return levels.float().div_(self._half).sub_(1)

    def _recoloured(self, frames: Tensor, tables: Tensor) -> Tensor:
        """(2B, S, S, 3) float32 in [-1, 1] of the frames in uint8, each level changed by the pair's table (B, 256)."""
        places = frames + self._tables  # (2B, S, S, 3) int32, places in all the tables together
        return self._scaled(tables).view(-1).index_select(0, places.view(-1)).view(places.shape)


def obstacle(pairs: PairLoader) -> str | None:
    """Why the frames of a loader cannot be held, resized once and for all, or None where they can."""
    if isinstance(pairs, WindowLoader) and pairs.pair_sampler.windows > 1:
        return "they are streamed, a window at a time"
    if isinstance(pairs.augmentation, PairPipeline):
        return "albumentations transforms frames on the CPU (dataset.augmentation)"
    length, size = pairs.frames.images.shape[1], pairs.image_size
    if not isinstance(pairs.augmentation, PairAugmentation) or (cut := pairs.augmentation.side(length)) == size:
        return None
    return (
        f"its augmentation gives {cut} px, which are resized to {size} px afterwards; expected frames packed so that "
        "nothing is left to resize (dataset.augmentation=none can be resized beforehand)"
    )


def resident_side(pairs: PairLoader) -> int:
    """Side in pixels of the frames as the device holds them: as packed, or resized where nothing is cropped."""
    return pairs.image_size if pairs.augmentation is None else pairs.frames.images.shape[1]


def resident_bytes(pairs: PairLoader) -> int:
    """Bytes of a loader's frames on a device."""
    return len(pairs.frames) * resident_side(pairs) ** 2 * 3


def upload(frames: FrameSet, side: int, device: torch.device) -> Tensor:
    """(n, side, side, 3) uint8 on `device`: all frames of a split by row, resized as `resize_batch` does."""
    pixels = torch.empty((len(frames), side, side, 3), dtype=torch.uint8, device=device)
    for start in range(0, len(frames), _PIECE):
        rows = np.arange(start, min(start + _PIECE, len(frames)))
        pixels[start : start + len(rows)] = torch.from_numpy(resize_batch(frames.pixels(rows), side))
    return pixels


def gigabytes(count: int) -> str:
    """Bytes in GB, 10^9 of them; small amounts in MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


#: The share of a device's free memory that frames may take unasked; the rest is for the networks.
_SHARE = 0.5


class Feed(NamedTuple):
    """The loader to train from, and what the terminal says of where its frames lie; None: nothing worth a line."""

    loader: PairLoader
    line: str | None


def placed(pairs: PairLoader, wanted: str, device: torch.device) -> Feed:
    """`pairs`, or the same batches made on `device`, as `wanted` (auto, true, false) and the free memory say.

    Raises:
        UserError: `true`, and the frames do not fit or cannot be held there.
    """
    if wanted == "false" or (wanted == "auto" and device.type != "cuda"):
        return Feed(pairs, None)
    if reason := reason_against(pairs, wanted, device, free_bytes(device)):
        if wanted == "true":
            raise UserError(f"trainer.data_on_device=true: {reason}. Give trainer.data_on_device=false or auto")
        return Feed(pairs, f"data       read from the pack: {reason}")
    return Feed(ResidentPairs(pairs, device), f"data       on {device}, {gigabytes(resident_bytes(pairs))}")


def reason_against(pairs: PairLoader, wanted: str, device: torch.device, free: int | None) -> str | None:
    """Why the frames stay where they are, or None.

    Args:
        pairs: the loader.
        wanted: `auto` leaves half of the free memory to the networks; `true` takes what there is.
        device: that would hold them.
        free: its free bytes; None where it does not tell, then only `true` asks, and is believed.
    """
    if reason := obstacle(pairs):
        return reason
    needed = resident_bytes(pairs)
    if free is None or needed <= free * (1 if wanted == "true" else _SHARE):
        return None
    least = "" if wanted == "true" else "; unasked they take half of it at most"
    return f"the training frames take {gigabytes(needed)}, {device} has {gigabytes(free)} free{least}"


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be had of a device's memory, or None where it does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
