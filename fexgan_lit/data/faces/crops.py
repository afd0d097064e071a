"""Squares around faces from the 68 landmarks, and landmarks in the pixels of such a square."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Side of the square in widths of the jaw from ear to ear, and how far its centre lies below the corners of the eyes:
#: with no margin it reaches from the middle of the forehead to the chin.
SIDE, BELOW = 1.2, 0.24
#: Widths of the jaw in a distance from eyes to nose, at most; more of a turned head than its jaw is seen.
TURNED = 2.4


def face_squares(points: NDArray[np.floating], margin: float, groups: ArrayLike | None = None) -> NDArray[np.float64]:
    """Left, top and side of a square around each face, in pixels of the picture; it may reach over its edges.

    It is measured on points that expressions leave in place (ends of the jaw, corners of the eyes): around the extent
    of all landmarks, an open mouth would make the face smaller and so give the affect away.

    Args:
        points: (N, 68, 2) landmarks in pixels; NaN where there is no face.
        margin: left on each side, as a share of the side without it.
        groups: (N,) labels, for example of takes: rows of one label share one square, the median of theirs, so that
            the camera stays still and the head moves; None gives each row its own.

    Returns:
        (N, 3); NaN for rows without a face, but where others of their group have one.
    """
    points = np.asarray(points, np.float64)
    eyes = points[:, [36, 39, 42, 45]].mean(axis=1)  # (N, 2)
    jaw = points[:, 16] - points[:, 0]
    width = np.maximum(np.hypot(*jaw.T), TURNED * np.hypot(*(points[:, 33] - eyes).T))  # (N,)
    # centre and side are what a group shares: a median of corners would lie off centre where sides differ
    centre_x = (points[:, 0, 0] + points[:, 16, 0]) / 2
    squares = np.column_stack([centre_x, eyes[:, 1] + BELOW * width, SIDE * width * (1 + 2 * margin)])  # (N, 3)
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
