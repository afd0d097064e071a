"""Clothes and neck, ears, freckles, beards, glasses, earrings and backdrop of a character."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.cartoon.canvas import (
    Image,
    Points,
    View,
    blur,
    ellipse,
    fill,
    glaze,
    mask_of,
    mix,
    ribbon,
    shade_colour,
    spline,
)
from fexgan_lit.synthetic.cartoon.hair import Layer
from fexgan_lit.synthetic.cartoon.identity import Identity
from fexgan_lit.synthetic.cartoon.rig import Face
from fexgan_lit.synthetic.cartoon.shading import ramp, tone


def backdrop(view: View, who: Identity) -> Image:
    """Return a plain studio wall (n, n, 3), lighter behind the head."""
    xs, ys = view.axes()
    far = np.clip(np.hypot(xs[None] + 0.15, ys[:, None] * 0.95 + 0.1) / 2.5, 0, 1)[..., None] ** 1.3
    near, rim = np.array(who.wall[0]), np.array(who.wall[1])
    return np.rint(near * (1 - far) + rim * far).astype(np.uint8)


def body_layer(view: View, who: Identity) -> Layer:
    """Return neck, shoulders and shirt, which do not move with the head."""
    xs, ys = view.axes()
    x, y = xs[None].astype(np.float32), ys[:, None].astype(np.float32)
    neck = _both(
        [
            (who.neck, 0.6),
            (who.neck * 0.94, 1.15),
            (who.neck * 1.02, 1.45),
            (who.neck * 1.5, 1.68),
            (who.neck * 1.6, 2.2),
        ]
    )
    wide = max(1.25, 2.6 * who.neck)
    open_x = who.neck * 1.22
    shirt = _both(
        [
            (0.0, 1.9),
            (open_x * 0.4, 1.78),
            (open_x, 1.52),
            (wide, 1.72),
            (wide + 0.35, 2.02),
            (wide + 0.4, 2.4),
            (wide + 0.4, 3.2),
        ]
    )
    across = 0.72 - 0.4 * np.clip(x / who.neck, -1, 1) ** 3 * 0.6 - 0.2 * np.clip(x / who.neck, -1.2, 1.2) ** 2
    under_chin = 1 - 0.62 * np.exp(-(((y - who.chin + 0.12) / 0.34) ** 2))
    skin = tone((255 * np.clip(across * under_chin, 0, 1)).astype(np.uint8), ramp(who.skin))
    fold = 0.7 - 0.16 * x / 1.4 - 0.25 * (x / 1.9) ** 2 + 0.04 * np.sin(9 * x + 3 * y)
    collar = blur(
        mask_of(
            view,
            ribbon(
                spline([(-open_x, 1.5), (-0.4 * open_x, 1.78), (0.0, 1.9), (0.4 * open_x, 1.78), (open_x, 1.5)]), 0.12
            ),
        ),
        0.02 * view.unit,
    )
    cloth_shade = (255 * np.clip(fold + 0.12 * (y - 1.9) + collar * np.float32(0.22 / 255), 0, 1)).astype(np.uint8)
    cloth = tone(cloth_shade, ramp(who.shirt, 0.3))
    shirt_mask, neck_mask = mask_of(view, shirt), mask_of(view, neck)
    return Layer(mix(skin, cloth, shirt_mask), np.maximum(neck_mask, shirt_mask))


def _both(right: list[tuple[float, float]]) -> Points:
    line = spline(right)
    return np.concatenate([line, line[::-1] * np.array((-1, 1))])


def ear_outlines(who: Identity) -> tuple[Points, Points]:
    """Return both ears as closed curves."""
    e = who.ear
    x = 0.5 * (who.face[0] + who.face[1]) - 0.04
    half = [(0.0, -0.26), (0.55, -0.38), (0.82, -0.14), (0.74, 0.25), (0.46, 0.62), (0.1, 0.72), (-0.1, 0.4)]
    right = spline([(x + e * a, 0.1 + e * b * 1.15) for a, b in half], closed=True)
    return right * np.array((-1, 1)), right


def shade_ears(shade: Image, view: View, who: Identity, ears: tuple[Points, Points]) -> None:
    """Draw the ears into the (n, n) shade map: a lit rim and a shadowed hollow."""
    for ear, sign, light in ((ears[0], -1, 178), (ears[1], 1, 128)):
        fill(shade, view.px(ear), light)
        middle = ear.mean(axis=0)
        fill(
            shade,
            view.px((ear - middle) * np.array((0.62, 0.66)) + middle + np.array((-0.02 * sign, 0.0))),
            int(0.55 * light),
        )
        fill(
            shade,
            view.px((ear - middle) * np.array((0.34, 0.34)) + middle + np.array((-0.03 * sign, 0.04))),
            int(0.8 * light),
        )


def beard_mask(view: View, who: Identity, face: Face) -> Image | None:
    """Return the coverage (n, n) of the beard, or None; it follows the jaw and the lips."""
    if who.beard == "none":
        return None
    outlines = {
        "full": [_full_beard(face), _moustache(face, 0.12)],
        "stubble": [_full_beard(face), _moustache(face, 0.11)],
        "moustache": [_moustache(face, 0.24, droop=0.12, reach=0.17)],
        "goatee": [_goatee(face), _moustache(face, 0.1)],
    }[who.beard]
    mask = mask_of(view, *outlines)
    fill(mask, view.px(np.concatenate([face.mouth.upper_outer, face.mouth.lower_outer[::-1]])), 0)
    soft = {"stubble": 0.07, "moustache": 0.012}.get(who.beard, 0.02)
    mask = blur(mask, soft * view.unit)
    return (mask * np.float32(0.42)).astype(np.uint8) if who.beard == "stubble" else mask


def _full_beard(face: Face) -> Points:
    jaw = spline(face.jaw[1:16], steps=2)
    middle = face.mouth.lower_outer[6]
    grown = jaw + np.stack([np.zeros(len(jaw)), 0.07 * np.clip(jaw[:, 1], 0, None) ** 2], axis=1)
    left, right = face.mouth.upper_outer[0], face.mouth.upper_outer[12]
    top = [
        (jaw[-1, 0] * 0.93, jaw[-1, 1]),
        (jaw[-1, 0] * 0.8, 0.45),
        (right[0] + 0.18, right[1] - 0.08),
        (right[0] + 0.04, right[1] + 0.05),
    ]
    top += [(middle[0], middle[1] + 0.06), (left[0] - 0.04, left[1] + 0.05), (left[0] - 0.18, left[1] - 0.08)]
    top += [(jaw[0, 0] * 0.8, 0.45), (jaw[0, 0] * 0.93, jaw[0, 1])]
    return np.concatenate([grown, spline(top)])


def _moustache(face: Face, thick: float, droop: float = 0.04, reach: float = 0.08) -> Points:
    lip = face.mouth.upper_outer
    nose = face.nostrils[2]
    left, right = lip[0], lip[12]
    under = lip[1:-1] + np.array((0, 0.015))
    tips = (np.array([left[0] - reach, left[1] + droop]), np.array([right[0] + reach, right[1] + droop]))
    top_y = max(nose[1] + 0.03, lip[6, 1] - 1.15 * thick)
    over = spline(
        [
            tips[1],
            (0.55 * right[0], lip[9, 1] - 0.9 * thick),
            (nose[0], top_y),
            (0.55 * left[0], lip[3, 1] - 0.9 * thick),
            tips[0],
        ]
    )
    return np.concatenate([tips[:1], under, over])


def _goatee(face: Face) -> Points:
    low, chin = face.mouth.lower_outer[6], face.jaw[8]
    half = 0.3
    points = [(low[0] - half, low[1] + 0.02), (low[0], low[1] + 0.06), (low[0] + half, low[1] + 0.02)]
    points += [(chin[0] + 0.26, chin[1] - 0.02), (chin[0], chin[1] + 0.1), (chin[0] - 0.26, chin[1] - 0.02)]
    return spline(points, closed=True)


def freckle_map(view: View, who: Identity) -> NDArray[np.float32] | None:
    """Return the darkening (n, n) of each pixel of the resting face, or None for clear skin."""
    if not who.freckles:
        return None
    rng = np.random.default_rng(5)
    dots = np.zeros((view.n, view.n), np.uint8)
    for sign in (-1, 1):
        for x, y, r in zip(
            rng.normal(0.5, 0.17, 16), rng.normal(0.33, 0.075, 16), rng.uniform(0.016, 0.028, 16), strict=True
        ):
            fill(dots, view.px(ellipse(sign * max(x, 0.16), y, r, count=10)), 255)
    return dots.astype(np.float32) * np.float32(0.24 * who.freckles / 255)


def draw_glasses(image: Image, view: View, who: Identity, face: Face) -> None:
    """Draw frames in front of the eyes, a bridge, arms to the ears and a reflection on the glass."""
    if who.glasses == "none":
        return
    x0, y0, half, _ = who.eye
    shift = np.array([0.75 * face.turn[0], 0.75 * face.turn[1]])
    dark = shade_colour(who.accent, 0.85)
    power = 2.0 if who.glasses == "round" else 4.5
    rx, ry = half + 0.09, (half + 0.07 if who.glasses == "round" else 0.31)
    angle = np.linspace(0, 2 * np.pi, 49)
    c, s = np.cos(angle), np.sin(angle)
    shape = np.stack([np.sign(c) * np.abs(c) ** (2 / power) * rx, np.sign(s) * np.abs(s) ** (2 / power) * ry], axis=1)
    for sign in (-1, 1):
        rim = shape + np.array((sign * x0, y0 + 0.02)) + shift
        glaze(image, view, ribbon(rim + np.array((0.01, 0.04)), 0.06), shade_colour(who.skin, 0.25), 0.4, soft=0.02)
        fill(image, view.px(ribbon(rim, 0.055)), dark)
        glint = (
            np.array([[-0.16, -0.2], [-0.05, -0.24], [-0.2, 0.04], [-0.25, 0.02]]) + np.array((sign * x0, y0)) + shift
        )
        glaze(image, view, glint, (255, 255, 255), 0.16)
        arm = np.array([[sign * (x0 + rx), y0 - 0.06], [sign * who.face[1] * 0.99, y0 - 0.02]]) + (shift * 0.6)
        fill(image, view.px(ribbon(arm, 0.06)), dark)
    gap = x0 - rx
    bridge = spline([(-gap, y0), (0, y0 - 0.06), (gap, y0)]) + shift * 1.15
    fill(image, view.px(ribbon(bridge, 0.055)), dark)


def draw_earrings(image: Image, alpha: Image, view: View, who: Identity) -> None:
    """Draw gold hoops on the ear lobes."""
    if not who.earrings:
        return
    for ear in ear_outlines(who):
        x, y = float(ear[:, 0].mean()), float(ear[:, 1].max())
        ring = ribbon(ellipse(x, y + 0.13, 0.12, 0.15, count=33)[np.r_[0:33, 0]], 0.045)
        fill(image, view.px(ring), (226, 178, 82))
        fill(alpha, view.px(ring), 255)
        glaze(image, view, ellipse(x - 0.08, y + 0.06, 0.03), (255, 246, 214), 0.9)
