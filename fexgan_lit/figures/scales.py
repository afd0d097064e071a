"""Where the values of an axis stand: evenly by name, or by size, by powers where they span decades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: As many different values get a tick each.
MOST_TICKS = 8
#: A larger ratio of the largest to the smallest value makes the axis logarithmic.
_DECADE = 9.9


@dataclass(frozen=True)
class Scale:
    """Places of values on an axis from 0 to 1.

    Attributes:
        places: (N,), NaN where there is no value.
        ticks: places and their labels.
        logarithmic: whether equal steps are equal ratios.
        named: whether the values are names, which have no size.
    """

    places: np.ndarray
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False
    named: bool = False


def scale(values: Sequence[Any], flip: bool = False, most_ticks: int = MOST_TICKS) -> Scale:
    """The scale of `values`: numbers by their size, anything else by name in order of appearance.

    Args:
        values: N; among numbers None and NaN are no value.
        flip: the smallest number at 1.
        most_ticks: as many different numbers get a tick each; of more, a few round places do.
    """
    if not all(value is None or _is_number(value) for value in values) or not any(map(_is_number, values)):
        return _by_name(values)
    numbers = np.array([float(value) if _is_number(value) else math.nan for value in values])
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return Scale(numbers, ())
    powers = bool(known.min() > 0 and known.max() / known.min() > _DECADE)
    size = np.log10 if powers else np.asarray
    low, high = float(size(known.min())), float(size(known.max()))

    def place(number: Any) -> Any:
        share = (size(number) - low) / (high - low) if high > low else np.full(np.shape(number), 0.5)
        return 1 - share if flip else share

    with np.errstate(invalid="ignore", divide="ignore"):
        places = np.where(np.isfinite(numbers), place(np.where(np.isfinite(numbers), numbers, known[0])), math.nan)
    few = len(np.unique(known)) <= most_ticks
    chosen = np.unique(known).tolist() if few else _round_ticks(float(known.min()), float(known.max()), powers)
    ticks = tuple((float(place(tick)), f"{tick:.4g}" if few or not powers else f"{tick:.2g}") for tick in chosen)
    return Scale(places, ticks, powers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _by_name(values: Sequence[Any]) -> Scale:
    names = [_name(value) for value in values]
    order = list(dict.fromkeys(names))
    step = 1 / (len(order) - 1) if len(order) > 1 else 0.0
    at = {name: index * step if step else 0.5 for index, name in enumerate(order)}
    return Scale(np.array([at[name] for name in names]), tuple((at[name], name) for name in order), named=True)


def _name(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else "null" if value is None else str(value)


def _round_ticks(low: float, high: float, powers: bool) -> list[float]:
    """The ends, and between them the powers of ten, or three more at even distances."""
    if powers:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        inner = [10.0**power for power in range(first, last + 1)]
        # a power beside an end would have its label on the other's
        return [low, *(tick for tick in inner if tick / low > 2 and high / tick > 2), high]
    return [float(value) for value in np.linspace(low, high, 5)]
