"""Colour of every visible sample: vertex light times texture, plus highlights."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.camera import CENTRE, DISTANCE
from fexgan_lit.synthetic.human.raster import Floats, Ints
from fexgan_lit.synthetic.human.topology import CLOTH, EYE, HEAD

#: Radius of the iris and of its dark rim, in radii of the eyeball; depth of its plane below the cornea.
IRIS, IRIS_DEPTH = 0.37, 0.80
_CAMERA_Y, _CAMERA_Z = CENTRE, DISTANCE

#: Three float32, a colour or a vector: a tuple stays in registers, where an array would be counted and copied.
Three = tuple[Any, Any, Any]
_FLAT = (np.float32(0.0), np.float32(0.0), np.float32(0.0))


# error_model="numpy" everywhere: without the checks for a division by zero shading takes nine tenths of the time
@njit(cache=True, error_model="numpy")
def _power(base: float, doublings: int) -> float:
    """Return `base` to the power 2^doublings."""
    for _ in range(doublings):
        base *= base
    return base


@njit(cache=True, error_model="numpy")
def fabric(rest: Floats, a: int, b: int, c: int, w0: float, w1: float) -> float:
    """Return the weave of cloth: a faint knit along two directions of the rest position."""
    w2 = 1.0 - w0 - w1
    x = w0 * rest[a, 0] + w1 * rest[b, 0] + w2 * rest[c, 0]
    y = w0 * rest[a, 1] + w1 * rest[b, 1] + w2 * rest[c, 1]
    return 1.0 + 0.05 * math.sin(x * 26.0 + 1.2 * math.sin(y * 13.0)) * math.sin(y * 31.0)


@njit(cache=True, error_model="numpy")
def eye_paint(direction: Three, view: Three, iris: Floats, noise: Floats) -> Three:
    """Return the colour of the eyeball; `direction` and `view` are unit vectors in the eye's frame.

    The iris is a plane below the clear cornea, so that it shifts like a real iris when the eye rotates.
    """
    x, y, z = direction
    if z > 0.0:
        reach = (z - IRIS_DEPTH) / max(0.3, view[2]) * 0.45
        ix, iy = x - view[0] * reach * (z > IRIS_DEPTH), y - view[1] * reach * (z > IRIS_DEPTH)
    else:
        ix, iy = 1.0, 1.0
    far = math.sqrt(ix * ix + iy * iy) / IRIS
    white = min(1.0, max(0.0, (far - 0.95) / 0.13))
    shade = max(0.0, math.sqrt(x * x + y * y) - 0.45)
    n = noise[int((x + 1) * 90) & 255, int((y + 1) * 90) & 255]
    red = np.float32(0.80 - 0.16 * shade - 0.03 * n)
    green = np.float32(0.745 - 0.34 * shade - 0.06 * n)
    blue = np.float32(0.715 - 0.36 * shade - 0.06 * n)
    if white < 1.0:
        angle = (math.atan2(iy, ix) + math.pi) * (256 / (2 * math.pi))
        fibre = 0.5 * noise[int(angle) & 255, int(far * 10) & 255] + 0.5 * noise[int(angle * 3) & 255, int(far * 5)]
        ring = min(1.0, max(0.0, (far - 0.74) / 0.2))
        pupil = min(1.0, max(0.0, (far - 0.34) / 0.07))
        level = (0.45 + 0.75 * fibre + 0.35 * (1 - far)) * (1.0 - 0.78 * ring * ring) * pupil
        lit = 1.0 - 0.35 * iy / IRIS  # light that enters from above gathers below
        red = np.float32(white * red + (1.0 - white) * (iris[0] * level * lit + 0.004))
        green = np.float32(white * green + (1.0 - white) * (iris[1] * level * lit + 0.004))
        blue = np.float32(white * blue + (1.0 - white) * (iris[2] * level * lit + 0.004))
    return red, green, blue


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


@njit(cache=True, error_model="numpy")
def shade(seen: Seen, surface: Surface, moved: Moved, paint: Paint, gloss: Gloss, image: Floats) -> None:
    """Fill `image` (S, S, 3), linear RGB, wherever a triangle is visible."""
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
                colour = _shade_sample(k, w0, w1, surface, moved, paint, gloss)
                for q in range(3):
                    image[i, j, q] = colour[q]


@njit(cache=True, error_model="numpy")
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


@njit(cache=True, error_model="numpy")
def _shade_sample(k: int, w0: float, w1: float, surface: Surface, moved: Moved, paint: Paint, gloss: Gloss) -> Three:
    """Return the linear RGB of one sample of triangle `k`."""
    # taken out before any branch, so that the compiler need not count references to them
    triangles, part, uv, rest, tint = surface
    points, normals, light, seen = moved
    face, head, relief, iris, turn, noise = paint
    towards, lamps = gloss
    a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
    w2 = 1.0 - w0 - w1
    px, py, pz = _mixed(points, a, b, c, w0, w1)
    view = _unit((-px, np.float32(-py + _CAMERA_Y), np.float32(-pz + _CAMERA_Z)))
    n = _unit(_mixed(normals, a, b, c, w0, w1))
    key = w0 * seen[a, 0] + w1 * seen[b, 0] + w2 * seen[c, 0]
    free = w0 * seen[a, 1] + w1 * seen[b, 1] + w2 * seen[c, 1]
    kind, dark, slope = part[k], 1.0, _FLAT
    if kind <= HEAD:
        u = w0 * uv[k, 0, 0] + w1 * uv[k, 1, 0] + w2 * uv[k, 2, 0]
        v = w0 * uv[k, 0, 1] + w1 * uv[k, 1, 1] + w2 * uv[k, 2, 1]
        if kind == HEAD:
            colour, strength = _sample(head, u, v)
        else:
            colour, strength = _sample(face, u, v)
            du, dv, dark = _carve(relief, u, v)
            if du != 0.0 or dv != 0.0:
                slope = _surface_slope(k, a, b, c, uv, points, du, dv)
    elif kind == EYE:
        dark = min(1.0, 0.30 + 0.95 * free)  # lids and lashes keep light off the eyeball
        own = _unit(_mixed(rest, a, b, c, w0, w1))
        colour, strength = eye_paint(own, _turned_back(turn, view), iris, noise), 1.6
    else:
        weave = fabric(rest, a, b, c, w0, w1) if kind == CLOTH else 1.0
        colour, strength = _tinted(tint, a, b, c, w0, w1, weave)
    change = _relight(slope, towards, lamps, key)
    n = _unit((n[0] - slope[0], n[1] - slope[1], n[2] - slope[2]))
    spec = strength * _highlight(n, view, towards, lamps, key, free, kind)
    red = w0 * light[a, 0] + w1 * light[b, 0] + w2 * light[c, 0]
    green = w0 * light[a, 1] + w1 * light[b, 1] + w2 * light[c, 1]
    blue = w0 * light[a, 2] + w1 * light[b, 2] + w2 * light[c, 2]
    return (
        np.float32(colour[0] * dark * max(0.25 * red, red + change) + spec),
        np.float32(colour[1] * dark * max(0.25 * green, green + change) + spec),
        np.float32(colour[2] * dark * max(0.25 * blue, blue + change) + spec),
    )


@njit(cache=True, error_model="numpy")
def _mixed(values: Floats, a: int, b: int, c: int, w0: float, w1: float) -> Three:
    """Return the mean of the first three values (V, 3+) of three corners by their barycentric weights."""
    w2 = 1.0 - w0 - w1
    return (
        np.float32(w0 * values[a, 0] + w1 * values[b, 0] + w2 * values[c, 0]),
        np.float32(w0 * values[a, 1] + w1 * values[b, 1] + w2 * values[c, 1]),
        np.float32(w0 * values[a, 2] + w1 * values[b, 2] + w2 * values[c, 2]),
    )


@njit(cache=True, error_model="numpy")
def _turned_back(turn: Floats, v: Three) -> Three:
    """Return `v` in the frame that the rotation `turn` (3, 3) leads out of."""
    return (
        np.float32(turn[0, 0] * v[0] + turn[1, 0] * v[1] + turn[2, 0] * v[2]),
        np.float32(turn[0, 1] * v[0] + turn[1, 1] * v[1] + turn[2, 1] * v[2]),
        np.float32(turn[0, 2] * v[0] + turn[1, 2] * v[1] + turn[2, 2] * v[2]),
    )


@njit(cache=True, error_model="numpy")
def _tinted(tint: Floats, a: int, b: int, c: int, w0: float, w1: float, weave: float) -> tuple[Three, float]:
    """Return the colour of a surface with coloured vertices (V, 4), and its gloss."""
    w2 = 1.0 - w0 - w1
    colour = (
        np.float32(weave * (w0 * tint[a, 0] + w1 * tint[b, 0] + w2 * tint[c, 0])),
        np.float32(weave * (w0 * tint[a, 1] + w1 * tint[b, 1] + w2 * tint[c, 1])),
        np.float32(weave * (w0 * tint[a, 2] + w1 * tint[b, 2] + w2 * tint[c, 2])),
    )
    return colour, w0 * tint[a, 3] + w1 * tint[b, 3] + w2 * tint[c, 3]


@njit(cache=True, error_model="numpy")
def _unit(v: Three) -> Three:
    length = math.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2) + 1e-9
    return np.float32(v[0] / length), np.float32(v[1] / length), np.float32(v[2] / length)


@njit(cache=True, error_model="numpy")
def _texel(texture: Floats, i: int, j: int, x: float, y: float, q: int) -> float:
    """Return the bilinear value of channel `q` at (x, y) from texel (i, j)."""
    low = texture[i, j, q] + x * (texture[i, j + 1, q] - texture[i, j, q])
    high = texture[i + 1, j, q] + x * (texture[i + 1, j + 1, q] - texture[i + 1, j, q])
    return low + y * (high - low)


@njit(cache=True, error_model="numpy")
def _place(size: int, u: float, v: float) -> tuple[int, int, float, float]:
    """Return the texel (row, column) of texture coordinates, and how far beyond its centre they are (x, y)."""
    x = min(size - 1.001, max(0.0, u * size - 0.5))
    y = min(size - 1.001, max(0.0, v * size - 0.5))
    j, i = int(x), int(y)
    return i, j, x - j, y - i


@njit(cache=True, error_model="numpy")
def _sample(texture: Floats, u: float, v: float) -> tuple[Three, float]:
    """Return the bilinear RGB of `texture` (R, R, 4) and its fourth channel."""
    i, j, x, y = _place(texture.shape[0], u, v)
    colour = (
        np.float32(_texel(texture, i, j, x, y, 0)),
        np.float32(_texel(texture, i, j, x, y, 1)),
        np.float32(_texel(texture, i, j, x, y, 2)),
    )
    return colour, _texel(texture, i, j, x, y, 3)


@njit(cache=True, error_model="numpy")
def _carve(relief: Floats, u: float, v: float) -> tuple[float, float, float]:
    """Return the slopes of the `relief` (R, R) per texture unit in cm, and the darkness at the bottom of a fold."""
    size = relief.shape[0]
    i, j, x, y = _place(size, u, v)
    h00, h01, h10, h11 = relief[i, j], relief[i, j + 1], relief[i + 1, j], relief[i + 1, j + 1]
    du = (h01 - h00) * (1 - y) + (h11 - h10) * y
    dv = (h10 - h00) * (1 - x) + (h11 - h01) * x
    height = (h00 * (1 - x) + h01 * x) * (1 - y) + (h10 * (1 - x) + h11 * x) * y
    return du * size * 0.1, dv * size * 0.1, max(0.5, 1.0 + 0.5 * min(0.0, height))


@njit(cache=True, error_model="numpy")
def _surface_slope(k: int, a: int, b: int, c: int, uv: Floats, points: Floats, du: float, dv: float) -> Three:
    """Convert slopes per texture unit, in cm, to a vector on the triangle `k` of the corners a, b, c."""
    s1, t1 = uv[k, 1, 0] - uv[k, 0, 0], uv[k, 1, 1] - uv[k, 0, 1]
    s2, t2 = uv[k, 2, 0] - uv[k, 0, 0], uv[k, 2, 1] - uv[k, 0, 1]
    turn = s1 * t2 - s2 * t1
    if abs(turn) < 1e-12:
        return _FLAT
    e1x, e1y, e1z = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
    e2x, e2y, e2z = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
    e11 = e1x * e1x + e1y * e1y + e1z * e1z
    e22 = e2x * e2x + e2y * e2y + e2z * e2z
    e12 = e1x * e2x + e1y * e2y + e1z * e2z
    det = e11 * e22 - e12 * e12 + 1e-12
    # change of height along both edges, then the vector in their plane with these inner products
    d1, d2 = s1 * du + t1 * dv, s2 * du + t2 * dv
    m1, m2 = (d1 * e22 - d2 * e12) / det, (d2 * e11 - d1 * e12) / det
    x, y, z = np.float32(m1 * e1x + m2 * e2x), np.float32(m1 * e1y + m2 * e2y), np.float32(m1 * e1z + m2 * e2z)
    steep = math.sqrt(x**2 + y**2 + z**2)
    if steep > 0.8:
        less = 0.8 / steep
        return np.float32(x * less), np.float32(y * less), np.float32(z * less)
    return x, y, z


@njit(cache=True, error_model="numpy")
def _relight(slope: Three, towards: Floats, colour: Floats, key: float) -> float:
    """Return the change of the key and fill light where the relief tilts a normal by -slope."""
    total = 0.0
    for k in range(2):
        lean = -(slope[0] * towards[k, 0] + slope[1] * towards[k, 1] + slope[2] * towards[k, 2])
        total += lean * colour[k, 1] * (key if k == 0 else 1.0)
    return 0.8 * total


@njit(cache=True, error_model="numpy")
def _highlight(n: Three, view: Three, towards: Floats, colour: Floats, key: float, free: float, kind: int) -> float:
    """Return the sum of the lamps' highlights, grey, with a sheen at grazing angles; sharp windows on wet eyes."""
    edge = 1.0 - max(0.0, n[0] * view[0] + n[1] * view[1] + n[2] * view[2])
    fresnel = 0.35 + 0.65 * edge * edge * edge
    hard = 4 if kind <= HEAD else 5
    total = 0.0
    for k in range(towards.shape[0]):
        hx, hy, hz = towards[k, 0] + view[0], towards[k, 1] + view[1], towards[k, 2] + view[2]
        length = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
        cosine = max(0.0, (n[0] * hx + n[1] * hy + n[2] * hz) / length)
        if kind == EYE:
            level = min(1.0, max(0.0, (cosine - 0.9915) / 0.004)) * (2.6 if k == 0 else 0.5 * (k == 1))
        else:
            soft = _power(cosine, hard)
            level = 0.55 * soft + 0.8 * _power(soft, 2)
        total += level * colour[k, 1] * (key if k == 0 else free)
    return total * fresnel * (0.4 + 0.6 * free)
