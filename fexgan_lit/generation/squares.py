"""From the landmarks of a face to an upright square cut as a run's frames were, and back into the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from fexgan_lit.data.faces.crops import face_squares
from fexgan_lit.data.sources import fit_square

#: Points at the outer corners of the eyes; the line between them is level in an upright face.
_EYE_CORNERS = [36, 45]
#: Side in pixels beyond which a face is reduced before it is cut: no run paints as large.
_LARGEST = 2048
#: Of the mask, in sides of the square around the face without margin: how far it reaches over the brows and under the
#: jaw, which an open mouth lowers, and how soft it is.
_FOREHEAD, _CHIN, _SOFT = 0.22, 0.14, 0.05
#: Rows of `points` that are brows, and the ends of the jaw left out below.
_BROWS, _JAW = slice(17, 27), slice(3, 14)
#: Levels of 255 by which the colour of a face may be moved to meet that of the picture.
_MOST_SHIFT = 30.0


class Framing(NamedTuple):
    """How frames lie around faces: their centre from that of the face's square, and their side, in its sides."""

    right: float
    down: float
    side: float


def framing_of(points: np.ndarray, side: float) -> Framing:
    """How pictures of `side` lie around the faces in them; the median over faces.

    Args:
        points: (N, 68, 2) landmarks, the picture reaching from -side / 2 to side / 2.
        side: of the pictures, in the unit of the points.
    """
    squares = face_squares(points, 0.0)  # (N, 3): left, top, side
    centres = squares[:, :2] + squares[:, 2:] / 2
    relative = np.column_stack([-centres, np.full(len(points), side)]) / squares[:, 2:]
    return Framing(*np.nanmedian(relative, axis=0).tolist())


@dataclass(frozen=True, eq=False)
class Square:
    """An upright or turned square of a picture.

    Attributes:
        to_square: (2, 3), pixels of the picture to the unit square.
        side: in pixels of the picture.
        points: (68, 2) landmarks in the unit square.
        face: side of the square around the face alone, in the unit square.
    """

    to_square: np.ndarray
    side: float
    points: np.ndarray
    face: float

    @classmethod
    def around(cls, points: np.ndarray, framing: Framing) -> Square:
        """The square around a face with landmarks (68, 2) in pixels, turned so that its eyes are level."""
        left, right = points[_EYE_CORNERS]
        angle = float(np.arctan2(*(right - left)[::-1]))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        level = points @ turn.T
        x, y, side = face_squares(level[None], 0.0)[0]
        centre = np.array([x + side / 2 + framing.right * side, y + side / 2 + framing.down * side])
        length = framing.side * side
        corner = centre - length / 2
        return cls(np.column_stack([turn / length, -corner / length]), length, (level - corner) / length, side / length)

    @property
    def _pixels(self) -> int:
        return max(1, min(_LARGEST, round(self.side)))

    def cut(self, picture: np.ndarray, size: int) -> np.ndarray:
        """(H, W, 3) uint8 to (size, size, 3); beyond the picture its edge is repeated."""
        shape, border = (self._pixels, self._pixels), cv2.BORDER_REPLICATE
        cut = cv2.warpAffine(picture, self._matrix(), shape, flags=cv2.INTER_CUBIC, borderMode=border)
        return fit_square(cut, size)

    def _matrix(self) -> np.ndarray:
        """(2, 3) from pixels of the picture to pixels of the square, both counted from the centre of the first."""
        matrix = self.to_square * self._pixels
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        return matrix

    def put_back(self, picture: np.ndarray, face: np.ndarray) -> None:
        """Lay the square `face` (S, S, 3) uint8 over the face in `picture` (H, W, 3), in place, with a soft edge."""
        left, top, right, bottom = self._box(picture.shape[1], picture.shape[0])
        if right <= left or bottom <= top:
            return
        size = self._pixels
        how = cv2.INTER_CUBIC if size > len(face) else cv2.INTER_AREA
        new, mask = cv2.resize(face, (size, size), interpolation=how), self.mask(size)
        # from pixels of the square to pixels of the box
        matrix = cv2.invertAffineTransform(self._matrix()) - np.array([[0, 0, left], [0, 0, top]])
        shape = (right - left, bottom - top)
        new = cv2.warpAffine(new, matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(mask, matrix, shape, flags=cv2.INTER_LINEAR)[..., None]
        old = picture[top:bottom, left:right].astype(np.float32)
        mixed = old + mask * (new + colour_shift(old, new, mask) - old)
        picture[top:bottom, left:right] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the upright box around the square, inside the picture."""
        corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]], float)
        there = corners @ cv2.invertAffineTransform(self.to_square).T
        low, high = np.floor(there.min(0)).astype(int), np.ceil(there.max(0)).astype(int)
        return max(0, low[0]), max(0, low[1]), min(width, high[0]), min(height, high[1])

    def mask(self, size: int) -> np.ndarray:
        """(size, size) float32 in 0..1: 1 on the face from forehead to chin, falling softly to 0 at the edge."""
        forehead = self.points[_BROWS] - [0, _FOREHEAD * self.face]
        chin = self.points[_JAW] + [0, _CHIN * self.face]
        outline = cv2.convexHull(np.concatenate([self.points, forehead, chin]).astype(np.float32) * size)
        filled = np.zeros((size, size), np.float32)
        cv2.fillConvexPoly(filled, np.rint(outline).astype(np.int32), 1.0)
        soft = _SOFT * self.face * size
        edge = max(1, round(2 * soft))
        filled[:edge], filled[-edge:], filled[:, :edge], filled[:, -edge:] = 0, 0, 0, 0
        return cv2.GaussianBlur(filled, (0, 0), max(soft, 0.5))


def colour_shift(old: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(3,) levels to add to `new` (H, W, 3) so that it meets `old` where the soft `mask` (H, W, 1) changes over."""
    rim = mask * (1 - mask)
    total = float(rim.sum())
    if total == 0:
        return np.zeros(3, np.float32)
    return np.clip(((old - new) * rim).sum((0, 1)) / total, -_MOST_SHIFT, _MOST_SHIFT).astype(np.float32)
