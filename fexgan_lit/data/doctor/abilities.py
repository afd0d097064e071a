"""What is known of every frame, and what that makes possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fexgan_lit.data.table import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS, FrameTable

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
