"""What the split does to the data: what is held out, and what is in both halves."""

from __future__ import annotations

import numpy as np

from fexgan_lit.data.doctor.finding import Finding, counted, first_few
from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.splits import Split
from fexgan_lit.data.table import FrameTable

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


def take_numbers(table: FrameTable) -> np.ndarray | None:
    """(N,) int64, the same for frames of one take (or clip) of an identity; None where takes are not known."""
    if "clip" in table.frame:
        return np.unique(table.frame["clip"].to_numpy(str), return_inverse=True)[1]
    if "take" not in table.frame or table.frame["take"].isna().any():
        return None
    take = table.frame["take"].to_numpy(np.int64)
    unit = np.stack([table.identity_index, table.affect_index, take], axis=1)  # (N, 3)
    return np.unique(unit, axis=0, return_inverse=True)[1].reshape(-1)


def _takes(table: FrameTable, split: Split, config: DatasetConfig) -> list[Finding]:
    """Neighbouring frames of a take in both halves."""
    number = take_numbers(table)
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
