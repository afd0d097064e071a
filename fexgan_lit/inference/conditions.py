"""Target expressions from words: affects with strengths, action units, or the source itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from fexgan_lit.expression import ACTION_UNITS, Expression, resolve_affect, with_units
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.inference.faces import ReferenceFaces
    from fexgan_lit.inference.session import GenerationSession
    from fexgan_lit.systems.base import ExpressionSystem


SOURCE = "source"


#: The largest weight of an affect: runs learn 1, or up to three deviations, and more is a slip of the keyboard.
STRONGEST = 10.0


_UNIT = re.compile(r"(?:au)?_?0*(\d{1,2})", re.IGNORECASE)


@dataclass(frozen=True)
class TargetSpec:
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


def read_target(value: Any, option: str, affects: tuple[str, ...]) -> TargetSpec:
    """What `option=value` asks for: `source`, an affect, or a mapping of affects or of action units to numbers.

    Raises:
        UserError: none of these; an unknown affect or unit; units not in 0..1, weights not in 0..`STRONGEST`.
    """
    if value == SOURCE:
        return TargetSpec()
    if isinstance(value, Mapping) and value:
        return _mapping(value, option, affects)
    if not isinstance(value, str):
        raise UserError(
            f"{option}={value}: expected `source`, an affect ({', '.join(affects)}), or action units such as "
            f"'{option}={{AU12: 0.8, AU25: 0.4}}'"
        )
    return TargetSpec(affects={_affect(value, option, affects): 1.0})


def _mapping(value: Mapping[Any, Any], option: str, affects: tuple[str, ...]) -> TargetSpec:
    units, weights = {}, {}
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= STRONGEST:
            raise UserError(f"{option}: {key} is {number}, expected a number, 0 to {STRONGEST:g}")
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
    return TargetSpec(weights, units)


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


def resolve_target(session: GenerationSession, wish: TargetSpec) -> Expression:
    """The expressions (N, ...) that give each of the faces what is wished, in the fields the run reads.

    Action units that a wish does not name stay as the face has them.

    Raises:
        UserError: what the run reads is not known of the faces.
    """
    if wish.units:
        return Expression(aus=with_units(session.own("aus"), wish.units))
    if wish.affects:
        return of_affects(session, wish.affects)
    return session.own_expression()


@dataclass(frozen=True)
class Direction:
    """What an affect at weight 1 adds to N faces, in the fields that a run reads.

    Attributes:
        label: (N, K) one-hot.
        units: (N, 17) action units, or None.
        motion: (N, 68, 2) from the landmarks of the face to those of the affect, or None.
    """

    label: Tensor
    units: Tensor | None = None
    motion: Tensor | None = None


def way_to(session: GenerationSession, name: str) -> Direction:
    """What the affect `name` means to the run and each of its N faces.

    Raises:
        UserError: the data of the run are needed for that and lack it.
    """
    k, reads = session.system.affects.index(name), session.system.reads
    label = Expression.blend({name: 1.0}, session.system.affects, len(session.sources)).affect
    units = _units(session, k) if "aus" in reads else None
    motion = _landmarks(session, k) - session.own("landmarks") if "landmarks" in reads else None
    return Direction(_known(label, "affects"), units, motion)


def along(ways: Sequence[Direction], weights: Sequence[float] | Tensor, landmarks: Tensor | None = None) -> Expression:
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


def of_affects(session: GenerationSession, weights: Mapping[str, float]) -> Expression:
    """Affects with weights (1 is the affect as the data show it), as labels, action units and landmarks, (N, ...)."""
    own = session.own("landmarks") if "landmarks" in session.system.reads else None
    return along([way_to(session, name) for name in weights], list(weights.values()), own)


def _units(session: GenerationSession, affect: int) -> Tensor:
    """(N, 17) what an affect means: the prototype that came with the weights, else the true frames' units."""
    prototype = session.system.expression([affect]).aus
    if prototype is not None:
        return prototype.cpu().expand(len(session.sources), -1)
    return _known(session.true_expression(affect).aus, "action units")


def _landmarks(session: GenerationSession, affect: int) -> Tensor:
    """(N, 68, 2) of each identity's strongest true frame."""
    return _known(session.true_expression(affect).landmarks, "landmarks")


def _known(values: Tensor | None, what: str) -> Tensor:
    if values is None:
        raise UserError(f"the data of the run have no {what} for every frame any more; put them back as they were")
    return values


#: A name, or weights of several.
Affect: TypeAlias = str | Mapping[str, float]


#: Action units by number or name (12, "AU12") at 0..1.
Units: TypeAlias = Mapping[int | str, float]


def weights_of(affect: Affect | None, strength: float, affects: tuple[str, ...]) -> dict[str, float]:
    """Weights of the affects that are asked for, times `strength`; empty for None.

    Raises:
        UserError: an unknown affect, a weight below 0, or a strength that is not finite.
    """
    if not -1e6 < strength < 1e6:  # NaN is neither
        raise UserError(f"strength={strength}: expected a number; 1 is the affect as the data show it")
    if affect is None:
        return {}
    wish = read_target(affect, "affect", affects)
    if wish.units or not wish.affects:
        raise UserError(f"affect={affect}: expected one of {', '.join(affects)}, or weights of several")
    return {name: weight * strength for name, weight in wish.affects.items()}


def units_of(units: Units | None, affects: tuple[str, ...]) -> dict[int, float]:
    """Action units by number; empty for None.

    Raises:
        UserError: an unknown unit, or a value outside 0..1.
    """
    if not units:
        return {}
    wish = read_target(dict(units), "units", affects)
    if wish.affects:
        raise UserError(f"units={dict(units)}: expected action units such as {{12: 0.8}}; affects go in affect=")
    return wish.units


def wanted_expression(
    system: ExpressionSystem,
    images: Tensor,
    weights: Mapping[str, float],
    units: Mapping[int, float],
    references: Callable[[], ReferenceFaces],
) -> Expression:
    """The expressions (N, ...) that give the faces `images` (N, 3, S, S) what is wished, in the fields `system` reads.

    Action units are the weighted sum of the affects' prototypes, at most 1, with those of `units` set; of a face
    without a wished affect they start from rest. Landmarks move from those of the face by the weighted sum of the ways
    to the same identity's true frames, which are known of reference faces alone.

    Raises:
        UserError: the system does not read what is wished, or what it reads is not known of the faces.
    """
    if units and "aus" not in system.reads:
        raise UserError(f"{system.settings.name} reads no action units; expected units=None and an affect")
    if not weights and not units:
        raise UserError(f"nothing is asked for: expected affect=, one of {', '.join(system.affects)}, or units=")
    wanted = Expression.blend(weights, system.affects, len(images))
    if "aus" in system.reads:
        wanted = replace(wanted, aus=with_units(_blended_units(system, weights, len(images)), units))
    if "landmarks" in system.reads:
        wanted = replace(wanted, landmarks=_moved_landmarks(system, images, weights, references()))
    return wanted


def _blended_units(system: ExpressionSystem, weights: Mapping[str, float], count: int) -> Tensor:
    """(count, 17): what the affects mean, each at its weight."""
    total = torch.zeros(1, len(ACTION_UNITS))
    for name, weight in weights.items():
        prototype = system.expression([system.affects.index(name)]).aus
        if prototype is None:
            raise UserError(f"these weights of {system.settings.name} do not say what {name} means; give units=")
        total = total + weight * prototype.cpu()
    return total.clamp(0, 1).expand(count, -1)


def _moved_landmarks(
    system: ExpressionSystem, images: Tensor, weights: Mapping[str, float], references: ReferenceFaces
) -> Tensor:
    """(N, 68, 2) of reference faces, moved towards the affects."""
    from fexgan_lit.data.reference import affect_expression

    found, frames = [references.row_of(image) for image in images], references.frames
    rows = [row for row in found if row is not None]
    if frames is None or frames.landmarks is None or len(rows) < len(found):
        raise UserError(
            f"{system.settings.name} is told landmarks, and those of this image are not known. Give one of the run's "
            "own faces (system.faces[NAME]), or use python -m fexgan_lit.generate with annotations=CSV"
        )
    own = torch.from_numpy(frames.landmarks[rows])
    moved = own.clone()
    for name, weight in weights.items():
        shown = Expression.stack([affect_expression(frames, row, system.affects.index(name)) for row in rows])
        moved += weight * (shown.known["landmarks"] - own)
    return moved
