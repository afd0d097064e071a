"""Layout of RaFD: the file name has all labels, `Rafd090_28_Caucasian_male_angry_frontal.jpg`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.base import Layout, PathRule, Sheet
from fexgan_lit.data.datasets.labels import AffectReader
from fexgan_lit.expression import KNOWN_AFFECTS

# Camera angle, model, ethnicity, gender, expression, gaze.
_NAME = re.compile(r"rafd(\d+)_(\d+)_([^_]+)_([^_]+)_([^_]+)_([^_.]+)\.\w+", re.IGNORECASE)
_COLUMNS = ("identity", "word", "camera", "gaze", "gender", "ethnicity", "key")


def _labels(parts: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Read the labels from the file name; folders (StarGAN sorts by part and class) add no information."""
    match = _NAME.fullmatch(parts[-1])
    if match is None:
        return None
    camera, model, ethnicity, gender, word, gaze = match.groups()
    # The same photograph in two folders is one frame, so the key is the file name without folders.
    key = parts[-1].rpartition(".")[0]
    return model, word, int(camera), gaze.lower(), gender.lower(), ethnicity, key


_RULE = PathRule(_COLUMNS, _labels, depth=3, least=1)


def _read(root: Path, config: DatasetConfig) -> Sheet:
    return _RULE.sheet(root)


def _fits(folder: Path, config: DatasetConfig) -> bool:
    return _RULE.fits(folder, AffectReader(None, KNOWN_AFFECTS, config.aliases))


RAFD = Layout(_read, _fits, affects=KNOWN_AFFECTS)
