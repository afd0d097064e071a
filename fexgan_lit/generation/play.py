"""What an animation plays: the expressions of every face from moment to moment, and what stands above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.figures.units import unit_card
from fexgan_lit.generation.timing import Beat

#: Bars on a card.
CARD_BARS = 5


@dataclass(frozen=True, eq=False)
class Play:
    """T moments.

    Attributes:
        name: of what drives the faces, for labels.
        beat: when.
        wanted: what face i is asked for, (T, ...).
        above: (moments (M,), side) -> (M, side, side, 3) uint8 for the strip, or None for nothing.
    """

    name: str
    beat: Beat
    wanted: Callable[[int], Expression]
    above: Callable[[np.ndarray, int], np.ndarray | None]


def cards(wanted: Expression, affects: tuple[str, ...], chosen: np.ndarray, side: int) -> np.ndarray | None:
    """(M, side, side, 3) uint8: what is asked for at the moments `chosen` (M,), as bars of the strongest values."""
    if wanted.affect is not None:
        values, names = wanted.affect.numpy(), list(affects)
    elif wanted.aus is not None:
        values, names = wanted.aus.numpy(), [f"AU{unit}" for unit in ACTION_UNITS]
    else:
        return None
    return value_cards(values[chosen], names, values, side)


def value_cards(shown: np.ndarray, names: list[str], whole: np.ndarray, side: int) -> np.ndarray:
    """(M, side, side, 3) uint8: bars for each row of `shown` (M, C), of the columns strongest in `whole` (T, C).

    Columns that are not known at every moment are left out.
    """
    strongest = np.argsort(-np.nan_to_num(whole).max(0), kind="stable")[:CARD_BARS]
    columns = sorted(c for c in strongest.tolist() if np.isfinite(whole[:, c]).all() and whole[:, c].max() > 0)
    labels = [names[c] for c in columns]
    return np.stack(
        [np.asarray(unit_card(dict(zip(labels, row[columns].tolist(), strict=True)), side)) for row in shown]
    )
