"""Hair, strand by strand: guides follow comb direction and gravity around the head, strands follow their guide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.noise import Array, Floats, noise, smoothstep
from fexgan_lit.synthetic.human.space import Space, push_out
from fexgan_lit.synthetic.human.styles import Lock, Style

#: Hairline at rest: height in cm by angle in degrees from the front of the head to its back.
_ANGLES = (0.0, 18.0, 34.0, 46.0, 56.0, 64.0, 72.0, 79.0, 88.0, 102.0, 113.0, 124.0, 142.0, 162.0, 180.0)
_HEIGHTS = (10.5, 10.6, 10.5, 9.4, 7.0, 3.6, 1.4, 2.2, 4.4, 4.3, 2.2, -0.8, -3.2, -4.6, -4.8)


@dataclass(frozen=True)
class Strands:
    """Concatenated polylines: (P, 3) cm, (N + 1,) starts, (P,) 0 at a root to 1 at a tip, (N,) random 0..1."""

    points: Floats
    starts: NDArray[np.int32]
    along: Floats
    lot: Floats


@dataclass(frozen=True)
class Scalp:
    """The head under the hair.

    Attributes:
        rest: (V, 3) mean head, which determines where hair grows.
        points: (V, 3) the person's head.
        normals: (V, 3) normals of the person's head.
        triangles: (T, 3) of its skin.
        space: distance from the person's body, clothes included.
    """

    rest: Floats
    points: Floats
    normals: Floats
    triangles: NDArray[np.int32]
    space: Space


def _angle(p: Floats) -> Array:
    return np.degrees(np.arctan2(np.abs(p[..., 0]), p[..., 2] - 0.5))


def above_hairline(p: Floats, style: Style) -> Array:
    """Return the height in cm of rest positions (..., 3) above the hairline; negative below it and on the ears."""
    angle = _angle(p)
    line = np.interp(angle, _ANGLES, _HEIGHTS)
    line = line + style.temples * np.exp(-(((angle - 40.0) / 13.0) ** 2)) * 1.6
    front = np.interp(angle, [0.0, 55.0, 80.0, 100.0, 180.0], [1.0, 1.0, 0.35, 0.3, 0.4])
    if style.hairline < 10:
        line = line + style.hairline * front
    else:  # bald on top: the remaining hair is below a rim
        rim = np.interp(angle, [0.0, 60.0, 75.0, 110.0, 180.0], [-9.0, -9.0, 6.4, 8.4, 7.2])
        return np.minimum(_off_ears(p, p[..., 1] - line), rim - p[..., 1])
    return _off_ears(p, p[..., 1] - line)


def _off_ears(p: Floats, above: Array) -> Array:
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    ear = (x > 7.3) & (y < 4.6) & (z < 1.9) & (z > -2.9) & (y > -2.0)
    return np.where(ear, -3.0, above)


def scalp_cover(p: Floats, style: Style) -> Array:
    """Return the darkening of the skin by hair roots at rest positions (..., 3), 0..1; ragged at the hairline."""
    if not style.locks:
        return np.zeros(p.shape[:-1], np.float32)
    ragged = above_hairline(p, style) + 1.1 * (noise(p, 2.5, 2, 41) - 0.5)
    return smoothstep(ragged, 0.1, 1.1)


def _weight(p: Floats, style: Style, region: str) -> Array:
    above = above_hairline(p, style) + 0.5 * (noise(p, 3.0, 1, 42) - 0.5)
    grown = smoothstep(above, -0.15, 0.7)
    top = smoothstep(p[..., 1] - 0.12 * np.abs(p[..., 2]), 8.4, 9.6)
    if region == "top":
        return grown * top
    if region == "sides":
        return grown * (1.0 - 0.8 * top)
    if region == "fringe":
        return grown * smoothstep(38.0 - _angle(p), 0.0, 8.0) * smoothstep(3.4 - above, 0.0, 0.8)
    return grown


def _roots(
    scalp: Scalp, style: Style, region: str, count: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Draw random roots on the scalp: (n, 3) positions, unit normals and rest positions."""
    corners = scalp.rest[scalp.triangles]  # (T, corner, 3)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chance = area * np.maximum(_weight(corners.mean(axis=1), style, region), 0.0)
    picked = rng.choice(len(chance), size=count, p=chance / chance.sum())
    u, v = rng.random((2, count), np.float32)
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    w = np.stack([1 - u - v, u, v], axis=1)[:, :, None]  # (n, corner, 1)
    index = scalp.triangles[picked]
    normal = (scalp.normals[index] * w).sum(axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return (scalp.points[index] * w).sum(axis=1), normal, (scalp.rest[index] * w).sum(axis=1)


def _unit(v: Array) -> Array:
    return v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-6)


def _comb(p: Floats, lock: Lock, style: Style, aside: Floats) -> Floats:
    """Return the comb direction (n, 3) at `p`; `aside` (n,) is the side of the parting, -1 or 1."""
    pull = np.zeros_like(p)
    if lock.comb == "down":
        pull[:] = (0.0, -1.0, -0.35)
    elif lock.comb == "forward":
        pull[:] = (0.0, -0.25, 1.0)
        pull[:, 0] = 0.06 * p[:, 0]
    elif lock.comb == "back":
        pull[:] = (0.0, 0.05, -1.0)
        pull[:, 0] = -0.06 * p[:, 0] * smoothstep(p[:, 1], 5.0, 9.0)
        pull[:, 1] -= smoothstep(4.0 - p[:, 2], 0.0, 7.0) * (1.0 + 0.8 * smoothstep(9.0 - p[:, 1], 0.0, 5.0))
    elif lock.comb == "part":
        # away from the parting as far as the temples, from there straight down
        pull[:, 0] = aside * 1.3 * smoothstep(6.6 - aside * p[:, 0], 0.0, 3.0) * smoothstep(p[:, 1], 2.0, 8.0)
        pull[:, 1] = -0.9
        pull[:, 2] = -0.3 * smoothstep(p[:, 1], 4.0, 11.0)
        # hair in front of the ears falls in front of the shoulders, not over them
        low, fore = smoothstep(p[:, 1], -4.0, -8.0), smoothstep(p[:, 2], -3.0, 1.0)
        pull[:, 2] += low * (1.6 * fore - 0.5)
        pull[:, 0] -= low * 0.12 * np.sign(p[:, 0]) * np.clip(np.abs(p[:, 0]) - 7.0, 0.0, 6.0)
    elif lock.comb == "knot":
        pull = np.asarray(style.knot, np.float32) - p
    return _unit(pull)


def _clear(p: Floats) -> None:
    """Push strands sideways off the face, in place."""
    x = np.abs(p[:, 0])
    over = (p[:, 2] > 2.5) & (p[:, 1] < 9.3)
    least = 6.9 - 0.35 * np.clip(p[:, 1] - 5.0, 0.0, 4.5) - 0.12 * np.clip(-p[:, 1], 0.0, 12.0)
    short = np.where(over, np.maximum(0.0, least - x), 0.0)
    p[:, 0] += np.where(p[:, 0] < 0, -1, 1) * short * 0.6


def _grow(
    root: Floats, normal: Floats, length: Floats, lock: Lock, style: Style, space: Space, rng: np.random.Generator
) -> Floats:
    """Grow guides (n, steps, 3) from their roots."""
    count = len(root)
    layer = (0.12 + lock.layer * rng.random(count)).astype(np.float32)
    aside = np.where(root[:, 0] + rng.normal(0, 0.35, count) > style.part, 1.0, -1.0).astype(np.float32)
    stray = rng.normal(0, 0.10, (count, 3)).astype(np.float32)
    comb = normal if lock.comb == "out" else _comb(root, lock, style, aside)
    heading = _unit(lock.lift * normal + (1 - 0.8 * lock.lift) * comb + stray)
    step = (length / (lock.steps - 1)).astype(np.float32)[:, None]
    path = np.empty((count, lock.steps, 3), np.float32)
    path[:, 0] = root
    p = root.copy()
    for k in range(1, lock.steps):
        if lock.comb != "out":
            comb = _comb(p, lock, style, aside)
        fall = lock.gravity * (0.4 + 1.2 * k / lock.steps)  # heavier towards the tip
        heading = _unit(heading * (1 - lock.comb_pull) + lock.comb_pull * comb + 0.15 * stray)
        heading[:, 1] -= fall
        heading = _unit(heading)
        p = np.ascontiguousarray(p + step * heading, np.float32)
        if lock.comb == "knot":
            p = _stop_at(p, style.knot, path[:, k - 1])
        push_out(p, layer, space.distance)
        heading = _unit(0.5 * heading + 0.5 * _unit(p - path[:, k - 1]))
        if style.clear_face and lock.region != "fringe":
            _clear(p)
        path[:, k] = p
    return path


def _stop_at(p: Floats, knot: tuple[float, float, float], before: Floats) -> Floats:
    """End strands inside the knot, so that they do not pass through it."""
    near = np.linalg.norm(before - np.asarray(knot, np.float32), axis=1) < 0.9
    return np.ascontiguousarray(np.where(near[:, None], before, p), np.float32)


def _knot_guides(lock: Lock, style: Style, space: Space, rng: np.random.Generator) -> Floats:
    """Return the guides (guides, steps, 3) of a bun, wound around its centre, or of a tail that falls from the knot."""
    n, t = lock.guides, np.linspace(0, 1, lock.steps, dtype=np.float32)
    knot = np.asarray(style.knot, np.float32)
    if lock.region == "bun":
        axis = _unit(rng.normal(0, 1, (n, 3)) * (1.0, 0.45, 1.0) + (0, 0.2, 0))
        start = _unit(np.cross(axis, rng.normal(0, 1, (n, 3))))
        other = np.cross(axis, start)
        turn = (t * 2.6)[None, :, None]
        ball = start[:, None] * np.cos(turn) + other[:, None] * np.sin(turn)
        radius = 2.7 * (0.78 + 0.22 * rng.random((n, 1, 1)) ** 0.5)
        return (knot + np.array([0, 1.2, -0.6]) + ball * radius * np.array([1.05, 0.92, 0.9])).astype(np.float32)
    path = np.empty((n, lock.steps, 3), np.float32)
    spot = rng.normal(0, 0.55, (n, 3)).astype(np.float32)
    p, heading = np.ascontiguousarray(knot + spot), _unit(np.tile([0.7, 0.1, -0.6], (n, 1)) + 0.2 * spot)
    step = lock.length[0] / (lock.steps - 1)
    for k in range(lock.steps):
        path[:, k] = p
        sweep = np.array([0.55 * (p[:, 0].mean() < 8.5), -1.0, 0.75 * (k > lock.steps // 4 and p[:, 2].mean() < 2.0)])
        heading = _unit(0.6 * heading + 0.4 * _unit(sweep + 0.05 * spot))
        p = np.ascontiguousarray(p + heading * step, np.float32)
        push_out(p, np.full(n, 0.7, np.float32), space.distance)
    return path


def _follow(guides: Floats, root: Floats | None, lock: Lock, rng: np.random.Generator) -> Floats:
    """Return strands (strands, steps, 3) that run beside the guide with the nearest root and join it at the tip."""
    from scipy.spatial import cKDTree

    n, k = lock.strands, lock.steps
    t = np.linspace(0, 1, k, dtype=np.float32)[None, :, None]
    if root is None:
        mine = rng.integers(len(guides), size=n)
        offset = rng.normal(0, 0.28, (n, 3)).astype(np.float32)
    else:
        mine = cKDTree(guides[:, 0]).query(root)[1]
        offset = (root - guides[mine, 0]).astype(np.float32)
    path = guides[mine]
    shrink = 1 - lock.clump * smoothstep(t, 0.05, 0.8)
    out = path + offset[:, None] * shrink
    drift = rng.normal(0, 1, (n, 1, 3)).astype(np.float32) * lock.frizz * t**1.3
    rough = rng.normal(0, 1, (n, k, 3)).astype(np.float32) * (0.10 * lock.frizz) * np.minimum(1, 4 * t)
    return out + drift + rough + _curl(path, mine, len(guides), lock, t, rng)


def _curl(
    path: Floats, mine: NDArray[np.int64], guides: int, lock: Lock, t: Floats, rng: np.random.Generator
) -> Floats:
    """Return the offsets (n, steps, 3) of curls: a helix around the path, in phase within a lock."""
    if lock.wave == 0.0:
        return np.zeros_like(path)
    ahead = _unit(np.gradient(path, axis=1).astype(np.float32))
    across = _unit(np.cross(ahead, np.array([0.31, 0.2, 0.93], np.float32)))
    up = np.cross(ahead, across)
    far = np.cumsum(np.linalg.norm(np.diff(path, axis=1, prepend=path[:, :1]), axis=2), axis=1)
    phase = (rng.random(guides) * 2 * math.pi)[mine] + rng.normal(0, 0.35, len(mine))
    pitch = lock.turns * (0.75 + 0.5 * rng.random(guides))[mine]
    turn = (2 * math.pi * far * pitch[:, None] + phase[:, None]).astype(np.float32)[..., None]
    size = lock.wave * smoothstep(t, 0.0, 0.35)
    return (size * (across * np.cos(turn) + up * np.sin(turn))).astype(np.float32)


def grow_lock(scalp: Scalp, style: Style, lock: Lock, seed: int) -> Strands:
    """Grow the strands of one lock of a style; the same seed gives the same hair."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 0x4A1)))
    if lock.region in ("bun", "tail"):
        guides = _knot_guides(lock, style, scalp.space, rng)
        paths = _follow(guides, None, lock, rng)
    else:
        root, normal, rest = _roots(scalp, style, lock.region, lock.guides, rng)
        rim = 1 - smoothstep(above_hairline(rest, style), 0.3, 6.5)
        length = lock.length[0] + (lock.length[1] - lock.length[0]) * rim
        length = (length * rng.uniform(0.8, 1.08, len(root))).astype(np.float32)
        guides = _grow(root.astype(np.float32), normal.astype(np.float32), length, lock, style, scalp.space, rng)
        paths = _follow(guides, _roots(scalp, style, lock.region, lock.strands, rng)[0].astype(np.float32), lock, rng)
    points = np.ascontiguousarray(paths.reshape(-1, 3), np.float32)  # (n, steps, 3) -> (P, 3)
    along = np.tile(np.linspace(0, 1, lock.steps, dtype=np.float32), lock.strands)
    push_out(points, (0.08 * np.minimum(1, 8 * along)).astype(np.float32), scalp.space.distance)
    starts = np.arange(0, len(points) + 1, lock.steps, dtype=np.int32)
    return Strands(points, starts, along, rng.random(lock.strands, np.float32))
