"""A card of action units or affects: a bar each, for drivers that have no picture."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageDraw

from fexgan_lit.figures.sheet import BLANK, INK, font

_BAR = "#1f77b4"


def unit_card(units: Mapping[str, float], side: int) -> Image.Image:
    """Bars for `units` (name -> 0..1), one below the other, on a square of `side` pixels."""
    card = Image.new("RGB", (side, side), BLANK)
    draw = ImageDraw.Draw(card)
    size = max(9, round(side * 0.09))
    longest = max((font(size).getlength(name) for name in units), default=0)
    left = max(round(side * 0.32), round(longest) + 9)
    full = side - left - round(side * 0.06)
    for row, (name, value) in enumerate(units.items()):
        middle = round(side * (row + 0.5) / len(units))
        draw.text((left - 5, middle), name, INK, font(size), anchor="rm")
        width = round(full * min(max(value, 0.0), 1.0))
        draw.rectangle((left, middle - size // 2, left + max(width, 1), middle + size // 2), fill=_BAR)
    return card
