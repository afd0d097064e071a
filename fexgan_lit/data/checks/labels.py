"""Checks of the labels: frames per identity and affect, the split, and which systems the data can train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.checks.finding import Finding, counted, first_few
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.frames import take_numbers
from fexgan_lit.data.splits import Split
from fexgan_lit.data.table import FrameTable
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ability:
    """One kind of knowledge.

    Attributes:
        name: what would be known.
        known: of how many frames.
        enables: systems and options that need it.
        how: where it can come from if it is missing.
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
    column = "clip" if column == "take" and "clip" in frame else column  # sequences that are one take each
    return int(frame[column].notna().sum()) if column in frame else 0


def abilities(table: FrameTable) -> tuple[Ability, ...]:
    """Every kind of knowledge with the number of frames that have it."""
    frame = table.frame
    counts = [_known(frame, column) for _, column, _, _ in _KINDS]
    return tuple(
        Ability(name, count, enables, how) for (name, _, enables, how), count in zip(_KINDS, counts, strict=True)
    )


#: The largest cell over the smallest from which on a set is called uneven.
UNEVEN = 4.0


def count_cells(table: FrameTable, rows: np.ndarray | None = None) -> np.ndarray:
    """(I, K) int64 frames of every identity and affect, of the whole table or of `rows` (n,)."""
    counts = np.zeros((len(table.identities), len(table.affects)), np.int64)
    chosen = slice(None) if rows is None else rows
    np.add.at(counts, (table.identity_index[chosen], table.affect_index[chosen]), 1)
    return counts


def cell_findings(table: FrameTable) -> list[Finding]:
    """Empty and uneven cells, identities without a neutral frame, affects without any."""
    counts = count_cells(table)
    return [*_absent_affects(table, counts), *_empty(table, counts), *_without_neutral(table, counts), *_uneven(counts)]


def _absent_affects(table: FrameTable, counts: np.ndarray) -> list[Finding]:
    absent = [name for name, count in zip(table.affects, counts.sum(axis=0), strict=True) if not count]
    if not absent:
        return []
    return [Finding("problem", "cells", f"no frame shows {', '.join(absent)}", f"frames of {', '.join(table.affects)}")]


def _empty(table: FrameTable, counts: np.ndarray) -> list[Finding]:
    """Cells without a frame, of identities and affects that have some."""
    shown = np.flatnonzero(counts.sum(axis=0))
    empty = [f"{table.identities[i]}/{table.affects[k]}" for i in range(len(counts)) for k in shown if not counts[i, k]]
    if not empty:
        return []
    total = len(counts) * len(shown)
    found = f"{len(empty)} of {total} cells (identity x affect) have no frame"
    advice = "These people are never shown with these affects, so training cannot ask for them."
    return [Finding("warning", "cells", found, "", advice, first_few(empty))]


def _without_neutral(table: FrameTable, counts: np.ndarray) -> list[Finding]:
    if "neutral" not in table.affects or not counts[:, table.affects.index("neutral")].any():
        return []
    column = counts[:, table.affects.index("neutral")]
    names = [name for name, count in zip(table.identities, column, strict=True) if not count]
    if not names:
        return []
    found = f"{len(names)} of {counted(len(counts), 'identity')} have no neutral frame"
    advice = "Figures start from a neutral frame where there is one, and from another affect for these."
    return [Finding("info", "cells", found, "", advice, first_few(names))]


def _uneven(counts: np.ndarray) -> list[Finding]:
    filled = counts[counts > 0]
    if not len(filled) or filled.max() < UNEVEN * filled.min():
        return []
    ratio = filled.max() / filled.min()
    found = f"the largest cell has {filled.max()} frames, the smallest {filled.min()} ({ratio:.0f} times fewer)"
    advice = "Targets are drawn evenly over the affects as long as dataset.uniform_affects=true."
    return [Finding("info", "cells", found, "", advice)]


#: From so many identities on a set is taken for one of people, where the question is how new people fare.
_PEOPLE = 20


def split_findings(table: FrameTable, split: Split, config: DatasetConfig, takes: bool = True) -> list[Finding]:
    """Empty validation, cells that are not split, people and, if asked for, takes in both halves."""
    if not len(split.val):
        asked = f"dataset.val_fraction={config.val_fraction:g}"
        why = "as asked for" if config.val_fraction == 0 else "every cell is too small to split"
        found = f"there is no validation set ({asked}: {why})"
        return [Finding("warning", "split", found, "", "No figure of a run will be on held-out frames.")]
    findings = []
    if split.whole:
        found = f"{len(split.whole)} cells are too small to split and are whole in training"
        if config.split == "identity":
            found = f"{counted(len(split.whole), 'identity')} had to stay in training"
        findings.append(Finding("info", "split", found, "", "", first_few(split.whole)))
    return [*findings, *(_takes(table, split, config) if takes else []), *_people(table, split)]


def _takes(table: FrameTable, split: Split, config: DatasetConfig) -> list[Finding]:
    """Neighbouring frames of a take in both halves."""
    number = take_numbers(table.frame)
    if config.split != "frame" or number is None:
        return []
    both = len(np.intersect1d(number[split.train], number[split.val]))
    total = int(number.max()) + 1
    if not both or total == len(table):
        return []
    found = f"neighbouring frames of {both} of {total} takes are in both splits"
    return [Finding("info", "split", found, "", "The papers split so; dataset.split=take holds out whole takes.")]


def _people(table: FrameTable, split: Split) -> list[Finding]:
    both = len(np.intersect1d(table.identity_index[split.train], table.identity_index[split.val]))
    if not both or len(table.identities) < _PEOPLE:
        return []
    found = f"{both} of {len(table.identities)} identities are in both splits"
    advice = "Figures are on known people; dataset.split=identity holds out people (Li et al.)."
    return [Finding("info", "split", found, "", advice)]
