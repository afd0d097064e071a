"""Skin folds driven by action units: furrow, forehead lines, crow's feet, nasolabial folds, bunny lines, chin."""

from __future__ import annotations

import numpy as np

from fexgan_lit.synthetic.cartoon.canvas import Image, Points, View, blur, ellipse, fill, glaze, ribbon, spline, taper
from fexgan_lit.synthetic.cartoon.identity import Identity
from fexgan_lit.synthetic.cartoon.rig import Face

#: A fold: its line (n, 2), full width in head units, depth 0..1.
Fold = tuple[Points, float, float]


def crease_map(view: View, who: Identity, face: Face) -> Image:
    """Return the depth of the folds, (n, n) uint8: 0 where the skin is smooth, 255 in the deepest fold."""
    fine, soft = np.zeros((view.n, view.n), np.uint8), np.zeros((view.n, view.n), np.uint8)
    for line, width, depth in _folds(who, face):
        if depth > 0.04:
            level = round(255 * min(depth, 1.0))
            fill(fine, view.px(ribbon(line, width * taper(len(line)))), level)
            fill(soft, view.px(ribbon(line, 3.2 * width * taper(len(line)))), level // 3)
    _soft_shadows(soft, view, who, face)
    return np.maximum(blur(fine, 0.009 * view.unit), blur(soft, 0.04 * view.unit))


def _folds(who: Identity, face: Face) -> list[Fold]:
    folds = _furrow(who, face) + _chin(face)
    for side, sign in enumerate((-1, 1)):
        folds += _forehead(who, face, side, sign) + _cheek(who, face, side, sign) + _nose(face, side, sign)
        folds += _around_eye(who, face, side, sign)
    return folds


def _furrow(who: Identity, face: Face) -> list[Fold]:
    """Return the two vertical lines between the brows."""
    depth = face.unit(4) * (0.55 + 0.35 * (1 - face.unit(1))) + 0.15 * who.age
    folds: list[Fold] = []
    for brow, sign in ((face.brows[0][4], -1), (face.brows[1][0], 1)):
        x = 0.42 * brow[0]
        y = brow[1]
        line = spline([(x + 0.015 * sign, y - 0.17), (x - 0.012 * sign, y - 0.02), (x + 0.02 * sign, y + 0.12)])
        folds.append((line, 0.045, depth))
    return folds


def _forehead(who: Identity, face: Face, side: int, sign: int) -> list[Fold]:
    inner, outer = face.unit(1, side), face.unit(2, side)
    depth = 0.62 * min(1.0, 0.55 * inner + 0.55 * outer) + 0.16 * who.age
    brow = face.brows[side] if sign > 0 else face.brows[side][::-1]
    folds: list[Fold] = []
    for k, reach in enumerate((0.78, 0.62)):
        y = brow[:, 1] - who.brow[1] * 0.5 - 0.13 - 0.13 * k
        points = [(0.0, y[0] - 0.02 + 0.05 * inner), (0.45 * reach * sign, y[1:3].mean()), (reach * sign, y[3] + 0.02)]
        folds.append((spline(points), 0.034, depth * (1 - 0.25 * k)))
    return folds


def _cheek(who: Identity, face: Face, side: int, sign: int) -> list[Fold]:
    """Return the nasolabial fold, from the wing of the nose around the corner of the mouth, and the dimple."""
    smile, sneer = face.unit(12, side), max(face.unit(9, side), face.unit(10, side))
    depth = 0.16 + 0.35 * who.age + 0.6 * smile + 0.6 * sneer + 0.3 * face.unit(20, side) + 0.18 * face.unit(15, side)
    wing = face.nostrils[0 if sign < 0 else 4]
    corner = face.mouth.upper_outer[0 if sign < 0 else 12]
    length = min(1.0, 0.45 + 0.35 * who.age + 0.5 * max(smile, sneer, face.unit(20, side)))
    start = wing + np.array((0.07 * sign, -0.05 - 0.03 * sneer))
    out = max(0.62 * abs(corner[0]), abs(wing[0]) + 0.14) + 0.05
    bend = np.array([out * sign, 0.5 * (start[1] + corner[1]) - 0.02 - 0.05 * smile])
    end = np.array([corner[0] + (0.12 + 0.04 * smile) * sign, corner[1] + 0.02 + 0.03 * smile])
    whole = spline(np.stack([start, bend, end, end + np.array((-0.03 * sign, 0.15))]), steps=8)
    line = whole[: max(6, int(length * len(whole)))]
    folds: list[Fold] = [(line, 0.042, depth)]
    pull = max(face.unit(14, side), 0.25 * smile, 0.55 * face.unit(15, side), 0.4 * face.unit(23, side))
    down = 0.06 * (face.unit(15, side) - smile)
    bracket = spline(
        [
            corner + np.array((0.05 * sign, -0.05)),
            corner + np.array((0.085 * sign, 0.01)),
            corner + np.array((0.06 * sign, 0.08 + down)),
        ]
    )
    folds.append((bracket, 0.036, 0.7 * pull))
    return folds


def _nose(face: Face, side: int, sign: int) -> list[Fold]:
    """Return the bunny lines of a wrinkled nose, and the permanent curl of the wing."""
    depth = 0.95 * face.unit(9, side)
    wing = face.nostrils[0 if sign < 0 else 4]
    curl = spline(
        [wing + np.array((0.0, -0.1)), wing + np.array((0.055 * sign, -0.045)), wing + np.array((0.01 * sign, 0.02))]
    )
    folds: list[Fold] = [(curl, 0.042, 0.72 + 0.28 * depth)]
    middle = face.bridge[1:3].mean(axis=0)
    for k in range(3):
        y = middle[1] - 0.1 + 0.075 * k
        points = [
            (middle[0] + 0.05 * sign, y - 0.02),
            (middle[0] + 0.12 * sign, y),
            (middle[0] + 0.17 * sign, y + 0.06),
        ]
        folds.append((spline(points), 0.03, depth))
    return folds


def _around_eye(who: Identity, face: Face, side: int, sign: int) -> list[Fold]:
    eye = face.eyes[side]
    outer = eye.lower[0 if sign < 0 else 12]
    crow = 0.65 * face.unit(6, side) + 0.2 * who.age
    folds: list[Fold] = []
    for dy, out in ((-0.09, 0.15), (0.0, 0.17), (0.09, 0.14)):
        points = [
            outer + np.array((0.06 * sign, 0.4 * dy)),
            outer + np.array(((0.06 + 0.5 * out) * sign, 0.8 * dy)),
            outer + np.array(((0.06 + out) * sign, 1.4 * dy)),
        ]
        folds.append((spline(np.stack(points), steps=3), 0.026, crow))
    bag = eye.lower[2:-2] + np.array((0, 0.075))
    bag = bag + np.stack([np.zeros(9), 0.03 * taper(9)], axis=1)
    folds.append((spline(bag, steps=2), 0.034, 0.14 + 0.25 * who.age + 0.5 * eye.squeeze))
    return folds


def _chin(face: Face) -> list[Fold]:
    low = face.mouth.lower_outer[6]
    depth = 0.22 + 0.5 * face.unit(17)
    arc = [low + np.array((-0.15, 0.085)), low + np.array((0, 0.055)), low + np.array((0.15, 0.085))]
    return [(spline(np.stack(arc)), 0.05, depth)]


def _soft_shadows(soft: Image, view: View, who: Identity, face: Face) -> None:
    """Draw the shadows of nose and lips on the skin below."""
    base = face.nostrils[2]
    wing = who.nose[0]
    fill(soft, view.px(ellipse(base[0] + 0.05, base[1] + 0.05, 1.25 * wing, 0.07)), 88)
    low = face.mouth.lower_outer
    fill(soft, view.px(ribbon(low[3:-3] + np.array((0.01, 0.04)), 0.06)), 70)


def draw_nose(image: Image, view: View, who: Identity, face: Face, colour: tuple[int, int, int]) -> None:
    """Draw two dark nostrils and the highlight on the tip of the nose."""
    wide = 1 + 0.3 * face.unit(9) + 0.15 * face.unit(23)
    for point, sign in ((face.nostrils[1], -1), (face.nostrils[3], 1)):
        hole = ellipse(point[0], point[1] - 0.035, 0.3 * who.nose[0] * wide, 0.032 * wide, tilt=0.25 * sign)
        fill(image, view.px(hole), colour)
    x, y = face.nostrils[2]
    shine = ellipse(x - 0.3 * who.nose[2], y - 0.16, 0.36 * who.nose[2], 0.28 * who.nose[2])
    glaze(image, view, shine, (255, 250, 240), 0.34, soft=0.025)
