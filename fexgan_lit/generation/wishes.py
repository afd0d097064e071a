"""What a user may say of a wanted face (an affect, action units, the source itself), and what it means to a run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.expression import ACTION_UNITS, Expression, resolve_affect
from fexgan_lit.generation.expressions import with_units

if TYPE_CHECKING:
    from fexgan_lit.generation.workbench import Workbench

SOURCE = "source"
_UNIT = re.compile(r"(?:au)?_?0*(\d{1,2})", re.IGNORECASE)


@dataclass(frozen=True)
class Wish:
    """Weights of affects, or action units to set; neither is the face as it is."""

    affects: dict[str, float] = field(default_factory=dict)
    units: dict[int, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """As on a sheet: `joy`, `joy 0.5 + fear 0.5`, `AU12=0.8 AU25=0.4`, `source`."""
        if self.units:
            return " ".join(f"AU{unit}={value:g}" for unit, value in self.units.items())
        parts = [name if weight == 1 else f"{name} {weight:g}" for name, weight in self.affects.items()]
        return " + ".join(parts) or SOURCE


def read_wish(value: Any, option: str, affects: tuple[str, ...]) -> Wish:
    """What `option=value` asks for: `source`, an affect, or a mapping of affects or of action units to numbers.

    Raises:
        UserError: none of these; an unknown affect or unit; units not in 0..1, weights below 0.
    """
    if value == SOURCE:
        return Wish()
    if isinstance(value, Mapping) and value:
        return _mapping(value, option, affects)
    if not isinstance(value, str):
        raise UserError(
            f"{option}={value}: expected `source`, an affect ({', '.join(affects)}), or action units such as "
            f"'{option}={{AU12: 0.8, AU25: 0.4}}'"
        )
    return Wish(affects={_affect(value, option, affects): 1.0})


def _mapping(value: Mapping[Any, Any], option: str, affects: tuple[str, ...]) -> Wish:
    units, weights = {}, {}
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number) or number < 0:
            raise UserError(f"{option}: {key} is {number}, expected a number, 0 or more")
        match = _UNIT.fullmatch(str(key))
        if match is None:
            weights[_affect(str(key), option, affects)] = float(number)
            continue
        unit = int(match.group(1))
        if unit not in ACTION_UNITS or number > 1:
            raise UserError(
                f"{option}: AU{unit} at {number:g}; expected one of the units {', '.join(map(str, ACTION_UNITS))} at "
                "0..1 (a fifth of OpenFace's 0..5)"
            )
        units[unit] = float(number)
    if units and weights:
        raise UserError(f"{option}={dict(value)}: affects and action units cannot be mixed in one expression")
    return Wish(weights, units)


def _affect(name: str, option: str, affects: tuple[str, ...]) -> str:
    try:
        return resolve_affect(name, affects)
    except UserError as error:
        raise UserError(f"{option}={name}: {error}") from error


def read_affects(value: Any, option: str, affects: tuple[str, ...]) -> list[str]:
    """The affects that `option=value` names, each once: `all` (or null), one name, or a list of names.

    Raises:
        UserError: none of these, or an unknown affect; names the nearest.
    """
    if value is None or value == "all":
        return list(affects)
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{option}={value}: expected `all`, or some of [{','.join(affects)}]")
    return list(dict.fromkeys(_affect(name, option, affects) for name in names))


def granted(bench: Workbench, wish: Wish) -> Expression:
    """The expressions (N, ...) that give each of the faces what is wished, in the fields the run reads.

    Action units that a wish does not name stay as the face has them.

    Raises:
        UserError: what the run reads is not known of the faces.
    """
    if wish.units:
        return Expression(aus=with_units(bench.own("aus"), wish.units))
    if wish.affects:
        return of_affects(bench, wish.affects)
    return bench.own_expression()


@dataclass(frozen=True)
class Way:
    """What an affect at weight 1 adds to N faces, in the fields that a run reads.

    Attributes:
        label: (N, K) one-hot.
        units: (N, 17) action units, or None.
        motion: (N, 68, 2) from the landmarks of the face to those of the affect, or None.
    """

    label: Tensor
    units: Tensor | None = None
    motion: Tensor | None = None


def way_to(bench: Workbench, name: str) -> Way:
    """What the affect `name` means to the run and each of its N faces.

    Raises:
        UserError: the data of the run are needed for that and lack it.
    """
    k, reads = bench.system.affects.index(name), bench.system.reads
    label = Expression.blend({name: 1.0}, bench.system.affects, len(bench.sources)).affect
    units = _units(bench, k) if "aus" in reads else None
    motion = _landmarks(bench, k) - bench.own("landmarks") if "landmarks" in reads else None
    return Way(_known(label, "affects"), units, motion)


def along(ways: Sequence[Way], weights: Sequence[float] | Tensor, landmarks: Tensor | None = None) -> Expression:
    """Several affects at once, each with its weight; gradients reach the weights.

    Action units are the weighted sum of the affects', at most 1; landmarks move from those of the face by the weighted
    sum of the ways to those of the affects.

    Args:
        ways: P of them, for the same N faces.
        weights: (P,), 1 is the affect as the data show it.
        landmarks: (N, 68, 2) of the faces, for ways with a motion.

    Returns:
        (N, ...).
    """
    label = sum((w * way.label for w, way in zip(weights, ways, strict=True)), torch.zeros_like(ways[0].label))
    aus = moved = None
    if ways[0].units is not None:
        aus = sum(
            (w * _known(way.units, "action units") for w, way in zip(weights, ways, strict=True)), torch.zeros(())
        )
        aus = aus.clamp(0, 1)
    if landmarks is not None and ways[0].motion is not None:
        moved = sum((w * _known(way.motion, "landmarks") for w, way in zip(weights, ways, strict=True)), landmarks)
    return Expression(label, aus, moved)


def of_affects(bench: Workbench, weights: Mapping[str, float]) -> Expression:
    """Affects with weights (1 is the affect as the data show it), as labels, action units and landmarks, (N, ...)."""
    own = bench.own("landmarks") if "landmarks" in bench.system.reads else None
    return along([way_to(bench, name) for name in weights], list(weights.values()), own)


def _units(bench: Workbench, affect: int) -> Tensor:
    """(N, 17) what an affect means: the prototype that came with the weights, else the true frames' units."""
    prototype = bench.system.expression([affect]).aus
    if prototype is not None:
        return prototype.cpu().expand(len(bench.sources), -1)
    return _known(bench.true_expression(affect).aus, "action units")


def _landmarks(bench: Workbench, affect: int) -> Tensor:
    """(N, 68, 2) of each identity's strongest true frame."""
    return _known(bench.true_expression(affect).landmarks, "landmarks")


def _known(values: Tensor | None, what: str) -> Tensor:
    if values is None:
        raise UserError(f"the data of the run have no {what} for every frame any more; put them back as they were")
    return values
