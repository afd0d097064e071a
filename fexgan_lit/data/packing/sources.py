"""Where the pixels of a frame come from (a file, a synthetic character), its crop, and what identifies it in a pack."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from fexgan_lit.data.faces.geometry import face_squares
from fexgan_lit.data.frames import CROP_COLUMNS, take_numbers
from fexgan_lit.data.images import FrameError, read_frame
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import LANDMARK_COLUMNS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.synthetic.base import Studio


def crop_to_faces(table: FrameTable, margin: float) -> FrameTable:
    """`table` with the square around each face in the columns `CROP_COLUMNS`, whole pixels.

    Frames of one take share a square, so that the camera stands still while the head moves. Frames without landmarks
    and without a take that has some become drops.

    Raises:
        UserError: no frame has landmarks.
    """
    if not set(LANDMARK_COLUMNS) <= set(table.frame) or table.frame["x00"].isna().all():
        raise UserError(
            "dataset.crop=face: this data set has no landmarks to find the faces by; find them first with "
            "`python -m fexgan_lit.prepare ... dataset.detector=mediapipe`, or give dataset.annotations=FILE.csv with "
            "the columns x00,y00..x67,y67, or use dataset.crop=centre."
        )
    points = table.frame[list(LANDMARK_COLUMNS)].to_numpy(np.float64).reshape(-1, 68, 2)  # (N, 136) -> (N, 68, 2)
    squares = np.rint(face_squares(points, margin, take_numbers(table.frame)))
    lost = np.isnan(squares).any(axis=1)
    drops = [Drop(path, "no landmarks to find the face by") for path in table.frame["path"][lost]]
    kept = table.select(np.flatnonzero(~lost), drops)
    named = dict(zip(CROP_COLUMNS, squares[~lost].T, strict=True))
    return replace(kept, frame=kept.frame.assign(**named))


class FrameSource(Protocol):
    """Reads frames by row, from several workers at once."""

    @property
    def holds_interpreter(self) -> bool:
        """Whether reading is Python work, so that only processes run side by side and threads do not."""

    def read(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        """(L, L, 3) uint8 RGB and the (height, width) it had; raises FrameError with a reason."""

    def fingerprint(self) -> Iterable[bytes]:
        """Bytes that change whenever the pixels of a row would."""


@dataclass(frozen=True, eq=False)
class FileSource:
    """Image files below `root`, cropped to a square and resized to `size` pixels.

    Attributes:
        root: folder the paths start from.
        paths: a file a row.
        size: of the frames, pixels.
        boxes: (n, 3) float, the left, top and side of the square in pixels of the stored picture, upright; whole
            pixels are taken, and beyond the picture its edge is repeated. None, or NaN in a row: the central square.
    """

    root: Path
    paths: list[str]
    size: int
    boxes: np.ndarray | None = None
    holds_interpreter: bool = False

    def read(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        """As `FrameSource`."""
        image = read_frame(f"{self.root}/{self.paths[row]}")
        if self.boxes is None or np.isnan(self.boxes[row]).any():
            square = fit_square(image, self.size)
        else:
            square = fit_square(cut_square(image, self.boxes[row]), self.size)
        return square, (image.shape[0], image.shape[1])

    def fingerprint(self) -> Iterable[bytes]:
        """Path, size and time of last change of every file; the boxes."""
        yield from (_file_print(self.root, path) for path in self.paths)
        if self.boxes is not None:
            yield b"boxes"
            yield np.ascontiguousarray(self.boxes, np.float32).tobytes()


@dataclass(frozen=True)
class StudioSource:
    """Frames drawn by the studio, which draws in powers of two; other sizes are resized from the next one."""

    studio: Studio
    rows: np.ndarray
    size: int
    holds_interpreter: bool = True

    def read(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        """As `FrameSource`."""
        image = self.studio.render(int(self.rows[row]))
        return fit_square(image, self.size), (image.shape[0], image.shape[1])

    def fingerprint(self) -> Iterable[bytes]:
        """The recipe, which decides every pixel."""
        yield json.dumps(self.studio.recipe, sort_keys=True).encode()
        yield self.rows.tobytes()


def _file_print(root: Path, path: str) -> bytes:
    try:
        stat = os.stat(f"{root}/{path}")  # noqa: PTH116 (a Path a file would cost seconds)
    except OSError:
        return f"{path}\0gone\n".encode()
    return f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode()


def cut_square(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(H, W, 3) to (side, side, 3): the square `box` (left, top, side), with the edge repeated outside of `image`.

    Raises:
        FrameError: the box misses the picture, or is so large that hardly anything of the picture would be seen.
    """
    height, width = image.shape[:2]
    left, top, side = np.rint(box).tolist()  # a comparison with NaN or infinity below does not hold
    if not (0 < side <= 4 * max(height, width) and -side < left < width and -side < top < height):
        named = ", ".join(f"{value:g}" for value in box)
        raise FrameError(f"the box (left, top, side) = ({named}) does not fit a picture of {width}x{height} pixels")
    left, top, side = int(left), int(top), int(side)
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return image[top : top + side, left : left + side]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return image[rows[:, None], columns]


def fit_square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) to (size, size, 3): the central square, area-averaged when shrinking, bicubic when growing."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return square
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def content_key(table: FrameTable, source: FrameSource, settings: dict[str, Any]) -> str:
    """64 hex digits over `settings`, every entry of the table, and the fingerprint of `source`."""
    import pandas as pd

    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(json.dumps([table.affects, table.identities, list(table.frame)]).encode())
    digest.update(pd.util.hash_pandas_object(table.frame, index=False).to_numpy().tobytes())
    for piece in source.fingerprint():
        digest.update(piece)
    return digest.hexdigest()
