"""CK+: sequences from neutral to the apex, their label in a file of its own.

`cohn-kanade-images/S005/001/S005_001_00000011.png` is frame 11 of take 1 of person S005;
`Emotion/S005/001/S005_001_00000011_emotion.txt` holds the label of the whole sequence as a float.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fexgan_lit.data.layouts.ckplus_marks import join_marks
from fexgan_lit.data.layouts.sheet import Layout, PathRule, Sheet, empty_sheet, first_folder
from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.table import Drop
from fexgan_lit.data.walk import sample_images
from fexgan_lit.errors import UserError
from fexgan_lit.expression import KNOWN_AFFECTS

#: The emotion files' numbers.
EMOTIONS = ("neutral", "anger", "contempt", "disgust", "fear", "joy", "sadness", "surprise")

# As unpacked into one folder, and as unpacked into a folder an archive.
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
    """The sheet with the word of each sequence; sequences without one leave it."""
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
    """The affect of a sequence, or None and why it has none."""
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
