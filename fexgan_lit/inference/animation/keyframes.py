"""Drive an animation by keyframes in YAML: expressions at given times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fexgan_lit.expression import Expression, rows_of
from fexgan_lit.inference.animation.timeline import MOST_FRAMES, SLOWEST, Beat, check_length
from fexgan_lit.inference.conditions import TargetSpec, read_target, target_expression
from fexgan_lit.utils.errors import UserError, did_you_mean
from fexgan_lit.utils.files import read_yaml

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession

EXTENSIONS = (".yaml", ".yml")
#: Frames per second by default.
FPS = 25.0
#: Longest video in seconds; every face is generated for each of its frames.
LONGEST_S = 3600.0
#: Interpolation between two keys: maps the fraction u of the time between them, 0..1, to a weight.
EASES: dict[str, Callable[[float], float]] = {
    "linear": lambda u: u,
    "smooth": lambda u: u * u * (3 - 2 * u),  # starts and ends at rest
    "hold": lambda u: float(u >= 1),
}
_FIELDS = ("time", "expression", "ease")
_EXAMPLE = "a list such as\n  - {time: 0, expression: neutral}\n  - {time: 0.5, expression: {joy: 0.8}, ease: smooth}"


@dataclass(frozen=True)
class Key:
    """An expression at a time (seconds), and the interpolation from the key before."""

    time: float
    wish: TargetSpec
    ease: str = "smooth"


def read_keys(path: Path, affects: tuple[str, ...]) -> list[Key]:
    """Read the keys of a YAML file: a list of {time: seconds, expression: ..., ease: linear | smooth | hold}.

    An expression is `source`, an affect, or a mapping of affects or action units to numbers.

    Raises:
        UserError: an entry is invalid; the error names its line.
    """
    import yaml

    entries = read_yaml(path, "driver=")
    node = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    if not isinstance(entries, list) or not isinstance(node, yaml.SequenceNode):
        raise UserError(f"driver={path}: expected {_EXAMPLE}")
    if len(entries) < 2:
        raise UserError(f"driver={path}: found {len(entries)} keys; expected two or more")
    lines = [f"driver={path.name} line {entry.start_mark.line + 1}" for entry in node.value]
    keys = [_key(entry, line, affects) for entry, line in zip(entries, lines, strict=True)]
    for before, after, line in zip(keys[:-1], keys[1:], lines[1:], strict=True):
        if after.time <= before.time:
            raise UserError(f"{line}: time {after.time:g} s comes after {before.time:g} s; times must increase")
    return keys


def _key(entry: Any, line: str, affects: tuple[str, ...]) -> Key:
    if not isinstance(entry, Mapping):
        raise UserError(f"{line}: {entry!r}; expected {_EXAMPLE}")
    for name in entry:
        if name not in _FIELDS:
            hint = did_you_mean(name, _FIELDS)
            raise UserError(f"{line}: unknown field {name}; expected {', '.join(_FIELDS)}.{hint}")
    time, ease = entry.get("time"), entry.get("ease", "smooth")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time <= MOST_FRAMES / SLOWEST:
        raise UserError(f"{line}: time is {time}; expected seconds, 0 to {MOST_FRAMES / SLOWEST:g}")
    if ease not in EASES:
        raise UserError(f"{line}: ease is {ease}; expected one of {', '.join(EASES)}")
    if "expression" not in entry:
        raise UserError(f"{line}: no expression; expected `source`, an affect, or weights such as {{joy: 0.5}}")
    try:
        wish = read_target(entry["expression"], "expression", affects)
    except UserError as error:
        raise UserError(f"{line}: {error}") from error
    return Key(float(time), wish, str(ease))


def keyed_beat(keys: Sequence[Key], fps: float | None) -> Beat:
    """Return the times of the frames from 0 to the last key, which is the last frame."""
    rate = fps or FPS
    check_length(keys[-1].time, rate)
    count = math.ceil(keys[-1].time * rate - 1e-6) + 1
    return Beat(np.arange(count) / rate, Fraction(rate).limit_denominator(1001))


def places(keys: Sequence[Key], moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the key before each of the moments (T,) in seconds, and the weight of the next key (T,).

    The expression is constant before the first key and after the last.
    """
    times = np.array([key.time for key in keys])
    before = np.clip(np.searchsorted(times, moments + 1e-9, side="right") - 1, 0, len(keys) - 2)
    shares = np.clip((moments - times[before]) / (times[before + 1] - times[before]), 0, 1)
    shares = np.where(shares > 1 - 1e-9, 1.0, shares)  # times of frames have rounding errors
    eased = [EASES[keys[k + 1].ease](float(share)) for k, share in zip(before, shares, strict=True)]
    return before, np.array(eased)


def keyed_expressions(
    session: GenerationSession, keys: Sequence[Key], moments: np.ndarray, check: Callable[[Expression], None]
) -> Callable[[int], Expression]:
    """Return a function that maps the index of a face to its target expressions (T, ...) at the moments (T,).

    Args:
        session: contains the faces.
        keys: two or more keys.
        moments: times in seconds.
        check: raises an error if the system cannot read an expression.

    Raises:
        UserError: a field of a key's expression is unknown for the faces, or the system does not read it.
    """
    if any(key.wish.units for key in keys):
        check(Expression(aus=session.own("aus")))
    asked = [target_expression(session, key.wish) for key in keys]
    before, shares = places(keys, moments)

    def of_face(number: int) -> Expression:
        stops = Expression.stack([rows_of(wanted, [number]) for wanted in asked])  # (P, ...)
        share = torch.from_numpy(shares).float()
        moved = {}
        for name, values in stops.known.items():
            here, there = values[before], values[before + 1]  # (T, ...)
            moved[name] = torch.lerp(here, there, share.reshape(-1, *[1] * (values.ndim - 1)))
        return Expression(**moved)

    return of_face
