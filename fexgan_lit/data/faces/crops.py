"""Squares around faces from the 68 landmarks, and landmarks in the pixels of such a square."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: The landmarks end at the brows; this share of their height is added above for the forehead.
FOREHEAD = 0.15


def face_squares(points: NDArray[np.floating], margin: float, groups: ArrayLike | None = None) -> NDArray[np.float64]:
    """Left, top and side of a square around each face, in pixels of the picture; it may reach over its edges.

    Args:
        points: (N, 68, 2) landmarks in pixels; NaN where there is no face.
        margin: left on each side, as a share of the larger extent of the face.
        groups: (N,) labels, for example of takes: rows of one label share one square, the median of theirs, so that
            the camera stays still and the head moves; None gives each row its own.

    Returns:
        (N, 3); NaN for rows without a face, but where others of their group have one.
    """
    points = np.asarray(points, np.float64)
    low, high = points.min(axis=1), points.max(axis=1)  # (N, 2), NaN where any point is
    low[:, 1] -= FOREHEAD * (high[:, 1] - low[:, 1])
    side = (high - low).max(axis=1) * (1 + 2 * margin)
    # centre and side are what a group shares: a median of corners would lie off centre where sides differ
    squares = np.column_stack([(low + high) / 2, side])  # (N, 3): centre x, centre y, side
    if groups is not None:
        squares = _group_medians(squares, np.asarray(groups))
    squares[:, :2] -= squares[:, 2:] / 2
    return squares


def crop_landmarks(
    points: NDArray[np.floating], squares: NDArray[np.floating], size: float | None = None
) -> NDArray[np.float64]:
    """(N, 68, 2) landmarks in pixels of the squares (N, 3), whose sides become `size` pixels where it is given."""
    moved = np.asarray(points, np.float64) - squares[:, None, :2]
    return moved if size is None else moved * (size / squares[:, None, 2:])


def _group_medians(squares: NDArray[np.float64], groups: NDArray) -> NDArray[np.float64]:
    shared = np.full_like(squares, np.nan)
    found = ~np.isnan(squares.sum(axis=1))
    _, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
        if found[rows].any():
            shared[rows] = np.median(squares[rows[found[rows]]], axis=0)
    return shared
