"""Colour of every visible sample: vertex light times texture, plus highlights."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.camera import CENTRE, DISTANCE
from fexgan_lit.synthetic.human.raster import Floats, Ints
from fexgan_lit.synthetic.human.topology import CLOTH, EYE, HEAD

#: Radius of the iris and of its dark rim, in radii of the eyeball; depth of its plane below the cornea.
IRIS, IRIS_DEPTH = 0.37, 0.80
_CAMERA_Y, _CAMERA_Z = CENTRE, DISTANCE


@njit(cache=True)
def _power(base: float, doublings: int) -> float:
    """Return `base` to the power 2^doublings."""
    for _ in range(doublings):
        base *= base
    return base


@njit(cache=True)
def fabric(rest: Floats, a: int, b: int, c: int, w0: float, w1: float) -> float:
    """Return the weave of cloth: a faint knit along two directions of the rest position."""
    w2 = 1.0 - w0 - w1
    x = w0 * rest[a, 0] + w1 * rest[b, 0] + w2 * rest[c, 0]
    y = w0 * rest[a, 1] + w1 * rest[b, 1] + w2 * rest[c, 1]
    return 1.0 + 0.05 * math.sin(x * 26.0 + 1.2 * math.sin(y * 13.0)) * math.sin(y * 31.0)


@njit(cache=True)
def eye_paint(direction: Floats, view: Floats, iris: Floats, noise: Floats, out: Floats) -> None:
    """Write the colour of the eyeball to `out` (3,); `direction` and `view` are unit vectors in the eye's frame.

    The iris is a plane below the clear cornea, so that it shifts like a real iris when the eye rotates.
    """
    x, y, z = direction[0], direction[1], direction[2]
    if z > 0.0:
        reach = (z - IRIS_DEPTH) / max(0.3, view[2]) * 0.45
        ix, iy = x - view[0] * reach * (z > IRIS_DEPTH), y - view[1] * reach * (z > IRIS_DEPTH)
    else:
        ix, iy = 1.0, 1.0
    far = math.sqrt(ix * ix + iy * iy) / IRIS
    white = min(1.0, max(0.0, (far - 0.95) / 0.13))
    shade = max(0.0, math.sqrt(x * x + y * y) - 0.45)
    n = noise[int((x + 1) * 90) & 255, int((y + 1) * 90) & 255]
    out[0] = 0.80 - 0.16 * shade - 0.03 * n
    out[1] = 0.745 - 0.34 * shade - 0.06 * n
    out[2] = 0.715 - 0.36 * shade - 0.06 * n
    if white < 1.0:
        angle = (math.atan2(iy, ix) + math.pi) * (256 / (2 * math.pi))
        fibre = 0.5 * noise[int(angle) & 255, int(far * 10) & 255] + 0.5 * noise[int(angle * 3) & 255, int(far * 5)]
        ring = min(1.0, max(0.0, (far - 0.74) / 0.2))
        pupil = min(1.0, max(0.0, (far - 0.34) / 0.07))
        level = (0.45 + 0.75 * fibre + 0.35 * (1 - far)) * (1.0 - 0.78 * ring * ring) * pupil
        lit = 1.0 - 0.35 * iy / IRIS  # light that enters from above gathers below
        for c in range(3):
            out[c] = white * out[c] + (1.0 - white) * (iris[c] * level * lit + 0.004)


class Surface(NamedTuple):
    """The static data of a person.

    Attributes:
        triangles: (T, 3) vertex indices.
        part: (T,) material of a triangle, see `topology`.
        uv: (T, 3, 2) texture coordinates of FACE and HEAD.
        rest: (V, 3) position at rest in cm; for eyes the direction from the centre of the eye.
        tint: (V, 4) linear RGB of vertices without texture, and their gloss.
    """

    triangles: Ints
    part: NDArray[np.uint8]
    uv: Floats
    rest: Floats
    tint: Floats


class Moved(NamedTuple):
    """The vertices of one frame.

    Attributes:
        points: (V, 3) positions in cm.
        normals: (V, 3) unit normals.
        light: (V, 3) arriving light, see `gather`.
        seen: (V, 2) fraction of the key light, and of all light, that arrives.
    """

    points: Floats
    normals: Floats
    light: Floats
    seen: Floats


class Paint(NamedTuple):
    """Textures and colours of one frame.

    Attributes:
        face, head: (R, R, 4) linear RGB and gloss of the two skin tiles.
        relief: (R, R) height of the face's skin, mm: pores, wrinkles.
        iris: (3,) linear RGB.
        eye_turn: (3, 3) rotation of the eyes by head and gaze.
        noise: (256, 256) in 0..1.
    """

    face: Floats
    head: Floats
    relief: Floats
    iris: Floats
    eye_turn: Floats
    noise: Floats


class Gloss(NamedTuple):
    """Lamps that cause highlights: (G, 3) directions and (G, 3) linear RGB."""

    towards: Floats
    colour: Floats


class Seen(NamedTuple):
    """The visible triangle of each of S x S samples.

    Attributes:
        ids: (S, S) index of the triangle, -1 where empty.
        depth: (S, S) distance from the camera.
        weights: (S, S, 2) barycentric weights of the triangle's first two corners.
    """

    ids: Ints
    depth: Floats
    weights: Floats


class Scratch(NamedTuple):
    """Vectors (3,) that are overwritten for every sample."""

    colour: Floats
    normal: Floats
    sight: Floats
    slope: Floats
    own: Floats
    seen_from: Floats


@njit(cache=True)
def _scratch() -> Scratch:
    zero = np.zeros(3, np.float32)
    return Scratch(zero, zero.copy(), zero.copy(), zero.copy(), zero.copy(), zero.copy())


@njit(cache=True)
def shade(seen: Seen, surface: Surface, moved: Moved, paint: Paint, gloss: Gloss, image: Floats) -> None:
    """Fill `image` (S, S, 3), linear RGB, wherever a triangle is visible."""
    pixel = np.zeros(3, np.float32)
    scratch = _scratch()
    size = image.shape[0]
    for top in range(0, size, 2):
        for left in range(0, size, 2):
            for corner in range(4):
                i, j = top + (corner >> 1), left + (corner & 1)
                k = seen.ids[i, j]
                if k < 0:
                    continue
                like = _twin(seen, surface.part, top, left, corner)
                if like >= 0:  # samples of one pixel on one surface share a colour
                    for q in range(3):
                        image[i, j, q] = image[top + (like >> 1), left + (like & 1), q]
                    continue
                w0, w1 = seen.weights[i, j, 0], seen.weights[i, j, 1]
                _shade_sample(k, w0, w1, surface, moved, paint, gloss, scratch, pixel)
                for q in range(3):
                    image[i, j, q] = pixel[q]


@njit(cache=True)
def _twin(seen: Seen, part: NDArray[np.uint8], top: int, left: int, corner: int) -> int:
    """Return an earlier sample of a block of four that shows the same surface as `corner`; -1 if there is none."""
    i, j = top + (corner >> 1), left + (corner & 1)
    kind = part[seen.ids[i, j]]
    if kind == EYE:
        return -1
    for other in range(corner):
        y, x = top + (other >> 1), left + (other & 1)
        near = abs(seen.depth[y, x] - seen.depth[i, j]) < 0.12
        if near and seen.ids[y, x] >= 0 and part[seen.ids[y, x]] == kind:
            return other
    return -1


@njit(cache=True)
def _shade_sample(
    k: int,
    w0: float,
    w1: float,
    surface: Surface,
    moved: Moved,
    paint: Paint,
    gloss: Gloss,
    scratch: Scratch,
    out: Floats,
) -> None:
    """Write the linear RGB of one sample of triangle `k` to `out` (3,)."""
    colour, n, view, grad = scratch.colour, scratch.normal, scratch.sight, scratch.slope
    a, b, c = surface.triangles[k, 0], surface.triangles[k, 1], surface.triangles[k, 2]
    w2 = 1.0 - w0 - w1
    for q in range(3):
        n[q] = w0 * moved.normals[a, q] + w1 * moved.normals[b, q] + w2 * moved.normals[c, q]
        view[q] = -(w0 * moved.points[a, q] + w1 * moved.points[b, q] + w2 * moved.points[c, q])
        grad[q] = 0.0
    view[1] += _CAMERA_Y
    view[2] += _CAMERA_Z
    _unit(view)
    _unit(n)
    key = w0 * moved.seen[a, 0] + w1 * moved.seen[b, 0] + w2 * moved.seen[c, 0]
    free = w0 * moved.seen[a, 1] + w1 * moved.seen[b, 1] + w2 * moved.seen[c, 1]
    kind, dark = surface.part[k], 1.0
    if kind <= HEAD:
        strength, dark = _skin(k, w0, w1, surface, moved, paint, colour, grad)
    elif kind == EYE:
        strength = 1.6
        dark = min(1.0, 0.30 + 0.95 * free)  # lids and lashes keep light off the eyeball
        _eye(a, b, c, w0, w1, surface, paint, scratch)
    else:
        strength = _painted(a, b, c, w0, w1, kind == CLOTH, surface, colour)
    change = _relight(grad, gloss, key)
    for q in range(3):
        n[q] -= grad[q]
    _unit(n)
    spec = strength * _highlight(n, view, gloss, key, free, kind)
    for q in range(3):
        got = w0 * moved.light[a, q] + w1 * moved.light[b, q] + w2 * moved.light[c, q]
        out[q] = colour[q] * dark * max(0.25 * got, got + change) + spec


@njit(cache=True)
def _skin(
    k: int, w0: float, w1: float, surface: Surface, moved: Moved, paint: Paint, colour: Floats, grad: Floats
) -> tuple[float, float]:
    """Write colour and slope of the skin to `colour` and `grad`; return its gloss and the darkness of its folds."""
    uv, w2 = surface.uv, 1.0 - w0 - w1
    u = w0 * uv[k, 0, 0] + w1 * uv[k, 1, 0] + w2 * uv[k, 2, 0]
    v = w0 * uv[k, 0, 1] + w1 * uv[k, 1, 1] + w2 * uv[k, 2, 1]
    if surface.part[k] == HEAD:
        return _sample(paint.head, u, v, colour), 1.0
    return _sample(paint.face, u, v, colour), _carve(k, surface, moved.points, paint.relief, u, v, grad)


@njit(cache=True)
def _eye(a: int, b: int, c: int, w0: float, w1: float, surface: Surface, paint: Paint, scratch: Scratch) -> None:
    """Write the colour of the eyeball to `scratch.colour`."""
    own, seen_from, view = scratch.own, scratch.seen_from, scratch.sight
    rest, turn = surface.rest, paint.eye_turn
    for q in range(3):
        own[q] = w0 * rest[a, q] + w1 * rest[b, q] + (1.0 - w0 - w1) * rest[c, q]
        seen_from[q] = turn[0, q] * view[0] + turn[1, q] * view[1] + turn[2, q] * view[2]
    _unit(own)
    eye_paint(own, seen_from, paint.iris, paint.noise, scratch.colour)


@njit(cache=True)
def _painted(a: int, b: int, c: int, w0: float, w1: float, woven: bool, surface: Surface, colour: Floats) -> float:
    """Write the colour of a surface with coloured vertices to `colour`; return its gloss."""
    tint, w2 = surface.tint, 1.0 - w0 - w1
    weave = fabric(surface.rest, a, b, c, w0, w1) if woven else 1.0
    for q in range(3):
        colour[q] = weave * (w0 * tint[a, q] + w1 * tint[b, q] + w2 * tint[c, q])
    return w0 * tint[a, 3] + w1 * tint[b, 3] + w2 * tint[c, 3]


@njit(cache=True)
def _unit(vector: Floats) -> None:
    length = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2) + 1e-9
    for q in range(3):
        vector[q] /= length


@njit(cache=True)
def _sample(texture: Floats, u: float, v: float, out: Floats) -> float:
    """Write the bilinear RGB of `texture` (R, R, 4) to `out`; return its fourth channel."""
    size = texture.shape[0]
    x = min(size - 1.001, max(0.0, u * size - 0.5))
    y = min(size - 1.001, max(0.0, v * size - 0.5))
    j, i = int(x), int(y)
    x -= j
    y -= i
    gloss = 0.0
    for q in range(4):
        low = texture[i, j, q] + x * (texture[i, j + 1, q] - texture[i, j, q])
        high = texture[i + 1, j, q] + x * (texture[i + 1, j + 1, q] - texture[i + 1, j, q])
        value = low + y * (high - low)
        if q < 3:
            out[q] = value
        else:
            gloss = value
    return gloss


@njit(cache=True)
def _carve(k: int, surface: Surface, points: Floats, relief: Floats, u: float, v: float, grad: Floats) -> float:
    """Write the slope of the relief on the surface to `grad` (3,); return the darkness at the bottom of a fold."""
    size = relief.shape[0]
    x = min(size - 1.001, max(0.0, u * size - 0.5))
    y = min(size - 1.001, max(0.0, v * size - 0.5))
    j, i = int(x), int(y)
    x -= j
    y -= i
    h00, h01, h10, h11 = relief[i, j], relief[i, j + 1], relief[i + 1, j], relief[i + 1, j + 1]
    du = (h01 - h00) * (1 - y) + (h11 - h10) * y
    dv = (h10 - h00) * (1 - x) + (h11 - h01) * x
    if du != 0.0 or dv != 0.0:
        _surface_slope(k, surface, points, du * size * 0.1, dv * size * 0.1, grad)
    height = (h00 * (1 - x) + h01 * x) * (1 - y) + (h10 * (1 - x) + h11 * x) * y
    return max(0.5, 1.0 + 0.5 * min(0.0, height))


@njit(cache=True)
def _surface_slope(k: int, surface: Surface, points: Floats, du: float, dv: float, grad: Floats) -> None:
    """Convert slopes per texture unit, in cm, to a vector on the triangle in `grad` (3,)."""
    uv = surface.uv
    a, b, c = surface.triangles[k, 0], surface.triangles[k, 1], surface.triangles[k, 2]
    s1, t1 = uv[k, 1, 0] - uv[k, 0, 0], uv[k, 1, 1] - uv[k, 0, 1]
    s2, t2 = uv[k, 2, 0] - uv[k, 0, 0], uv[k, 2, 1] - uv[k, 0, 1]
    turn = s1 * t2 - s2 * t1
    if abs(turn) < 1e-12:
        return
    e1x, e1y, e1z = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
    e2x, e2y, e2z = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
    e11 = e1x * e1x + e1y * e1y + e1z * e1z
    e22 = e2x * e2x + e2y * e2y + e2z * e2z
    e12 = e1x * e2x + e1y * e2y + e1z * e2z
    det = e11 * e22 - e12 * e12 + 1e-12
    # change of height along both edges, then the vector in their plane with these inner products
    d1, d2 = s1 * du + t1 * dv, s2 * du + t2 * dv
    m1, m2 = (d1 * e22 - d2 * e12) / det, (d2 * e11 - d1 * e12) / det
    grad[0] = m1 * e1x + m2 * e2x
    grad[1] = m1 * e1y + m2 * e2y
    grad[2] = m1 * e1z + m2 * e2z
    steep = math.sqrt(grad[0] ** 2 + grad[1] ** 2 + grad[2] ** 2)
    if steep > 0.8:
        for q in range(3):
            grad[q] *= 0.8 / steep


@njit(cache=True)
def _relight(grad: Floats, gloss: Gloss, key: float) -> float:
    """Return the change of the key and fill light where the relief tilts a normal by -grad."""
    towards, total = gloss.towards, 0.0
    for k in range(2):
        lean = -(grad[0] * towards[k, 0] + grad[1] * towards[k, 1] + grad[2] * towards[k, 2])
        total += lean * gloss.colour[k, 1] * (key if k == 0 else 1.0)
    return 0.8 * total


@njit(cache=True)
def _highlight(n: Floats, view: Floats, gloss: Gloss, key: float, free: float, kind: int) -> float:
    """Return the sum of the lamps' highlights, grey, with a sheen at grazing angles; sharp windows on wet eyes."""
    edge = 1.0 - max(0.0, n[0] * view[0] + n[1] * view[1] + n[2] * view[2])
    fresnel = 0.35 + 0.65 * edge * edge * edge
    hard = 4 if kind <= HEAD else 5
    towards, total = gloss.towards, 0.0
    for k in range(towards.shape[0]):
        hx, hy, hz = towards[k, 0] + view[0], towards[k, 1] + view[1], towards[k, 2] + view[2]
        length = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
        cosine = max(0.0, (n[0] * hx + n[1] * hy + n[2] * hz) / length)
        if kind == EYE:
            level = min(1.0, max(0.0, (cosine - 0.9915) / 0.004)) * (2.6 if k == 0 else 0.5 * (k == 1))
        else:
            level = 0.55 * _power(cosine, hard) + 0.8 * _power(cosine, hard + 2)
        total += level * gloss.colour[k, 1] * (key if k == 0 else free)
    return total * fresnel * (0.4 + 0.6 * free)
