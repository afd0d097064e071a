"""Light on hair: strands rotate with the head, are shaded with two highlights, and projected, in one pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.camera import CENTRE, DISTANCE, FACE_DEPTH, FIELD
from fexgan_lit.synthetic.human.raster import Floats

_Y, _Z, _SCALE = CENTRE, DISTANCE, (DISTANCE - FACE_DEPTH) / FIELD


class Threads(NamedTuple):
    """The hair of a person.

    Attributes:
        points: (P, 3) points of all strands at rest, cm.
        bend: (P,) fraction of the head's rotation.
        paint: (P, 3) linear RGB.
        through: (P, G + 1) fraction of each lamp's light, and of ambient light, that reaches the points.
        width: (P,) cm; 0 where the segment that starts at a point is never visible.
    """

    points: Floats
    bend: Floats
    paint: Floats
    through: Floats
    width: Floats


class Studio(NamedTuple):
    """Light on the hair: (G, 3) directions and colours of lamps, (3,) ambient light, strength of the highlights."""

    lamps: Floats
    colour: Floats
    ambient: Floats
    sheen: float


# error_model="numpy": without the checks for a division by zero the compiler vectorises; hair takes half the time
@njit(cache=True, error_model="numpy")
def shade_strands(
    threads: Threads,
    starts: NDArray[np.int32],
    turn: Floats,
    pivot: Floats,
    studio: Studio,
    size: int,
    framing: tuple[float, float, float],
    screen: Floats,
    out: Floats,
) -> None:
    """Compute screen positions and colours of hair that rotates with the head.

    A strand is lit as a cylinder: it is brightest where it is perpendicular to the light, with a white highlight and,
    further from the root, a highlight in the hair's own colour.

    Args:
        threads: the hair.
        starts: (N + 1,) first point of every strand to shade.
        turn: (3, 3) rotation of the head.
        pivot: (3,) centre of the rotation.
        studio: the light.
        size: width of the image in samples.
        framing: see `FaceState.framing`.
        screen: (P, 3) output: x, y in samples and distance.
        out: (P, 3) output: linear RGB of the visible points.
    """
    zoom, right, down = framing
    p, other = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for line in range(starts.shape[0] - 1):
        first, last = starts[line], starts[line + 1] - 1
        jitter = ((line * 2654435761) & 255) / 255.0 - 0.5
        for q in range(first, last + 1):
            _turned(threads, q, turn, pivot, p)
            away = _Z - p[2]
            scale = size * zoom * _SCALE / away
            screen[q, 0] = (0.5 + right) * size + p[0] * scale
            screen[q, 1] = (0.5 + down) * size - (p[1] - _Y) * scale
            screen[q, 2] = away
            if q == first:  # the root has the direction of the first segment
                _turned(threads, min(q + 1, last), turn, pivot, other)
                for c in range(3):
                    other[c] = 2.0 * p[c] - other[c]
            if threads.width[q] > 0.0 or (q > first and threads.width[q - 1] > 0.0):
                _colour(p, p[0] - other[0], p[1] - other[1], p[2] - other[2], jitter, threads, q, studio, out)
            for c in range(3):
                other[c] = p[c]


@njit(cache=True, error_model="numpy")
def _turned(threads: Threads, q: int, turn: Floats, pivot: Floats, out: Floats) -> None:
    points = threads.points
    x, y, z = points[q, 0] - pivot[0], points[q, 1] - pivot[1], points[q, 2] - pivot[2]
    for c in range(3):
        to = turn[c, 0] * x + turn[c, 1] * y + turn[c, 2] * z + pivot[c]
        out[c] = points[q, c] + threads.bend[q] * (to - points[q, c])


@njit(cache=True, error_model="numpy")
def _colour(
    p: Floats, tx: float, ty: float, tz: float, jitter: float, threads: Threads, q: int, studio: Studio, out: Floats
) -> None:
    """Compute the colour of one point of a strand with the direction (tx, ty, tz)."""
    scale = 1.0 / (math.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9)
    tx, ty, tz = tx * scale, ty * scale, tz * scale
    vx, vy, vz = -p[0], _Y - p[1], _Z - p[2]
    scale = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
    vx, vy, vz = vx * scale, vy * scale, vz * scale
    paint, through, lamps = threads.paint, threads.through, studio.lamps
    rooms = lamps.shape[0]
    for c in range(3):
        out[q, c] = paint[q, c] * studio.ambient[c] * through[q, rooms]
    for k in range(rooms):
        if through[q, k] < 0.02:
            continue
        along = tx * lamps[k, 0] + ty * lamps[k, 1] + tz * lamps[k, 2]
        round_ = math.sqrt(max(0.0, 1.0 - along * along))
        hx, hy, hz = lamps[k, 0] + vx, lamps[k, 1] + vy, lamps[k, 2] + vz
        slope = (tx * hx + ty * hy + tz * hz) / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
        near, deep = slope - 0.10 + 0.12 * jitter, slope + 0.13 + 0.25 * jitter
        white = max(0.0, 1.0 - near * near)
        tinted = max(0.0, 1.0 - deep * deep)
        for _ in range(5):
            white *= white
        for _ in range(3):
            tinted *= tinted
        for c in range(3):
            gleam = studio.sheen * (0.05 * white + 0.55 * paint[q, c] * tinted)
            out[q, c] += studio.colour[k, c] * through[q, k] * (0.5 * paint[q, c] * round_ + gleam)
