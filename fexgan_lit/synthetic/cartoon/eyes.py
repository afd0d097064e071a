"""Eyes and brows: whites, irises, catch lights, lids, lashes and brow hair."""

from __future__ import annotations

import numpy as np

from fexgan_lit.synthetic.cartoon.canvas import (
    Image,
    Points,
    View,
    blur,
    box_of,
    ellipse,
    fill,
    glaze,
    mix,
    ribbon,
    shade_colour,
    spline,
    taper,
)
from fexgan_lit.synthetic.cartoon.identity import Identity
from fexgan_lit.synthetic.cartoon.rig import Eye, Face

_WHITE = (244, 242, 238)


def draw_eyes(image: Image, view: View, who: Identity, face: Face) -> None:
    """Draw both eyes over the shaded skin."""
    for eye, sign in zip(face.eyes, (-1, 1), strict=True):
        _upper_lid(image, view, who, eye)
        _ball(image, view, who, eye)
        _lashes(image, view, who, eye, sign)


def _upper_lid(image: Image, view: View, who: Identity, eye: Eye) -> None:
    lid = np.concatenate([spline(eye.upper, steps=2), spline(eye.crease, steps=2)[::-1]])
    glaze(image, view, lid, shade_colour(who.skin, 0.62), 0.28, soft=0.02)
    fold = spline(eye.crease, steps=2)[3:-3]
    glaze(image, view, ribbon(fold, 0.045 * taper(len(fold))), shade_colour(who.skin, 0.36), 0.55, soft=0.006)


def _ball(image: Image, view: View, who: Identity, eye: Eye) -> None:
    upper, lower = spline(eye.upper, steps=2), spline(eye.lower, steps=2)
    opening = np.concatenate([upper, lower[::-1]])
    if np.max(lower[:, 1] - upper[:, 1]) < 0.012:
        return
    rows, columns = box_of(view, opening, 0.04)
    origin = np.array([columns.start, rows.start])
    patch = np.full((rows.stop - rows.start, columns.stop - columns.start, 3), _WHITE, np.uint8)
    _round_white(patch, view, opening, origin)
    _iris(patch, view, who, eye, origin)
    _lid_shadow(patch, view, upper, origin)
    _catch_lights(patch, view, who, eye, origin)
    mask = np.zeros(patch.shape[:2], np.uint8)
    fill(mask, view.px(opening) - origin, 255)
    image[rows, columns] = mix(image[rows, columns], patch, mask)


def _round_white(patch: Image, view: View, opening: Points, origin: Points) -> None:
    """Darken the white towards both corners so that the eyeball looks round."""
    left, right = view.px(opening[[0, len(opening) // 2]])[:, 0] - origin[0]
    u = (np.arange(patch.shape[1]) - 0.5 * (left + right)) / max(right - left, 1.0) * 2
    fade = 1 - 0.3 * np.clip(np.abs(u), 0, 1) ** 2.5 - 0.07 * np.clip(u, 0, 1)
    patch[:] = np.rint(patch * fade[None, :, None] * (1.0, 0.99, 0.99)).astype(np.uint8)


def _iris(patch: Image, view: View, who: Identity, eye: Eye, origin: Points) -> None:
    x, y = eye.iris
    r = who.iris_size

    def disc(dx: float, dy: float, radius: float, colour: tuple[int, int, int]) -> None:
        fill(patch, view.px(ellipse(x + dx, y + dy, radius)) - origin, colour)

    disc(0, 0, r, shade_colour(who.iris, 0.34))
    disc(0, 0.002, 0.87 * r, shade_colour(who.iris, 0.72))
    disc(0, 0.16 * r, 0.72 * r, shade_colour(who.iris, 1.02))
    disc(0, 0.34 * r, 0.48 * r, shade_colour(who.iris, 1.28))
    disc(0, 0, r * (0.47 - 0.1 * eye.wide), (14, 11, 12))


def _lid_shadow(patch: Image, view: View, upper: Points, origin: Points) -> None:
    """Draw the soft shadow of the upper lid on the eyeball."""
    band = np.concatenate([upper + np.array((0, -0.05)), (upper + np.array((0, 0.065)))[::-1]])
    mask = np.zeros(patch.shape[:2], np.uint8)
    fill(mask, view.px(band) - origin, 125)
    patch[:] = mix(patch, np.full_like(patch, (46, 34, 42)), blur(mask, 0.028 * view.unit))


def _catch_lights(patch: Image, view: View, who: Identity, eye: Eye, origin: Points) -> None:
    x, y = eye.iris
    r = who.iris_size
    room = max(0.0, min(1.0, (eye.lower[6, 1] - eye.upper[6, 1]) / (1.6 * r)))
    top = max(y - 0.36 * r, eye.upper[6, 1] + 0.3 * r)
    fill(patch, view.px(ellipse(x - 0.36 * r, top, 0.27 * r * (0.5 + 0.5 * room))) - origin, (255, 255, 255))
    fill(patch, view.px(ellipse(x + 0.38 * r, y + 0.42 * r, 0.12 * r * room + 1e-3)) - origin, (236, 240, 246))


def _lashes(image: Image, view: View, who: Identity, eye: Eye, sign: int) -> None:
    upper, lower = spline(eye.upper, steps=2), spline(eye.lower, steps=2)
    outer = np.linspace(1, 0, len(upper)) if sign < 0 else np.linspace(0, 1, len(upper))
    dark = shade_colour(who.brow_colour, 0.35) if who.lashes else shade_colour(who.skin, 0.22)
    width = (0.036 + 0.03 * who.lashes * outer**0.7) * np.maximum(
        taper(len(upper), 0.45, 0.45), 0.9 * outer * who.lashes
    )
    fill(image, view.px(ribbon(upper - np.array((0, 0.008)), width)), dark)
    if who.lashes >= 0.5:
        _flick(image, view, upper, sign, who.lashes, dark)
    line = ribbon(lower + np.array((0, 0.008)), 0.026 * taper(len(lower), 0.3, 0.3))
    glaze(image, view, line, shade_colour(who.skin, 0.3), 0.6 + 0.2 * who.lashes, soft=0.004)


def _flick(image: Image, view: View, upper: Points, sign: int, length: float, colour: tuple[int, int, int]) -> None:
    """Draw long lashes at the outer corner."""
    order = upper if sign > 0 else upper[::-1]
    for at, reach in ((-1, 1.0), (-4, 0.75)):
        root = order[at]
        tip = root + np.array([sign * 0.1, -0.07 if at == -1 else -0.1]) * reach * length
        bow = 0.5 * (root + tip) + np.array([sign * 0.012, 0.02])
        line = spline(np.stack([root, bow, tip]), steps=3)
        fill(image, view.px(ribbon(line, 0.045 * np.linspace(1, 0.1, len(line)))), colour)


def draw_brows(image: Image, view: View, who: Identity, face: Face) -> None:
    """Draw both brows as tapered strokes with a soft lower edge and a lit upper one."""
    for brow, sign in zip(face.brows, (-1, 1), strict=True):
        line = spline(brow, steps=4)
        outward = np.linspace(1, 0, len(line)) if sign < 0 else np.linspace(0, 1, len(line))
        width = who.brow[1] * np.interp(outward, [0, 0.12, 0.55, 0.85, 1], [0.66, 1.0, 0.98, 0.55, 0.14])
        glaze(
            image, view, ribbon(line + np.array((0, 0.03)), width * 1.05), shade_colour(who.skin, 0.3), 0.35, soft=0.025
        )
        fill(image, view.px(ribbon(line, width)), who.brow_colour)
        shine = ribbon(line - np.stack([np.zeros_like(width), 0.2 * width], axis=1), 0.3 * width)
        glaze(image, view, shine, shade_colour(who.brow_colour, 1.22), 0.5, soft=0.006)
