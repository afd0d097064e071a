"""Soft light on a face: a relief of smooth bumps, moved by action units and lit by a key light, and colour ramps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fexgan_lit.synthetic.cartoon.canvas import Image, Points, View
from fexgan_lit.synthetic.cartoon.identity import Identity
from fexgan_lit.synthetic.cartoon.rig import Face

#: Direction to the key light: from the upper left, in front. y is down, so up is negative.
KEY = np.array([-0.5, -0.52, 0.69])

#: Bump: x, y, half width, half height, relief (all head units).
Bump = tuple[float, float, float, float, float]


def ramp(colour: ArrayLike, gloss: float = 0.3, depth: float = 0.16) -> Image:
    """Return a lookup table (1, 256, 3) from shade 0..255 to RGB: from warm shadows through `colour` to highlights."""
    base = np.asarray(colour, dtype=np.float64)
    warm = base * (0.94, 0.80, 0.76)
    stops = [0.0, 0.3, 0.58, 0.8, 1.0]
    light = base + (np.array([255, 246, 232]) - base) * gloss
    colours = np.stack([base * depth * (1.0, 0.78, 0.82), warm * 0.52, warm * 0.86, base, light])
    at = np.linspace(0, 1, 256)
    table = np.stack([np.interp(at, stops, colours[:, k]) for k in range(3)], axis=1)
    return np.clip(np.rint(table), 0, 255).astype(np.uint8)[None]


def tone(shade: Image, table: Image) -> Image:
    """Colour a (h, w) uint8 shade map with a ramp: (h, w, 3)."""
    return np.asarray(cv2.LUT(cv2.cvtColor(shade, cv2.COLOR_GRAY2BGR), table), np.uint8)


def _pair(x: float, *rest: float) -> list[Bump]:
    return [(-x, *rest), (x, *rest)]  # type: ignore[list-item]


def _resting_bumps(who: Identity, face: Face) -> list[Bump]:
    x, y, half, height = who.eye
    wing, _, bulb, ridge = who.nose
    tip_x, tip_y = face.nostrils[2]
    tip_y -= 0.1
    top = y + 0.02
    bumps: list[Bump] = [
        (0.4 * tip_x, 0.5 * (top + tip_y), 0.075 + 0.15 * bulb, 0.3, 0.08 + 0.08 * ridge),
        (tip_x, tip_y - 0.01, bulb * 1.05, bulb * 0.95, 0.1 + 0.55 * bulb),
        (tip_x - 0.8 * wing, tip_y + 0.055, 0.07, 0.065, 0.05),
        (tip_x + 0.8 * wing, tip_y + 0.055, 0.07, 0.065, 0.05),
        (0.0, -1.0, 0.5, 0.26, 0.06),
    ]
    bumps += _pair(x, who.brow[0] + 0.03, 0.3, 0.1, 0.05)
    bumps += _pair(x * 0.86, y, half * 0.95, height * 1.25, -0.1)
    bumps += _pair(x, y, half * 0.72, height * 0.95, 0.1)
    bumps += _pair(x * 1.5, 0.75, 0.16, 0.3, -0.05 * (0.5 + who.age))
    return bumps


def _moving_bumps(who: Identity, face: Face) -> list[Bump]:
    mouth = face.mouth
    chin_y = face.jaw[8, 1]
    low = mouth.lower_outer[6]
    middle = 0.5 * (mouth.upper_outer[6] + mouth.lower_outer[6])
    bumps: list[Bump] = [
        (middle[0], middle[1], 0.42, 0.28, 0.07),
        (low[0], low[1] + 0.07, 0.17, 0.045, -0.04),
        (low[0], min(chin_y - 0.14, low[1] + 0.24), 0.17, 0.11, 0.06 + 0.06 * face.unit(17)),
        (middle[0], mouth.upper_outer[6, 1] - 0.09, 0.035, 0.07, -0.012),
    ]
    for side, sign in enumerate((-1, 1)):
        smile, squint, sneer = face.unit(12, side), face.unit(6, side), face.unit(9, side)
        apple = max(smile, 0.8 * squint, 0.5 * face.unit(10, side))
        bumps.append((sign * 0.55, 0.36 - 0.12 * apple, 0.22, 0.17, 0.06 + 0.11 * apple))
        furrow, inner = face.unit(4, side), face.brows[side][4 if sign < 0 else 0]
        bumps.append((inner[0] - sign * 0.02, inner[1] + 0.02, 0.09, 0.11, 0.06 * furrow))
        bumps.append((sign * 0.1, 0.02, 0.06, 0.07, 0.04 * sneer))
    return bumps


def _bell(t: Points) -> Points:
    """Return a Gaussian that is exactly zero far out: denormal numbers would slow down the products in `relief`."""
    square = t * t
    return np.where(square < 50.0, np.exp(-0.5 * np.minimum(square, 50.0)), 0.0)


def relief(view: View, bumps: Sequence[Bump], turn: tuple[float, float]) -> tuple[Points, Points]:
    """Return the slopes (dz/dx, dz/dy) of a sum of Gaussian bumps, each (n, n), as two small matrix products.

    The products are in float64, since matrix products may round differently on other machines, and a last-bit
    difference in float32 could change a pixel.
    """
    xs, ys = view.axes()
    b = np.asarray(bumps, dtype=np.float64)  # (k, 5)
    depth = 0.7 * np.sqrt(np.clip(1 - (b[:, 0] / 1.1) ** 2 - (b[:, 1] / 1.6) ** 2, 0, 1))
    dx = (xs[None] - (b[:, :1] + depth[:, None] * turn[0])) / b[:, 2:3]  # (k, n)
    dy = (ys[None] - (b[:, 1:2] + depth[:, None] * turn[1])) / b[:, 3:4]
    gx, gy = _bell(dx), _bell(dy)
    slope_x = gy.T @ (-b[:, 4:5] / b[:, 2:3] * dx * gx)  # (n, n), rows are y
    slope_y = (-b[:, 4:5] / b[:, 3:4] * dy * gy).T @ gx
    return slope_x, slope_y


def _skull_slopes(view: View, face: Face, sink: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the slopes of the rounded head: (n, n) in x, (n, 1) in y."""
    xs, ys = view.axes()
    right = face.outline[np.argsort(face.outline[:, 1])]
    rows = np.interp(ys, right[:, 1], np.abs(right[:, 0])).astype(np.float32)
    width = np.asarray(cv2.blur(rows[:, None], (1, 2 * (view.n // 40) + 1)), np.float32)  # (n, 1)
    u = np.clip((xs[None] - 0.3 * face.turn[0]).astype(np.float32) / np.maximum(width, 0.7), -1.25, 1.25)
    top, chin = face.outline[:, 1].min(), face.jaw[8, 1]
    v = np.clip((2 * ys - top - chin) / (chin - top), -1.2, 1.2).astype(np.float32)[:, None]
    u2, v2 = u * u, v * v
    return -u * (0.42 + 0.85 * u2 * u2), -v * (0.18 + sink * v2 * v2)


def light_face(view: View, who: Identity, face: Face, side: float, ambient: float = 0.36) -> NDArray[np.float32]:
    """Return the shade of bare skin, (n, n) float32, about 0..1.1; `side` rotates the key light slightly (-1..1)."""
    bump_x, bump_y = relief(view, _resting_bumps(who, face) + _moving_bumps(who, face), face.turn)
    skull_x, skull_y = _skull_slopes(view, face, 0.55)
    sx, sy = bump_x.astype(np.float32) + skull_x, bump_y.astype(np.float32) + skull_y
    key = KEY + np.array([0.08 * side, 0.0, 0.0])
    key = (key / np.linalg.norm(key)).astype(np.float32)
    length = np.sqrt(1 + sx * sx + sy * sy)
    facing = (key[2] - key[0] * sx - key[1] * sy) / length
    return (1.1 - ambient) * np.maximum(facing, 0) + ambient - 0.1 * (1 - 1 / length)
