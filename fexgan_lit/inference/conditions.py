"""Parse target expressions (affects with weights, action units, or the source's own) and apply them to faces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.reference import affect_expression, frame_expression
from fexgan_lit.expression import ACTION_UNITS, FIELD_NAMES, Expression, resolve_affect, with_units
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.inference.loaded_system import LoadedSystem
    from fexgan_lit.systems.base import ExpressionSystem


SOURCE = "source"


#: Largest weight of an affect: training uses 1, or up to 3 standard deviations; larger values are likely typos.
STRONGEST = 10.0


_UNIT = re.compile(r"(?:au)?_?0*(\d{1,2})", re.IGNORECASE)


@dataclass(frozen=True)
class TargetSpec:
    """Weights of affects, or values of action units; if both are empty, the expression of the source is kept."""

    affects: dict[str, float] = field(default_factory=dict)
    units: dict[int, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The label on a sheet: `joy`, `joy 0.5 + fear 0.5`, `AU12=0.8 AU25=0.4`, `source`."""
        parts = [name if weight == 1 else f"{name} {weight:g}" for name, weight in self.affects.items()]
        units = " ".join(f"AU{unit}={value:g}" for unit, value in self.units.items())
        return " + ".join([*parts, *([units] if units else [])]) or SOURCE


def read_target(value: Any, option: str, affects: tuple[str, ...]) -> TargetSpec:
    """Parse `option=value`: `source`, an affect, or a mapping of affects or of action units to numbers.

    Raises:
        UserError: the value has another form, an affect or action unit is unknown, or a number is out of range (0..1
            for action units, 0..`STRONGEST` for weights).
    """
    if value == SOURCE:
        return TargetSpec()
    if isinstance(value, Mapping) and value:
        return _mapping(value, option, affects)
    if not _is_name(value, affects):
        raise UserError(
            f"{option}={value}: expected `source`, an affect ({', '.join(affects)}), or action units such as "
            f"'{option}={{AU12: 0.8, AU25: 0.4}}'"
        )
    return TargetSpec(affects={_affect(value, option, affects): 1.0})


def _is_name(value: Any, affects: tuple[str, ...]) -> bool:
    """Return whether `value` is a name; YAML reads numeric class names, such as RAF-DB's, as integers."""
    return isinstance(value, str) or (isinstance(value, int) and str(value) in affects)


def _mapping(value: Mapping[Any, Any], option: str, affects: tuple[str, ...]) -> TargetSpec:
    units, weights = {}, {}
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= STRONGEST:
            raise UserError(f"{option}: {key} is {number}, expected a number, 0 to {STRONGEST:g}")
        match = _UNIT.fullmatch(str(key))
        if match is None or str(key) in affects:  # a name of the run comes before an action unit
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


def _affect(name: str | int, option: str, affects: tuple[str, ...]) -> str:
    try:
        return resolve_affect(name, affects)
    except UserError as error:
        raise UserError(f"{option}={name}: {error}") from error


def read_affects(value: Any, option: str, affects: tuple[str, ...]) -> list[str]:
    """Parse `option=value` as a list of affects without duplicates: `all` (or null), a name, or a list of names.

    Raises:
        UserError: the value has another form, or an affect is unknown; the error suggests the nearest.
    """
    if value is None or value == "all":
        return list(affects)
    names = [value] if _is_name(value, affects) else value
    if not isinstance(names, list) or not names or not all(_is_name(name, affects) for name in names):
        raise UserError(f"{option}={value}: expected `all`, or some of [{','.join(affects)}]")
    return list(dict.fromkeys(_affect(name, option, affects) for name in names))


class KnownFaces(Protocol):
    """The protocol of N faces with annotations: a `GenerationSession`, or `GivenFaces` for images from Python."""

    @property
    def system(self) -> ExpressionSystem:
        """The system that changes the faces."""

    @property
    def count(self) -> int:
        """The number of faces, N."""

    def own(self, field: str) -> Tensor:
        """Return a field (N, ...) of the faces' expressions."""

    def own_expression(self) -> Expression:
        """Return the faces' expressions (N, ...) with the fields that the system reads."""

    def true_expression(self, affect: int) -> Expression:
        """Return the expressions (N, ...) of real frames of an affect, of the same identities."""


def target_expression(faces: KnownFaces, target: TargetSpec) -> Expression:
    """Return the target expression (N, ...) of each face, with the fields that the system reads.

    Affects are blended (`combine`). The given action units replace those of the blend or, without an affect, those of
    the face.

    Raises:
        UserError: a field that the system reads is unknown for the faces.
    """
    wanted = of_affects(faces, target.affects) if target.affects else None
    if target.units:
        start = faces.own("aus") if wanted is None else required(wanted.aus, "action units")
        return replace(wanted or Expression(), aus=with_units(start, target.units))
    return faces.own_expression() if wanted is None else wanted


@dataclass(frozen=True)
class Direction:
    """The change of N faces' expressions by an affect of weight 1, in the fields that the system reads.

    Attributes:
        label: (N, K), one-hot.
        units: (N, 17) action units, or None.
        motion: (N, 68, 2) displacement from the landmarks of the face to those of the affect, or None.
    """

    label: Tensor
    units: Tensor | None = None
    motion: Tensor | None = None


def direction_to(faces: KnownFaces, name: str) -> Direction:
    """Return the direction of the affect `name` for each of N faces.

    Action units are the prototype stored with the weights, else those of real frames. Landmarks are those of the
    strongest real frame of each identity.

    Raises:
        UserError: a field must be read from the run's data, and they lack it.
    """
    system = faces.system
    k = system.affects.index(name)
    label = required(Expression.blend({name: 1.0}, system.affects, faces.count).affect, "affects")
    units = motion = None
    if "aus" in system.reads:
        prototype = system.expression([k]).aus
        units = faces.true_expression(k).aus if prototype is None else prototype.cpu().expand(faces.count, -1)
    if "landmarks" in system.reads:
        motion = required(faces.true_expression(k).landmarks, "landmarks") - faces.own("landmarks")
    return Direction(label, units, motion)


def combine(
    directions: Sequence[Direction], weights: Sequence[float] | Tensor, landmarks: Tensor | None = None
) -> Expression:
    """Blend several affects by their weights; the result is differentiable with respect to the weights.

    Action units are the weighted sum of those of the affects, clipped to 1. Landmarks are those of the face plus the
    weighted sum of the motions.

    Args:
        directions: P directions of the same N faces.
        weights: (P,); weight 1 is the affect as in the data.
        landmarks: (N, 68, 2) of the faces, if the directions have motions.

    Returns:
        The expressions (N, ...).
    """
    pairs, first = list(zip(weights, directions, strict=True)), directions[0]
    label = sum((w * d.label for w, d in pairs), torch.zeros_like(first.label))
    aus = moved = None
    if first.units is not None:
        aus = sum((w * required(d.units, "action units") for w, d in pairs), torch.zeros(())).clamp(0, 1)
    if landmarks is not None and first.motion is not None:
        moved = sum((w * required(d.motion, "landmarks") for w, d in pairs), landmarks)
    return Expression(label, aus, moved)


def of_affects(faces: KnownFaces, weights: Mapping[str, float]) -> Expression:
    """Blend affects by their weights (1 is the affect as in the data) into expressions (N, ...)."""
    own = faces.own("landmarks") if "landmarks" in faces.system.reads else None
    return combine([direction_to(faces, name) for name in weights], list(weights.values()), own)


def required(values: Tensor | None, what: str) -> Tensor:
    """Return `values`, or raise a UserError if they are None, which names them as `what`."""
    if values is None:
        raise UserError(f"the data of the run no longer have {what} for every frame; put them back as they were")
    return values


#: The name of an affect, or the weights of several.
Affect: TypeAlias = str | int | Mapping[str | int, float]


#: Action units by number or name (12, "AU12") at 0..1.
Units: TypeAlias = Mapping[int | str, float]


def weights_of(affect: Affect | None, strength: float, affects: tuple[str, ...]) -> dict[str, float]:
    """Return the weights of the affects, multiplied by `strength`; empty if `affect` is None.

    Raises:
        UserError: an affect is unknown, a weight is negative, or the strength is not a finite number.
    """
    if not isinstance(strength, int | float) or not -1e6 < strength < 1e6:  # NaN fails both comparisons
        raise UserError(f"strength={strength}: expected a number; 1 is the affect as in the data")
    if affect is None:
        return {}
    wish = read_target(affect, "affect", affects)
    if wish.units or not wish.affects:
        raise UserError(f"affect={affect}: expected one of {', '.join(affects)}, or weights of several")
    return {name: weight * strength for name, weight in wish.affects.items()}


def units_of(units: Units | None, affects: tuple[str, ...]) -> dict[int, float]:
    """Return the action units by number; empty for None.

    Raises:
        UserError: an action unit is unknown, or a value is outside 0..1.
    """
    if units is None or units == {}:
        return {}
    named = tuple(name for name in affects if not _UNIT.fullmatch(name))  # numbers are action units here
    wish = read_target(dict(units), "units", named) if isinstance(units, Mapping) else TargetSpec()
    if not wish.units:
        raise UserError(f"units={units}: expected action units such as {{12: 0.8}}; affects go in affect=")
    return wish.units


class GivenFaces:
    """Images from Python as `KnownFaces`; annotations are only known for the run's reference faces.

    Args:
        loaded: the run.
        images: (N, 3, S, S) in [-1, 1].
    """

    def __init__(self, loaded: LoadedSystem, images: Tensor) -> None:
        self.loaded, self.images = loaded, images
        self.system, self.count = loaded.system, len(images)

    @cached_property
    def _frames(self) -> tuple[FrameSet, list[int]]:
        """The run's frames, and the row of each image in them."""
        references = self.loaded.references
        rows = [row for image in self.images if (row := references.row_of(image)) is not None]
        if references.frames is None or len(rows) < self.count:
            raise UserError(
                f"{self.loaded.name} reads {' and '.join(FIELD_NAMES[name] for name in sorted(self.system.reads))}, "
                "which are not known for this image. Give one of the run's own faces (system.faces[NAME]), or use "
                "python -m fexgan_lit.generate with annotations=CSV"
            )
        return references.frames, rows

    def own(self, field: str) -> Tensor:
        """Return a field of the images' expressions; action units are those of a relaxed face (0), without the data."""
        if field == "aus":
            return torch.zeros(self.count, len(ACTION_UNITS))
        frames, rows = self._frames
        return required(frame_expression(frames, np.array(rows)).known.get(field), FIELD_NAMES[field])

    def own_expression(self) -> Expression:
        """Return the images' expressions with the fields that the system reads."""
        return Expression(**{name: self.own(name) for name in self.system.reads})

    def true_expression(self, affect: int) -> Expression:
        """Return the expression of the strongest real frame of an affect, of each image's identity."""
        frames, rows = self._frames
        return Expression.stack([affect_expression(frames, row, affect) for row in rows])
