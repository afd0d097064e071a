"""One split of a data set as arrays, with its annotations; conversion between stored pixels and tensors."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.jit import in_a_thread, kept

if TYPE_CHECKING:
    import pandas as pd


#: Bytes of a batch from which the compiled loop is worth its half second of loading.
_WORTH_COMPILING = 1 << 20


#: Bytes of a memory-mapped pack that may count as this process's memory.
_HELD_BYTES = 384 << 20


#: Frames read between two looks at how much that is; the system may map two MiB for each.
_SLICE = 64


class Images(Protocol):
    """(N, L, L, 3) uint8 RGB, indexed by an int64 array of rows: an array, or frames fetched when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, L, L, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames of one split; all arrays but `images` are aligned by row of the split.

    Attributes:
        images: (N, L, L, 3) uint8 RGB, usually a memory-mapped pack shared by all splits; or a streamed one.
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

    images: Images
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
        rows = self.rows[index]
        if not isinstance(self.images, np.ndarray):
            return self.images[rows]
        copied = np.empty((len(rows), *self.images.shape[1:]), self.images.dtype)
        images = self.images.view(np.ndarray)  # without the bookkeeping of np.memmap
        for part in self._pages.slices(len(rows)):
            copied[part] = images[rows[part]]
        return copied

    def floats(self, index: np.ndarray, size: int) -> Tensor:
        """(B, 3, size, size) float32 in [-1, 1] of the frames at `index`, resized as a whole where L != size."""
        if (
            not isinstance(self.images, np.ndarray)
            or self.images.shape[1] != size
            or not _worth_compiling(self.images, len(index))
        ):
            return to_float(resize_batch(self.pixels(index), size))
        rows = self.rows[index]
        return _gather_floats(self.images, rows, self._pages.slices(len(rows)))

    @cached_property
    def _pages(self) -> _Pages:
        return _Pages(self.images)


class _Pages:
    """Lets go of a large memory map's pages now and then, or all that was ever drawn would count as this process's.

    The bytes stay in the system's own cache, from where they are mapped again in no time.
    """

    def __init__(self, images: Images) -> None:
        self._images: np.memmap | None = None
        if isinstance(images, np.memmap) and isinstance(images.base, mmap.mmap) and images.mode == "r":
            self._images = images if images.nbytes > _HELD_BYTES and hasattr(mmap, "MADV_DONTNEED") else None
        self._before = 0 if self._images is None else _mapped_bytes()

    def slices(self, count: int) -> Iterator[slice]:
        """0..count in slices; before each, pages are let go of if too many are held."""
        for start in range(0, count, _SLICE):
            if self._images is not None and _mapped_bytes() > self._before + _HELD_BYTES:
                self._images.base.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]
                self._before = _mapped_bytes()
            yield slice(start, min(start + _SLICE, count))


def _mapped_bytes() -> int:
    """Bytes of files, libraries and packs alike, in this process's memory; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:  # noqa: PTH123 (a few microseconds a batch)
            return int(statm.read(200).split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0


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
    if isinstance(images, np.ndarray):
        images = np.ascontiguousarray(images)
        if _worth_compiling(images, len(images)):
            return _gather_floats(images, np.arange(len(images)), [slice(None)])
        images = torch.from_numpy(images)
    return images.float().div_(127.5).sub_(1).permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)


def _worth_compiling(images: np.ndarray, count: int) -> bool:
    """Whether `_gather_floats` can take `images` (N, H, W, 3), and `count` of them make a large batch.

    Loading the loop takes half a second; it begins with the first large batch, which, as those after it until the loop
    is there, torch's operations convert to the same bits.
    """
    suits = images.flags.c_contiguous and images.dtype == np.uint8 and count * images[:1].size >= _WORTH_COMPILING
    return suits and _loading_loop().done()


@functools.cache
def _loading_loop() -> Future[Callable[[np.ndarray, np.ndarray, np.ndarray], None]]:
    """The loop, in time."""
    return in_a_thread(_gather_loop)


def _gather_floats(images: np.ndarray, rows: np.ndarray, slices: Iterable[slice]) -> Tensor:
    """(B, 3, H, W) float32 of the `rows` (B,) of `images` (N, H, W, 3), bit for bit as torch would give them."""
    if rows.min() < 0 or rows.max() >= len(images):
        raise IndexError(f"rows {rows.min()}..{rows.max()} of {len(images)} frames")  # the loop does not look
    floats = torch.empty((len(rows), *images.shape[1:]))
    loop = _gather_loop()
    flat = images.view(np.ndarray).reshape(len(images), -1)  # (N, H * W * 3)
    flat_floats = floats.numpy().reshape(len(rows), -1)  # (B, H * W * 3)
    for part in slices:
        loop(flat, rows[part].astype(np.int64), flat_floats[part])
    return floats.permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)


@functools.cache
def _gather_loop() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """The loop over frames and bytes, compiled; a tenth of the time of one torch operation after the other."""
    import numba

    high = np.float32(514 / 65536)
    low = np.float32(1 / 127.5 - 514 / 65536)

    def gather(images: np.ndarray, rows: np.ndarray, floats: np.ndarray) -> None:
        for k in range(rows.size):
            image, target = images[rows[k]], floats[k]
            for j in range(image.size):
                # The quotient by 127.5 as torch rounds it, without a division: the first product is exact.
                value = np.float32(image[j])
                target[j] = (value * high + value * low) - np.float32(1)

    read_only = numba.types.Array(numba.uint8, 2, "C", readonly=True)  # takes writable arrays, too
    signature = (read_only, numba.int64[::1], numba.float32[:, ::1])
    return kept(numba.njit, gather, signature, nogil=True)


def to_uint8(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) float in [-1, 1] to (B, H, W, 3) uint8; values outside are clamped, the rest rounded."""
    scaled = images.detach().float().add(1).mul(127.5).round().clamp_(0, 255)
    return scaled.permute(0, 2, 3, 1).to("cpu", torch.uint8).contiguous().numpy()  # (B, 3, H, W) -> (B, H, W, 3)


#: The square of the stored picture that a pack shows, pixels; without these columns it is the central one.
CROP_COLUMNS = ("crop_left", "crop_top", "crop_side")


#: What `dataset.require` may name, and the columns it stands for.
_KNOWLEDGE = {"intensity": ("intensity",), "aus": AU_COLUMNS, "landmarks": LANDMARK_COLUMNS}


def keep_known(table: FrameTable, require: Sequence[str]) -> tuple[FrameTable, np.ndarray]:
    """`table` without the frames that lack something of `require`, which become drops; and the (n,) rows kept.

    Raises:
        UserError: no frame has what is required.
    """
    kept = np.ones(len(table), bool)
    drops: list[Drop] = []
    for name in require:
        columns = _KNOWLEDGE[name]
        known = np.zeros(len(table), bool)
        if set(columns) <= set(table.frame.columns):
            known = table.frame[list(columns)].notna().all(axis=1).to_numpy()
        reason = f"{name} not known, which dataset.require asks for"
        drops += [Drop(path, reason) for path in table.frame["path"][kept & ~known]]
        kept &= known
    if not kept.any():
        raise UserError(
            f"dataset.require={list(require)}: no frame has all of it; give it with dataset.annotations=FILE.csv, or "
            "find landmarks with `python -m fexgan_lit.prepare ... dataset.detector=mediapipe`."
        )
    rows = np.flatnonzero(kept)
    return (table.select(rows, drops), rows) if drops else (table, rows)


def guides(table: FrameTable) -> dict[str, np.ndarray | None]:
    """The optional arrays of a `FrameSet`, a row a frame of `table`.

    Returns:
        aus (N, 17) in [0, 1], landmarks (N, 68, 2) in -1..1 of the packed square, take and moment (N,) int64, time_s
        (N,) float32; None for what the data set does not know of every frame.
    """
    frame = table.frame
    points = _columns(frame, LANDMARK_COLUMNS)
    return {
        "aus": _columns(frame, AU_COLUMNS),
        "landmarks": None if points is None else in_square(points.reshape(-1, 68, 2), squares(frame)),  # (N, 68, 2)
        "take": take_numbers(frame),
        "moment": _groups(frame, ("identity", "take", "frame")) if table.shared_takes else None,
        "time_s": _column(frame, "time_s"),
    }


def take_numbers(frame: pd.DataFrame) -> np.ndarray | None:
    """(N,) int64, equal for the frames of one take; None where takes are not known of all."""
    # where a filmed clip runs from neutral to its affect, its neutral frames belong to it
    return _groups(frame, ("identity", "clip") if "clip" in frame else ("identity", "affect", "take"))


def squares(frame: pd.DataFrame) -> np.ndarray:
    """(N, 3) float32: left, top and side of the square each packed frame shows, in pixels of the stored picture."""
    if set(CROP_COLUMNS) <= set(frame.columns):
        return frame[list(CROP_COLUMNS)].to_numpy(np.float32)
    height, width = (frame[name].to_numpy() for name in ("height", "width"))
    side = np.minimum(height, width)
    return np.stack([(width - side) // 2, (height - side) // 2, side], axis=1).astype(np.float32)


def in_square(points: np.ndarray, square: np.ndarray) -> np.ndarray:
    """(N, 68, 2) pixels to -1..1 from edge to edge of the squares (N, 3)."""
    relative = (points - square[:, None, :2]) / square[:, None, 2:]
    return np.ascontiguousarray(2 * relative - 1, np.float32)


def _columns(frame: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray | None:
    """(N, len(names)) float32, or None unless every frame has them all."""
    if not set(names) <= set(frame.columns):
        return None
    values = frame[list(names)].to_numpy(np.float32)
    return None if np.isnan(values).any() else values


def _column(frame: pd.DataFrame, name: str) -> np.ndarray | None:
    values = _columns(frame, (name,))
    return None if values is None else values[:, 0]


def _groups(frame: pd.DataFrame, names: tuple[str, ...]) -> Any:
    """(N,) int64 numbers of the groups with equal entries in `names`, or None if one is not known throughout."""
    if not set(names) <= set(frame.columns) or frame[list(names)].isna().any(axis=None):
        return None
    return frame.groupby(list(names), sort=True).ngroup().to_numpy(np.int64)
