"""Visibility of hair: most segments are below others, and drawing them would be most of the work."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fexgan_lit.synthetic.human import camera, rig
from fexgan_lit.synthetic.human.raster import Buffers, Floats, Ints, draw_line_depth, draw_triangles

#: Head poses for the visibility test; heads rotate by at most 15 degrees.
_POSES = ((0, 0, 0), (13, 0, 0), (-13, 0, 0), (0, 12, 0), (0, -12, 0), (9, 9, 0), (-9, 9, 0), (9, -9, 0), (-9, -9, 0))
_SIZE = 512
#: Depth in cm below the visible surface at which hair still counts as visible.
_BELOW = 1.0


@njit(cache=True)
def _mark(screen: Floats, depth: Floats, below: float, seen: NDArray[np.bool_]) -> None:
    size = depth.shape[0]
    for p in range(screen.shape[0]):
        j, i = int(screen[p, 0]), int(screen[p, 1])
        if 0 <= i < size and 0 <= j < size and screen[p, 2] < depth[i, j] + below:
            seen[p] = True


def ever_seen(
    points: Floats, starts: Ints, bend: Floats, body: Floats, body_bend: Floats, triangles: Ints
) -> NDArray[np.bool_]:
    """Return which points of strands are visible in some pose of the head.

    Args:
        points: (P, 3) of all strands, cm.
        starts: (N + 1,) first point of every strand.
        bend: (P,) fraction of the head's rotation.
        body: (V, 3) points of the body, which hides hair.
        body_bend: (V,) fraction of the head's rotation for the body.
        triangles: (T, 3) of the body.

    Returns:
        (P,) True where the segment that starts at a point may be visible.
    """
    seen = np.zeros(len(points), np.bool_)
    open_sides, no_bias = np.zeros(len(triangles), np.uint8), np.zeros(len(triangles), np.float32)
    for pose in _POSES:
        buffers = Buffers(_SIZE)
        solid = camera.project(rig.posed(body, body_bend, pose), _SIZE)
        draw_triangles(solid, triangles, open_sides, no_bias, buffers.depth, buffers.triangle, buffers.weights)
        screen = camera.project(rig.posed(points, bend, pose), _SIZE)
        draw_line_depth(screen, starts, buffers.depth)
        _mark(screen, buffers.depth, _BELOW, seen)
    shown = seen.copy()  # a segment is visible if either of its ends is
    shown[:-1] |= seen[1:]
    return shown
