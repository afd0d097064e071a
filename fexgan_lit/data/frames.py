"""One split of a data set as arrays with annotations; conversion between stored pixels and tensors."""

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


#: Minimum bytes of a batch for which loading the compiled loop (0.5 s) pays.
_WORTH_COMPILING = 1 << 20


#: Maximum bytes of a memory-mapped pack kept in this process's memory.
_HELD_BYTES = 384 << 20


#: Frames read between two checks of that amount; the system may map two MiB for each frame.
_SLICE = 64


class Images(Protocol):
    """(N, L, L, 3) uint8 RGB, indexed by an int64 array of rows: an array, or frames fetched on access."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, L, L, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames of one split; all arrays but `images` are indexed by row of the split.

    Attributes:
        images: (N, L, L, 3) uint8 RGB, usually a memory-mapped pack shared by all splits; or a streamed one.
        rows: (n,) int64, rows of `images` that belong to this split.
        affect: (n,) int64, index into `affects`.
        identity: (n,) int64, index into `identities`.
        intensity: (n,) float32 in 0..1 (NaN if unknown), or None if the data set has none.
        aus: (n, 17) float32 in [0, 1], in the order of `ACTION_UNITS`, or None.
        landmarks: (n, 68, 2) float32, -1..1 from edge to edge of the frame, x then y, or None.
        take: (n,) int64, equal for frames of one take, or None.
        moment: (n,) int64, equal for frames that share character, pose, gaze and light, or None.
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
        """Return a (B, L, L, 3) uint8 copy of the frames at `index` (B,), rows of this split."""
        rows = self.rows[index]
        if not isinstance(self.images, np.ndarray):
            return self.images[rows]
        copied = np.empty((len(rows), *self.images.shape[1:]), self.images.dtype)
        images = self.images.view(np.ndarray)  # without the bookkeeping of np.memmap
        for part in self._pages.slices(len(rows)):
            copied[part] = images[rows[part]]
        return copied

    def floats(self, index: np.ndarray, size: int) -> Tensor:
        """Return the frames at `index` as (B, 3, size, size) float32 in [-1, 1], resized if L != size."""
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
    """Releases pages of a large memory map, since every page read counts as memory of this process.

    The bytes stay in the system's page cache, so reading them again is fast.
    """

    def __init__(self, images: Images) -> None:
        self._images: np.memmap | None = None
        if isinstance(images, np.memmap) and isinstance(images.base, mmap.mmap) and images.mode == "r":
            self._images = images if images.nbytes > _HELD_BYTES and hasattr(mmap, "MADV_DONTNEED") else None
        self._before = 0 if self._images is None else _mapped_bytes()

    def slices(self, count: int) -> Iterator[slice]:
        """Yield slices of 0..count; release pages before a slice if too many are mapped."""
        for start in range(0, count, _SLICE):
            if self._images is not None and _mapped_bytes() > self._before + _HELD_BYTES:
                self._images.base.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]
                self._before = _mapped_bytes()
            yield slice(start, min(start + _SLICE, count))


def _mapped_bytes() -> int:
    """Return the bytes of files (libraries and packs) mapped into this process; 0 if the system does not report it."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:  # noqa: PTH123 (a few microseconds a batch)
            return int(statm.read(200).split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0


def resize_batch(images: np.ndarray, size: int) -> np.ndarray:
    """Resize (B, L, L, 3) uint8 to (B, size, size, 3): area averaging when shrinking, bicubic when growing."""
    length = images.shape[1]
    if length == size:
        return images
    how = cv2.INTER_AREA if size < length else cv2.INTER_CUBIC
    resized = np.empty((len(images), size, size, 3), np.uint8)
    for row, image in enumerate(images):
        cv2.resize(image, (size, size), dst=resized[row], interpolation=how)
    return resized


def to_float(images: np.ndarray | Tensor) -> Tensor:
    """Convert (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [-1, 1], channels-last.

    The bytes are channels-last already; a contiguous copy would cost three times as much.
    """
    if isinstance(images, np.ndarray):
        images = np.ascontiguousarray(images)
        if _worth_compiling(images, len(images)):
            return _gather_floats(images, np.arange(len(images)), [slice(None)])
        images = torch.from_numpy(images)
    return images.float().div_(127.5).sub_(1).permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)


def _worth_compiling(images: np.ndarray, count: int) -> bool:
    """Return whether `_gather_floats` applies to `images` (N, H, W, 3) and `count` of them make a large batch.

    The first large batch starts loading the loop, which takes half a second. Until the loop is loaded, torch converts
    batches, with the same bits.
    """
    suits = images.flags.c_contiguous and images.dtype == np.uint8 and count * images[:1].size >= _WORTH_COMPILING
    return suits and _loading_loop().done()


@functools.cache
def _loading_loop() -> Future[Callable[[np.ndarray, np.ndarray, np.ndarray], None]]:
    """Load the compiled loop in a thread."""
    return in_a_thread(_gather_loop)


def _gather_floats(images: np.ndarray, rows: np.ndarray, slices: Iterable[slice]) -> Tensor:
    """Return `rows` (B,) of `images` (N, H, W, 3) as (B, 3, H, W) float32, with the same bits as torch gives."""
    if rows.min() < 0 or rows.max() >= len(images):
        raise IndexError(f"rows {rows.min()}..{rows.max()} of {len(images)} frames")  # the loop checks no bounds
    floats = torch.empty((len(rows), *images.shape[1:]))
    loop = _gather_loop()
    flat = images.view(np.ndarray).reshape(len(images), -1)  # (N, H * W * 3)
    flat_floats = floats.numpy().reshape(len(rows), -1)  # (B, H * W * 3)
    for part in slices:
        loop(flat, rows[part].astype(np.int64), flat_floats[part])
    return floats.permute(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)


@functools.cache
def _gather_loop() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """Compile the loop over frames and bytes; it takes a tenth of the time of consecutive torch operations."""
    import numba

    high = np.float32(514 / 65536)
    low = np.float32(1 / 127.5 - 514 / 65536)

    def gather(images: np.ndarray, rows: np.ndarray, floats: np.ndarray) -> None:
        for k in range(rows.size):
            image, target = images[rows[k]], floats[k]
            for j in range(image.size):
                # The quotient by 127.5, rounded as torch rounds it, without a division: the first product is exact.
                value = np.float32(image[j])
                target[j] = (value * high + value * low) - np.float32(1)

    read_only = numba.types.Array(numba.uint8, 2, "C", readonly=True)  # also accepts writable arrays
    signature = (read_only, numba.int64[::1], numba.float32[:, ::1])
    return kept(numba.njit, gather, signature, nogil=True)


def to_uint8(images: Tensor) -> np.ndarray:
    """Convert (B, 3, H, W) float in [-1, 1] to (B, H, W, 3) uint8; values are clamped and rounded."""
    scaled = images.detach().float().add(1).mul(127.5).round().clamp_(0, 255)
    return scaled.permute(0, 2, 3, 1).to("cpu", torch.uint8).contiguous().numpy()  # (B, 3, H, W) -> (B, H, W, 3)


#: Columns of the packed square in pixels of the stored image; without them a pack shows the central square.
CROP_COLUMNS = ("crop_left", "crop_top", "crop_side")


#: Values of `dataset.require` and the columns that each needs.
_KNOWLEDGE = {"intensity": ("intensity",), "aus": AU_COLUMNS, "landmarks": LANDMARK_COLUMNS}


def keep_known(table: FrameTable, require: Sequence[str]) -> tuple[FrameTable, np.ndarray]:
    """Remove the frames that lack an annotation in `require`.

    Returns:
        The table, with the removed frames as drops, and the (n,) rows that were kept.

    Raises:
        UserError: no frame has every required annotation.
    """
    kept = np.ones(len(table), bool)
    drops: list[Drop] = []
    for name in require:
        columns = _KNOWLEDGE[name]
        known = np.zeros(len(table), bool)
        if set(columns) <= set(table.frame.columns):
            known = table.frame[list(columns)].notna().all(axis=1).to_numpy()
        reason = f"no {name}, but dataset.require needs it"
        drops += [Drop(path, reason) for path in table.frame["path"][kept & ~known]]
        kept &= known
    if not kept.any():
        raise UserError(
            f"dataset.require={list(require)}: no frame has all of it; expected annotations in "
            "dataset.annotations=FILE.csv, or landmarks found with "
            "`python -m fexgan_lit.prepare ... dataset.detector=mediapipe`."
        )
    rows = np.flatnonzero(kept)
    return (table.select(rows, drops), rows) if drops else (table, rows)


def guides(table: FrameTable) -> dict[str, np.ndarray | None]:
    """Return the optional arrays of a `FrameSet`, one row for each frame of `table`.

    Returns:
        aus (N, 17) in [0, 1], landmarks (N, 68, 2) in -1..1 of the packed square, take and moment (N,) int64, time_s
        (N,) float32; None for an annotation that some frame lacks.
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
    """Return (N,) int64, equal for the frames of one take, or None if the take of some frame is unknown."""
    # a filmed clip runs from neutral to its affect, so its neutral frames belong to the same take
    return _groups(frame, ("identity", "clip") if "clip" in frame else ("identity", "affect", "take"))


def squares(frame: pd.DataFrame) -> np.ndarray:
    """Return (N, 3) float32: left, top and side of each frame's packed square, in pixels of the stored image."""
    if set(CROP_COLUMNS) <= set(frame.columns):
        return frame[list(CROP_COLUMNS)].to_numpy(np.float32)
    height, width = (frame[name].to_numpy() for name in ("height", "width"))
    side = np.minimum(height, width)
    return np.stack([(width - side) // 2, (height - side) // 2, side], axis=1).astype(np.float32)


def in_square(points: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Convert points (N, 68, 2) in pixels to -1..1 from edge to edge of the squares (N, 3)."""
    relative = (points - square[:, None, :2]) / square[:, None, 2:]
    return np.ascontiguousarray(2 * relative - 1, np.float32)


def _columns(frame: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray | None:
    """Return the columns as (N, len(names)) float32, or None unless every frame has all of them."""
    if not set(names) <= set(frame.columns):
        return None
    values = frame[list(names)].to_numpy(np.float32)
    return None if np.isnan(values).any() else values


def _column(frame: pd.DataFrame, name: str) -> np.ndarray | None:
    values = _columns(frame, (name,))
    return None if values is None else values[:, 0]


def _groups(frame: pd.DataFrame, names: tuple[str, ...]) -> Any:
    """Number the groups of equal `names`, (N,) int64; None if a value is missing."""
    if not set(names) <= set(frame.columns) or frame[list(names)].isna().any(axis=None):
        return None
    return frame.groupby(list(names), sort=True).ngroup().to_numpy(np.int64)
