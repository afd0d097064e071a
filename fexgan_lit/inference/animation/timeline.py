"""Conversion of a driver's time stamps to the constant frame rate of a film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.figures.layout import unit_card
from fexgan_lit.utils.errors import UserError

#: Range of frames per second of a film.
SLOWEST, FASTEST = 1.0, 240.0
#: Frames of a film, all of which are held in memory: ten minutes at 30 a second.
MOST_FRAMES = 18_000


#: Tolerances for steps of constant length: relative to the median step, and the rounding of stamps to milliseconds.
_STEADY, _ROUNDING_S = 0.02, 0.0011


#: Relative distance from the median step within which a step is not a gap, and from a whole rate for rounding.
_NEAR, _WHOLE = 0.3, 0.01


#: Length in median steps from which a gap between frames is reported.
_GAP = 3.0


class Beat(NamedTuple):
    """The frame times of a film.

    Attributes:
        times: (T,) seconds since the first frame, equally spaced.
        rate: frames per second.
        note: how the driver's own times were changed; "" if they are kept one by one.
    """

    times: np.ndarray
    rate: Fraction
    note: str = ""


def beat(times: np.ndarray, fps: float | None = None) -> Beat:
    """Return equally spaced times over the driver's duration, at its own rate if constant, else at its usual rate.

    Args:
        times: (T,) seconds, increasing.
        fps: target rate; None uses the driver's.

    Raises:
        UserError: there are fewer than two times, times do not increase, or the rate is outside the range.
    """
    steps = np.diff(times)
    if len(steps) == 0:
        raise UserError("driver: found one frame; expected two or more")
    if not (steps > 0).all():
        line = int(np.argmax(~(steps > 0))) + 1
        raise UserError(
            f"driver: time does not increase at frame {line} ({times[line - 1]:g} s, then {times[line]:g} s)"
        )
    usual = float(np.median(steps))
    spread = float(np.abs(steps - usual).max())
    steady = spread <= max(_STEADY * usual, _ROUNDING_S)
    own = 1 / float(steps.mean()) if steady else _usual_rate(steps, usual)
    rate = fps or own
    if not SLOWEST <= rate <= FASTEST:
        raise UserError(
            f"driver: {rate:.4g} frames per second, expected {SLOWEST:g} to {FASTEST:g}; times must be in seconds (are "
            "these milliseconds?), and fps= sets another rate"
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
    """Return frames per second without gaps, rounded to a whole number if close, since stamps are rounded."""
    rate = 1 / float(steps[np.abs(steps - usual) <= _NEAR * usual].mean())
    return float(round(rate)) if abs(rate - round(rate)) <= _WHOLE * rate else rate


def _note(steps: np.ndarray, usual: float, before: int, after: int, rate: float) -> str:
    shape = f"{steps.min():.3f} to {steps.max():.3f} s apart"
    gaps = int((steps > _GAP * usual).sum())
    filled = f"; {gaps} gaps of up to {steps.max():.2f} s are filled by linear interpolation" if gaps else ""
    return f"the driver's {before} frames ({shape}) were resampled to {after} at {rate:.4g} per second{filled}"


def follow(values: np.ndarray, times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Interpolate `values` (T, ...) at `times` (T,) linearly at `moments` (M,): (M, ...)."""
    place = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(times) - 2)
    share = np.clip((moments - times[place]) / (times[place + 1] - times[place]), 0, 1)
    share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return (1 - share) * values[place] + share * values[place + 1]


def nearest(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Return the index of the nearest of `times` (T,) for each of `moments`, (M,)."""
    return np.searchsorted((times[1:] + times[:-1]) / 2, moments)


#: Number of bars on a card.
CARD_BARS = 5


@dataclass(frozen=True, eq=False)
class Play:
    """An animation of T frames.

    Attributes:
        name: name of the driver, for labels.
        beat: frame times.
        wanted: function of face i that returns its target expressions, (T, ...).
        above: function of (times (M,), side) that returns (M, side, side, 3) uint8 for the strip, or None.
    """

    name: str
    beat: Beat
    wanted: Callable[[int], Expression]
    above: Callable[[np.ndarray, int], np.ndarray | None]


def cards(wanted: Expression, affects: tuple[str, ...], chosen: np.ndarray, side: int) -> np.ndarray | None:
    """Draw the target expressions at the times `chosen` (M,) as bars of the strongest values, (M, side, side, 3)."""
    if wanted.affect is not None:
        values, names = wanted.affect.numpy(), list(affects)
    elif wanted.aus is not None:
        values, names = wanted.aus.numpy(), [f"AU{unit}" for unit in ACTION_UNITS]
    else:
        return None
    return value_cards(values[chosen], names, values, side)


def value_cards(shown: np.ndarray, names: list[str], whole: np.ndarray, side: int) -> np.ndarray:
    """Draw bars for each row of `shown` (M, C), of the columns strongest in `whole` (T, C); (M, side, side, 3) uint8.

    Columns that are unknown at some time are left out.
    """
    strongest = np.argsort(-np.nan_to_num(whole).max(0), kind="stable")[:CARD_BARS]
    columns = sorted(c for c in strongest.tolist() if np.isfinite(whole[:, c]).all() and whole[:, c].max() > 0)
    labels = [names[c] for c in columns]
    return np.stack(
        [np.asarray(unit_card(dict(zip(labels, row[columns].tolist(), strict=True)), side)) for row in shown]
    )
