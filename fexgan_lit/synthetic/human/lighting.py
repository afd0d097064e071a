"""Soft studio light with cast shadows: every vertex gathers light from a few lamps and a bright room."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.raster import FAR, Floats, Ints, draw_depth

#: Radius in cm of the sphere around the head that can cast shadows, and its centre.
_REACH = 21.0
_MIDDLE = np.array([0.0, 1.0, 0.0], np.float32)


@dataclass(frozen=True)
class Lamps:
    """Directional lamps; the lamps of a large light share its power.

    Attributes:
        towards: (L, 3) unit vectors to the lamps.
        colour: (L, 3) linear RGB.
        texels: (L,) width of each lamp's shadow map.
        gloss: (G, 3) and `gloss_colour` (G, 3): directions and colours of the lamps that cause highlights.
    """

    towards: Floats
    colour: Floats
    texels: Ints
    gloss: Floats
    gloss_colour: Floats


def _direction(azimuth: float, height: float) -> tuple[float, float, float]:
    """Return a unit vector; degrees, azimuth 0 points to the camera, positive azimuth to the right of the image."""
    a, h = math.radians(azimuth), math.radians(height)
    return math.sin(a) * math.cos(h), math.sin(h), math.cos(a) * math.cos(h)


#: The room: azimuth, height and power of soft lamps that represent bright walls and ceiling.
_ROOM = (
    (-70.0, 10.0, 0.20),
    (-25.0, -18.0, 0.13),
    (0.0, 75.0, 0.24),
    (10.0, 25.0, 0.24),
    (45.0, -5.0, 0.14),
    (85.0, 25.0, 0.20),
    (-110.0, 45.0, 0.16),
    (150.0, 55.0, 0.22),
)
_KEY, _FILL, _RIM = 1.35, 0.42, 0.5
#: Number of lamps of the key light, a large soft box: the lamps blur each other's shadows.
_KEY_LAMPS = 3
_KEY_AZIMUTH, _KEY_HEIGHT = -38.0, 34.0


@lru_cache(maxsize=256)
def lamps(gain: float, side: float, warmth: float) -> Lamps:
    """Return the light of a take: gain of the key light, its horizontal offset (-1..1) and warmth (-1..1)."""
    azimuth = _KEY_AZIMUTH + 9.0 * side
    warm = np.array([1.0 + 0.05 * warmth, 1.0, 1.0 - 0.06 * warmth])
    rows: list[tuple[tuple[float, float, float], NDArray[np.float64], int]] = []
    for da, dh in ((0, 0), (-11, 6), (11, -4)):
        rows.append(
            (_direction(azimuth + da, _KEY_HEIGHT + dh), warm * (1.04, 0.99, 0.92) * (_KEY * gain / _KEY_LAMPS), 224)
        )
    rows.append((_direction(42.0, 12.0), np.array([0.93, 0.98, 1.06]) * _FILL, 128))
    rows.append((_direction(152.0, 30.0), np.array([0.95, 1.0, 1.05]) * _RIM, 128))
    for a, h, power in _ROOM:
        rows.append((_direction(a, h), np.array([0.98, 1.0, 1.03]) * power, 96))
    gloss = [rows[0], rows[3], rows[4], rows[8]]
    return Lamps(
        np.array([r[0] for r in rows], np.float32),
        np.array([r[1] for r in rows], np.float32),
        np.array([r[2] for r in rows], np.int32),
        np.array([r[0] for r in gloss], np.float32),
        np.array([r[1] * (3.0 if k == 0 else 1.0) for k, r in enumerate(gloss)], np.float32),
    )


@njit(cache=True)
def _view_along(points: Floats, towards: Floats, texels: int) -> Floats:
    """Return (V, 3) x, y in texels and depth in cm in the view of a lamp."""
    x, y, z = towards[0], towards[1], towards[2]
    flat = math.sqrt(x * x + z * z) + 1e-9
    rx, rz = z / flat, -x / flat  # to the lamp's right
    ux, uy, uz = y * rz, z * rx - x * rz, -y * rx  # up: towards x right
    out = np.empty_like(points)
    scale = texels / (2.0 * _REACH)
    for v in range(points.shape[0]):
        px, py, pz = points[v, 0] - _MIDDLE[0], points[v, 1] - _MIDDLE[1], points[v, 2] - _MIDDLE[2]
        out[v, 0] = (px * rx + pz * rz) * scale + 0.5 * texels
        out[v, 1] = (px * ux + py * uy + pz * uz) * scale + 0.5 * texels
        out[v, 2] = -(px * x + py * y + pz * z)
    return out


@njit(cache=True)
def _lit(depth: Floats, x: float, y: float, z: float, bias: float, blur: float) -> float:
    """Return the fraction of light at a point of a shadow map: bilinear over four texels, soft in depth."""
    size = depth.shape[0]
    j, i = math.floor(x - 0.5), math.floor(y - 0.5)
    if i < 0 or j < 0 or i >= size - 1 or j >= size - 1:
        return 1.0
    u, v = x - 0.5 - j, y - 0.5 - i
    total = 0.0
    for di in range(2):
        for dj in range(2):
            weight = (u if dj else 1.0 - u) * (v if di else 1.0 - v)
            behind = (z - bias - depth[i + di, j + dj]) / blur
            total += weight * (1.0 - min(1.0, max(0.0, behind)))
    return total


@njit(cache=True)
def _facing(normals: Floats, v: int, towards: Floats, k: int) -> float:
    return normals[v, 0] * towards[k, 0] + normals[v, 1] * towards[k, 1] + normals[v, 2] * towards[k, 2]


@njit(cache=True)
def gather(
    points: Floats,
    normals: Floats,
    casters: Ints,
    wrap: Floats,
    veil: Floats,
    towards: Floats,
    colour: Floats,
    texels: Ints,
) -> tuple[Floats, Floats]:
    """Return the light that arrives at every vertex.

    Args:
        points: (V, 3) positions; only the vertices of `casters` cast shadows.
        normals: (V, 3) unit normals.
        casters: (T, 3) triangles.
        wrap: (V, 3) reach of light into the shade per colour channel, an approximation of subsurface scattering.
        veil: (V, L) fraction of each lamp's light that passes through hair and other fine geometry.
        towards: see `Lamps`.
        colour: see `Lamps`.
        texels: see `Lamps`.

    Returns:
        (V, 3) irradiance, and (V, 2) fractions that arrive: of the key light, and of all light from the front.
    """
    count, lights = points.shape[0], towards.shape[0]
    light = np.zeros((count, 3), np.float32)
    seen, possible = np.zeros((count, 2), np.float32), np.full(count, 1e-6, np.float32)
    for k in range(lights):
        size = texels[k]
        depth = np.full((size, size), FAR, np.float32)
        view = _view_along(points, towards[k], size)
        draw_depth(view, casters, depth)
        texel = 2.0 * _REACH / size  # cm
        for v in range(count):
            facing = _facing(normals, v, towards, k)
            if facing <= -wrap[v, 0] or facing == 0.0:  # faces away, or a vertex without triangles
                continue
            share = _lit(depth, view[v, 0], view[v, 1], view[v, 2], 0.06 + 0.8 * texel, 0.9 * texel) * veil[v, k]
            if k < _KEY_LAMPS:
                seen[v, 0] += share / _KEY_LAMPS
            seen[v, 1] += share * (facing + wrap[v, 0])
            possible[v] += facing + wrap[v, 0]
            for c in range(3):
                w = wrap[v, c]
                level = max(0.0, (facing + w) / (1.0 + w))
                light[v, c] += colour[k, c] * level * (share + w * 0.35 * (1.0 - share))
    seen[:, 1] /= possible
    return light, seen


@njit(cache=True)
def spread(values: Floats, starts: Ints, others: Ints, rounds: NDArray[np.int64]) -> None:
    """Blur (V, C) values over a mesh, `rounds[c]` times per channel, as light scatters under the skin."""
    count = starts.shape[0] - 1
    for c in range(values.shape[1]):
        for _ in range(rounds[c]):
            old = values[:, c].copy()
            for v in range(count):
                first, last = starts[v], starts[v + 1]
                if last > first:
                    total = 0.0
                    for q in range(first, last):
                        total += old[others[q]]
                    values[v, c] = 0.4 * old[v] + 0.6 * total / (last - first)


def neighbours(triangles: Ints, count: int) -> tuple[Ints, Ints]:
    """Return CSR lists of the vertices that share an edge: (count + 1,) starts and the neighbours' indices."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    starts = np.searchsorted(pairs[:, 0], np.arange(count + 1)).astype(np.int32)
    return starts, np.ascontiguousarray(pairs[:, 1], np.int32)
