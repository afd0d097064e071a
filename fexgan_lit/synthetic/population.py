"""What the random characters of both studios share: draws, names, and the range of a population."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

RGB = tuple[int, int, int]

#: `cast`: hand-made characters, then random ones from small palettes; `random`: everyone is random, from wide ranges.
POPULATIONS = ("cast", "random")

_FIRST = ("ba", "de", "fi", "go", "ha", "ke", "lu", "mo", "ni", "ro", "sa", "ti", "vo", "wi", "ya", "ze")
_LAST = ("bo", "dan", "ko", "lle", "man", "mi", "na", "ra", "ris", "ro", "sha", "ta", "to", "vi", "xa", "zen")

#: Least distance of the wall's lightness from those of skin and hair, 0..1.
_CONTRAST = 0.18

_T = TypeVar("_T")
_Who = TypeVar("_Who", bound=Any)


def pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    """Draw one of the options."""
    return options[int(rng.integers(len(options)))]


def within(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number from `low` to `high`, rounded to four digits."""
    return float(round(rng.uniform(low, high), 4))


def draw_name(rng: np.random.Generator) -> str:
    """Draw one of 256 names."""
    return f"{pick(rng, _FIRST)}{pick(rng, _LAST)}"


def with_unique_names(people: Sequence[_Who]) -> tuple[_Who, ...]:
    """Append its number to the name of every character whose name an earlier one has."""
    taken: set[str] = set()
    named = []
    for k, who in enumerate(people):
        named.append(replace(who, name=f"{who.name}_{k + 1}") if who.name in taken else who)
        taken.add(named[-1].name)
    return tuple(named)


def between(rng: np.random.Generator, palette: Sequence[RGB], jitter: float = 7.0) -> RGB:
    """Draw a colour on the line through the colours of an ordered palette, with a deviation of `jitter` a channel."""
    at = rng.uniform(0, len(palette) - 1)
    channels = [np.interp(at, range(len(palette)), column) for column in zip(*palette, strict=True)]
    return as_rgb(np.array(channels) + rng.normal(0, jitter, 3) * (1.0, 0.7, 0.7))


def any_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> RGB:
    """Draw a colour of any hue."""
    return as_rgb(255 * np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))))


def as_rgb(channels: Any) -> RGB:
    """Round and clip three numbers to a colour."""
    red, green, blue = (int(v) for v in np.clip(np.rint(channels), 4, 250))
    return red, green, blue


def lightness(colour: RGB) -> float:
    """Return the perceived lightness of a colour, 0..1."""
    return float(np.dot(colour, (0.299, 0.587, 0.114)) / 255)


def draw_wall(rng: np.random.Generator, draw: Callable[[], RGB], skin: RGB, hair: RGB) -> tuple[RGB, RGB]:
    """Draw the two colours of a wall; neither is as light as the skin or the hair in front of it.

    Args:
        rng: draws the second colour.
        draw: draws the first colour.
        skin: colour of the face.
        hair: colour of the hair.
    """
    walls = [draw() for _ in range(12)]
    gaps = [min(abs(lightness(wall) - lightness(front)) for front in (skin, hair)) for wall in walls]
    wall = next((wall for wall, gap in zip(walls, gaps, strict=True) if gap > _CONTRAST), walls[int(np.argmax(gaps))])
    other = as_rgb(np.array(wall) * rng.uniform(0.75, 1.15) + rng.normal(0, 12, 3))
    return wall, other
