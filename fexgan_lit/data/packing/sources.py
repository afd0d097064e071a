"""Sources of pixels (files, rendered characters), the crop of frames, and the key that identifies a pack."""

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


#: Most frames of a character that are rendered by one worker.
_FEW_FRAMES = 64


def crop_to_faces(table: FrameTable, margin: float) -> FrameTable:
    """Add the square around each face to `table`, in whole pixels, as the columns `CROP_COLUMNS`.

    All frames of a take have the same square, so that the camera is fixed while the head moves. Frames without
    landmarks become drops, unless another frame of their take has landmarks.

    Raises:
        UserError: no frame has landmarks.
    """
    if not set(LANDMARK_COLUMNS) <= set(table.frame) or table.frame["x00"].isna().all():
        raise UserError(
            "dataset.crop=face: this data set has no landmarks, which the crop needs; detect them first with "
            "`python -m fexgan_lit.prepare ... dataset.detector=mediapipe`, or give dataset.annotations=FILE.csv with "
            "the columns x00,y00..x67,y67, or use dataset.crop=centre."
        )
    points = table.frame[list(LANDMARK_COLUMNS)].to_numpy(np.float64).reshape(-1, 68, 2)  # (N, 136) -> (N, 68, 2)
    squares = np.rint(face_squares(points, margin, take_numbers(table.frame)))
    lost = np.isnan(squares).any(axis=1)
    drops = [Drop(path, "no landmarks to crop the face") for path in table.frame["path"][lost]]
    kept = table.select(np.flatnonzero(~lost), drops)
    named = dict(zip(CROP_COLUMNS, squares[~lost].T, strict=True))
    return replace(kept, frame=kept.frame.assign(**named))


class FrameSource(Protocol):
    """The protocol of sources that read frames by row, from several workers at once."""

    @property
    def holds_interpreter(self) -> bool:
        """Whether reading holds the interpreter lock, so that processes run in parallel but threads do not."""

    @property
    def together(self) -> int:
        """Number of consecutive rows that one worker reads faster than two workers, such as those of one person."""

    def read(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the frame (L, L, 3) uint8 RGB and its original (height, width); raise FrameError with a reason."""

    def fingerprint(self) -> Iterable[bytes]:
        """Yield bytes that change whenever the pixels of a row would change."""


@dataclass(frozen=True, eq=False)
class FileSource:
    """Image files below `root`, cropped to a square and resized to `size` pixels.

    Attributes:
        root: the folder that paths are relative to.
        paths: one file per row.
        size: side of the frames in pixels.
        boxes: (n, 3) float, the left, top and side of the square in pixels of the upright original image, rounded to
            whole pixels. Outside of the image its edge is repeated. None, or NaN in a row, means the central square.
    """

    root: Path
    paths: list[str]
    size: int
    boxes: np.ndarray | None = None
    holds_interpreter: bool = False
    together: int = 1

    def read(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        """As `FrameSource`."""
        image = read_frame(f"{self.root}/{self.paths[row]}")
        if self.boxes is None or np.isnan(self.boxes[row]).any():
            square = fit_square(image, self.size)
        else:
            square = fit_square(cut_square(image, self.boxes[row]), self.size)
        return square, (image.shape[0], image.shape[1])

    def fingerprint(self) -> Iterable[bytes]:
        """Yield the path, size and time of last change of every file, and the boxes."""
        yield from (_file_print(self.root, path) for path in self.paths)
        if self.boxes is not None:
            yield b"boxes"
            yield np.ascontiguousarray(self.boxes, np.float32).tobytes()


@dataclass(frozen=True)
class StudioSource:
    """Frames rendered by the studio, whose sizes are powers of two; other sizes are resized from the next larger."""

    studio: Studio
    rows: np.ndarray
    size: int
    holds_interpreter: bool = True

    @property
    def together(self) -> int:
        """The number of frames of a character, unless there are so many that two workers may as well share them."""
        person = self.studio.script.person[self.rows]
        count = int((person == person[0]).sum()) if len(person) else 1
        return count if count <= _FEW_FRAMES else 1

    def read(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        """As `FrameSource`."""
        image = self.studio.render(int(self.rows[row]))
        return fit_square(image, self.size), (image.shape[0], image.shape[1])

    def fingerprint(self) -> Iterable[bytes]:
        """Yield the recipe, which determines every pixel, and the rows."""
        yield json.dumps(self.studio.recipe, sort_keys=True).encode()
        yield self.rows.tobytes()


def _file_print(root: Path, path: str) -> bytes:
    try:
        stat = os.stat(f"{root}/{path}")  # noqa: PTH116 (a Path a file would cost seconds)
    except OSError:
        return f"{path}\0gone\n".encode()
    return f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode()


def cut_square(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Crop `image` (H, W, 3) to the square `box` (left, top, side), repeating the edge outside of the image.

    Returns:
        (side, side, 3).

    Raises:
        FrameError: the box does not overlap the image, or its side is more than 4 times that of the image.
    """
    height, width = image.shape[:2]
    left, top, side = np.rint(box).tolist()  # NaN and infinity fail the comparisons below
    if not (0 < side <= 4 * max(height, width) and -side < left < width and -side < top < height):
        named = ", ".join(f"{value:g}" for value in box)
        raise FrameError(f"the box (left, top, side) = ({named}) does not fit an image of {width}x{height} pixels")
    left, top, side = int(left), int(top), int(side)
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return image[top : top + side, left : left + side]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return image[rows[:, None], columns]


def fit_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the central square of `image` (H, W, 3) to (size, size, 3), by area when shrinking, else bicubic."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return square
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def content_key(table: FrameTable, source: FrameSource, settings: dict[str, Any]) -> str:
    """Return the SHA-256 (64 hex digits) of `settings`, every entry of the table, and the fingerprint of `source`."""
    import pandas as pd

    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(json.dumps([table.affects, table.identities, list(table.frame)]).encode())
    digest.update(pd.util.hash_pandas_object(table.frame, index=False).to_numpy().tobytes())
    for piece in source.fingerprint():
        digest.update(piece)
    return digest.hexdigest()
