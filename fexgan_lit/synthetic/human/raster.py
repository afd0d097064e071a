"""The rasteriser: triangles to a z-buffer with triangle indices and barycentric weights, and lines with depth."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

#: Depth of an empty sample.
FAR = np.float32(1e9)


class Buffers:
    """Rasterised triangles for an image of `size` x `size` samples.

    Attributes:
        depth: (S, S) distance from the camera, `FAR` where empty.
        triangle: (S, S) index of the visible triangle, -1 where empty.
        weights: (S, S, 2) barycentric weights of its first two corners.
    """

    def __init__(self, size: int) -> None:
        self.depth = np.full((size, size), FAR, np.float32)
        self.triangle = np.full((size, size), -1, np.int32)
        self.weights = np.zeros((size, size, 2), np.float32)


@njit(cache=True)
def draw_triangles(
    points: Floats, triangles: Ints, cull: NDArray[np.uint8], bias: Floats, depth: Floats, ids: Ints, weights: Floats
) -> None:
    """Draw triangles of screen `points` (V, 3: x, y in samples, depth), sampled at the sample centres.

    Args:
        points: (V, 3) screen positions, y down.
        triangles: (T, 3) corners; counter-clockwise as seen from the front, which is clockwise with y down.
        cull: (T,) 1 hides the back of a triangle.
        bias: (T,) added to the depth of a triangle.
        depth: (S, S) z-buffer, changed in place.
        ids: (S, S) triangle indices, changed in place.
        weights: (S, S, 2) barycentric weights of corner 0 and 1, changed in place.
    """
    height, width = depth.shape
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        x0, y0 = float(points[a, 0]), float(points[a, 1])
        x1, y1 = float(points[b, 0]), float(points[b, 1])
        x2, y2 = float(points[c, 0]), float(points[c, 1])
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0 or (area > 0.0 and cull[k] == 1):
            continue
        top = max(0, math.ceil(min(y0, y1, y2) - 0.5))
        bottom = min(height - 1, math.floor(max(y0, y1, y2) - 0.5))
        left = max(0, math.ceil(min(x0, x1, x2) - 0.5))
        right = min(width - 1, math.floor(max(x0, x1, x2) - 0.5))
        inverse = 1.0 / area
        z0, z1, z2 = float(points[a, 2]), float(points[b, 2]), float(points[c, 2])
        for i in range(top, bottom + 1):
            py = i + 0.5
            for j in range(left, right + 1):
                px = j + 0.5
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * inverse
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * inverse
                w2 = 1.0 - w0 - w1
                # a small tolerance closes seams between neighbours; the z-buffer resolves overlaps
                if w0 < -1e-9 or w1 < -1e-9 or w2 < -1e-9:
                    continue
                z = w0 * z0 + w1 * z1 + w2 * z2 + bias[k]
                if z < depth[i, j]:
                    depth[i, j] = z
                    ids[i, j] = k
                    weights[i, j, 0] = w0
                    weights[i, j, 1] = w1


@njit(cache=True)
def draw_depth(points: Floats, triangles: Ints, depth: Floats) -> None:
    """Draw front-facing triangles of (V, 3) points, x right and y up, into a z-buffer alone, for shadows."""
    height, width = depth.shape
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        x0, y0, z0 = points[a, 0], points[a, 1], points[a, 2]
        x1, y1, z1 = points[b, 0], points[b, 1], points[b, 2]
        x2, y2, z2 = points[c, 0], points[c, 1], points[c, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area < 1e-12:
            continue
        top = max(0, math.ceil(min(y0, y1, y2) - 0.5))
        bottom = min(height - 1, math.floor(max(y0, y1, y2) - 0.5))
        left = max(0, math.ceil(min(x0, x1, x2) - 0.5))
        right = min(width - 1, math.floor(max(x0, x1, x2) - 0.5))
        inverse = 1.0 / area
        for i in range(top, bottom + 1):
            py = i + 0.5
            for j in range(left, right + 1):
                px = j + 0.5
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * inverse
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * inverse
                w2 = 1.0 - w0 - w1
                if w0 >= 0.0 and w1 >= 0.0 and w2 >= 0.0:
                    depth[i, j] = min(depth[i, j], w0 * z0 + w1 * z1 + w2 * z2)


@njit(cache=True)
def vertex_normals(points: Floats, triangles: Ints) -> Floats:
    """Return unit normals (V, 3), the area-weighted mean of the triangles around each vertex."""
    out = np.zeros_like(points)
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for q in (a, b, c):
            out[q, 0] += nx
            out[q, 1] += ny
            out[q, 2] += nz
    for q in range(out.shape[0]):
        length = math.sqrt(out[q, 0] ** 2 + out[q, 1] ** 2 + out[q, 2] ** 2) + 1e-12
        out[q] /= length
    return out


@njit(cache=True)
def draw_lines(
    points: Floats, starts: Ints, colours: Floats, widths: Floats, bias: float, depth: Floats, image: Floats
) -> None:
    """Draw polylines with depth and colour; lines thinner than a sample are blended.

    Args:
        points: (P, 3) screen positions of all lines, concatenated.
        starts: (L + 1,) first point of every line.
        colours: (P, 3) linear RGB at the points.
        widths: (P,) in samples; segments that start with width 0 are left out.
        bias: added to the depth of all lines.
        depth: (S, S) z-buffer, changed in place.
        image: (S, S, 3), changed in place.
    """
    for line in range(starts.shape[0] - 1):
        for p in range(starts[line], starts[line + 1] - 1):
            if widths[p] > 0.0:
                _draw_segment(points, p, colours, widths, bias, depth, image)


@njit(cache=True)
def _draw_segment(
    points: Floats,
    p: int,
    colours: Floats,
    widths: Floats,
    bias: float,
    depth: Floats,
    image: Floats,
) -> None:
    height, width = depth.shape
    x, y, z = points[p, 0], points[p, 1], points[p, 2] + bias
    dx, dy, dz = points[p + 1, 0] - x, points[p + 1, 1] - y, points[p + 1, 2] + bias - z
    steps = max(1, math.ceil(max(abs(dx), abs(dy))))
    if not (abs(x) < 1e5 and abs(y) < 1e5 and steps < 10000):
        return
    steep = abs(dy) > abs(dx)
    for s in range(steps):
        t = (s + 0.5) / steps
        thick = widths[p] + t * (widths[p + 1] - widths[p])
        px, py, pz = x + t * dx, y + t * dy, z + t * dz
        row, column = math.floor(py), math.floor(px)
        first = last = column if steep else row
        if thick >= 1.0:
            centre, half = px if steep else py, 0.5 * thick
            low, high = math.floor(centre - half + 0.5), math.floor(centre + half - 0.5)
            if low <= high:
                first, last = low, high
        share = min(1.0, thick)  # thinner than a sample: partial coverage
        for q in range(first, last + 1):
            i, j = (row, q) if steep else (q, column)
            if 0 <= i < height and 0 <= j < width and pz < depth[i, j]:
                if share > 0.5:
                    depth[i, j] = pz
                for c in range(3):
                    value = colours[p, c] + t * (colours[p + 1, c] - colours[p, c])
                    image[i, j, c] += share * (value - image[i, j, c])


@njit(cache=True, error_model="numpy")  # without checks for a division by zero, which `steps` never is
def draw_line_depth(points: Floats, starts: Ints, depth: Floats) -> None:
    """Draw polylines one sample wide into a z-buffer alone, in half the time of `draw_lines`."""
    height, width = depth.shape
    for line in range(starts.shape[0] - 1):
        for p in range(starts[line], starts[line + 1] - 1):
            x, y, z = points[p, 0], points[p, 1], points[p, 2]
            dx, dy, dz = points[p + 1, 0] - x, points[p + 1, 1] - y, points[p + 1, 2] - z
            steps = max(1, math.ceil(max(abs(dx), abs(dy))))
            for s in range(steps):
                t = (s + 0.5) / steps
                i, j = math.floor(y + t * dy), math.floor(x + t * dx)
                if 0 <= i < height and 0 <= j < width:
                    depth[i, j] = min(depth[i, j], z + t * dz)


@njit(cache=True)
def close_holes(depth: Floats, image: Floats, reach: int, shade: float) -> None:
    """Fill empty samples between drawn ones: pinholes in hair, which is drawn as single strands.

    Args:
        depth: (S, S) z-buffer.
        image: (S, S, 3), changed in place.
        reach: samples to search along a row, a column and both diagonals; three of the four must be closed.
        shade: brightness of the filling, as a fraction of the surrounding samples.
    """
    size = depth.shape[0]
    found = np.zeros(3, np.float32)
    for i in range(reach, size - reach):
        for j in range(reach, size - reach):
            if depth[i, j] < FAR:
                continue
            closed, hits = 0, 0
            found[:] = 0.0
            for axis in range(4):
                if closed + 4 - axis < 3:
                    break
                di, dj = (0, 1) if axis == 0 else (1, 0) if axis == 1 else (1, 1) if axis == 2 else (1, -1)
                near = _first_drawn(depth, i, j, di, dj, reach)
                far = _first_drawn(depth, i, j, -di, -dj, reach) if near > 0 else 0
                if far > 0:
                    closed += 1
                    hits += 2
                    for c in range(3):
                        found[c] += image[i + near * di, j + near * dj, c] + image[i - far * di, j - far * dj, c]
            if closed >= 3:
                for c in range(3):
                    image[i, j, c] = shade * found[c] / hits


@njit(cache=True)
def _first_drawn(depth: Floats, i: int, j: int, di: int, dj: int, reach: int) -> int:
    """Return the steps from a sample to the first drawn one in a direction; 0 if there is none within reach."""
    for step in range(1, reach + 1):
        if depth[i + step * di, j + step * dj] < FAR:
            return step
    return 0
