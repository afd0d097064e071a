"""From the time stamps of a driver to the steady rate of a film, forwards or there and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.figures.layout import unit_card
from fexgan_lit.utils.errors import UserError

#: Frames a second that a film may have.
SLOWEST, FASTEST = 1.0, 240.0
#: Frames of a film, all of which are held in memory: ten minutes at 30 a second.
MOST_FRAMES = 18_000


#: Steps that differ by no more than this share of the usual one, or than the rounding of time stamps to milliseconds.
_STEADY, _ROUNDING_S = 0.02, 0.0011


#: Steps this near to the usual one are no gaps, and rates this near to a whole number are meant to be it.
_NEAR, _WHOLE = 0.3, 0.01


#: Gaps between frames that are worth a word, in usual steps.
_GAP = 3.0


class Beat(NamedTuple):
    """The moments of a film.

    Attributes:
        times: (T,) seconds since the first, equally spaced.
        rate: frames a second.
        note: what was done to the driver's own moments; "" where these are kept, one for one.
    """

    times: np.ndarray
    rate: Fraction
    note: str = ""


def beat(times: np.ndarray, fps: float | None = None) -> Beat:
    """A steady beat over the time of a driver: its own where that is steady, else of its usual step.

    Args:
        times: (T,) seconds, rising.
        fps: the rate wanted; None means the driver's.

    Raises:
        UserError: fewer than two moments, times that do not rise, or a rate that no film has.
    """
    steps = np.diff(times)
    if len(steps) == 0:
        raise UserError("driver: one frame is no clip; expected two or more")
    if not (steps > 0).all():
        line = int(np.argmax(~(steps > 0))) + 1
        raise UserError(f"driver: time does not rise at frame {line} ({times[line - 1]:g} s, then {times[line]:g} s)")
    usual = float(np.median(steps))
    spread = float(np.abs(steps - usual).max())
    steady = spread <= max(_STEADY * usual, _ROUNDING_S)
    own = 1 / float(steps.mean()) if steady else _usual_rate(steps, usual)
    rate = fps or own
    if not SLOWEST <= rate <= FASTEST:
        raise UserError(
            f"driver: {rate:.4g} frames a second, expected {SLOWEST:g} to {FASTEST:g}; times are in seconds (are these "
            "milliseconds?), and fps= sets another rate"
        )
    check_length(times[-1] - times[0], rate)
    exact = Fraction(rate).limit_denominator(1001)
    if steady and abs(rate - own) <= _STEADY * own:
        return Beat(np.arange(len(times)) * (times[-1] - times[0]) / (len(times) - 1), exact)
    count = int((times[-1] - times[0]) * rate + 1e-6) + 1
    return Beat(np.arange(count) / rate, exact, _note(steps, usual, len(times), count, rate))


def check_length(seconds: float, rate: float) -> None:
    """Refuse a film of more than `MOST_FRAMES` frames.

    Raises:
        UserError: with how many there may be.
    """
    if not seconds * rate < MOST_FRAMES:
        raise UserError(
            f"driver: {seconds:g} s at {rate:.4g} frames a second; expected at most {MOST_FRAMES} frames, "
            f"{MOST_FRAMES / rate:g} s at this rate. A lower fps= or a shorter driver has fewer"
        )


def _usual_rate(steps: np.ndarray, usual: float) -> float:
    """Frames a second without the gaps; whole where it nearly is, since stamps are rounded."""
    rate = 1 / float(steps[np.abs(steps - usual) <= _NEAR * usual].mean())
    return float(round(rate)) if abs(rate - round(rate)) <= _WHOLE * rate else rate


def _note(steps: np.ndarray, usual: float, before: int, after: int, rate: float) -> str:
    shape = f"{steps.min():.3f} to {steps.max():.3f} s apart"
    gaps = int((steps > _GAP * usual).sum())
    filled = f"; {gaps} gaps of up to {steps.max():.2f} s are filled in a straight line" if gaps else ""
    return f"the driver's {before} frames ({shape}) were resampled to {after} at {rate:.4g} a second{filled}"


def follow(values: np.ndarray, times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """`values` (T, ...) at `times` (T,), linearly interpolated at `moments` (M,): (M, ...)."""
    place = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(times) - 2)
    share = np.clip((moments - times[place]) / (times[place + 1] - times[place]), 0, 1)
    share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return (1 - share) * values[place] + share * values[place + 1]


def nearest(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """(M,) for each of `moments` the index of the nearest of `times` (T,)."""
    return np.searchsorted((times[1:] + times[:-1]) / 2, moments)


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
