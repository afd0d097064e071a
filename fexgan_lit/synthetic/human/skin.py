"""Skin textures of a person: tone, lips, freckles, stubble, pores, and the folds of the facial muscles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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


@dataclass(frozen=True, eq=False)
class Tile:
    """What is the same for all people about a tile, computed once; fields are (R, R).

    Args:
        p: (R, R, 3) rest positions of the texels in cm.
    """

    p: Floats

    @cached_property
    def mottle(self) -> Array:
        """Factor of blotches on the skin tone."""
        return 1.0 + 0.16 * (noise(self.p, 0.9, 3, 1) - 0.5) + 0.10 * (noise(self.p, 7.0, 2, 2) - 0.5)

    @cached_property
    def front(self) -> Array:
        """1 on the face, 0 on the back of the head."""
        return smoothstep(self.p[..., 2], 3.0, 7.0)

    @cached_property
    def red(self) -> Array:
        """Redness of cheeks, nose, ears and chin."""
        x, y = np.abs(self.p[..., 0]), self.p[..., 1]
        red = 0.9 * bell(np.hypot(x - 4.2, y + 0.4), 1.9) * self.front
        red = red + 0.7 * bell(np.hypot(x, y - 0.1), 1.2) * self.front
        red = red + 0.6 * smoothstep(x, 7.6, 8.8) + 0.3 * bell(np.hypot(x / 1.3, y + 6.6), 1.2) * self.front
        return red + 0.5 * (noise(self.p, 2.2, 2, 3) - 0.45)

    @cached_property
    def socket(self) -> Array:
        """Shade of the eye sockets."""
        x, y = np.abs(self.p[..., 0]), self.p[..., 1]
        socket = bell(np.hypot((x - 3.0) / 1.6, (y - 2.0) / 0.75), 1.0)
        return socket + 0.7 * bell(np.hypot((x - 3.1) / 1.7, (y - 4.6) / 0.55), 1.0)

    @cached_property
    def freckles(self) -> tuple[Array, Array]:
        """Where freckles are, and the dots."""
        x, y, z = np.abs(self.p[..., 0]), self.p[..., 1], self.p[..., 2]
        where = bell(np.hypot((x - 2.6) / 1.6, (y - 0.9) / 1.1), 1.4) + 0.35 * smoothstep(z, 5.0, 8.0)
        coarse, fine = noise(self.p, 4.2, 2, 5), noise(self.p, 7.5, 1, 6)
        return where, smoothstep(coarse, 0.60, 0.70) + 0.7 * smoothstep(fine, 0.70, 0.80)

    @cached_property
    def age_spots(self) -> Array:
        """Spots of old skin."""
        return smoothstep(noise(self.p, 2.3, 1, 8), 0.84, 0.90) * smoothstep(self.p[..., 1], 2.0, 7.0)

    @cached_property
    def lips(self) -> Array:
        """See `lip_mask`."""
        return lip_mask(self.p)

    @cached_property
    def lip_streaks(self) -> Array:
        """Factor of the lines on the lips."""
        return 0.85 + 0.3 * noise(self.p * np.array([5.0, 1.0, 1.0], np.float32), 2.2, 2, 9)

    @cached_property
    def seam(self) -> Array:
        """Factor of the dark line between the lips."""
        x, y, z = np.abs(self.p[..., 0]), self.p[..., 1], self.p[..., 2]
        seam_y = np.interp(x, [0.0, 1.0, 2.5], [-3.42, -3.38, -3.52])
        return 1.0 - 0.5 * bell(y - seam_y, 0.16) * (x < 2.5) * (z > 7.5)

    @cached_property
    def nostrils(self) -> Array:
        """Shade of the nostrils."""
        x, y, z = np.abs(self.p[..., 0]), self.p[..., 1], self.p[..., 2]
        return 0.9 * bell(np.hypot((x - 0.72) / 0.42, (y + 0.72) / 0.22), 1.0) * (z > 8)

    @cached_property
    def lids(self) -> tuple[Array, Array, Array]:
        """Distance in cm from the upper lash line, and the shades of the lower one and of the crease above the lid."""
        x, y = np.abs(self.p[..., 0]), self.p[..., 1]
        upper, _ = line_distance(x, y, [(1.85, 3.3), (2.3, 3.72), (2.8, 3.97), (3.4, 4.05), (3.9, 3.9), (4.6, 3.42)])
        lower, _ = line_distance(x, y, [(1.95, 3.2), (2.7, 2.9), (3.5, 2.82), (4.2, 3.0), (4.6, 3.35)])
        crease, _ = line_distance(x, y, [(1.9, 3.75), (2.7, 4.42), (3.5, 4.52), (4.3, 4.2), (4.9, 3.6)])
        return upper, 0.3 * bell(lower, 0.08), 0.28 * bell(crease, 0.12)

    @cached_property
    def beard(self) -> Array:
        """See `beard_mask`."""
        return beard_mask(self.p)

    @cached_property
    def beard_grain(self) -> Array:
        """Factor of the density of stubble."""
        return 0.55 + 0.6 * noise(self.p, 9.0, 2, 11)

    @cached_property
    def oil(self) -> tuple[Array, Array]:
        """Strength of highlights on oily brow and nose, and its grain."""
        x, y, z = np.abs(self.p[..., 0]), self.p[..., 1], self.p[..., 2]
        zone = 0.5 * bell(np.hypot(x / 1.3, (y - 2.0) / 3.2), 1.0)
        zone = zone + 0.35 * bell(np.hypot(x / 3.5, (y - 8.0) / 1.6), 1.0)
        zone = zone + 0.3 * bell(np.hypot(x - 4.6, y - 1.0), 1.3)
        return 0.055 + 0.05 * zone * smoothstep(z, 4.0, 8.0), 0.7 + 0.6 * noise(self.p, 6.0, 2, 12)

    @cached_property
    def folds(self) -> Floats:
        """See `fold_heights`."""
        return fold_heights(self.p)

    @cached_property
    def relief(self) -> tuple[Array, Array, Array, Array]:
        """Heights in mm: pores, pores of old skin, lines of the lips, and wrinkles of old skin."""
        x, y, z = np.abs(self.p[..., 0]), self.p[..., 1], self.p[..., 2]
        fine, coarse = noise(self.p, 11.0, 2, 21), noise(self.p, 4.0, 2, 22)
        lines = 0.16 * (noise(self.p * np.array([6.0, 0.6, 1.0], np.float32), 1.6, 1, 23) - 0.5) * self.lips
        bags, _ = line_distance(x, y, [(1.9, 2.7), (2.7, 1.75), (3.7, 1.6), (4.6, 2.1)])
        old = self.folds @ np.array(_AGED, np.float32) + -0.3 * bell(bags, 0.16) * (z > 6)
        return 0.10 * (fine - 0.5), 0.10 * (coarse - 0.5), lines, old


def _base(who: Identity, tile: Tile) -> Floats:
    """Return the skin tone with blotches, red cheeks, nose and ears, and dark eye sockets."""
    tone: Array = linear(who.skin)
    paint: Array = tone * tile.mottle[..., None]
    flush = (0.6 + 0.8 * who.blush) * tile.red
    paint = paint * (1.0 + flush[..., None] * np.array([0.08, -0.13, -0.11], np.float32))
    tired = (0.16 + 0.22 * who.age + 0.2 * who.shadow) * tile.socket * tile.front
    paint = paint * (1.0 - tired[..., None] * np.array([0.75, 1.0, 0.95], np.float32))
    return paint.astype(np.float32)


def _spots(who: Identity, tile: Tile, paint: Array) -> Array:
    """Add freckles, age spots and moles."""
    if who.freckles > 0:
        where, dots = tile.freckles
        level = np.clip(who.freckles * where * dots, 0.0, 0.8)[..., None]
        paint = paint * (1.0 - level * np.array([0.38, 0.58, 0.66], np.float32))
    if who.age > 0.5:
        paint = paint * (1.0 - 0.16 * (who.age * tile.age_spots)[..., None])
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


def _lips(who: Identity, tile: Tile, paint: Array) -> Array:
    lip = tile.lips[..., None] * (0.9 if who.makeup > 0.3 else 0.75)
    colour = linear(who.lips) * tile.lip_streaks[..., None]
    paint = paint * (1 - lip) + colour * lip
    return paint * tile.seam[..., None]


def _hollows(who: Identity, tile: Tile, paint: Array) -> Array:
    """Add nostrils, lash lines and eyeliner, which get too much light from the open mesh."""
    y, z = tile.p[..., 1], tile.p[..., 2]
    upper, lower, crease = tile.lids
    lash = (0.55 + 0.35 * who.makeup) * bell(upper, 0.10 + 0.05 * who.makeup) + lower
    dark = np.clip(tile.nostrils + (lash + crease) * (z > 7), 0.0, 0.95)[..., None]
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


def _stubble(who: Identity, tile: Tile, paint: Array) -> Array:
    """Add the shadow of beard, brows and hair under their strands."""
    x, y, z = np.abs(tile.p[..., 0]), tile.p[..., 1], tile.p[..., 2]
    hair = linear(who.hair_colour) * 0.7 + 0.003
    if who.stubble > 0:
        level = who.stubble * tile.beard * tile.beard_grain
        if who.moustache_only:
            level = level * smoothstep(y, -3.8, -3.2) * smoothstep(3.4 - x, 0.0, 0.5) + 0.25 * level
        paint = paint * (1 - np.clip(level, 0, 0.92)[..., None]) + hair * np.clip(level, 0, 0.92)[..., None]
    near = (z > 5) & (np.abs(y - 5.5) < 3.0)  # elsewhere there is no brow
    far, along = line_distance(x[near], y[near], brow_line(who))
    wide = who.brow_width * np.interp(along, [0.0, 0.12, 0.5, 1.0], [0.75, 1.0, 0.85, 0.3])
    brow = (0.42 * who.brow_density * smoothstep(wide * 1.25 - far, 0.0, 0.3))[:, None]
    paint[near] = paint[near] * (1 - brow) + linear(who.brow_colour) * 0.8 * brow
    return paint


def brow_line(who: Identity) -> list[tuple[float, float]]:
    """Return the brow's middle line at rest, on one side, from its inner end."""
    lift = [0.0, 0.35, 0.9, 0.55, -0.1]
    return [
        (x + (0.25 * who.brow_length if k > 2 else 0.0), y + who.brow_arch * lift[k] + who.brow_height)
        for k, (x, y) in enumerate(BROW)
    ]


def _gloss(who: Identity, tile: Tile) -> Floats:
    """Return the strength of highlights (...): oily brow, nose and lips."""
    oil, grain = tile.oil
    level = oil + 0.10 * who.lip_gloss * tile.lips
    return (level * grain * (1.0 + 0.5 * who.shine)).astype(np.float32)


def paint_tile(who: Identity, tile: Tile, scalp: Array, is_face: bool) -> Floats:
    """Return linear RGB and gloss (R, R, 4) of a tile.

    Args:
        who: the person.
        tile: the tile, with R texels a side.
        scalp: (R, R) coverage of the skin by hair roots, 0..1.
        is_face: whether this is the face tile; the back of the head has neither lips nor brows.
    """
    paint = _spots(who, tile, _base(who, tile))
    if is_face:
        paint = _hollows(who, tile, _lips(who, tile, paint))
    paint = _stubble(who, tile, paint)
    roots = linear(who.hair_colour) * 0.55 + 0.002
    cover = (np.clip(scalp, 0, 1) * who.scalp_cover)[..., None]
    paint = paint * (1 - cover) + roots * cover
    out = np.concatenate([paint, _gloss(who, tile)[..., None] * (1 - 0.8 * cover)], axis=-1)
    return np.ascontiguousarray(np.clip(out, 0.0015, 0.95), np.float32)


def rest_relief(who: Identity, tile: Tile) -> Floats:
    """Return the height (R, R) in mm of pores, lip lines and wrinkles of age."""
    pores, old_pores, lines, old = tile.relief
    return (pores + old_pores * who.age + lines + who.age * old + _ALWAYS * tile.folds[..., 3]).astype(np.float32)


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
