"""The papers' splits: a share of the frames or takes of every (identity, affect) cell, or of the identities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fexgan_lit.data.table import FrameTable
from fexgan_lit.utils.errors import UserError


@dataclass(frozen=True)
class Split:
    """Rows of the table for training and validation, int64 and ascending.

    Attributes:
        train: (n,) rows.
        val: (m,) rows, m may be 0.
        whole: units that could not be split and are in `train`: cells with too few frames (or takes), as
            "aia/joy (1 frame)", or the last identities that show an affect, as "S005 (the last with contempt)".
    """

    train: np.ndarray
    val: np.ndarray
    whole: tuple[str, ...] = ()


def split_rows(table: FrameTable, val_fraction: float, by: str = "frame", seed: int = 0) -> Split:
    """Hold out round(val_fraction * n) of the n frames of every (identity, affect) cell.

    `by="take"` holds out whole takes, at least one where a cell has two; if the column `clip` names the filmed sequence
    of a frame, sequences stay whole, including their neutral frames. `by="identity"` holds out whole identities: at
    least one, never all, and never the last one in training that shows an affect.

    Args:
        table: all frames.
        val_fraction: share of the validation split, 0..1.
        by: frame, take or identity.
        seed: seed of the random choice, which uses its own generator.

    Raises:
        UserError: `by="take"` and the data set has no takes; `by="identity"` and no identity can be held out.
    """
    if val_fraction == 0:
        return Split(np.arange(len(table)), np.empty(0, np.int64))
    if by == "identity":
        return _split_people(table, val_fraction, seed)
    if by == "take" and table.shared_takes:
        return _split_shared_takes(table, val_fraction, seed)
    cell = table.identity_index * len(table.affects) + table.affect_index  # (N,)
    unit = np.arange(len(table)) if by == "frame" else _takes(table, cell)
    held_out, unsplit = _hold_out(_cell_of_unit(table, cell, unit), unit, val_fraction, seed, by == "take")
    whole = [_describe(table, int(number), int(count), by) for number, count in unsplit]
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out), tuple(whole))


def _split_people(table: FrameTable, val_fraction: float, seed: int) -> Split:
    count = len(table.identities)
    if count < 2:
        raise UserError(
            f"dataset.split=identity: this data set has {count} identity, and each split needs one; "
            "use dataset.split=frame or take, or dataset.val_fraction=0."
        )
    shows = np.zeros((count, len(table.affects)), bool)
    shows[table.identity_index, table.affect_index] = True
    left = shows.sum(0)  # (K,) identities in training that show each affect
    quota = min(max(int(count * val_fraction + 0.5), 1), count - 1)
    held_out, whole = np.zeros(count, bool), []
    for person in np.random.default_rng(seed).permutation(count).tolist():
        if held_out.sum() == quota:
            break
        last = shows[person] & (left == 1)
        if last.any():
            whole.append(f"{table.identities[person]} (the last with {table.affects[int(last.argmax())]})")
            continue
        held_out[person] = True
        left = left - shows[person]
    if not held_out.any():
        raise UserError(
            "dataset.split=identity: no identity can be held out, since each is the only one with some affect: "
            f"{', '.join(whole[:5])}. Use dataset.split=frame or take, or fewer affects with dataset.affects=[...]."
        )
    of_row = held_out[table.identity_index]
    return Split(np.flatnonzero(~of_row), np.flatnonzero(of_row), tuple(whole))


def _split_shared_takes(table: FrameTable, val_fraction: float, seed: int) -> Split:
    """Hold out takes of each identity for all affects at once, since they share pose and light."""
    identity = table.identity_index
    take = table.frame["take"].to_numpy(np.int64)
    unit = identity * (int(take.max()) + 1) + take
    held_out, unsplit = _hold_out(identity, unit, val_fraction, seed, True)
    whole = tuple(f"{table.identities[number]} ({count} take)" for number, count in unsplit)
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out), whole)


def _cell_of_unit(table: FrameTable, cell: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return one cell (N,) for all rows of a unit: the cell of its affect if part of a clip is neutral."""
    if "neutral" not in table.affects:
        return cell
    neutral = table.affect_index == table.affects.index("neutral")
    order = np.argsort(neutral, kind="stable")  # rows with an affect first
    _, first, of_row = np.unique(unit[order], return_index=True, return_inverse=True)
    found = np.empty_like(cell)
    found[order] = cell[order][first][of_row]
    return found


def _hold_out(
    cell: np.ndarray, unit: np.ndarray, val_fraction: float, seed: int, at_least_one: bool
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return the held-out rows as (N,) bool, and (cell, units) of the cells kept whole; a unit lies in one cell."""
    units, first, of_row = np.unique(unit, return_index=True, return_inverse=True)
    cell_of_unit = cell[first]
    order = np.lexsort(
        (np.random.default_rng(seed).random(len(units)), cell_of_unit)
    )  # sorted by cell, shuffled within
    numbers, start, count = np.unique(cell_of_unit[order], return_index=True, return_counts=True)
    rank = np.arange(len(units)) - np.repeat(start, count)
    # Half a unit rounds up; at least one unit stays in training.
    quota = np.minimum(np.maximum((count * val_fraction + 0.5).astype(np.int64), int(at_least_one)), count - 1)
    chosen = np.zeros(len(units), bool)
    chosen[order] = rank < np.repeat(quota, count)
    unsplit = [(int(number), int(n)) for number, n, q in zip(numbers, count, quota, strict=True) if q == 0]
    return chosen[of_row], unsplit


def _takes(table: FrameTable, cell: np.ndarray) -> np.ndarray:
    """Return (N,) the number of each row's clip, or of its (cell, take)."""
    if "clip" in table.frame:
        return np.unique(table.frame["clip"].to_numpy(str), return_inverse=True)[1]
    if "take" not in table.frame or table.frame["take"].isna().any():
        raise UserError(
            "dataset.split=take: this data set has no takes; give them with "
            "dataset.annotations=FILE.csv (column 'take') or {take} in dataset.pattern, or use dataset.split=frame."
        )
    take = np.unique(table.frame["take"].to_numpy(np.int64), return_inverse=True)[1]
    return cell * (int(take.max()) + 1) + take


def _describe(table: FrameTable, cell: int, count: int, word: str) -> str:
    identity, affect = divmod(cell, len(table.affects))
    return f"{table.identities[identity]}/{table.affects[affect]} ({count} {word}{'' if count == 1 else 's'})"
