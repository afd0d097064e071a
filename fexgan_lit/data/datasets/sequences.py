"""Label the frames of clips: which are neutral, which show the affect, and at what intensity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.base import Sheet
from fexgan_lit.data.table import Drop
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NEUTRAL = "neutral"


def label_clips(sheet: Sheet, form: str | None, config: DatasetConfig) -> Sheet:
    """Select and label the frames of the clips in `sheet`; n is `dataset.sequence_ends`.

    - `onset`, a clip from neutral to its apex: with n, the first n frames are neutral (intensity 0), the last n show
      the affect (intensity 1), and the others are left out. Without n every frame is kept: the first is neutral, the
      others show the affect, and their intensity rises linearly from 0 to 1 at the last frame.
    - `full`, a clip from neutral to the apex and back: with n, the first half of the clip is treated as an onset.
      Without n every frame shows the affect, and the intensity rises linearly to 1 in the middle and falls again.
    - None, frames without such a form: with n, the first n and the last n of each take are kept with their labels.

    The linear intensities are positions in the clip, not measurements.

    Raises:
        UserError: n is given, but takes and frame numbers are missing.
    """
    ends = config.sequence_ends
    if form is None:
        return sheet if ends is None else _ends_of_takes(sheet, ends, config)
    frame = sheet.frame
    position, count = _places(frame, frame["clip"])
    if form == "full":
        return _full(sheet, position, count, ends)
    return _onset(sheet, position, count, ends)


def _places(frame: pd.DataFrame, clip: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the position (N,) int64 of each frame in its clip, from 0, and the length (N,) int64 of that clip."""
    groups = frame.groupby(clip, sort=False)["frame"]
    position = groups.rank(method="first").to_numpy().astype(np.int64) - 1
    return position, groups.transform("size").to_numpy().astype(np.int64)


def _onset(sheet: Sheet, position: np.ndarray, count: np.ndarray, ends: int | None) -> Sheet:
    frame, drops = sheet.frame, list(sheet.drops)
    drops += [Drop(path, "sequence of a single frame") for path in frame.loc[count < 2, "path"]]
    if ends is None:
        first, keep = position == 0, count >= 2
        intensity = position / np.maximum(count - 1, 1)
    else:
        # If a clip is shorter than 2n, each end gets half of it.
        share = np.minimum(ends, count // 2)
        first, last = position < share, position >= count - share
        keep, intensity = (first | last) & (count >= 2), last.astype(float)
    kept = frame.assign(word=frame["word"].mask(first, NEUTRAL), intensity=_strength(frame["word"], intensity))
    return Sheet(kept[keep].reset_index(drop=True), drops, [*sheet.notes, *_note(ends, int(keep.sum()), len(frame))])


def _full(sheet: Sheet, position: np.ndarray, count: np.ndarray, ends: int | None) -> Sheet:
    if ends is None:
        there_and_back = 1 - np.abs(2 * position / np.maximum(count - 1, 1) - 1)
        intensity = _strength(sheet.frame["word"], there_and_back)
        return Sheet(sheet.frame.assign(intensity=intensity), sheet.drops, sheet.notes)
    half = (count + 1) // 2
    rising = position < half
    onset = Sheet(sheet.frame[rising].reset_index(drop=True), sheet.drops, sheet.notes)
    kept = _onset(onset, position[rising], half[rising], ends)
    kept.notes = [*sheet.notes, *_note(ends, len(kept.frame), len(sheet.frame))]
    return kept


def _ends_of_takes(sheet: Sheet, ends: int, config: DatasetConfig) -> Sheet:
    frame = sheet.frame
    if not {"take", "frame"} <= set(frame) or frame[["take", "frame"]].isna().any(axis=None):
        raise UserError(
            f"dataset.sequence_ends={ends}: nothing tells which frames of dataset={config.name} make a sequence; "
            "expected a take and a frame number for every file ({take} and {frame} in dataset.pattern, or columns of "
            "dataset.manifest). To use every frame: dataset.sequence_ends=null."
        )
    clip = frame["identity"] + "\0" + frame["word"] + "\0" + frame["take"].astype(str)
    position, count = _places(frame, clip)
    keep = (position < ends) | (position >= count - ends)
    kept = frame[keep].reset_index(drop=True)
    return Sheet(kept, sheet.drops, [*sheet.notes, *_note(ends, len(kept), len(frame))])


def _strength(word: pd.Series, intensity: np.ndarray) -> np.ndarray:
    """Return the intensities (N,) as float32, with 0 for all frames of neutral clips."""
    return np.where(word.str.lower() == NEUTRAL, 0, intensity).astype(np.float32)


def _note(ends: int | None, kept: int, found: int) -> list[str]:
    if ends is None:
        return []
    return [f"dataset.sequence_ends={ends}: {kept} of {found} frames, those at the ends of their sequences"]
