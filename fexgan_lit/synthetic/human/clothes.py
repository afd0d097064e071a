"""Clothes as swept surfaces: shoulders with cloth, collars, hoods and cords, and glasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.identity import Identity
from fexgan_lit.synthetic.human.noise import Array, Floats, linear, noise, smoothstep
from fexgan_lit.synthetic.human.topology import CLOTH, PLAIN


@dataclass(frozen=True)
class Mesh:
    """A coloured surface.

    Attributes:
        points: (V, 3) in cm.
        triangles: (T, 3).
        part: CLOTH or PLAIN.
        tint: (V, 4) linear RGB and gloss.
        rigid: whether it rotates with the head; otherwise it bends with the neck.
    """

    points: Floats
    triangles: NDArray[np.int32]
    part: int
    tint: Floats
    rigid: bool = False


def _sheet(grid: Floats, colour: Floats, gloss: float, part: int, closed: bool, rigid: bool = False) -> Mesh:
    """Return a mesh of a grid (rows, columns, 3) of points; `closed` joins the last column to the first.

    Seen from outside, rows must go up and columns to the right; otherwise the cloth is lit from the inside.
    """
    rows, columns = grid.shape[:2]
    number = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    if closed:
        number = np.concatenate([number, number[:, :1]], axis=1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    quads = np.stack([a, b, c, d], axis=-1).reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    points = np.ascontiguousarray(grid.reshape(-1, 3), np.float32)  # (rows, columns, 3) -> (V, 3)
    tint = np.empty((len(points), 4), np.float32)
    tint[:, :3], tint[:, 3] = colour, gloss
    return Mesh(points, np.ascontiguousarray(triangles), part, tint, rigid)


def tube(
    line: Array,
    radius: float,
    colour: Floats,
    gloss: float,
    part: int = PLAIN,
    closed: bool = False,
    rigid: bool = False,
) -> Mesh:
    """Return a round tube along a line (n, 3)."""
    ahead = np.gradient(line, axis=0)
    if closed:
        ahead = np.roll(line, -1, axis=0) - np.roll(line, 1, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9
    across = np.cross(ahead, np.array([0.1, 0.25, 1.0]))
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    up = np.cross(ahead, across)
    turn = np.linspace(0, 2 * np.pi, 9)[:-1]
    ring = across[None] * np.cos(turn)[:, None, None] + up[None] * np.sin(turn)[:, None, None]
    grid = (line[None] + radius * ring).transpose(1, 0, 2)  # (n, around, 3)
    if closed:
        grid = np.concatenate([grid, grid[:1]])
    return _sheet(grid.astype(np.float32), colour, gloss, part, True, rigid)


def _ring(front: float, back: float, wide: float, deep: float, middle: float, count: int = 96) -> Floats:
    """Return an oval (count, 3) around the neck, from the back over the image's left; heights at front and back."""
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x, z = wide * np.sin(turn), -np.cos(turn)
    y = back + (front - back) * smoothstep(z, -0.9, 0.95)
    return np.stack([-x, y, middle + deep * z], axis=1).astype(np.float32)


#: Collar line of each kind: height in front and at the back, half width and depth, middle depth.
_COLLARS = {
    "tee": (-14.0, -9.0, 7.9, 6.9, -1.8),
    "crew": (-12.9, -8.5, 7.2, 6.6, -1.6),
    "hoodie": (-13.6, -8.6, 7.6, 6.8, -1.7),
    "shirt": (-13.9, -8.4, 6.9, 6.5, -1.7),
    "turtleneck": (-12.6, -8.6, 7.0, 6.5, -1.5),
}


def _torso(who: Identity) -> tuple[Floats, Floats]:
    """Return the garment's grid (rows, columns, 3) from its collar line to below the image, and the collar line."""
    collar = _ring(*_COLLARS[who.clothes])
    broad = 1.0 + 0.10 * who.shoulders
    t = np.linspace(0, 1, 26, dtype=np.float32)[:, None]
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    sx, cz = np.sin(turn), -np.cos(turn)
    square = (np.abs(sx) ** 2.6 + np.abs(cz) ** 2.6) ** (-1 / 2.6)
    out_x, out_z = -sx * square, cz * square
    spread = np.sqrt(np.clip(1 - (1 - np.minimum(1, 1.5 * t)) ** 2, 0, 1))
    x = collar[None, :, 0] * (1 - spread) + out_x * 19.5 * broad * spread
    z = collar[None, :, 2] * (1 - spread) + (-2.6 + out_z * 9.2) * spread
    side = np.abs(sx) ** 1.5
    fall = (2.6 + 2.0 * side) * np.minimum(1, 1.5 * t) ** 1.4 + 15.0 * np.maximum(0, t - 0.42) ** 1.15 * 1.7
    level = collar[None, :, 1] * (1 - 0.75 * spread) + (-10.6 - 2.0 * (1 - side)) * 0.75 * spread
    y = level - fall
    grid = np.stack([x, np.broadcast_to(y, x.shape), z], axis=-1).astype(np.float32)
    fold = noise(grid * np.array([1.0, 0.45, 1.0], np.float32), 0.33, 3, 51 + len(who.name)) - 0.5
    drape = smoothstep(t, 0.05, 0.4) * fold * 1.5
    grid[..., 2] += drape * np.sign(out_z) * 0.8
    grid[..., 1] += drape * 0.5
    return grid, collar


def _roll(collar: Floats, height: float, out: float, thick: float, rows: int = 7) -> Floats:
    """Return a band (rows, n, 3) on the collar line: `height` up, bulging by `thick`."""
    t = np.linspace(0, 1, rows)[:, None, None]
    middle = collar.mean(axis=0)
    away = (collar - middle) * (1, 0, 1)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    bulge = thick * np.sin(np.pi * t) + out * (1 - t)
    return (collar[None] + away[None] * bulge + np.array([0, 1, 0]) * height * (t - 0.3)).astype(np.float32)


def _shirt_collar(collar: Floats, colour: Floats) -> list[Mesh]:
    """Return two leaves that fold over from the collar line, with points in front."""
    meshes = []
    n = len(collar)
    half = n // 2
    middle = collar.mean(axis=0)
    for side in (1, -1):
        index = (np.arange(0, half + 1) if side == 1 else -np.arange(0, half + 1)) % n
        line = collar[index]
        u = np.linspace(0, 1, len(line))[:, None]  # 0 at the back, 1 in front
        away = (line - middle) * (1, 0, 1)
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        stand = line + np.array([0, 1.9, 0]) - away * 0.35
        drop = 2.2 + 2.9 * smoothstep(u, 0.6, 0.97)
        spread = np.array([1.0, 0.0, 0.0]) * np.sign(line[:, :1].mean()) * smoothstep(u, 0.75, 1.0) * 2.1
        edge = stand + away * (1.5 + 0.9 * smoothstep(u, 0.5, 1.0)) - np.array([0, 1, 0]) * drop + spread
        t = np.linspace(0, 1, 7)[:, None, None]
        over = np.array([0, 0.35, 0]) * np.sin(np.pi * t)
        leaf = stand[None] * (1 - t) + edge[None] * t + over + away[None] * 0.3 * np.sin(np.pi * t)
        meshes.append(_sheet(leaf[:, ::-side].astype(np.float32), colour * 1.06, 0.02, CLOTH, False))
        inner = line[None] * (1 - t) + stand[None] * t
        meshes.append(_sheet(inner[:, ::side].astype(np.float32), colour * 0.8, 0.02, CLOTH, False))
    return meshes


def _placket(grid: Floats, colour: Floats, accent: Floats) -> list[Mesh]:
    """Return the strip down the front of a shirt and its buttons."""
    front = grid[:, len(grid[0]) // 2]
    ahead = np.array([0, 0, 0.18])
    strip = np.stack([front + ahead + np.array([x, 0, 0]) for x in np.linspace(-1.1, 1.1, 5)], axis=1)
    meshes = [_sheet(strip[::-1].astype(np.float32), colour * 1.04, 0.02, CLOTH, False)]
    turn = np.linspace(0, 2 * np.pi, 9)[:-1]
    for row in (8, 14):
        disc = np.stack([0.34 * np.cos(turn), 0.34 * np.sin(turn), np.zeros(8)], axis=1)
        at = front[row] + np.array([0, 0, 0.45])
        meshes.append(_sheet(np.stack([at + disc, at + 0.05 * disc]).astype(np.float32), accent, 0.1, PLAIN, True))
    return meshes


def _hood(collar: Floats, colour: Floats, accent: Floats) -> list[Mesh]:
    """Return a hood around the neck, thick behind, and two cords."""
    n = len(collar)
    back = 0.5 + 0.5 * np.cos(np.linspace(0, 2 * np.pi, n, endpoint=False))  # 1 behind, 0 in front
    middle = collar.mean(axis=0)
    away = (collar - middle) * (1, 0, 1)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    turn = np.linspace(0, 2 * np.pi, 15)
    thick = (0.75 + 1.5 * back)[None, :, None]
    centre = collar + away * (0.9 + 1.3 * back)[:, None] + np.array([0, 1, 0]) * (0.5 + 1.6 * back)[:, None]
    ring = away[None] * np.cos(turn)[:, None, None] + np.array([0, 1.15, 0]) * np.sin(turn)[:, None, None]
    hood = centre[None] + thick * ring
    meshes = [_sheet(hood.astype(np.float32), colour * 1.03, 0.01, CLOTH, True)]
    front = collar[n // 2]
    for side in (-1, 1):
        t = np.linspace(0, 1, 12)[:, None]
        cord = front + np.array([side * 1.5, -0.2, 1.5]) + t * np.array([side * 0.5, -8.0, 0.9])
        meshes.append(tube(cord, 0.22, accent, 0.05))
    return meshes


def dress(who: Identity) -> tuple[Mesh, ...]:
    """Return all clothes of a person."""
    grid, collar = _torso(who)
    colour, accent = linear(who.cloth), linear(who.accent)
    meshes = [_sheet(grid[::-1], colour, 0.015, CLOTH, True)]
    if who.clothes in ("tee", "crew"):
        rib = accent if who.clothes == "tee" and who.trim else colour * 0.85
        meshes.append(_sheet(_roll(collar, 1.5, 0.25, 0.35), rib, 0.015, CLOTH, True))
    elif who.clothes == "turtleneck":
        meshes.append(
            _sheet(
                _roll(collar * np.array([0.93, 1, 0.95], np.float32), 5.6, 0.2, 0.5, 12),
                colour * 0.95,
                0.015,
                CLOTH,
                True,
            )
        )
    elif who.clothes == "shirt":
        meshes += _shirt_collar(collar, colour) + _placket(grid, colour, accent)
    else:
        meshes += _hood(collar, colour, accent)
    return tuple(meshes)


def wear_glasses(who: Identity, eyes: tuple[Floats, Floats], bridge: Floats, ear: float) -> tuple[Mesh, ...]:
    """Return glasses around both eyes (3,), on the `bridge` (3,) of the nose, with arms to the ears at x = `ear`."""
    if who.glasses == "none":
        return ()
    colour = linear(who.accent)
    turn = np.linspace(0, 2 * np.pi, 49)[:-1]
    power = 2.0 if who.glasses == "round" else 3.6
    meshes = []
    for eye in eyes:
        side = np.sign(eye[0])
        scale = (np.abs(np.cos(turn)) ** power + np.abs(np.sin(turn)) ** power) ** (-1 / power)
        x = eye[0] + side * 0.15 + 2.15 * np.cos(turn) * scale
        y = eye[1] - 0.35 + (1.85 if power < 3 else 1.5) * np.sin(turn) * scale
        z = eye[2] + 3.1 - 0.045 * np.maximum(0, np.abs(x) - 2) ** 2.0
        meshes.append(tube(np.stack([x, y, z], axis=1), 0.13, colour, 0.35, closed=True, rigid=True))
        hinge = np.array([eye[0] + side * 2.3, eye[1] + 0.3, eye[2] + 2.65])
        end = np.array([side * ear, eye[1] + 0.1, -1.0])
        t = np.linspace(0, 1, 16)[:, None]
        outward = np.array([side, 0, 0]) * 0.25 * np.sin(np.pi * t) ** 0.7
        meshes.append(tube(hinge * (1 - t) + end * t + outward, 0.12, colour, 0.3, rigid=True))
    left, right = eyes
    t = np.linspace(-1, 1, 11)[:, None]
    span = 0.5 * (right[0] - left[0]) - 1.95
    arch = np.concatenate([t * span, left[1] + 0.35 + 0.25 * (1 - t**2), left[2] + 3.12 + 0.3 * (1 - t**2)], axis=1)
    arch[:, 2] = np.maximum(arch[:, 2], bridge[2] + 0.1 - 1.2 * np.abs(t[:, 0]))
    meshes.append(tube(arch, 0.12, colour, 0.35, rigid=True))
    return tuple(meshes)
