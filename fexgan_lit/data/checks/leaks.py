"""Findings on near-duplicates: one image with two labels, in both splits, or twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fexgan_lit.data.checks.duplicates import Lookalikes, Pairs, exact_groups
from fexgan_lit.data.checks.finding import Finding
from fexgan_lit.data.checks.images import PixelScan
from fexgan_lit.data.frames import take_numbers
from fexgan_lit.data.splits import Split
from fexgan_lit.data.table import FrameTable

#: Expressions below this intensity (0..1) may look neutral.
WEAK = 0.5
#: Minimum share of similar neighbouring frames, and of neighbours, for the finding that takes change slowly.
_SLOW, _ENOUGH = 0.5, 20
#: Share of copies above which the finding is a warning.
_MANY_COPIES = 0.02
#: Share of validation frames with a near-duplicate in training that is reported, and above which it is a warning.
_SOME_LEAKS, _LEAKY = 0.02, 0.1


@dataclass(frozen=True, eq=False)
class Repeats:
    """Near-duplicates in a data set.

    Attributes:
        identities: pairs of two identities.
        affects: pairs of one identity and two affects, at least one of them with a visible expression.
        weak: pairs of one identity and two affects, both neutral or weak, as at the start of a take.
        leaks: validation frames `a` and training frames `b` with the same label.
        groups: rows with the same label and the same pixels.
        neighbours: number of pairs of consecutive frames of a take (or by name, if takes are unknown).
        slow: share of `neighbours` that are similar.
    """

    identities: Pairs
    affects: Pairs
    weak: Pairs
    leaks: Pairs
    groups: list[np.ndarray]
    neighbours: int
    slow: float

    def kinds(self) -> dict[str, Pairs]:
        """Return the pairs by their name in the report, the most suspicious first."""
        return {
            "two identities": self.identities,
            "two affects": self.affects,
            "two affects, both weak": self.weak,
            "training and validation": self.leaks,
        }


def find_repeats(table: FrameTable, images: np.ndarray, scan: PixelScan, split: Split | None) -> Repeats:
    """Search all frames; `images` (N, L, L, 3) are read only if thumbnails are equal."""
    search = Lookalikes(scan.thumbs, images)
    cell = table.identity_index * len(table.affects) + table.affect_index
    pairs = search.across(cell)
    people = table.identity_index[pairs.a] != table.identity_index[pairs.b]
    faint = weak_frames(table)
    both_weak = faint[pairs.a] & faint[pairs.b] & ~people
    leaks = search.between(split.val, split.train) if split is not None else pairs.where(np.zeros(len(pairs), bool))
    groups = [part for rows in exact_groups(scan.thumbs, images) for part in _by_cell(rows, cell) if len(part) > 1]
    first, second = _neighbours(table, cell)
    slow = float(search.alike(first, second).mean()) if len(first) else 0.0
    return Repeats(
        identities=pairs.where(people),
        affects=pairs.where(~people & ~both_weak),
        weak=pairs.where(both_weak),
        leaks=leaks.where(cell[leaks.a] == cell[leaks.b]),
        groups=groups,
        neighbours=len(first),
        slow=slow,
    )


def weak_frames(table: FrameTable) -> np.ndarray:
    """Return (N,) bool: whether the label is neutral, or the intensity is known and below `WEAK`."""
    neutral = (table.frame["affect"] == "neutral").to_numpy()
    if table.intensity is None:
        return neutral
    return neutral | (np.nan_to_num(table.intensity, nan=1.0) < WEAK)


def repeat_findings(repeats: Repeats, table: FrameTable, min_target_intensity: float = 0.0) -> list[Finding]:
    """Return the findings on label conflicts, copies and slow takes; `leak_findings` reports leaks between splits."""
    return [
        *_conflict(repeats.identities, table, "identities"),
        *_conflict(repeats.affects, table, "affects"),
        *_weak(repeats.weak, min_target_intensity),
        *_copies(repeats.groups, table),
        *_slow(repeats),
    ]


def _conflict(pairs: Pairs, table: FrameTable, labels: str) -> list[Finding]:
    if not len(pairs):
        return []
    exact = int(pairs.exact.sum())
    same = f", {exact} of the pairs with identical pixels" if exact else ""
    found = f"{_frames(pairs)} frames look the same as a frame with another label: two {labels}{same}"
    advice = "See near_duplicates.csv; a copy in the wrong folder teaches the networks the wrong label."
    if labels == "affects" and table.intensity is None and (_neutral_share(pairs, table) > 0.5):
        advice = (
            "Most are neutral and another affect, as at the start of a filmed expression: give intensities with "
            "dataset.annotations=FILE.csv and set dataset.min_target_intensity, or leave these frames out."
        )
    order = np.lexsort((pairs.largest, ~pairs.exact))[:3]
    examples = _equations(table, pairs.a[order], pairs.b[order])
    severity = "problem" if exact else "warning"
    return [Finding(severity, "duplicates", found, "one label a picture", advice, examples)]


def _weak(pairs: Pairs, min_target_intensity: float) -> list[Finding]:
    """Report weak near-duplicates if weak frames may be targets."""
    if not len(pairs) or min_target_intensity >= WEAK:
        return []
    found = f"{_frames(pairs)} weak frames look like a weak frame of another affect, since takes start and end neutral"
    advice = "dataset.min_target_intensity=0.6 keeps weak frames from being targets."
    return [Finding("info", "duplicates", found, "", advice)]


def _copies(groups: list[np.ndarray], table: FrameTable) -> list[Finding]:
    extra = sum(len(group) - 1 for group in groups)
    if not extra:
        return []
    found = f"{extra} of {len(table)} frames are identical copies of another frame with the same label"
    severity = "warning" if extra > _MANY_COPIES * len(table) else "info"
    first, second = np.array([group[:2] for group in groups[:2]]).T
    examples = _equations(table, first, second)
    return [Finding(severity, "duplicates", found, "", "They count twice in training and in every metric.", examples)]


def _slow(repeats: Repeats) -> list[Finding]:
    if repeats.neighbours < _ENOUGH or repeats.slow < _SLOW:
        return []
    found = f"takes change slowly: {repeats.slow:.0%} of neighbouring frames hardly differ"
    return [Finding("info", "duplicates", found, "", "The data set has fewer different faces than frames.")]


def leak_findings(repeats: Repeats, table: FrameTable, split: Split, by: str) -> list[Finding]:
    """Report validation frames with a near-duplicate in training; weak frames, similar in all takes, do not count."""
    if not len(split.val) or not len(repeats.leaks):
        return []
    faint = weak_frames(table)
    twins, asked = int((~faint[repeats.leaks.a]).sum()), int((~faint[split.val]).sum())
    exact = int(repeats.leaks.exact.sum())
    if twins < _SOME_LEAKS * asked and not exact:
        return []
    found = f"{twins} of {asked} validation frames with a visible expression have a near-duplicate in training"
    found += f"; {exact} have an identical copy there" if exact else ""
    severity = "warning" if exact or (twins > _LEAKY * asked and by == "frame") else "info"
    advice = "Validation metrics are too good, since part of the frames were in training."
    if by == "frame" and take_numbers(table.frame) is not None:
        advice += " The papers split this way; dataset.split=take holds out whole takes."
    shown = repeats.leaks.where(~faint[repeats.leaks.a] | repeats.leaks.exact)
    examples = _equations(table, shown.a[:1], shown.b[:1])
    return [Finding(severity, "split", found, "", advice, examples)]


def _equations(table: FrameTable, a: np.ndarray, b: np.ndarray) -> tuple[str, ...]:
    """Format a few pairs of rows as `a.png = b.png`."""
    paths = table.frame["path"].to_numpy()
    return tuple(f"{one} = {other}" for one, other in zip(paths[a], paths[b], strict=True))


def _frames(pairs: Pairs) -> int:
    return len(np.unique(np.concatenate([pairs.a, pairs.b])))


def _neutral_share(pairs: Pairs, table: FrameTable) -> float:
    neutral = (table.frame["affect"] == "neutral").to_numpy()
    return float((neutral[pairs.a] | neutral[pairs.b]).mean())


def _by_cell(rows: np.ndarray, cell: np.ndarray) -> list[np.ndarray]:
    return [rows[cell[rows] == number] for number in np.unique(cell[rows])]


def _neighbours(table: FrameTable, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (M,) and their successors (M,) in the same cell and take."""
    takes = take_numbers(table.frame)
    take = np.zeros(len(table), np.int64) if takes is None else takes
    number = table.frame["frame"].fillna(-1).to_numpy(np.int64) if "frame" in table.frame else np.arange(len(table))
    order = np.lexsort((np.arange(len(table)), number, take, cell))
    group = np.stack([cell, take])[:, order]
    together = (group[:, 1:] == group[:, :-1]).all(axis=0)
    return order[:-1][together], order[1:][together]


def listed_pairs(repeats: Repeats, table: FrameTable, limit: int = 100_000) -> list[dict[str, object]]:
    """Return the rows of near_duplicates.csv: conflicts first, at most `limit` of each kind, then the copies."""
    labels = table.frame[["path", "identity", "affect"]].to_numpy()
    rows: list[dict[str, object]] = []

    def add(kind: str, a: int, b: int, largest: int, exact: bool) -> None:
        one = dict(zip(("path_a", "identity_a", "affect_a"), labels[a], strict=True))
        two = dict(zip(("path_b", "identity_b", "affect_b"), labels[b], strict=True))
        rows.append({"kind": kind, **one, **two, "same_pixels": bool(exact), "largest_difference": int(largest)})

    for kind, pairs in repeats.kinds().items():
        for index in np.lexsort((pairs.largest, ~pairs.exact))[:limit].tolist():
            add(kind, pairs.a[index], pairs.b[index], pairs.largest[index], pairs.exact[index])
    copies = [(int(group[0]), int(row)) for group in repeats.groups for row in group[1:]]
    for first, row in copies[:limit]:
        add("same label", first, row, 0, True)
    return rows
