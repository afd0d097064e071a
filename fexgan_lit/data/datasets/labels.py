"""Map words in folder names to affects, and drop frames that cannot be paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import normalise_affect, order_affects, resolve_affect
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: The alias that excludes the frames of an affect.
IGNORE = "ignore"
#: The affect of frames in a data set that has action units only.
UNLABELLED = "unlabelled"


def has_affects(affects: Sequence[str]) -> bool:
    """Return whether the affects of a data set are real labels and not `UNLABELLED`."""
    return tuple(affects) != (UNLABELLED,)


class NothingToPairError(UserError):
    """`table` contains no pairs, or none with one of its affects. The table can still be reported."""

    def __init__(self, message: str, table: FrameTable) -> None:
        super().__init__(message)
        self.table = table


class AffectReader:
    """Map the words of folder names to affects; results are cached, since the words repeat for every frame.

    Args:
        wanted: affects to keep, or None for all.
        allowed: affects that the layout may contain, or None if any word is an affect.
        aliases: the user's synonyms of affects.
    """

    def __init__(self, wanted: Sequence[str] | None, allowed: Sequence[str] | None, aliases: Mapping[str, str]) -> None:
        self.wanted = wanted
        self.allowed = None if allowed is None else order_affects([*allowed, *(wanted or ())])
        self.aliases = aliases
        self._seen: dict[str, tuple[str | None, str | None]] = {}

    def read(self, word: str, where: str) -> tuple[str | None, str | None]:
        """Return the affect and None, or None and the reason to drop the frame.

        Raises:
            UserError: `word`, found at `where`, is not an affect of this layout.
        """
        if word not in self._seen:
            self._seen[word] = self._read(word, where)
        return self._seen[word]

    def _read(self, word: str, where: str) -> tuple[str | None, str | None]:
        affect = normalise_affect(word, self.aliases)
        if affect == IGNORE:
            return None, f"'{word}' is set to '{IGNORE}' in dataset.aliases"
        if self.allowed is not None:
            try:
                affect = resolve_affect(word, self.allowed, self.aliases)
            except UserError as error:
                raise UserError(
                    f"{where}: {error}\nCorrect the name, or say which affect it is with "
                    f"'dataset.aliases={{{word}: {self.allowed[0]}}}' (or '{{{word}: {IGNORE}}}' to leave it out)."
                ) from error
        if self.wanted is not None and affect not in self.wanted:
            return None, f"affect '{affect}' is not in dataset.affects"
        return affect, None


def wanted_affects(affects: Sequence[str] | None, aliases: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the user's affects in the official order, with aliases resolved, or None if none are given."""
    return None if affects is None else order_affects(normalise_affect(name, aliases) for name in affects)


def table_of_frame(
    frame: pd.DataFrame, root: Path, drops: Sequence[Drop], notes: Sequence[str], wanted: Sequence[str] | None
) -> FrameTable:
    """Make a table of `frame` with the affects `wanted`, or those found if None; pairs are not checked."""
    for column in ("take", "frame"):
        # The numbers are only useful if every frame has one.
        if column in frame:
            known = not frame[column].isna().any()
            frame = frame.astype({column: "int64"}) if known else frame.drop(columns=column)
    affects = order_affects(wanted if wanted is not None else frame["affect"].unique())
    return FrameTable(frame, affects, tuple(sorted(frame["identity"].unique())), root, tuple(drops), tuple(notes))


def keep_pairable(table: FrameTable, fixed_affects: bool = True) -> tuple[FrameTable, np.ndarray]:
    """Drop the identities that have only one affect.

    Args:
        table: a table with at least one row.
        fixed_affects: whether an affect without frames is an error; if false, it is removed from the list of affects.

    Returns:
        The table, and the (n,) int64 rows of `table` that were kept.

    Raises:
        NothingToPairError: no identity has two affects, or an affect has no frames.
    """
    present = np.zeros((len(table.identities), len(table.affects)), bool)
    present[table.identity_index, table.affect_index] = True
    pairable = present.sum(1) >= 2
    if not pairable.any():
        raise NothingToPairError(_nothing_pairable(table, present), table)
    rows = np.flatnonzero(pairable[table.identity_index])
    left_out = np.flatnonzero(~pairable[table.identity_index])
    kept = table.select(rows, _single_affect_drops(table, left_out))
    found = order_affects(kept.frame["affect"].unique())
    if fixed_affects and len(found) < len(table.affects):
        raise NothingToPairError(_missing_affects(table, found), table)
    names = tuple(name for name, keep in zip(table.identities, pairable, strict=True) if keep)
    return replace(kept, affects=found, identities=names), rows


def keep_all(table: FrameTable) -> FrameTable:
    """Keep every frame and reduce the lists of classes to those found; for systems that need no pairs."""
    found = order_affects(table.frame["affect"].unique())
    missing = [name for name in table.affects if name not in found]
    notes = [f"no frame shows {', '.join(missing)}"] if missing else []
    names = tuple(sorted(table.frame["identity"].unique()))
    return replace(table, affects=found, identities=names, notes=(*table.notes, *notes))


def _single_affect_drops(table: FrameTable, rows: np.ndarray) -> list[Drop]:
    labels = table.frame.loc[rows, ["path", "identity", "affect"]].to_numpy().tolist()
    return [
        Drop(path, f"identity '{identity}' has the affect '{affect}' only and cannot be paired")
        for path, identity, affect in labels
    ]


def _nothing_pairable(table: FrameTable, present: np.ndarray) -> str:
    if not has_affects(table.affects):
        return (
            f"dataset.root={table.root}: these frames have action units but no affects, so there are no pairs of two "
            "affects to train on; model=ganimation is conditioned on action units and needs none. "
            "For pairs, give affects with dataset.manifest=FILE.csv (path, identity, affect)."
        )
    lines = [
        f"{name} has {', '.join(np.array(table.affects)[has]) or 'none'}"
        for name, has in zip(table.identities[:5], present, strict=False)
    ]
    more = f"; and {len(table.identities) - 5} more" if len(table.identities) > 5 else ""
    return (
        f"dataset.root={table.root}: no identity has frames of two affects, so there is nothing to pair; "
        f"found: {'; '.join(lines)}{more}.\n"
        "A pair is two frames of one identity with different affects: add frames, or check the folder form; or let a "
        "system that needs no pairs (model=ganimation, model=stargan) take them as they are with dataset.unpaired=true."
    )


def _missing_affects(table: FrameTable, found: Sequence[str]) -> str:
    missing = [name for name in table.affects if name not in found]
    had = set(table.frame["affect"].unique())
    only_dropped = [name for name in missing if name in had]
    note = f" ({', '.join(only_dropped)}: only on identities that cannot be paired)" if only_dropped else ""
    return (
        f"dataset.root={table.root}: no frame of any identity shows {', '.join(missing)}{note}; "
        f"found: {', '.join(found)}.\n"
        f"To train without: dataset.affects=[{','.join(found)}]. "
        f"If the frames are there under another name: 'dataset.aliases={{<name>: {missing[0]}}}'."
    )
