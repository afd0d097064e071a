"""Frames per identity and affect: what is missing, what is uneven."""

from __future__ import annotations

import numpy as np

from fexgan_lit.data.doctor.finding import Finding, counted, first_few
from fexgan_lit.data.table import FrameTable

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
