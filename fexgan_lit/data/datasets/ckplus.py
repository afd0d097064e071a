"""Layout of CK+: sequences from neutral to the apex, with a label file for each sequence.

`cohn-kanade-images/S005/001/S005_001_00000011.png` is frame 11 of take 1 of person S005;
`Emotion/S005/001/S005_001_00000011_emotion.txt` holds the label of the whole sequence as a float.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.base import Layout, PathRule, Sheet, empty_sheet, first_folder
from fexgan_lit.data.datasets.scan import sample_images
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import ACTION_UNITS, AU_COLUMNS, KNOWN_AFFECTS, LANDMARK_COLUMNS
from fexgan_lit.utils.errors import UserError

_LANDMARKS, _FACS = ("Landmarks", "Landmarks/Landmarks"), ("FACS", "FACS_labels/FACS")


#: FACS grades intensity from A to E; the files contain 1 to 5, and 0 for a unit that is present but was not graded.
_GRADES, _UNGRADED = 5.0, 0.5


def join_marks(table: FrameTable, config: DatasetConfig) -> FrameTable:
    """Join landmarks and action units to `table`, if the folders `Landmarks/` and `FACS/` exist.

    The FACS code of a sequence describes its peak, the last frame, which the code's file is named after. That frame
    gets the grades divided by 5 (0 for units that are not in the list, 0.5 for units that were seen but not graded).
    Frames of intensity 0 get zeros. The frames between were not coded and stay NaN.
    """
    root = table.root
    if root is None or config.manifest is not None:
        return table
    # The nested folder comes first, because the outer folder exists in both cases.
    landmarks, facs = (first_folder(root, names[::-1]) for names in (_LANDMARKS, _FACS))
    if landmarks is not None:
        table = _join_landmarks(table, root / landmarks)
    if facs is not None:
        table = _join_facs(table, root / facs)
    return table


def _join_landmarks(table: FrameTable, folder: Path) -> FrameTable:
    points = np.full((len(table), len(LANDMARK_COLUMNS)), np.nan, np.float32)  # (N, 136): x00, y00, x01, ...
    wrong = []
    for row, (clip, path) in enumerate(zip(table.frame["clip"], table.paths, strict=True)):
        file = folder / clip / f"{PurePosixPath(path).stem}_landmarks.txt"
        values = _numbers(file)
        if values is not None and len(values) == points.shape[1]:
            points[row] = values
        elif values is not None:
            wrong.append(f"{clip}/{file.name}")
    found = int(np.isfinite(points[:, 0]).sum())
    notes = [f"landmarks of {found} of {len(table)} frames", *_named("files without 68 points, not used", wrong)]
    return _with_columns(table, LANDMARK_COLUMNS, points, notes)


def _join_facs(table: FrameTable, folder: Path) -> FrameTable:
    units = np.full((len(table), len(AU_COLUMNS)), np.nan, np.float32)  # (N, 17) in 0..1
    strength = table.intensity
    if strength is not None:
        units[strength == 0] = 0
    wrong, ungraded, other = [], 0, set()
    for row, path in _peaks(table):
        file = folder / str(table.frame["clip"].iloc[row]) / f"{PurePosixPath(path).stem}_facs.txt"
        values = _numbers(file)
        if values is None:
            continue
        if not len(values) or len(values) % 2 or ((values[1::2] < 0) | (values[1::2] > _GRADES)).any():
            wrong.append(file.name)
            continue
        units[row] = 0
        for unit, grade in values.reshape(-1, 2).tolist():  # lines of: unit, grade
            if unit not in ACTION_UNITS:
                other.add(int(unit))
                continue
            units[row, ACTION_UNITS.index(int(unit))] = grade / _GRADES if grade else _UNGRADED
            ungraded += grade == 0
    coded = int(np.isfinite(units[:, 0]).sum())
    notes = [
        f"action units of {coded} of {len(table)} frames: those at the peak, by FACS, and neutral ones; "
        f"{ungraded} units were not graded and are set to {_UNGRADED}",
        *_named("FACS units besides the 17 are left out", [f"AU{unit}" for unit in sorted(other)]),
        *_named("FACS files that are no list of units and grades 0..5, not used", wrong),
    ]
    return _with_columns(table, AU_COLUMNS, units, notes)


def _peaks(table: FrameTable) -> Iterable[tuple[int, str]]:
    """Return the row and the path of the last frame of each sequence."""
    rows = table.frame.groupby("clip")["frame"].idxmax().to_numpy()
    return ((int(row), table.paths[int(row)]) for row in rows)


def _numbers(file: Path) -> np.ndarray | None:
    """Return the numbers in a text file; an empty array if it contains other text, None if it cannot be read."""
    try:
        values = np.array(file.read_text(encoding="ascii").split(), dtype=np.float64)
    except OSError:
        return None
    except ValueError:
        return np.empty(0)
    return values if np.isfinite(values).all() else np.empty(0)


def _named(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    return [f"{len(names)} {what}: {', '.join(names[:5])}{f' +{len(names) - 5} more' if len(names) > 5 else ''}"]


def _with_columns(table: FrameTable, columns: tuple[str, ...], values: np.ndarray, notes: list[str]) -> FrameTable:
    import pandas as pd

    added = pd.DataFrame(values, columns=list(columns))
    frame = pd.concat([table.frame.drop(columns=[name for name in columns if name in table.frame]), added], axis=1)
    return replace(table, frame=frame, notes=(*table.notes, *notes))


#: The affect of each number in the emotion files.
EMOTIONS = ("neutral", "anger", "contempt", "disgust", "fear", "joy", "sadness", "surprise")


# The second path exists if each archive was unpacked into its own folder.
_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")


_LABELS = ("Emotion", "Emotion_labels/Emotion")


_NAME = re.compile(r"(S\d+)_(\d+)_(\d+)\.\w+", re.IGNORECASE)


_COLUMNS = ("identity", "word", "take", "frame", "clip")


def _labels(parts: tuple[str, ...]) -> tuple[Any, ...] | None:
    match = _NAME.fullmatch(parts[-1])
    if match is None or (match.group(1), match.group(2)) != parts[:2]:
        return None
    return parts[0], "", int(parts[1]), int(match.group(3)), f"{parts[0]}/{parts[1]}"


_RULE = PathRule(_COLUMNS, _labels, depth=3)


def _read(root: Path, config: DatasetConfig) -> Sheet:
    images, labels = first_folder(root, _IMAGES), first_folder(root, _LABELS)
    if images is None:
        return empty_sheet()
    if labels is None:
        raise UserError(
            f"dataset.root={root}: the folder Emotion/ with the labels of the sequences is missing beside {images}; "
            "unpack the archive of the emotion labels there too."
        )
    sheet = _RULE.sheet(root, images)
    return sheet if sheet.frame.empty else _label_sequences(sheet, root / labels, images)


def _label_sequences(sheet: Sheet, labels: Path, images: str) -> Sheet:
    """Add the word of each sequence to the sheet, and drop the sequences without a label."""
    words: dict[str, str] = {}
    drops, notes = list(sheet.drops), list(sheet.notes)
    for clip in sheet.frame["clip"].unique():
        word, reason = _sequence_label(labels / clip)
        if word is None:
            drops.append(Drop(f"{images}/{clip}", reason))
        else:
            words[clip] = word
    labelled = sheet.frame["clip"].isin(words)
    if not labelled.all():
        count = sheet.frame.loc[~labelled, "clip"].nunique()
        notes.append(f"{count} sequences ({int((~labelled).sum())} frames) have no label and are not used")
    kept = sheet.frame[labelled].reset_index(drop=True)
    return Sheet(kept.assign(word=kept["clip"].map(words)), drops, notes)


def _sequence_label(folder: Path) -> tuple[str | None, str]:
    """Return the affect of a sequence, or None and the reason."""
    try:
        files = sorted(path for path in folder.glob("*_emotion.txt") if not path.name.startswith("."))
        texts = {path.read_text(encoding="ascii").strip() for path in files}
    except (OSError, ValueError) as error:
        return None, f"emotion label cannot be read ({type(error).__name__})"
    if not texts:
        return None, "sequence without an emotion label"
    if len(texts) > 1:
        return None, "sequence with several emotion labels that differ"
    try:
        number = float(texts.pop())
    except ValueError:
        return None, "emotion label is not a number"
    if not number.is_integer() or not 0 <= number < len(EMOTIONS):
        return None, "emotion label is not one of 0 to 7"
    return EMOTIONS[int(number)], ""


def _fits(folder: Path, config: DatasetConfig) -> bool:
    images = first_folder(folder, _IMAGES)
    return images is not None and any(map(_labels, sample_images(folder / images, 3)))


CKPLUS = Layout(_read, _fits, affects=KNOWN_AFFECTS, clips="onset", finish=join_marks)
