"""Hair, hats and buns: outlines of a style in head units, shaded once per character as locks with streaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.cartoon.canvas import Image, Points, View, blur, ellipse, mask_of, mix, spline
from fexgan_lit.synthetic.cartoon.identity import RGB, Identity
from fexgan_lit.synthetic.cartoon.shading import KEY, ramp, tone

Outline = list[tuple[float, float]]


@dataclass(frozen=True)
class Lock:
    """One piece of hair or cloth.

    Attributes:
        outline: (n, 2) closed curve in head units.
        root: centre from which the streaks radiate; None for vertical streaks.
        tint: factor on the hair colour, or another colour.
        streak: contrast of the streaks, 0 for cloth and skin.
        puff: roundness of the shading.
    """

    outline: Points
    root: tuple[float, float] | None = (0.0, -1.7)
    tint: float | RGB = 1.0
    streak: float = 0.16
    puff: float = 0.22


@dataclass(frozen=True)
class Style:
    """Pieces behind the neck and pieces in front of the face, each from back to front."""

    back: tuple[Lock, ...]
    front: tuple[Lock, ...]


def _mirror(right: Outline) -> Points:
    """Close a right half (top to bottom) with its mirror image and smooth the curve."""
    left = [(-x, y) for x, y in right[::-1]]
    start = 1 if left and abs(left[-1][0]) < 1e-9 else 0
    return spline(right + left[: len(left) - start], steps=6, closed=True)


def _curve(points: Outline, steps: int = 6) -> Points:
    return spline(points, steps=steps, closed=True)


def _scaled(points: Points, who: Identity) -> Points:
    width = (-0.5 if who.hair_flip else 0.5) * (who.face[0] + who.face[1])
    return points * np.array((width, 1.0)) + np.array((0.0, 0.3 * (who.top + 1.42)))


def _crop(who: Identity) -> Style:
    cap = [(-0.99, -0.12), (-1.09, -0.62), (-1.0, -1.2), (-0.62, -1.6), (0.0, -1.78), (0.55, -1.72), (0.98, -1.3)]
    cap += [
        (1.09, -0.66),
        (0.99, -0.12),
        (0.94, -0.5),
        (0.84, -0.84),
        (0.4, -1.0),
        (-0.1, -0.98),
        (-0.6, -0.9),
        (-0.9, -0.58),
    ]
    quiff = [(-0.82, -0.86), (-0.98, -1.3), (-0.6, -1.74), (0.05, -1.9), (0.66, -1.78), (0.95, -1.38), (0.82, -1.02)]
    quiff += [(0.5, -1.12), (0.1, -1.06), (-0.4, -0.92)]
    return Style((), (Lock(_curve(cap), (0.2, -1.2)), Lock(_curve(quiff), (1.3, -1.0), 1.04)))


def _buzz(who: Identity) -> Style:
    cap = [(0.0, who.top - 0.1), (0.55, who.top + 0.03), (0.93, -1.02), (1.03, -0.5), (1.0, -0.02), (0.96, -0.32)]
    cap += [(0.88, -0.66), (0.74, -0.8), (0.68, -0.98), (0.3, -1.04), (0.0, -1.02)]
    return Style((), (Lock(_mirror(cap), (0.0, -1.3), 1.0, 0.1, 0.14),))


def _long(who: Identity) -> Style:
    back = [(0.0, -1.54), (0.74, -1.4), (1.18, -0.7), (1.3, 0.3), (1.4, 1.2), (1.3, 1.95), (0.3, 2.0)]
    left = [(-0.36, -1.66), (-0.88, -1.46), (-1.18, -0.8), (-1.2, 0.1), (-1.33, 0.9), (-1.25, 1.6), (-1.02, 1.95)]
    left += [(-0.9, 1.5), (-1.04, 0.9), (-0.97, 0.2), (-0.95, -0.45), (-0.76, -0.82), (-0.42, -1.12)]
    right = [
        (-0.42, -1.62),
        (0.2, -1.76),
        (0.88, -1.5),
        (1.18, -0.85),
        (1.2, 0.1),
        (1.34, 0.9),
        (1.24, 1.6),
        (1.0, 1.95),
    ]
    right += [
        (0.88, 1.5),
        (1.04, 0.9),
        (0.97, 0.2),
        (0.94, -0.4),
        (0.76, -0.74),
        (0.4, -0.92),
        (-0.05, -1.08),
        (-0.36, -1.3),
    ]
    return Style(
        (Lock(_mirror(back), None, 0.55),), (Lock(_curve(left), (-0.4, -1.6)), Lock(_curve(right), (-0.4, -1.75), 1.05))
    )


def _bob(who: Identity) -> Style:
    back = [(0.0, -1.6), (0.84, -1.42), (1.28, -0.7), (1.36, 0.3), (1.25, 0.95), (0.7, 1.05), (0.0, 1.0)]
    side = [(0.35, -1.6), (0.95, -1.4), (1.24, -0.75), (1.32, 0.1), (1.26, 0.82), (0.98, 1.02), (0.9, 0.7), (1.0, 0.2)]
    side += [(0.95, -0.4), (0.78, -0.8)]
    fringe = [(0.0, -1.74), (0.55, -1.62), (0.92, -1.25), (0.99, -0.74), (0.72, -0.74), (0.36, -0.77), (0.0, -0.8)]
    sides = tuple(Lock(_curve([(s * x, y) for x, y in side]), (0.0, -1.8)) for s in (-1, 1))
    return Style((Lock(_mirror(back), None, 0.58),), (*sides, Lock(_mirror(fringe), (0.0, -2.3), 1.06)))


def _afro(who: Identity) -> Style:
    rng = np.random.default_rng(7)
    around = np.linspace(-0.15 * np.pi, 1.15 * np.pi, 30)
    ring = [(1.22 * np.cos(a), -0.72 - 1.0 * np.sin(a)) for a in around]
    back = [Lock(ellipse(0.0, -0.75, 1.32, 1.12, count=40), (0.0, -0.6), 0.9, 0.06, 0.5)]
    back += [
        Lock(ellipse(x, y, r, count=18), (x, y), 1.0, 0.05, 0.12)
        for (x, y), r in zip(ring, rng.uniform(0.17, 0.24, 30), strict=True)
    ]
    line = [(1.0, -0.3), (0.97, -0.58), (0.84, -0.86), (0.6, -1.02), (0.3, -1.1), (0.0, -1.13)]
    dome = _mirror([(0.0, -1.66), (0.7, -1.5), (1.14, -1.0), (1.16, -0.42), (1.0, -0.18), *line[1:]])
    front = [Lock(dome, (0.0, -0.6), 0.97, 0.06, 0.4)]
    for sign in (-1, 1):
        for rows, (lift, size) in enumerate(((0.0, 0.15), (0.22, 0.19), (0.48, 0.22))):
            for x, y in line[rows % 2 :: 1]:
                spot = ellipse(sign * x * (1 + 0.12 * lift) + 0.05 * rows, y - lift - 0.05, size, count=18)
                front.append(Lock(spot, (sign * x, y), 1.0, 0.05, 0.12))
    return Style(tuple(back), tuple(front))


def _buns(who: Identity) -> Style:
    buns = tuple(Lock(ellipse(0.82 * s, -1.66, 0.42, 0.4), (0.6 * s, -1.3), 0.96, 0.22, 0.3) for s in (-1, 1))
    half = [
        (0.0, -1.7),
        (0.5, -1.64),
        (0.95, -1.25),
        (1.1, -0.62),
        (1.04, -0.05),
        (0.96, 0.12),
        (0.95, -0.35),
        (0.82, -0.78),
    ]
    half += [(0.42, -1.02), (0.0, -1.3)]
    caps = tuple(Lock(_curve([(s * x, y) for x, y in half]), (0.85 * s, -1.6)) for s in (-1, 1))
    return Style(buns, caps)


def _pigtails(who: Identity) -> Style:
    tail = [(1.0, -0.45), (1.35, -0.62), (1.64, -0.3), (1.68, 0.3), (1.5, 0.95), (1.42, 0.7), (1.2, 0.45), (1.05, 0.0)]
    tails = tuple(Lock(_curve([(s * x, y) for x, y in tail]), (0.95 * s, -0.5), 0.95) for s in (-1, 1))
    ties = tuple(Lock(ellipse(1.1 * s, -0.42, 0.13, 0.16), None, who.accent, 0.0, 0.2) for s in (-1, 1))
    half = [
        (0.0, -1.68),
        (0.5, -1.64),
        (0.95, -1.3),
        (1.12, -0.66),
        (1.03, -0.1),
        (0.95, -0.4),
        (0.85, -0.72),
        (0.5, -0.8),
    ]
    half += [(0.22, -0.94), (0.04, -1.2)]
    caps = tuple(Lock(_curve([(s * x, y) for x, y in half]), (0.0, -1.75)) for s in (-1, 1))
    return Style((*tails, *ties), caps)


def _spiky(who: Identity) -> Style:
    tips = [(-1.0, -0.1), (-1.24, -0.34), (-1.08, -0.55), (-1.42, -0.8), (-1.1, -0.98), (-1.36, -1.38), (-0.92, -1.34)]
    tips += [(-0.92, -1.78), (-0.5, -1.56), (-0.26, -1.92), (0.04, -1.62), (0.44, -1.92), (0.52, -1.54), (1.0, -1.78)]
    tips += [
        (0.92, -1.3),
        (1.4, -1.3),
        (1.1, -0.94),
        (1.4, -0.72),
        (1.08, -0.52),
        (1.22, -0.3),
        (1.0, -0.1),
        (0.93, -0.5),
    ]
    tips += [(0.84, -0.86), (0.62, -0.7), (0.48, -0.96), (0.2, -0.72), (0.02, -0.98), (-0.3, -0.72), (-0.5, -0.96)]
    tips += [(-0.74, -0.74), (-0.86, -0.84), (-0.93, -0.5)]
    points = np.asarray(tips)
    t = np.linspace(0, 1, 4, endpoint=False)[None, :, None]
    straight = (points[:, None] * (1 - t) + np.roll(points, -1, axis=0)[:, None] * t).reshape(-1, 2)
    outline = 0.35 * spline(tips, steps=4, closed=True) + 0.65 * straight
    return Style((), (Lock(outline, (0.1, -1.0), 1.0, 0.2, 0.16),))


def _fringe_ring(who: Identity) -> Style:
    """Return a bald top with soft tufts from the temples to behind the ears."""
    tufts = [(1.0, -0.78, 0.13), (1.1, -0.62, 0.17), (1.17, -0.42, 0.19), (1.18, -0.2, 0.19), (1.12, 0.02, 0.16)]
    inner = [(0.98, -0.6, 0.1), (1.01, -0.44, 0.12), (1.03, -0.27, 0.11)]

    def locks(spots: list[tuple[float, float, float]]) -> tuple[Lock, ...]:
        return tuple(
            Lock(ellipse(s * x, y, r, 0.86 * r, tilt=0.6 * s, count=20), (0.4 * s, y - 0.2), 1.0, 0.1, 0.13)
            for s in (-1, 1)
            for x, y, r in spots
        )

    return Style(locks(tufts), locks(inner))


def _beanie(who: Identity) -> Style:
    hair = [(0.86, -0.8), (1.04, -0.7), (1.08, -0.3), (1.0, 0.1), (0.95, -0.25)]
    hairs = tuple(Lock(_curve([(s * x, y) for x, y in hair]), (s, -1.0), 1.0, 0.2, 0.1) for s in (-1, 1))
    dome = [(0.0, -1.84), (0.6, -1.74), (1.02, -1.36), (1.1, -0.82), (0.6, -0.92), (0.0, -0.96)]
    brim = [(0.0, -1.2), (0.6, -1.14), (1.08, -1.06), (1.17, -0.88), (1.1, -0.7), (0.6, -0.84), (0.0, -0.88)]
    cloth = Lock(_mirror(dome), (0.0, -3.6), who.accent, 0.1, 0.4)
    return Style((), (*hairs, cloth, Lock(_mirror(brim), (0.0, -4.0), _darker(who.accent), 0.16, 0.16)))


def _darker(colour: RGB) -> RGB:
    r, g, b = (int(0.8 * v) for v in colour)
    return r, g, b


STYLES: MappingProxyType[str, Callable[[Identity], Style]] = MappingProxyType(
    {
        "afro": _afro,
        "beanie": _beanie,
        "bob": _bob,
        "buns": _buns,
        "buzz": _buzz,
        "crop": _crop,
        "fringe_ring": _fringe_ring,
        "long": _long,
        "pigtails": _pigtails,
        "spiky": _spiky,
    }
)


@dataclass(frozen=True)
class Layer:
    """A static image in the head frame: (n, n, 3) colour, which extends beyond the (n, n) alpha."""

    colour: Image
    alpha: Image


def hair_layers(view: View, who: Identity) -> tuple[Layer | None, Layer | None]:
    """Return back and front hair of a character, None where the style has none."""
    style = STYLES[who.hair](who)
    return _layer(view, who, style.back), _layer(view, who, style.front)


def _layer(view: View, who: Identity, locks: tuple[Lock, ...]) -> Layer | None:
    if not locks:
        return None
    alpha = np.zeros((view.n, view.n), np.uint8)
    colour: Image | None = None
    for k, lock in enumerate(locks):
        mask = mask_of(view, _scaled(lock.outline, who))
        piece = _shaded(view, who, lock, mask, k)
        if colour is None:
            colour = piece
        else:
            contact = blur(mask, 0.05 * view.unit).astype(np.float32) * np.float32(0.45 / 255)
            colour = mix(colour, (colour * np.float32(0.35)).astype(np.uint8), contact)
            colour = mix(
                colour, piece, np.where(alpha > mask, mask, np.maximum(mask, 255 * (alpha == 0))).astype(np.uint8)
            )
        alpha = np.maximum(alpha, mask)
    return None if colour is None else Layer(colour, alpha)


def _shaded(view: View, who: Identity, lock: Lock, mask: Image, seed: int) -> Image:
    base = tuple(c * lock.tint for c in who.hair_colour) if isinstance(lock.tint, float) else lock.tint
    inside = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5) / np.float32(view.unit)
    height = blur(np.sqrt(np.minimum(inside, lock.puff) * np.float32(2 * lock.puff)), 0.045 * view.unit)
    slope_y, slope_x = np.gradient(height, 1 / view.unit)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    facing = np.maximum((KEY[2] - KEY[0] * slope_x - KEY[1] * slope_y) / length, 0)
    grain = _streaks(view, lock, seed)
    gloss = np.exp(-(((facing - 0.9) / 0.09) ** 2)) * (0.5 + 0.9 * grain) * min(1.0, 6 * lock.streak)
    shade = 0.2 + 0.52 * facing + lock.streak * grain * (0.5 + facing) + 0.2 * gloss
    return tone((255 * np.clip(shade, 0, 1)).astype(np.uint8), ramp(base, 0.18 + 0.3 * max(base) / 255, 0.24))


def _streaks(view: View, lock: Lock, seed: int) -> NDArray[np.float32]:
    """Return smooth stripes along the strands, (n, n), about -1..1."""
    xs, ys = view.axes()
    if lock.root is None:
        across = (3.0 * xs[None] + 0.15 * np.sin(2.5 * ys)[:, None]).astype(np.float32)
    else:
        across = (2.2 * np.arctan2(ys[:, None] - lock.root[1], xs[None] - lock.root[0])).astype(np.float32)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 11]))
    stripes = np.zeros_like(across)
    for pitch in (4.0, 7.3, 11.9, 19.0, 31.0):
        stripes += np.sin(across * np.float32(pitch) + np.float32(rng.uniform(0, 6.28))) * np.float32(1 / 2.6)
    return stripes
