"""Parameters of a character: shapes, colours and ornaments as plain numbers, and random characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

RGB = tuple[int, int, int]


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
        hair: style, a key of `hair.STYLES`.
        beard: none, stubble, full, moustache or goatee; glasses: none, round or square.
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
    beard: str = "none"
    glasses: str = "none"
    earrings: bool = False


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
_FIRST = ("ba", "de", "fi", "go", "ha", "ke", "lu", "mo", "ni", "ro", "sa", "ti", "vo", "wi", "ya", "ze")
_LAST = ("bo", "dan", "ko", "lle", "man", "mi", "na", "ra", "ris", "ro", "sha", "ta", "to", "vi", "xa", "zen")


_T = TypeVar("_T")


def _pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _within(rng: np.random.Generator, low: float, high: float) -> float:
    return float(round(rng.uniform(low, high), 4))


def _four(rng: np.random.Generator, *ranges: tuple[float, float]) -> tuple[float, float, float, float]:
    a, b, c, d = (_within(rng, *limits) for limits in ranges)
    return a, b, c, d


def _tinted(colour: RGB, red: float, green: float, blue: float) -> RGB:
    return int(colour[0] * red), int(colour[1] * green), int(colour[2] * blue)


def _colours(rng: np.random.Generator, soft: bool, style: str) -> dict[str, Any]:
    """Draw matching colours: dark skin has dark hair unless the hair is dyed."""
    tone = int(rng.integers(len(_SKINS)))
    hair = _pick(rng, _HAIRS[:2] if tone >= 3 else _HAIRS)
    if style in ("long", "bob", "spiky", "buns") and rng.random() < 0.2:
        hair = _pick(rng, _DYES)
    skin = _SKINS[tone]
    return {
        "skin": skin,
        "lips": _tinted(skin, 0.84, 0.5, 0.5) if soft else _tinted(skin, 0.84, 0.63, 0.6),
        "iris": _pick(rng, _IRISES[:2] if tone >= 3 else _IRISES),
        "hair_colour": hair,
        "brow_colour": _tinted(hair, 0.66, 0.62, 0.6),
        "shirt": _pick(rng, _SHIRTS),
        "accent": _pick(rng, _SHIRTS),
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
    style = _pick(rng, _LONG_STYLES if soft else _SHORT_STYLES)
    return Identity(
        name=f"{_pick(rng, _FIRST)}{_pick(rng, _LAST)}",
        **_colours(rng, soft, style),
        **_features(rng, soft),
        chin=_within(rng, 1.2, 1.4),
        eye_tilt=_within(rng, -0.02, 0.07),
        iris_size=_within(rng, 0.145, 0.185),
        brow_tilt=_within(rng, -0.02, 0.06),
        ear=_within(rng, 0.22, 0.34),
        neck=_within(rng, 0.36, 0.44) if soft else _within(rng, 0.46, 0.62),
        age=_within(rng, 0.0, 0.9 if style == "fringe_ring" else 0.45),
        blush=_within(rng, 0.15, 0.6),
        freckles=float(rng.random() < 0.25),
        lashes=_within(rng, 0.6, 1.0) if soft else _within(rng, 0.0, 0.3),
        hair=style,
        beard="none" if soft else _pick(rng, ("none", "none", "stubble", "full", "moustache", "goatee")),
        glasses=_pick(rng, ("none", "none", "none", "round", "square")),
        earrings=bool(soft and rng.random() < 0.5),
    )
