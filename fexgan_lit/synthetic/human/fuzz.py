"""Short hair on moving skin: brows, lashes and beards; every hair is attached to a triangle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.identity import Identity
from fexgan_lit.synthetic.human.model import FaceModel
from fexgan_lit.synthetic.human.noise import Array, Floats, bell, line_distance, linear, smoothstep
from fexgan_lit.synthetic.human.skin import beard_mask, brow_line
from fexgan_lit.synthetic.human.topology import topology

#: Points per hair.
STEPS = 4


@dataclass(frozen=True)
class Fuzz:
    """Hairs of STEPS points each.

    Attributes:
        corners: (N, 3) vertex indices of the triangle under a hair.
        weights: (N, 3) barycentric weights of its root.
        bend: (N, STEPS, 3) offset of the points: multiples of two edges of the triangle, and cm along its normal.
        paint: (N, 3) linear RGB.
        width: (N,) cm at the root.
    """

    corners: NDArray[np.int32]
    weights: Floats
    bend: Floats
    paint: Floats
    width: Floats


def _tie(points: Floats, corners: NDArray[np.int32], offsets: Floats) -> Floats:
    """Convert `offsets` (N, STEPS, 3) in cm at rest to multiples of the edges and the normal of their triangles."""
    a, b, c = (points[corners[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    frame = np.stack([b - a, c - a, normal], axis=-1)  # (N, 3, edge)
    return np.ascontiguousarray(np.linalg.solve(frame[:, None], offsets[..., None])[..., 0], np.float32)


def _scatter(
    points: Floats, triangles: NDArray[np.int32], density: Array, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int32], Floats]:
    """Draw corners (count, 3) and weights (count, 3) of random positions on triangles with (T,) `density`."""
    corner = points[triangles]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    chance = area * np.maximum(density, 0)
    picked = rng.choice(len(chance), size=count, p=chance / chance.sum())
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return triangles[picked], np.stack([1 - u - v, u, v], axis=1).astype(np.float32)


def _hairs(
    rest: Floats,
    corners: NDArray[np.int32],
    weights: Floats,
    way: Array,
    rise: Array,
    length: Array,
    droop: Array,
) -> Floats:
    """Return the offsets (N, STEPS, 3) of hairs along `way` (N, 3) with `rise` (N,), in cm per cm off the skin."""
    a, b, c = (rest[corners[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    way = way - (way * normal).sum(axis=1, keepdims=True) * normal
    way /= np.linalg.norm(way, axis=1, keepdims=True) + 1e-9
    t = np.linspace(0, 1, STEPS)[None, :, None]
    up = rise[:, None, None] * (t - 0.55 * t**2) * normal[:, None]
    offsets = length[:, None, None] * (t * way[:, None] + up) + droop[:, None] * t**2
    return _tie(rest, corners, offsets.astype(np.float32))


def _brows(who: Identity, rest: Floats, triangles: NDArray[np.int32], rng: np.random.Generator) -> Fuzz:
    count = int(1000 * who.brow_density * (0.5 + who.brow_width))
    middle = rest[triangles].mean(axis=1)
    line = brow_line(who)

    def wide(along: Array) -> Array:
        return who.brow_width * np.interp(along, [0.0, 0.12, 0.5, 1.0], [0.7, 1.0, 0.85, 0.25])

    far, along = line_distance(np.abs(middle[:, 0]), middle[:, 1], line)
    density = smoothstep(wide(along) + 0.25 - far, 0.0, 0.3) * (middle[:, 2] > 5)
    corners, weights = _scatter(rest, triangles, density, 3 * count, rng)
    root = np.einsum("nk,nkc->nc", weights, rest[corners])
    far, along = line_distance(np.abs(root[:, 0]), root[:, 1], line)
    keep = np.flatnonzero(far < wide(along) * np.sqrt(rng.random(len(far))) * 1.15)[:count]
    corners, weights, root, along = corners[keep], weights[keep], root[keep], along[keep]
    n, side = len(keep), np.sign(root[:, 0])
    below = np.interp(np.abs(root[:, 0]), [x for x, _ in line], [y for _, y in line]) - root[:, 1]
    up = np.interp(along, [0, 0.2, 0.6, 1.0], [1.3, 0.55, 0.05, -0.45]) + 0.6 * below + rng.normal(0, 0.16, n)
    way = np.stack([side * np.interp(along, [0, 0.25, 1], [0.35, 1, 1]), up, np.zeros(n)], axis=1)
    length = np.interp(along, [0, 0.3, 1], [0.5, 0.62, 0.45]) * rng.uniform(0.75, 1.15, n)
    bend = _hairs(rest, corners, weights, way, np.full(n, 0.35), length, np.zeros((n, 3)))
    paint = linear(who.brow_colour) * rng.uniform(0.8, 1.7, (n, 1))
    return Fuzz(corners, weights, bend, paint.astype(np.float32), np.full(n, 0.026, np.float32))


def _beard(who: Identity, rest: Floats, triangles: NDArray[np.int32], rng: np.random.Generator) -> Fuzz:
    count = int(9000 + 5000 * min(who.beard, 1.5))
    middle = rest[triangles].mean(axis=1)
    density = beard_mask(middle) ** 1.3
    if who.moustache_only:
        density = density * smoothstep(middle[:, 1], -3.9, -3.3) * smoothstep(3.3 - np.abs(middle[:, 0]), 0, 0.4)
        count //= 4
    corners, weights = _scatter(rest, triangles, density, count, rng)
    root = np.einsum("nk,nkc->nc", weights, rest[corners])
    side, n = np.sign(root[:, 0]), len(root)
    lip = smoothstep(root[:, 1], -3.6, -3.0) * smoothstep(3.0 - np.abs(root[:, 0]), 0, 0.8)
    way = np.stack([side * (0.15 + 0.75 * lip), np.full(n, -1.0), 0.1 * np.ones(n)], axis=1) + rng.normal(
        0, 0.22, (n, 3)
    )
    chin = smoothstep(-root[:, 1], 4.5, 8.0)
    length = who.beard * (0.4 + 0.8 * chin * bell(root[:, 0], 4.2) - 0.15 * lip) * rng.uniform(0.6, 1.15, n)
    droop = np.stack([np.zeros(n), -0.25 * length, np.zeros(n)], axis=1)
    bend = _hairs(rest, corners, weights, way, np.full(n, 0.6), length, droop)
    grey = rng.random((n, 1)) < 0.9 * max(0.0, who.age - 0.45)
    paint = np.where(grey, linear((168, 164, 160)), linear(who.hair_colour)) * rng.uniform(0.55, 1.25, (n, 1))
    return Fuzz(corners, weights, bend, paint.astype(np.float32), np.full(n, 0.045, np.float32))


#: Edges of the lids at rest on the right half of the image, from the inner to the outer corner.
_UPPER_LID = [
    (2.05, 3.58, 9.38),
    (2.59, 3.9, 9.6),
    (3.1, 4.04, 9.72),
    (3.58, 4.0, 9.68),
    (4.05, 3.83, 9.45),
    (4.55, 3.5, 8.9),
]
_LOWER_LID = [(2.3, 3.1, 9.45), (2.9, 2.86, 9.55), (3.5, 2.82, 9.48), (4.1, 3.02, 9.2), (4.5, 3.3, 8.9)]


def _lashes(who: Identity, rest: Floats, triangles: NDArray[np.int32], rng: np.random.Generator) -> Fuzz:
    """Grow lashes on the edges of the lids, to which they are attached: they turn down as an eye closes."""
    from scipy.spatial import cKDTree

    roots, ways, long = [], [], []
    for lid, count, size, lift in ((_UPPER_LID, 80, 0.38, 0.5), (_LOWER_LID, 34, 0.12, -0.5)):
        t = np.sort(rng.random(count))
        at = np.stack([np.interp(t, np.linspace(0, 1, len(lid)), axis) for axis in zip(*lid, strict=True)], axis=1)
        fan = np.stack([1.5 * (t - 0.42), np.full(count, lift), np.full(count, 0.75)], axis=1)
        for side in (-1.0, 1.0):
            roots.append(at * (side, 1, 1))
            ways.append((fan + rng.normal(0, 0.08, fan.shape)) * (side, 1, 1))
            long.append(size * (0.6 + 0.6 * who.lashes) * rng.uniform(0.75, 1.1, count) * (0.75 + 0.4 * t))
    root, way, length = np.concatenate(roots), np.concatenate(ways), np.concatenate(long)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    corners = triangles[cKDTree(rest[triangles].mean(axis=1)).query(root)[1]]
    weights = np.full((len(root), 3), 1 / 3, np.float32)
    start = root - rest[corners].mean(axis=1)
    t = np.linspace(0, 1, STEPS)[None, :, None]
    curl = np.array([0.0, 0.35, 0.0]) * np.sign(way[:, 1:2]) * length[:, None]
    offsets = start[:, None] + length[:, None, None] * t * way[:, None] + curl[:, None] * t**2
    upper = np.repeat([1.0, 1.0, 0.0, 0.0], (80, 80, 34, 34))[:, None]
    paint = linear(who.brow_colour) * (0.9 - 0.6 * upper) + 0.002
    bend = _tie(rest, corners, offsets.astype(np.float32))
    return Fuzz(
        corners, weights, bend, paint.astype(np.float32), np.full(len(root), 0.010 + 0.010 * who.lashes, np.float32)
    )


def _join(parts: list[Fuzz]) -> Fuzz:
    return Fuzz(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def grow_fuzz(who: Identity, model: FaceModel, seed: int) -> Fuzz:
    """Grow brows, lashes, and a beard if the person has one."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 0xF022)))
    form = topology(model)
    face = form.triangles[form.part == 0]
    parts = [_brows(who, model.vertices, face, rng), _lashes(who, model.vertices, face, rng)]
    if who.beard > 0:
        parts.append(_beard(who, model.vertices, face, rng))
    return _join(parts)


@njit(cache=True)
def place_fuzz(
    points: Floats,
    light: Floats,
    corners: NDArray[np.int32],
    weights: Floats,
    bend: Floats,
    paint: Floats,
    out: Floats,
    colour: Floats,
) -> None:
    """Return positions (N * STEPS, 3) and colours of a `Fuzz` on moved `points` (V, 3) under `light` (V, 3)."""
    steps = bend.shape[1]
    e1, e2, n = np.zeros(3), np.zeros(3), np.zeros(3)
    for h in range(corners.shape[0]):
        a, b, c = corners[h, 0], corners[h, 1], corners[h, 2]
        for q in range(3):
            e1[q] = points[b, q] - points[a, q]
            e2[q] = points[c, q] - points[a, q]
        n[0] = e1[1] * e2[2] - e1[2] * e2[1]
        n[1] = e1[2] * e2[0] - e1[0] * e2[2]
        n[2] = e1[0] * e2[1] - e1[1] * e2[0]
        length = np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2) + 1e-9
        for s in range(steps):
            shade = 0.75 + 0.35 * s / (steps - 1)
            for q in range(3):
                root = weights[h, 0] * points[a, q] + weights[h, 1] * points[b, q] + weights[h, 2] * points[c, q]
                got = weights[h, 0] * light[a, q] + weights[h, 1] * light[b, q] + weights[h, 2] * light[c, q]
                move = bend[h, s, 0] * e1[q] + bend[h, s, 1] * e2[q] + bend[h, s, 2] * n[q] / length
                out[h * steps + s, q] = root + move
                colour[h * steps + s, q] = (paint[h, q] + 0.01) * got * shade
