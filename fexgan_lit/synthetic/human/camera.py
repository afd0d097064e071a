"""The camera: a long lens in front of the face, the same for all people."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Distance from the neck's axis in cm, large enough to keep noses in proportion.
DISTANCE = 110.0
#: Width and height of the view at the depth of the face, cm.
FIELD = 32.0
#: Height of the centre of the image, cm, and depth at which FIELD holds.
CENTRE, FACE_DEPTH = 2.1, 8.0


def project(
    points: NDArray[np.float32], size: int, framing: tuple[float, float, float] = (1.0, 0.0, 0.0)
) -> NDArray[np.float32]:
    """Project points (N, 3) in cm to x, y in pixels of an image of `size`, y down, and the distance in cm: (N, 3).

    The picture is magnified and shifted by `FaceState.framing`.
    """
    zoom, right, down = framing
    away = np.float32(DISTANCE) - points[:, 2]
    scale = np.float32(size * zoom / FIELD * (DISTANCE - FACE_DEPTH)) / away
    out = np.empty(points.shape, np.float32)
    out[:, 0] = np.float32(size * (0.5 + right)) + points[:, 0] * scale
    out[:, 1] = np.float32(size * (0.5 + down)) - (points[:, 1] - np.float32(CENTRE)) * scale
    out[:, 2] = away
    return out


def rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float32]:
    """Return the (3, 3) rotation of column vectors by degrees; right, down and clockwise in the image are positive."""
    a, b, c = math.radians(yaw), math.radians(pitch), math.radians(roll)
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    nod = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    lean = np.array([[math.cos(c), math.sin(c), 0], [-math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return (lean @ turn @ nod).astype(np.float32)
