"""What a wish in words (affects, action units) means to one system and given faces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.generation.expressions import with_units
from fexgan_lit.generation.wishes import read_wish

if TYPE_CHECKING:
    from fexgan_lit.reference_faces import ReferenceFaces
    from fexgan_lit.systems.base import ExpressionSystem

#: A name, or weights of several.
Affect: TypeAlias = str | Mapping[str, float]
#: Action units by number or name (12, "AU12") at 0..1.
Units: TypeAlias = Mapping[int | str, float]


def weights_of(affect: Affect | None, strength: float, affects: tuple[str, ...]) -> dict[str, float]:
    """Weights of the affects that are asked for, times `strength`; empty for None.

    Raises:
        UserError: an unknown affect, a weight below 0, or a strength that is no number.
    """
    if not -1e6 < strength < 1e6:  # NaN is neither
        raise UserError(f"strength={strength}: expected a number; 1 is the affect as the data show it")
    if affect is None:
        return {}
    wish = read_wish(affect, "affect", affects)
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
    wish = read_wish(dict(units), "units", affects)
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
        wanted = replace(wanted, aus=with_units(_units(system, weights, len(images)), units))
    if "landmarks" in system.reads:
        wanted = replace(wanted, landmarks=_landmarks(system, images, weights, references()))
    return wanted


def _units(system: ExpressionSystem, weights: Mapping[str, float], count: int) -> Tensor:
    """(count, 17): what the affects mean, each at its weight."""
    total = torch.zeros(1, len(ACTION_UNITS))
    for name, weight in weights.items():
        prototype = system.expression([system.affects.index(name)]).aus
        if prototype is None:
            raise UserError(f"these weights of {system.settings.name} do not say what {name} means; give units=")
        total = total + weight * prototype.cpu()
    return total.clamp(0, 1).expand(count, -1)


def _landmarks(
    system: ExpressionSystem, images: Tensor, weights: Mapping[str, float], references: ReferenceFaces
) -> Tensor:
    """(N, 68, 2) of reference faces, moved towards the affects."""
    from fexgan_lit.data.wanted import affect_expression

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
