"""Checks of the labels: frames per identity and affect, the split, and which systems the data can train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.checks.finding import Finding, counted
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.frames import take_numbers
from fexgan_lit.data.splits import Split
from fexgan_lit.data.table import FrameTable, first_few
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ability:
    """One kind of annotation.

    Attributes:
        name: name of the annotation.
        known: number of frames that have it.
        enables: systems and options that need it.
        how: how to provide it if it is missing.
    """

    name: str
    known: int
    enables: str
    how: str


_CSV = "dataset.annotations=FILE.csv"


_KINDS = (
    ("affects", "affect", "FExGAN, FExGAN-Meta", ""),
    ("takes", "take", "dataset.split=take", f"{{take}} in dataset.pattern, or {_CSV}"),
    ("time", "time_s", "clips: MotionGAN", f"{_CSV}, or dataset.videos=DIR"),
    ("intensity", "intensity", "dataset.min_target_intensity, apex frames in figures", _CSV),
    ("action units", AU_COLUMNS[0], "GANimation", _CSV),
    ("landmarks", LANDMARK_COLUMNS[0], "landmark-guided systems, dataset.crop=face", f"dataset.detector, or {_CSV}"),
    ("head pose", POSE_COLUMNS[0], "figures by head pose", _CSV),
)  # fmt: skip


def _known(frame: pd.DataFrame, column: str) -> int:
    column = "clip" if column == "take" and "clip" in frame else column  # each sequence is one take
    return int(frame[column].notna().sum()) if column in frame else 0


def abilities(table: FrameTable) -> tuple[Ability, ...]:
    """Return every kind of annotation with the number of frames that have it."""
    frame = table.frame
    counts = [_known(frame, column) for _, column, _, _ in _KINDS]
    return tuple(
        Ability(name, count, enables, how) for (name, _, enables, how), count in zip(_KINDS, counts, strict=True)
    )


#: Minimum ratio of the largest to the smallest cell of an unbalanced data set.
UNEVEN = 4.0


def count_cells(table: FrameTable, rows: np.ndarray | None = None) -> np.ndarray:
    """Count the frames of every identity and affect, (I, K) int64, of the whole table or of `rows` (n,)."""
    counts = np.zeros((len(table.identities), len(table.affects)), np.int64)
    chosen = slice(None) if rows is None else rows
    np.add.at(counts, (table.identity_index[chosen], table.affect_index[chosen]), 1)
    return counts


def cell_findings(table: FrameTable) -> list[Finding]:
    """Return the findings on empty and unbalanced cells, identities without neutral frames and absent affects."""
    counts = count_cells(table)
    return [*_absent_affects(table, counts), *_empty(table, counts), *_without_neutral(table, counts), *_uneven(counts)]


def _absent_affects(table: FrameTable, counts: np.ndarray) -> list[Finding]:
    absent = [name for name, count in zip(table.affects, counts.sum(axis=0), strict=True) if not count]
    if not absent:
        return []
    return [Finding("problem", "cells", f"no frame shows {', '.join(absent)}", f"frames of {', '.join(table.affects)}")]


def _empty(table: FrameTable, counts: np.ndarray) -> list[Finding]:
    """Find empty cells of identities and affects that have frames."""
    shown = np.flatnonzero(counts.sum(axis=0))
    empty = [f"{table.identities[i]}/{table.affects[k]}" for i in range(len(counts)) for k in shown if not counts[i, k]]
    if not empty:
        return []
    total = len(counts) * len(shown)
    found = f"{len(empty)} of {total} cells (identity x affect) have no frame"
    advice = "These people are never shown with these affects, so training has no such targets."
    return [Finding("warning", "cells", found, "", advice, first_few(empty))]


def _without_neutral(table: FrameTable, counts: np.ndarray) -> list[Finding]:
    if "neutral" not in table.affects or not counts[:, table.affects.index("neutral")].any():
        return []
    column = counts[:, table.affects.index("neutral")]
    names = [name for name, count in zip(table.identities, column, strict=True) if not count]
    if not names:
        return []
    found = f"{len(names)} of {counted(len(counts), 'identity')} have no neutral frame"
    advice = "Figures use a frame of another affect as the source for these identities."
    return [Finding("info", "cells", found, "", advice, first_few(names))]


def _uneven(counts: np.ndarray) -> list[Finding]:
    filled = counts[counts > 0]
    if not len(filled) or filled.max() < UNEVEN * filled.min():
        return []
    ratio = filled.max() / filled.min()
    found = f"the largest cell has {filled.max()} frames, the smallest {filled.min()} ({ratio:.0f} times fewer)"
    advice = "With dataset.uniform_affects=true, target affects are drawn uniformly."
    return [Finding("info", "cells", found, "", advice)]


#: Minimum number of identities for which generalisation to new people is checked.
_PEOPLE = 20


def split_findings(table: FrameTable, split: Split, config: DatasetConfig, takes: bool = True) -> list[Finding]:
    """Return the findings on empty validation, unsplit cells, and identities and (if `takes`) takes in both splits."""
    if not len(split.val):
        setting = f"dataset.val_fraction={config.val_fraction:g}"
        why = "as configured" if config.val_fraction == 0 else "every cell is too small to split"
        found = f"there is no validation set ({setting}: {why})"
        return [Finding("warning", "split", found, "", "No metric of a run will be on held-out frames.")]
    findings = []
    if split.whole:
        found = f"{len(split.whole)} cells are too small to split and are in training only"
        if config.split == "identity":
            found = f"{counted(len(split.whole), 'identity')} had to stay in training"
        findings.append(Finding("info", "split", found, "", "", first_few(split.whole)))
    return [*findings, *(_takes(table, split, config) if takes else []), *_people(table, split)]


def _takes(table: FrameTable, split: Split, config: DatasetConfig) -> list[Finding]:
    """Find takes with neighbouring frames in both splits."""
    number = take_numbers(table.frame)
    if config.split != "frame" or number is None:
        return []
    both = len(np.intersect1d(number[split.train], number[split.val]))
    total = int(number.max()) + 1
    if not both or total == len(table):
        return []
    found = f"neighbouring frames of {both} of {total} takes are in both splits"
    return [Finding("info", "split", found, "", "The papers split this way; dataset.split=take holds out whole takes.")]


def _people(table: FrameTable, split: Split) -> list[Finding]:
    both = len(np.intersect1d(table.identity_index[split.train], table.identity_index[split.val]))
    if not both or len(table.identities) < _PEOPLE:
        return []
    found = f"{both} of {len(table.identities)} identities are in both splits"
    advice = "Metrics are on identities seen in training; dataset.split=identity holds out identities (Li et al.)."
    return [Finding("info", "split", found, "", advice)]
