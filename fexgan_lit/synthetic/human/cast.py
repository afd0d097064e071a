"""The ten hand-made people, random people, and a cast of any number of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fexgan_lit.synthetic.human.identity import Identity
from fexgan_lit.synthetic.population import (
    RGB,
    any_colour,
    as_rgb,
    between,
    draw_name,
    draw_wall,
    lightness,
    pick,
    with_unique_names,
    within,
)

CAST: tuple[Identity, ...] = (
    Identity(
        "clara",
        shape=(1.2, 0.2, -0.2, 0.7, -1.2, 0.6, 0.9, -0.4, -1.0, 0.5, 0.8, -0.6),
        skin=(238, 196, 176),
        lips=(198, 98, 96),
        iris=(86, 128, 86),
        hair_colour=(150, 66, 30),
        brow_colour=(128, 66, 38),
        cloth=(52, 104, 98),
        blush=0.8,
        freckles=0.75,
        brow_width=0.34,
        brow_arch=0.3,
        brow_density=0.75,
        lashes=0.6,
        makeup=0.3,
        hair="curls",
        clothes="crew",
        shoulders=-0.6,
        lids=0.12,
    ),
    Identity(
        "kwame",
        shape=(-1.0, 0.9, -1.3, 0.5, 0.4, -0.8, -0.6, 0.7, 0.4, -0.9, 0.6, 0.3),
        skin=(122, 82, 60),
        lips=(128, 76, 70),
        iris=(54, 33, 21),
        hair_colour=(24, 19, 17),
        brow_colour=(26, 19, 16),
        cloth=(214, 164, 58),
        accent=(238, 232, 220),
        blush=0.1,
        shine=0.7,
        brow_width=0.52,
        brow_arch=0.0,
        stubble=0.75,
        beard=0.42,
        lashes=0.2,
        hair="buzz",
        clothes="hoodie",
        shoulders=0.8,
        lids=0.12,
    ),
    Identity(
        "mei",
        shape=(0.7, -1.0, -0.4, 0.6, -0.6, -1.2, -1.3, 0.9, 0.8, 0.6, -0.8, 1.0),
        skin=(232, 192, 164),
        lips=(200, 84, 88),
        iris=(58, 38, 26),
        hair_colour=(30, 26, 28),
        brow_colour=(44, 34, 30),
        cloth=(226, 222, 216),
        accent=(214, 110, 92),
        blush=0.5,
        brow_width=0.36,
        brow_arch=0.1,
        brow_density=0.8,
        lashes=0.5,
        makeup=0.5,
        lip_gloss=0.7,
        hair="bob",
        clothes="tee",
        trim=True,
        shoulders=-0.7,
        lids=0.16,
    ),
    Identity(
        "lukas",
        shape=(-0.7, -0.9, 0.7, -1.2, 1.2, 0.5, 0.4, -0.7, -0.3, 1.0, 0.2, -0.5),
        skin=(226, 180, 154),
        lips=(182, 108, 100),
        iris=(86, 120, 152),
        hair_colour=(92, 62, 38),
        brow_colour=(76, 52, 34),
        cloth=(72, 102, 148),
        accent=(232, 230, 226),
        age=0.2,
        brow_width=0.5,
        brow_arch=-0.05,
        brow_height=-0.1,
        stubble=0.30,
        lashes=0.15,
        hair="aside",
        clothes="shirt",
        shoulders=0.6,
        lids=0.12,
    ),
    Identity(
        "amara",
        shape=(0.5, 0.6, -1.5, -0.5, -0.5, 0.9, 0.5, -0.9, -0.7, 0.4, 0.9, 0.5),
        skin=(134, 90, 66),
        lips=(146, 62, 68),
        iris=(64, 40, 26),
        hair_colour=(34, 26, 23),
        brow_colour=(34, 25, 21),
        cloth=(206, 92, 58),
        blush=0.2,
        shine=0.6,
        brow_width=0.36,
        brow_arch=0.45,
        lashes=0.9,
        makeup=0.8,
        lip_gloss=0.8,
        hair="afro",
        clothes="crew",
        shoulders=-0.5,
        lids=0.15,
    ),
    Identity(
        "walter",
        shape=(-0.9, 0.3, 1.7, 0.8, 0.9, -0.5, -0.9, 0.5, 0.6, -0.4, -1.0, 0.8),
        skin=(230, 180, 158),
        lips=(178, 112, 104),
        iris=(108, 130, 150),
        hair_colour=(176, 172, 168),
        brow_colour=(150, 144, 138),
        cloth=(120, 104, 92),
        accent=(44, 38, 36),
        blush=0.8,
        shadow=0.5,
        age=0.95,
        shine=0.5,
        brow_width=0.55,
        brow_arch=-0.1,
        brow_density=0.8,
        stubble=0.08,
        lashes=0.0,
        hair="ring",
        clothes="shirt",
        glasses="square",
        lids=0.2,
    ),
    Identity(
        "priya",
        shape=(0.6, 0.8, 0.1, -0.8, -0.3, 1.1, -0.5, 1.0, -0.9, -0.8, 0.3, -1.0),
        skin=(186, 132, 98),
        lips=(162, 78, 78),
        iris=(70, 44, 28),
        hair_colour=(38, 27, 23),
        brow_colour=(34, 25, 22),
        cloth=(128, 60, 110),
        blush=0.3,
        shadow=0.35,
        brow_width=0.42,
        brow_arch=0.35,
        lashes=0.8,
        makeup=0.7,
        lip_gloss=0.5,
        hair="long",
        clothes="tee",
        shoulders=-0.5,
        lids=0.14,
    ),
    Identity(
        "mateo",
        shape=(-1.3, -0.5, 0.2, 0.9, 0.7, 0.8, 1.0, 0.3, 0.9, 0.7, -0.5, -0.8),
        skin=(198, 146, 112),
        lips=(168, 96, 88),
        iris=(84, 56, 34),
        hair_colour=(42, 30, 25),
        brow_colour=(38, 28, 24),
        cloth=(58, 62, 68),
        accent=(210, 206, 198),
        age=0.25,
        brow_width=0.56,
        stubble=0.9,
        beard=1.4,
        lashes=0.3,
        hair="mane",
        clothes="hoodie",
        shoulders=1.0,
        lids=0.15,
    ),
    Identity(
        "edith",
        shape=(0.5, 1.2, 1.2, 0.9, -0.6, -0.9, -1.0, -0.8, 0.5, -0.6, 0.7, 0.9),
        skin=(236, 198, 178),
        lips=(186, 92, 98),
        iris=(96, 118, 108),
        hair_colour=(206, 200, 194),
        brow_colour=(150, 136, 124),
        cloth=(88, 110, 150),
        accent=(120, 44, 50),
        blush=0.7,
        shadow=0.4,
        age=0.8,
        brow_width=0.32,
        brow_arch=0.3,
        brow_density=0.7,
        lashes=0.3,
        makeup=0.35,
        hair="waves",
        clothes="turtleneck",
        glasses="round",
        shoulders=-0.4,
        lids=0.14,
    ),
    Identity(
        "freja",
        shape=(0.4, -1.1, 0.4, -0.9, -0.9, -0.4, 1.1, 0.7, -0.6, 1.0, 0.4, 0.4),
        skin=(242, 204, 184),
        lips=(202, 104, 104),
        iris=(92, 136, 166),
        hair_colour=(198, 160, 104),
        brow_colour=(150, 112, 70),
        cloth=(46, 50, 58),
        blush=0.6,
        brow_width=0.36,
        brow_arch=0.2,
        brow_density=0.8,
        lashes=0.5,
        makeup=0.3,
        hair="tail",
        clothes="turtleneck",
        shoulders=-0.3,
        lids=0.12,
    ),
)

_SKINS: tuple[RGB, ...] = (
    (242, 206, 186),
    (232, 188, 162),
    (218, 170, 138),
    (190, 138, 104),
    (142, 96, 70),
    (104, 70, 52),
)
_HAIRS: tuple[RGB, ...] = (
    (28, 23, 22),
    (52, 36, 28),
    (92, 62, 38),
    (140, 70, 36),
    (196, 158, 102),
    (122, 98, 76),
)
_IRISES: tuple[RGB, ...] = ((58, 37, 24), (88, 58, 34), (88, 124, 84), (88, 126, 158), (108, 124, 134))
_CLOTHS: tuple[RGB, ...] = (
    (172, 62, 60),
    (64, 104, 150),
    (70, 122, 96),
    (206, 160, 70),
    (112, 82, 140),
    (60, 64, 74),
    (222, 216, 206),
)
_GREY: RGB = (178, 174, 170)
_LONG_STYLES = ("long", "waves", "bob", "curls", "afro", "bun", "tail")
_SHORT_STYLES = ("buzz", "crop", "aside", "quiff", "mane", "ring", "afro", "bald")
_MODES = 40


def _detail(rng: np.random.Generator, first: Sequence[float], spread: float) -> tuple[float, ...]:
    """Return all modes of a head from its `first` ones; later, finer modes are random."""
    rest = np.clip(rng.normal(0, spread, _MODES - len(first)), -1.6, 1.6)
    return (*first, *(float(v) for v in rest.round(4)))


def _colours(rng: np.random.Generator, soft: bool, age: float) -> dict[str, Any]:
    """Draw matching colours: dark skin has dark hair and eyes, old people have grey hair."""
    tone = int(rng.integers(len(_SKINS)))
    hair = pick(rng, _HAIRS[:2] if tone >= 3 else _HAIRS)
    if age > 0.6:
        hair = _GREY
    skin = _SKINS[tone]
    red = (0.86, 0.5, 0.55) if soft else (0.82, 0.62, 0.63)
    lips = (int(skin[0] * red[0]), int(skin[1] * red[1]), int(skin[2] * red[2]))
    brow = (int(hair[0] * 0.82), int(hair[1] * 0.8), int(hair[2] * 0.8))
    return {
        "skin": skin,
        "lips": lips,
        "iris": pick(rng, _IRISES[:2] if tone >= 3 else _IRISES),
        "hair_colour": hair,
        "brow_colour": brow,
        "cloth": pick(rng, _CLOTHS),
        "accent": pick(rng, ((44, 40, 40), (120, 62, 44), (226, 222, 214))),
        "blush": within(rng, 0.1, 0.8),
        "freckles": 0.7 if tone < 2 and rng.random() < 0.25 else 0.0,
    }


def _features(rng: np.random.Generator, soft: bool) -> dict[str, Any]:
    beard = 0.0 if soft else pick(rng, (0.0, 0.0, 0.0, 0.35, 0.8, 1.4))
    return {
        "brow_width": within(rng, 0.3, 0.42) if soft else within(rng, 0.42, 0.58),
        "brow_arch": within(rng, 0.05, 0.45) if soft else within(rng, -0.1, 0.2),
        "brow_height": within(rng, -0.1, 0.12),
        "stubble": 0.0 if soft else max(within(rng, 0.0, 0.35), 0.65 * (beard > 0)),
        "beard": beard,
        "moustache_only": bool(beard and rng.random() < 0.2),
        "lashes": within(rng, 0.5, 0.9) if soft else within(rng, 0.0, 0.3),
        "makeup": within(rng, 0.0, 0.8) if soft else 0.0,
        "lip_gloss": within(rng, 0.3, 0.8) if soft else 0.2,
        "shoulders": within(rng, -0.8, -0.2) if soft else within(rng, 0.0, 1.0),
        "shine": within(rng, 0.2, 0.7),
        "shadow": within(rng, 0.1, 0.5),
        "lids": within(rng, 0.02, 0.14),
    }


def draw_identity(seed: int, index: int) -> Identity:
    """Return the `index`-th random person of `seed`, the same in every process."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x1C7, index]))
    soft = bool(rng.random() < 0.5)
    age = within(rng, 0.0, 0.4) if rng.random() < 0.75 else within(rng, 0.65, 1.0)
    shape = np.clip(rng.normal(0, 0.9, 12), -1.7, 1.7)
    shape[0] = (1 if soft else -1) * rng.uniform(0.3, 1.3)
    shape[2] = 0.5 * shape[2] + 1.2 * age - 0.2
    return Identity(
        name=draw_name(rng),
        shape=_detail(rng, tuple(float(v) for v in shape.round(4)), 0.7),
        **_colours(rng, soft, age),
        **_features(rng, soft),
        age=age,
        hair=pick(rng, _LONG_STYLES if soft else _SHORT_STYLES),
        clothes=pick(rng, ("tee", "crew", "hoodie", "shirt", "turtleneck")),
        trim=bool(rng.random() < 0.4),
        glasses=pick(rng, ("none", "none", "none", "none", "none", "round", "square")),
    )


def draw_anyone(seed: int, index: int) -> Identity:
    """Return person `index` of the random population of `seed`: `draw_identity` with wider shapes and colours."""
    who = draw_identity(seed, index)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xA17, index]))
    soft = who.shoulders < 0
    skin = between(rng, _SKINS, 4.0)
    dark = sum(skin) < 400
    hair = between(rng, _HAIRS[:2] if dark else _HAIRS, 4.0)
    if who.hair_colour == _GREY:
        hair = as_rgb(np.array(_GREY) * rng.uniform(0.6, 1.2))
    exposure = 1.25 - 0.5 * lightness(skin)  # as photographers do
    red = (0.86, rng.uniform(0.46, 0.58), rng.uniform(0.5, 0.6)) if soft else (0.82, 0.62, 0.63)
    return replace(
        who,
        skin=skin,
        lips=as_rgb(np.array(skin) * red),
        iris=between(rng, _IRISES[:2] if dark else _IRISES),
        hair_colour=hair,
        brow_colour=as_rgb(np.array(hair) * rng.uniform(0.65, 0.9)),
        cloth=any_colour(rng, (0.05, 0.7), (0.15, 0.85)),
        accent=any_colour(rng, (0.1, 0.6), (0.1, 0.8)),
        freckles=within(rng, 0.4, 0.8) if sum(skin) > 520 and rng.random() < 0.25 else 0.0,
        hair_cut=(within(rng, 0.7, 1.25 if soft else 1.0), within(rng, 0.3, 1.7), bool(rng.random() < 0.5)),
        wall=draw_wall(rng, lambda: any_colour(rng, (0.0, 0.35), (0.3, 0.95)), skin, hair),
        slope=(within(rng, -1.0, 1.0), within(rng, -1.0, 1.0)),
        light=(exposure * within(rng, 0.85, 1.05), within(rng, -2.0, 8.0), within(rng, -1.5, 1.5)),
    )


def make_cast(count: int, seed: int, population: str = "cast") -> tuple[Identity, ...]:
    """Return the first `count` people; names are unique.

    Args:
        count: number of people.
        seed: seed of the random ones.
        population: `cast`: the hand-made people, then random ones; `random`: random ones of a wider range.
    """
    if population == "random":
        return with_unique_names([draw_anyone(seed, k) for k in range(count)])
    people = []
    for k in range(count):
        if k < len(CAST):
            rng = np.random.default_rng(np.random.SeedSequence([0xCA57, k]))
            people.append(replace(CAST[k], shape=_detail(rng, CAST[k].shape, 0.6)))
        else:
            people.append(draw_identity(seed, k))
    return with_unique_names(people)
