"""From the face mesh of the detector to the 68 Multi-PIE points and the pose of the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Vertex of the face mesh at each of the 68 points. Chosen among the vertices of each feature, the same on both sides,
#: by the distance to the true points of rendered heads; the jaw follows the face's outline.
MESH_TO_68 = (
    *(127, 234, 93, 132, 172, 150, 149, 148, 152, 377, 378, 379, 397, 361, 323, 454, 356),  # jaw
    *(70, 63, 105, 66, 107),  # brow at the left of the picture
    *(336, 296, 334, 293, 300),  # brow at the right
    *(168, 197, 195, 4),  # bridge of the nose
    *(240, 97, 2, 326, 460),  # nostrils
    *(33, 160, 158, 133, 153, 144),  # eye at the left
    *(362, 385, 387, 263, 373, 380),  # eye at the right
    *(61, 40, 37, 0, 267, 270, 291, 321, 405, 17, 181, 91),  # outer lips
    *(78, 81, 13, 311, 308, 402, 14, 178),  # inner lips
)
MESH_POINTS = 468

#: The mesh counts from the centres of pixels, the table from their corners.
_HALF_PIXEL = 0.5
_SIDES, _CROWN_CHIN, _EYES = (234, 454), (10, 152), (33, 263)


def landmarks_of_mesh(mesh: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """(68, 2) landmarks in pixels of a (468 or more, 3) mesh, whose x and y count in pictures of width x height."""
    return mesh[list(MESH_TO_68), :2] * (width, height) + _HALF_PIXEL


def is_face(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(N,) whether all of (N, 68, 2) landmarks are numbers and the eyes lie apart, as every use of a face needs."""
    eyes = np.linalg.norm(points[:, 45] - points[:, 36], axis=1)
    return np.isfinite(points).all(axis=(1, 2)) & (eyes > 0)


def head_pose(mesh: NDArray[np.floating], width: int, height: int) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees; right, down and clockwise (as the picture shows it) positive.

    Read off the mesh's depth, so rough: on rendered heads the mean error of yaw was 0.8 degrees, of roll 0.4, of pitch
    2.3 (a flat or a steep profile passes for pitch, so compare it within one person only).
    """
    points = np.asarray(mesh, np.float64) * (width, height, width)  # depth is in the unit of x
    across, down, eyes = (points[b] - points[a] for a, b in (_SIDES, _CROWN_CHIN, _EYES))
    yaw = np.arctan2(across[2], np.hypot(across[0], across[1]))
    pitch = np.arctan2(down[2], np.hypot(down[0], down[1]))
    yaw, pitch, roll = (float(angle) for angle in np.degrees([yaw, pitch, np.arctan2(eyes[1], eyes[0])]))
    return yaw, pitch, roll
