"""Arithmetic on batches of `Expression`: rows, blends between two, action units set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fexgan_lit.expression import ACTION_UNITS, Expression


def rows_of(expression: Expression, index: Sequence[int] | Tensor) -> Expression:
    """The rows at `index` (M,) of a batch (N, ...), repeated where an index is."""
    chosen = torch.as_tensor(index, dtype=torch.long)
    return Expression(**{name: value[chosen] for name, value in expression.known.items()})


def between(start: Expression, end: Expression, share: float) -> Expression:
    """(1 - share) start + share end, for every field that both have; action units stay in 0..1."""
    shared = [name for name in start.known if name in end.known]
    mixed = {name: torch.lerp(start.known[name], end.known[name], share) for name in shared}
    if "aus" in mixed:
        mixed["aus"] = mixed["aus"].clamp(0, 1)
    return Expression(**mixed)


def with_units(aus: Tensor, values: Mapping[int, float]) -> Tensor:
    """Action units (N, 17) with those named in `values` (unit -> 0..1) set, the others as they are."""
    changed = aus.clone()
    for unit, value in values.items():
        changed[:, ACTION_UNITS.index(unit)] = value
    return changed


def raised(aus: Tensor, unit: int, strength: float) -> Tensor:
    """Action units (N, 17) with `unit` at `strength` or, where it is stronger already, as it is.

    Strength 0 so changes nothing, whatever the face shows.
    """
    column = ACTION_UNITS.index(unit)
    changed = aus.clone()
    changed[:, column] = changed[:, column].clamp(min=strength)
    return changed
