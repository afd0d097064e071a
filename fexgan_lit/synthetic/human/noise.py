"""Smooth noise over space, and small helpers for fields of numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[np.floating]


@njit(cache=True)
def _lattice(x: int, y: int, z: int, seed: int) -> float:
    """Return a fixed random number in 0..1 for a point of the lattice."""
    h = (x * 374761393 + y * 668265263 + z * 1274126177 + seed * 974634777) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1103515245) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 12345679) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777215.0


@njit(cache=True)
def _noise_rows(points: Floats, frequency: float, octaves: int, seed: int, out: Floats) -> None:
    for r in range(points.shape[0]):
        total, gain, f, norm = 0.0, 1.0, frequency, 0.0
        for o in range(octaves):
            x, y, z = points[r, 0] * f, points[r, 1] * f, points[r, 2] * f
            ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
            u, v, w = x - ix, y - iy, z - iz
            u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
            value = 0.0
            for corner in range(8):
                a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
                weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                value += weight * _lattice(ix + a, iy + b, iz + c, seed + o)
            total += gain * value
            norm += gain
            gain *= 0.5
            f *= 2.03
        out[r] = total / norm


def noise(points: Floats, frequency: float, octaves: int = 1, seed: int = 0) -> Floats:
    """Return values in 0..1 at points (..., 3), about `frequency` bumps per unit, fixed by position and seed."""
    rows = np.ascontiguousarray(points.reshape(-1, 3), np.float32)  # (..., 3) -> (N, 3)
    out = np.empty(len(rows), np.float32)
    _noise_rows(rows, frequency, octaves, seed, out)
    return out.reshape(points.shape[:-1])


def smoothstep(x: Array, low: float, high: float) -> Array:
    """Return 0 below `low`, 1 above `high`, smooth between; reversed for low > high."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def bell(x: Array, width: float) -> Array:
    """Return 1 at zero, about a third at `width`, decreasing smoothly."""
    return np.exp(-((x / width) ** 2))


def line_distance(x: Array, y: Array, line: list[tuple[float, float]]) -> tuple[Array, Array]:
    """Return the distance of points (x, y) from a polyline, and the position of the nearest point along it, 0..1."""
    best, along = np.full(np.shape(x), 1e9, np.float32), np.zeros(np.shape(x), np.float32)
    pieces = len(line) - 1
    for k, ((ax, ay), (bx, by)) in enumerate(pairwise(line)):
        dx, dy = bx - ax, by - ay
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
        far = np.hypot(x - ax - t * dx, y - ay - t * dy)
        nearer = far < best
        best = np.where(nearer, far, best)
        along = np.where(nearer, (k + t) / pieces, along)
    return best, along


def linear(colour: tuple[int, int, int]) -> Floats:
    """Return the linear light (3,) of an sRGB colour 0..255."""
    return ((np.array(colour, np.float32) / 255.0) ** np.float32(2.2)).astype(np.float32)
