"""Squares around faces from 68 landmarks, landmarks in pixels of a square, and the face mesh."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fexgan_lit.expression import SQUARE_BELOW, SQUARE_SIDE

#: Minimum jaw width in distances from eyes to nose, for turned heads, whose jaw is partly hidden.
TURNED = 2.4


def face_squares(points: NDArray[np.floating], margin: float, groups: ArrayLike | None = None) -> NDArray[np.float64]:
    """Compute a square around each face, in pixels of the image; it may extend beyond the image.

    It depends on points that expressions do not move (ends of the jaw, corners of the eyes): in a square around all
    landmarks an open mouth would make the face smaller, which reveals the affect.

    Args:
        points: (N, 68, 2) landmarks in pixels; NaN if there is no face.
        margin: margin on each side, as a share of the side without it.
        groups: (N,) labels, for example of takes: rows of one label share the median of their squares, so that the
            head moves within a fixed crop; None gives each row its own square.

    Returns:
        Left, top and side, (N, 3); NaN for rows without a face, unless others of their group have one.
    """
    points = np.asarray(points, np.float64)
    eyes = points[:, [36, 39, 42, 45]].mean(axis=1)  # (N, 2)
    jaw = points[:, 16] - points[:, 0]
    width = np.maximum(np.hypot(*jaw.T), TURNED * np.hypot(*(points[:, 33] - eyes).T))  # (N,)
    # the median is over centres and sides: a median of corners would be off centre if the sides differ
    centre_x = (points[:, 0, 0] + points[:, 16, 0]) / 2
    squares = np.column_stack(
        [centre_x, eyes[:, 1] + SQUARE_BELOW * width, SQUARE_SIDE * width * (1 + 2 * margin)]
    )  # (N, 3)
    if groups is not None:
        squares = _group_medians(squares, np.asarray(groups))
    squares[:, :2] -= squares[:, 2:] / 2
    return squares


def _group_medians(squares: NDArray[np.float64], groups: NDArray) -> NDArray[np.float64]:
    shared = np.full_like(squares, np.nan)
    found = ~np.isnan(squares.sum(axis=1))
    _, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
        if found[rows].any():
            shared[rows] = np.median(squares[rows[found[rows]]], axis=0)
    return shared


class Framing(NamedTuple):
    """Position of a frame relative to the face's square, in sides of the square: centre offset and side."""

    right: float
    down: float
    side: float


def framing_of(points: NDArray[np.floating], side: float) -> Framing:
    """Return the median framing of N faces in images of one size.

    Args:
        points: (N, 68, 2) landmarks; the image extends from -side / 2 to side / 2.
        side: side of the images, in the unit of the points.
    """
    squares = face_squares(points, 0.0)  # (N, 3): left, top, side
    centres = squares[:, :2] + squares[:, 2:] / 2
    relative = np.column_stack([-centres, np.full(len(points), side)]) / squares[:, 2:]
    return Framing(*np.nanmedian(relative, axis=0).tolist())


#: Vertex of the face mesh at each of the 68 points, chosen from the vertices of each feature, symmetric for both
#: sides, by distance to the true points of rendered heads; the jaw follows the outline of the face.
MESH_TO_68 = (
    *(127, 234, 93, 132, 172, 150, 149, 148, 152, 377, 378, 379, 397, 361, 323, 454, 356),  # jaw
    *(70, 63, 105, 66, 107),  # brow, left in the image
    *(336, 296, 334, 293, 300),  # brow, right
    *(168, 197, 195, 4),  # bridge of the nose
    *(240, 97, 2, 326, 460),  # nostrils
    *(33, 160, 158, 133, 153, 144),  # eye, left in the image
    *(362, 385, 387, 263, 373, 380),  # eye, right
    *(61, 40, 37, 0, 267, 270, 291, 321, 405, 17, 181, 91),  # outer lips
    *(78, 81, 13, 311, 308, 402, 14, 178),  # inner lips
)


MESH_POINTS = 468


#: The mesh measures from pixel centres, the table from pixel corners.
_HALF_PIXEL = 0.5


_SIDES, _CROWN_CHIN, _EYES = (234, 454), (10, 152), (33, 263)


def landmarks_of_mesh(mesh: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Convert a mesh (468 or more, 3), normalised to the image, to (68, 2) landmarks in pixels."""
    return mesh[list(MESH_TO_68), :2] * (width, height) + _HALF_PIXEL


def is_face(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return (N,) bool: whether landmarks (N, 68, 2) are finite and the outer eye corners lie apart."""
    eyes = np.linalg.norm(points[:, 45] - points[:, 36], axis=1)
    return np.isfinite(points).all(axis=(1, 2)) & (eyes > 0)


def head_pose(mesh: NDArray[np.floating], width: int, height: int) -> tuple[float, float, float]:
    """Estimate yaw, pitch and roll in degrees; right, down and clockwise (in the image) are positive.

    The estimate uses the mesh's depth and is rough: on rendered heads the mean error was 0.8 degrees for yaw, 0.4 for
    roll and 2.3 for pitch (a flat or steep profile reads as pitch, so compare it only within one person).
    """
    points = np.asarray(mesh, np.float64) * (width, height, width)  # depth is in the unit of x
    across, down, eyes = (points[b] - points[a] for a, b in (_SIDES, _CROWN_CHIN, _EYES))
    yaw = np.arctan2(across[2], np.hypot(across[0], across[1]))
    pitch = np.arctan2(down[2], np.hypot(down[0], down[1]))
    yaw, pitch, roll = (float(angle) for angle in np.degrees([yaw, pitch, np.arctan2(eyes[1], eyes[0])]))
    return yaw, pitch, roll
