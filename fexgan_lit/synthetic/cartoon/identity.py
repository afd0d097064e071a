"""Parameters of a character: shapes, colours and ornaments as plain numbers, and random characters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fexgan_lit.synthetic.population import (
    RGB,
    any_colour,
    as_rgb,
    between,
    draw_name,
    draw_wall,
    pick,
    within,
)


@dataclass(frozen=True)
class Identity:
    """One character. Lengths are in head units (1 is half the width of an average face), colours RGB 0..255.

    Attributes:
        face: half widths of the outline at temple, cheek, jaw and chin corner.
        top: y of the crown (negative is up); `chin`: y of the chin.
        eye: x, y, half width and half height of an eye; `eye_tilt`: lift of the outer corner.
        brow: y at rest, thickness, half length and arch; `brow_tilt`: lift of the outer end.
        nose: half width of the wings, y of the tip, size of the tip and relief of the bridge (0..1).
        mouth: y, half width, thickness of the upper and of the lower lip.
        age: 0..1, depth of the folds at rest.
        hair: style, a key of `hair.STYLES`; `hair_flip`: whether it is mirrored.
        beard: none, stubble, full, moustache or goatee; glasses: none, round or square.
        wall: colours of the backdrop behind the head and at the rim.
        light: gain, horizontal offset and warmth in addition to those of a take, see `FaceState.light`.
    """

    name: str
    skin: RGB = (236, 188, 160)
    lips: RGB = (196, 104, 98)
    iris: RGB = (96, 128, 72)
    hair_colour: RGB = (74, 46, 30)
    brow_colour: RGB = (60, 38, 26)
    shirt: RGB = (70, 110, 150)
    accent: RGB = (220, 180, 70)
    face: tuple[float, float, float, float] = (0.96, 1.0, 0.82, 0.4)
    top: float = -1.42
    chin: float = 1.3
    eye: tuple[float, float, float, float] = (0.43, -0.04, 0.3, 0.23)
    eye_tilt: float = 0.03
    iris_size: float = 0.165
    brow: tuple[float, float, float, float] = (-0.47, 0.1, 0.33, 0.07)
    brow_tilt: float = 0.02
    nose: tuple[float, float, float, float] = (0.16, 0.36, 0.13, 0.5)
    mouth: tuple[float, float, float, float] = (0.79, 0.36, 0.075, 0.1)
    ear: float = 0.27
    neck: float = 0.46
    age: float = 0.0
    blush: float = 0.35
    freckles: float = 0.0
    lashes: float = 0.3
    hair: str = "crop"
    hair_flip: bool = False
    beard: str = "none"
    glasses: str = "none"
    earrings: bool = False
    wall: tuple[RGB, RGB] = ((104, 116, 128), (44, 50, 60))
    light: tuple[float, float, float] = (1.0, 0.0, 0.0)


_SKINS: tuple[RGB, ...] = (
    (246, 208, 184),
    (238, 190, 158),
    (222, 164, 126),
    (196, 134, 96),
    (152, 98, 68),
    (112, 70, 50),
)
_HAIRS: tuple[RGB, ...] = (
    (34, 28, 30),
    (70, 42, 28),
    (120, 70, 36),
    (168, 74, 34),
    (222, 176, 92),
    (158, 154, 152),
)
_DYES: tuple[RGB, ...] = ((94, 62, 134), (44, 112, 124), (196, 92, 132))
_IRISES: tuple[RGB, ...] = ((88, 52, 30), (124, 84, 44), (84, 128, 74), (66, 122, 178), (96, 110, 122))
_SHIRTS: tuple[RGB, ...] = (
    (178, 62, 60),
    (58, 108, 158),
    (66, 134, 102),
    (208, 150, 62),
    (110, 76, 140),
    (60, 66, 84),
    (214, 206, 192),
)
_LONG_STYLES = ("long", "bob", "buns", "pigtails", "afro")
_SHORT_STYLES = ("crop", "buzz", "spiky", "beanie", "fringe_ring", "afro")


def _four(rng: np.random.Generator, *ranges: tuple[float, float]) -> tuple[float, float, float, float]:
    a, b, c, d = (within(rng, *limits) for limits in ranges)
    return a, b, c, d


def _tinted(colour: RGB, red: float, green: float, blue: float) -> RGB:
    return int(colour[0] * red), int(colour[1] * green), int(colour[2] * blue)


def _colours(rng: np.random.Generator, soft: bool, style: str) -> dict[str, Any]:
    """Draw matching colours: dark skin has dark hair unless the hair is dyed."""
    tone = int(rng.integers(len(_SKINS)))
    hair = pick(rng, _HAIRS[:2] if tone >= 3 else _HAIRS)
    if style in ("long", "bob", "spiky", "buns") and rng.random() < 0.2:
        hair = pick(rng, _DYES)
    skin = _SKINS[tone]
    return {
        "skin": skin,
        "lips": _tinted(skin, 0.84, 0.5, 0.5) if soft else _tinted(skin, 0.84, 0.63, 0.6),
        "iris": pick(rng, _IRISES[:2] if tone >= 3 else _IRISES),
        "hair_colour": hair,
        "brow_colour": _tinted(hair, 0.66, 0.62, 0.6),
        "shirt": pick(rng, _SHIRTS),
        "accent": pick(rng, _SHIRTS),
    }


def _features(rng: np.random.Generator, soft: bool) -> dict[str, Any]:
    jaw, thick = ((0.64, 0.8), (0.06, 0.09)) if soft else ((0.72, 0.95), (0.09, 0.15))
    return {
        "face": _four(rng, (0.9, 1.0), (0.95, 1.05), jaw, (0.28, 0.5)),
        "eye": _four(rng, (0.41, 0.45), (-0.08, 0.0), (0.26, 0.33), (0.19, 0.27)),
        "brow": _four(rng, (-0.52, -0.44), thick, (0.29, 0.35), (0.03, 0.1)),
        "nose": _four(rng, (0.12, 0.23), (0.3, 0.41), (0.1, 0.18), (0.2, 0.9)),
        "mouth": _four(rng, (0.76, 0.84), (0.31, 0.41), (0.05, 0.1), (0.08, 0.13)),
    }


def draw_identity(seed: int, index: int) -> Identity:
    """Return the `index`-th random character of `seed`, the same in every process."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5EED, index]))
    soft = bool(rng.random() < 0.5)
    style = pick(rng, _LONG_STYLES if soft else _SHORT_STYLES)
    return Identity(
        name=draw_name(rng),
        **_colours(rng, soft, style),
        **_features(rng, soft),
        chin=within(rng, 1.2, 1.4),
        eye_tilt=within(rng, -0.02, 0.07),
        iris_size=within(rng, 0.145, 0.185),
        brow_tilt=within(rng, -0.02, 0.06),
        ear=within(rng, 0.22, 0.34),
        neck=within(rng, 0.36, 0.44) if soft else within(rng, 0.46, 0.62),
        age=within(rng, 0.0, 0.9 if style == "fringe_ring" else 0.45),
        blush=within(rng, 0.15, 0.6),
        freckles=float(rng.random() < 0.25),
        lashes=within(rng, 0.6, 1.0) if soft else within(rng, 0.0, 0.3),
        hair=style,
        beard="none" if soft else pick(rng, ("none", "none", "stubble", "full", "moustache", "goatee")),
        glasses=pick(rng, ("none", "none", "none", "round", "square")),
        earrings=bool(soft and rng.random() < 0.5),
    )


def draw_anyone(seed: int, index: int) -> Identity:
    """Return character `index` of the random population of `seed`: `draw_identity` with wider shapes and colours."""
    who = draw_identity(seed, index)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xA17, index]))
    soft = who.lashes > 0.5
    skin = between(rng, _SKINS, 4.0)
    dark = sum(skin) < 420
    dyed = who.beard == "none" and rng.random() < 0.3
    hair = any_colour(rng, (0.3, 0.7), (0.3, 0.8)) if dyed else between(rng, _HAIRS[:2] if dark else _HAIRS, 5.0)
    wall = draw_wall(rng, lambda: any_colour(rng, (0.05, 0.55), (0.25, 0.85)), skin, hair)
    _, y, half, height = who.eye
    red = (0.86, rng.uniform(0.46, 0.58), rng.uniform(0.46, 0.58)) if soft else (0.84, 0.63, 0.6)
    return replace(
        who,
        skin=skin,
        lips=_tinted(skin, *red),
        iris=between(rng, _IRISES[:2] if dark else _IRISES),
        hair_colour=hair,
        brow_colour=as_rgb(np.array(hair) * rng.uniform(0.5, 0.75)),
        shirt=any_colour(rng, (0.1, 0.8), (0.25, 0.9)),
        accent=any_colour(rng, (0.2, 0.8), (0.15, 0.7)),
        face=_four(rng, (0.86, 1.02), (0.9, 1.08), (0.62, 0.86) if soft else (0.7, 1.0), (0.24, 0.56)),
        chin=within(rng, 1.12, 1.44),
        eye=_four(rng, (0.39, 0.46), (y - 0.04, y + 0.04), (half - 0.04, half + 0.03), (height - 0.04, height + 0.05)),
        eye_tilt=within(rng, -0.05, 0.09),
        iris_size=within(rng, 0.13, 0.19),
        brow_tilt=within(rng, -0.05, 0.09),
        nose=_four(rng, (0.1, 0.26), (0.27, 0.43), (0.09, 0.21), (0.1, 0.95)),
        mouth=_four(rng, (0.75, 0.85), (0.28, 0.43), (0.04, 0.11), (0.07, 0.14)),
        hair_flip=bool(rng.random() < 0.5),
        freckles=within(rng, 0.4, 1.0) if rng.random() < 0.25 else 0.0,
        wall=(wall[0], as_rgb(np.array(wall[1]) * rng.uniform(0.45, 0.85))),
        light=(within(rng, 0.96, 1.1), within(rng, -3.0, 5.0), within(rng, -2.0, 2.0)),
    )
