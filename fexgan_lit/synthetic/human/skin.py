"""Skin textures of a person: tone, lips, freckles, stubble, pores, and the folds of the facial muscles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.identity import Identity
from fexgan_lit.synthetic.human.noise import Array, Floats, bell, line_distance, linear, noise, smoothstep
from fexgan_lit.synthetic.prototypes import AU_COLUMN

#: Outline of the lips at rest, on the right half of the image (subject's left), from the top to the bottom middle, cm.
_LIP_TOP = [(0.0, -2.72), (0.42, -2.5), (1.15, -2.78), (1.9, -3.2), (2.45, -3.5)]
_LIP_BOTTOM = [(2.45, -3.5), (1.75, -4.05), (0.9, -4.4), (0.0, -4.46)]
#: Middle line of an average brow, from its inner end, cm.
BROW = [(1.15, 5.3), (2.3, 5.72), (3.7, 5.95), (4.9, 5.5), (5.75, 4.8)]


@dataclass(frozen=True)
class Skin:
    """Textures of a person; row 0 is v = 0.

    Attributes:
        face: tuple of (R, R, 4) linear RGB and gloss of the face tile at decreasing resolution.
        head: the same for the back of the head.
        relief: tuple of (R, R) height in mm at rest, at the resolutions of `face`.
        folds: tuple of (R, R, K) height in mm of each fold of `FOLDS` at full strength.
        side: tuple of (R, R) 0 at the left and 1 at the right half of the image.
    """

    face: tuple[Floats, ...]
    head: tuple[Floats, ...]
    relief: tuple[Floats, ...]
    folds: tuple[Floats, ...]
    side: tuple[Floats, ...]


def _base(who: Identity, p: Floats) -> Floats:
    """Return the skin tone with blotches, red cheeks, nose and ears, and dark eye sockets."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    tone: Array = linear(who.skin)
    mottle = noise(p, 0.9, 3, 1) - 0.5
    fine = noise(p, 7.0, 2, 2) - 0.5
    paint: Array = tone * (1.0 + 0.16 * mottle + 0.10 * fine)[..., None]
    front = smoothstep(z, 3.0, 7.0)
    red: Array = 0.9 * bell(np.hypot(x - 4.2, y + 0.4), 1.9) * front + 0.7 * bell(np.hypot(x, y - 0.1), 1.2) * front
    red = red + 0.6 * smoothstep(x, 7.6, 8.8) + 0.3 * bell(np.hypot(x / 1.3, y + 6.6), 1.2) * front
    red = red + 0.5 * (noise(p, 2.2, 2, 3) - 0.45)
    flush = (0.6 + 0.8 * who.blush) * red
    paint = paint * (1.0 + flush[..., None] * np.array([0.08, -0.13, -0.11], np.float32))
    socket = bell(np.hypot((x - 3.0) / 1.6, (y - 2.0) / 0.75), 1.0)
    socket = socket + 0.7 * bell(np.hypot((x - 3.1) / 1.7, (y - 4.6) / 0.55), 1.0)
    tired = (0.16 + 0.22 * who.age + 0.2 * who.shadow) * socket * front
    paint = paint * (1.0 - tired[..., None] * np.array([0.75, 1.0, 0.95], np.float32))
    return paint.astype(np.float32)


def _spots(who: Identity, p: Floats, paint: Array) -> Array:
    """Add freckles, age spots and moles."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    if who.freckles > 0:
        where = bell(np.hypot((x - 2.6) / 1.6, (y - 0.9) / 1.1), 1.4) + 0.35 * smoothstep(z, 5.0, 8.0)
        dots = smoothstep(noise(p, 4.2, 2, 5), 0.60, 0.70) + 0.7 * smoothstep(noise(p, 7.5, 1, 6), 0.70, 0.80)
        level = np.clip(who.freckles * where * dots, 0.0, 0.8)[..., None]
        paint = paint * (1.0 - level * np.array([0.38, 0.58, 0.66], np.float32))
    if who.age > 0.5:
        dots = smoothstep(noise(p, 2.3, 1, 8), 0.84, 0.90) * smoothstep(y, 2.0, 7.0)
        paint = paint * (1.0 - 0.16 * (who.age * dots)[..., None])
    return paint


def lip_mask(p: Floats) -> Array:
    """Return how much a rest position `p` (..., 3) belongs to the lips, 0..1."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    top = np.interp(x, [a for a, _ in _LIP_TOP], [b for _, b in _LIP_TOP])
    down = sorted(_LIP_BOTTOM)
    bottom = np.interp(x, [a for a, _ in down], [b for _, b in down])
    return (
        smoothstep(top - y, -0.10, 0.10)
        * smoothstep(y - bottom, -0.14, 0.12)
        * smoothstep(2.6 - x, 0.0, 0.3)
        * (z > 7.5)
    )


def _lips(who: Identity, p: Floats, paint: Array) -> Array:
    x, y = np.abs(p[..., 0]), p[..., 1]
    lip = lip_mask(p)[..., None] * (0.9 if who.makeup > 0.3 else 0.75)
    streak = noise(p * np.array([5.0, 1.0, 1.0], np.float32), 2.2, 2, 9)
    colour = linear(who.lips) * (0.85 + 0.3 * streak)[..., None]
    seam_y = np.interp(x, [0.0, 1.0, 2.5], [-3.42, -3.38, -3.52])
    paint = paint * (1 - lip) + colour * lip
    seam = 0.5 * bell(y - seam_y, 0.16) * (x < 2.5) * (p[..., 2] > 7.5)
    return paint * (1.0 - seam[..., None])


def _hollows(who: Identity, p: Floats, paint: Array) -> Array:
    """Add nostrils, lash lines and eyeliner, which get too much light from the open mesh."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    nostril = 0.9 * bell(np.hypot((x - 0.72) / 0.42, (y + 0.72) / 0.22), 1.0) * (z > 8)
    upper, _ = line_distance(x, y, [(1.85, 3.3), (2.3, 3.72), (2.8, 3.97), (3.4, 4.05), (3.9, 3.9), (4.6, 3.42)])
    lower, _ = line_distance(x, y, [(1.95, 3.2), (2.7, 2.9), (3.5, 2.82), (4.2, 3.0), (4.6, 3.35)])
    lash = (0.55 + 0.35 * who.makeup) * bell(upper, 0.10 + 0.05 * who.makeup) + 0.3 * bell(lower, 0.08)
    crease = 0.28 * bell(line_distance(x, y, [(1.9, 3.75), (2.7, 4.42), (3.5, 4.52), (4.3, 4.2), (4.9, 3.6)])[0], 0.12)
    dark = np.clip(nostril + (lash + crease) * (z > 7), 0.0, 0.95)[..., None]
    rim = 0.55 * bell(upper, 0.35) * who.makeup * (z > 7) * (y > 3.3)
    paint = paint * (1.0 - rim[..., None] * np.array([0.5, 0.7, 0.6], np.float32))
    return paint * (1.0 - dark * np.array([0.9, 1.0, 1.0], np.float32))


def beard_mask(p: Floats) -> Array:
    """Return the density of a full beard and moustache, 0..1."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    upper = np.interp(x, [0.0, 1.2, 2.4, 3.2, 4.8, 6.4, 7.3, 8.0], [-1.25, -1.35, -1.7, -3.0, -3.3, -1.2, 1.2, 3.0])
    lower = -7.8 + 0.25 * (z - 6.0) + 0.10 * np.maximum(0, x - 3.0)
    grown = smoothstep(upper - y, -0.15, 0.7) * smoothstep(y - lower, -1.2, 1.5) * smoothstep(z, -0.4, 1.2)
    clear = 1.0 - bell(np.hypot((x - 1.25) / 0.7, (y + 4.95) / 0.35), 1.0) * 0.35
    lips = np.clip(1.0 - 1.25 * lip_mask(p), 0.0, 1.0) * (1.0 - 0.9 * bell(np.hypot(x / 0.35, y + 1.6), 0.5))
    return grown * clear * lips * smoothstep(7.9 - x, 0.0, 0.7)


def _stubble(who: Identity, p: Floats, paint: Array) -> Array:
    """Add the shadow of beard, brows and hair under their strands."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    hair = linear(who.hair_colour) * 0.7 + 0.003
    grain = 0.55 + 0.6 * noise(p, 9.0, 2, 11)
    level = who.stubble * beard_mask(p) * grain
    if who.moustache_only:
        level = level * smoothstep(y, -3.8, -3.2) * smoothstep(3.4 - x, 0.0, 0.5) + 0.25 * level
    far, along = line_distance(x, y, brow_line(who))
    wide = who.brow_width * np.interp(along, [0.0, 0.12, 0.5, 1.0], [0.75, 1.0, 0.85, 0.3])
    brow = 0.42 * who.brow_density * smoothstep(wide * 1.25 - far, 0.0, 0.3) * (z > 5)
    paint = paint * (1 - np.clip(level, 0, 0.92)[..., None]) + hair * np.clip(level, 0, 0.92)[..., None]
    brow_colour = linear(who.brow_colour) * 0.8
    return paint * (1 - brow[..., None]) + brow_colour * brow[..., None]


def brow_line(who: Identity) -> list[tuple[float, float]]:
    """Return the brow's middle line at rest, on one side, from its inner end."""
    lift = [0.0, 0.35, 0.9, 0.55, -0.1]
    return [
        (x + (0.25 * who.brow_length if k > 2 else 0.0), y + who.brow_arch * lift[k] + who.brow_height)
        for k, (x, y) in enumerate(BROW)
    ]


def _gloss(who: Identity, p: Floats) -> Floats:
    """Return the strength of highlights (...): oily brow, nose and lips."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    zone = 0.5 * bell(np.hypot(x / 1.3, (y - 2.0) / 3.2), 1.0) + 0.35 * bell(np.hypot(x / 3.5, (y - 8.0) / 1.6), 1.0)
    zone = zone + 0.3 * bell(np.hypot(x - 4.6, y - 1.0), 1.3)
    level = 0.055 + 0.05 * zone * smoothstep(z, 4.0, 8.0) + 0.10 * who.lip_gloss * lip_mask(p)
    return (level * (0.7 + 0.6 * noise(p, 6.0, 2, 12)) * (1.0 + 0.5 * who.shine)).astype(np.float32)


def paint_tile(who: Identity, p: Floats, scalp: Array, is_face: bool) -> Floats:
    """Return linear RGB and gloss (R, R, 4) of a tile whose texels have the rest positions `p` (R, R, 3).

    Args:
        who: the person.
        p: rest positions in cm.
        scalp: (R, R) coverage of the skin by hair roots, 0..1.
        is_face: whether this is the face tile; the back of the head has neither lips nor brows.
    """
    paint = _spots(who, p, _base(who, p))
    if is_face:
        paint = _hollows(who, p, _lips(who, p, paint))
    paint = _stubble(who, p, paint)
    roots = linear(who.hair_colour) * 0.55 + 0.002
    cover = (np.clip(scalp, 0, 1) * who.scalp_cover)[..., None]
    paint = paint * (1 - cover) + roots * cover
    out = np.concatenate([paint, _gloss(who, p)[..., None] * (1 - 0.8 * cover)], axis=-1)
    return np.ascontiguousarray(np.clip(out, 0.0015, 0.95), np.float32)


def rest_relief(who: Identity, p: Floats, folds: Floats) -> Floats:
    """Return the height (R, R) in mm of pores, lip lines and wrinkles of age; for `folds` see `fold_heights`."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    pores = 0.10 * (noise(p, 11.0, 2, 21) - 0.5) + 0.10 * (noise(p, 4.0, 2, 22) - 0.5) * who.age
    lines = 0.16 * (noise(p * np.array([6.0, 0.6, 1.0], np.float32), 1.6, 1, 23) - 0.5) * lip_mask(p)
    old = folds @ np.array(_AGED, np.float32)
    bag = -0.3 * bell(line_distance(x, y, [(1.9, 2.7), (2.7, 1.75), (3.7, 1.6), (4.6, 2.1)])[0], 0.16) * (z > 6)
    return (pores + lines + who.age * (old + bag) + _ALWAYS * folds[..., 3]).astype(np.float32)


#: Action units that cause each fold, and their strengths.
FOLDS: tuple[tuple[str, dict[int, float]], ...] = (
    ("forehead", {1: 0.75, 2: 0.7, 4: -0.25}),
    ("glabella", {4: 1.0, 9: 0.35, 1: -0.2}),
    ("nose", {9: 1.0, 10: 0.15}),
    ("nasolabial", {12: 0.75, 9: 0.75, 10: 0.65, 20: 0.3, 15: 0.15}),
    ("crow", {6: 0.9, 7: 0.25, 45: 0.2, 9: 0.3}),
    ("marionette", {15: 0.9, 17: 0.6, 20: 0.3, 12: 0.1}),
)


#: Fraction of each fold that remains in an old face at rest, and of the nasolabial fold in every face.
_AGED = (0.30, 0.16, 0.0, 0.42, 0.35, 0.4)
_ALWAYS = 0.07


def fold_heights(p: Floats) -> Floats:
    """Return the height (R, R, K) in mm of every fold of FOLDS at full strength: furrows with soft edges."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    front = smoothstep(z, 3.5, 7.0)
    wobble = 0.25 * (noise(p, 0.8, 1, 31) - 0.5)

    def furrow(line: list[tuple[float, float]], width: float) -> Array:
        far, along = line_distance(x + 0.4 * wobble, y + wobble, line)
        taper = np.sin(np.pi * np.clip(0.08 + 0.84 * along, 0, 1)) ** 0.5
        return taper * (0.35 * bell(far, 2.6 * width) - bell(far, width))

    rows = (6.9, 7.75, 8.6, 9.4)
    arcs = [furrow([(-0.2, r - 0.1), (1.5, r - 0.05), (2.8, r + 0.18), (4.6, r - 0.15)], 0.19) for r in rows]
    forehead = 0.62 * sum(arcs) * front
    glabella = 0.95 * furrow([(0.62, 4.4), (0.68, 5.4), (0.45, 6.5)], 0.24) + 0.4 * furrow(
        [(-0.5, 4.0), (0.9, 4.15)], 0.2
    )
    nose = 0.6 * sum(furrow([(0.0, r), (0.5, r + 0.1), (1.15, r + 0.6)], 0.17) for r in (2.2, 2.9, 3.6))
    line = [(1.62, 0.2), (2.15, -0.6), (2.75, -1.7), (3.2, -2.9), (3.35, -4.0)]
    nasolabial = 1.0 * furrow(line, 0.3) + 0.9 * furrow(line, 0.55)
    fans = [furrow([(5.0, 3.1 + 0.12 * k), (5.6, 3.1 + 0.42 * k), (6.4, 3.1 + 0.8 * k)], 0.12) for k in (-2, -1, 0, 1)]
    crow = 0.5 * sum(fans) + 0.6 * furrow([(2.0, 2.45), (2.9, 2.1), (3.9, 2.1), (4.8, 2.6)], 0.18)
    corner = [(2.6, -3.7), (2.95, -4.5), (3.0, -5.4)]
    marionette = 0.75 * furrow(corner, 0.3) + 0.7 * furrow([(-0.1, -5.15), (0.8, -5.3), (1.5, -5.7)], 0.3)
    folds = np.stack([forehead, glabella, nose, nasolabial, crow, marionette], axis=-1)
    return (folds * front[..., None]).astype(np.float32)


def fold_strengths(units: NDArray[np.float64]) -> Floats:
    """Return the strength (K, 2) of every fold on the left and right half of the image, for action units (2, 17)."""
    out = np.zeros((len(FOLDS), 2), np.float32)
    for k, (_, muscles) in enumerate(FOLDS):
        for unit, gain in muscles.items():
            out[k] += np.float32(gain) * units[:, AU_COLUMN[unit]].astype(np.float32)
    return np.clip(out, 0.0, 1.2)


def levels_of(texture: Floats, count: int) -> tuple[Floats, ...]:
    """Return `texture` (..., R, R, C or nothing) and its halved versions, each texel the mean of four."""
    levels = [texture]
    for _ in range(count - 1):
        t = levels[-1]
        levels.append(np.ascontiguousarray(0.25 * (t[::2, ::2] + t[1::2, ::2] + t[::2, 1::2] + t[1::2, 1::2])))
    return tuple(levels)
