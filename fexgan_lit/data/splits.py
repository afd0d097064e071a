"""The papers' splits: a share of every (identity, affect) cell is held out, by frames or by whole takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fexgan_lit.data.table import FrameTable
from fexgan_lit.errors import UserError


@dataclass(frozen=True)
class Split:
    """Rows of the table for training and validation, each int64 and ascending.

    Attributes:
        train: (n,) rows.
        val: (m,) rows, m may be 0.
        whole: cells with too few frames (or takes) to split, as "aia/joy (1 frame)"; all theirs are in `train`.
    """

    train: np.ndarray
    val: np.ndarray
    whole: tuple[str, ...] = ()


def split_rows(table: FrameTable, val_fraction: float, by: str = "frame", seed: int = 0) -> Split:
    """Hold out round(val_fraction * n) of the n frames of every cell, drawn with a generator of its own.

    With `by="take"` whole takes are held out, at least one wherever there are two.

    Raises:
        UserError: `by="take"` and the data set knows no takes.
    """
    if val_fraction == 0:
        return Split(np.arange(len(table)), np.empty(0, np.int64))
    if by == "take" and table.shared_takes:
        return _shared_takes(table, val_fraction, seed)
    cell = table.identity_index * len(table.affects) + table.affect_index  # (N,)
    unit = np.arange(len(table)) if by == "frame" else _takes(table, cell)
    held_out, unsplit = _hold_out(cell, unit, val_fraction, seed, least=0 if by == "frame" else 1)
    word = "frame" if by == "frame" else "take"
    whole = [_describe(table, int(number), int(count), word) for number, count in unsplit]
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out), tuple(whole))


def _shared_takes(table: FrameTable, val_fraction: float, seed: int) -> Split:
    """Hold out takes of each identity, whatever the affect, as all affects share their pose and light."""
    identity = table.identity_index
    take = table.frame["take"].to_numpy(np.int64)
    held_out, unsplit = _hold_out(identity, identity * (int(take.max()) + 1) + take, val_fraction, seed, least=1)
    whole = tuple(f"{table.identities[number]} ({count} take)" for number, count in unsplit)
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out), whole)


def _hold_out(
    cell: np.ndarray, unit: np.ndarray, val_fraction: float, seed: int, least: int
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """(N,) bool of the rows held out, and (cell, units) of the cells kept whole; a unit lies in one cell."""
    units, first, of_row = np.unique(unit, return_index=True, return_inverse=True)
    cell_of_unit = cell[first]
    order = np.lexsort((np.random.default_rng(seed).random(len(units)), cell_of_unit))  # cell by cell, shuffled
    numbers, start, count = np.unique(cell_of_unit[order], return_index=True, return_counts=True)
    rank = np.arange(len(units)) - np.repeat(start, count)
    # Half a unit rounds up; one unit at least stays in training.
    quota = np.minimum(np.maximum((count * val_fraction + 0.5).astype(np.int64), least), count - 1)
    chosen = np.zeros(len(units), bool)
    chosen[order] = rank < np.repeat(quota, count)
    unsplit = [(int(number), int(n)) for number, n, q in zip(numbers, count, quota, strict=True) if q == 0]
    return chosen[of_row], unsplit


def _takes(table: FrameTable, cell: np.ndarray) -> np.ndarray:
    """(N,) a number for each (cell, take)."""
    if "take" not in table.frame or table.frame["take"].isna().any():
        raise UserError(
            "dataset.split=take: this data set does not say which take each frame belongs to; give it with "
            "dataset.annotations=FILE.csv (column 'take') or {take} in dataset.pattern, or use dataset.split=frame."
        )
    take = np.unique(table.frame["take"].to_numpy(np.int64), return_inverse=True)[1]
    return cell * (int(take.max()) + 1) + take


def _describe(table: FrameTable, cell: int, count: int, word: str) -> str:
    identity, affect = divmod(cell, len(table.affects))
    return f"{table.identities[identity]}/{table.affects[affect]} ({count} {word}{'' if count == 1 else 's'})"
