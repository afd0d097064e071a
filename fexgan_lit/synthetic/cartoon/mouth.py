"""Mouth: cavity, tongue, both rows of teeth, and the two lips with their contours."""

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
from fexgan_lit.synthetic.cartoon.rig import Face, Mouth

_TEETH = (243, 239, 230)
_GAPS = (196, 186, 178)


def draw_mouth(image: Image, view: View, who: Identity, face: Face, lips: Image) -> None:
    """Draw the mouth; `lips` is the whole canvas (n, n, 3) shaded in the colour of the lips."""
    mouth = face.mouth
    curves = [spline(c, steps=2) for c in (mouth.upper_outer, mouth.upper_inner, mouth.lower_inner, mouth.lower_outer)]
    if mouth.gap > 0.012:
        _cavity(image, view, mouth, curves[1], curves[2])
    _lips(image, view, curves, lips)
    _lip_lines(image, view, who, mouth, curves)


def _lips(image: Image, view: View, curves: list[Points], lips: Image) -> None:
    upper = np.concatenate([curves[0], curves[1][::-1]])
    lower = np.concatenate([curves[2], curves[3][::-1]])
    rows, columns = box_of(view, np.concatenate([upper, lower]), 0.05)
    origin = (columns.start, rows.start)
    for outline in (upper, lower):
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        fill(mask, view.px(outline) - origin, 255)
        image[rows, columns] = mix(image[rows, columns], lips[rows, columns], mask)


def _lip_lines(image: Image, view: View, who: Identity, mouth: Mouth, curves: list[Points]) -> None:
    dark = shade_colour(who.lips, 0.32)
    upper, lower = curves[1], curves[2]
    width = 0.032 if mouth.gap <= 0.012 else 0.018
    fill(image, view.px(ribbon(upper, width * taper(len(upper), 0.35, 0.35))), dark)
    if mouth.gap > 0.012:
        glaze(image, view, ribbon(lower, 0.018 * taper(len(lower), 0.3, 0.3)), dark, 0.6)
    shine = 0.5 * (curves[2] + curves[3])[8:-8]
    thick = float((curves[3] - curves[2])[12, 1])
    glaze(image, view, ribbon(shine, 0.3 * thick * taper(len(shine))), (255, 240, 234), 0.3, soft=0.016)
    for k, sign in ((0, -1), (-1, 1)):
        corner = upper[k]
        dot = ellipse(corner[0] + 0.01 * sign, corner[1], 0.035, 0.028)
        glaze(image, view, dot, shade_colour(who.skin, 0.3), 0.5, soft=0.015)


def _cavity(image: Image, view: View, mouth: Mouth, upper: Points, lower: Points) -> None:
    opening = np.concatenate([upper, lower[::-1]])
    rows, columns = box_of(view, opening, 0.04)
    origin = np.array([columns.start, rows.start])
    patch = np.full((rows.stop - rows.start, columns.stop - columns.start, 3), (58, 16, 20), np.uint8)
    room = float(lower[12, 1] - upper[12, 1])
    up = min(mouth.teeth[0], 0.62 * room + 0.01)
    low = min(mouth.teeth[1], 0.3 * room)
    _tongue(patch, view, upper, lower - np.array((0.0, 0.8 * low)), origin)
    _row_of_teeth(patch, view, upper, up, origin)
    if low > 0.02:
        _row_of_teeth(patch, view, lower, -low, origin)
    shadow = np.zeros(patch.shape[:2], np.uint8)
    fill(shadow, view.px(ribbon(upper, 0.05)) - origin, 120)
    patch = mix(patch, np.full_like(patch, (40, 14, 18)), blur(shadow, 0.02 * view.unit))
    mask = np.zeros(patch.shape[:2], np.uint8)
    fill(mask, view.px(opening) - origin, 255)
    image[rows, columns] = mix(image[rows, columns], patch, mask)


def _tongue(patch: Image, view: View, upper: Points, lower: Points, origin: Points) -> None:
    """Draw the tongue on `lower`, behind the lower teeth."""
    x, bottom = lower[12]
    room = bottom - upper[12, 1]
    half = 0.34 * (lower[-1, 0] - lower[0, 0])
    for dy, grow, colour in ((0.0, 1.0, (150, 58, 62)), (0.03, 0.8, (190, 86, 86)), (0.05, 0.45, (206, 108, 104))):
        body = ellipse(x, bottom + (0.12 + dy) * room, half * grow, 0.45 * room * grow)
        fill(patch, view.px(body) - origin, colour)
    groove = np.array([[x, bottom - 0.2 * room], [x, bottom]])
    fill(patch, view.px(ribbon(groove, 0.02)) - origin, (150, 58, 62))


def _row_of_teeth(patch: Image, view: View, gum: Points, height: float, origin: Points) -> None:
    """Draw a row of teeth below the upper (height > 0) or above the lower lip, thinner towards the corners."""
    t = np.linspace(-1, 1, len(gum))
    reach = (1 - np.abs(t) ** 4) * height
    lift = np.sign(height) * 0.03
    edge = gum + np.stack([np.zeros_like(reach), reach], axis=1)
    band = np.concatenate([gum - np.array((0, lift)), edge[::-1]])
    fill(patch, view.px(band) - origin, _TEETH)
    for k in range(3, len(gum) - 3, 3):
        gap = np.stack([gum[k], edge[k]])
        fill(patch, view.px(ribbon(gap, 0.009)) - origin, _GAPS)
