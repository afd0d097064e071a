"""Small stand-ins of the data sets of real people, in exactly their folder forms."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.data.table import FrameTable
from fexgan_lit.expression import AU_COLUMNS

PIXEL = {end: cv2.imencode(end, np.full((8, 8, 3), 90, np.uint8))[1].tobytes() for end in (".png", ".jpg")}
CK_WORDS = ("anger", "contempt", "disgust", "fear", "joy", "sadness", "surprise")
RAFD_WORDS = ("angry", "contemptuous", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
SIX = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")


def index(root: Path, name: str, **options: object) -> FrameTable:
    return index_dataset(DatasetConfig(name=name, root=str(root), **options))


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PIXEL[".png" if path.suffix == ".png" else ".jpg"])


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_ckplus(root: Path, people: tuple[str, ...] = ("S005", "S010"), length: int = 8) -> Path:
    """Seven labelled sequences a person and one without a label, take 009."""
    for person in people:
        for take in (*range(1, 8), 9):
            for n in range(1, length + 1):
                write_image(root / f"cohn-kanade-images/{person}/{take:03d}/{person}_{take:03d}_{n:08d}.png")
            if take < 8:
                stem = f"{person}/{take:03d}/{person}_{take:03d}_{length:08d}"
                write_text(root / f"Emotion/{stem}_emotion.txt", f"   {float(take):.7e}\n")
    return root


def write_oulu(root: Path, top: str = "OriginalImg", people: tuple[str, ...] = ("P001", "P002")) -> Path:
    for spectrum, light in (("VL", "Strong"), ("VL", "Dark"), ("NI", "Strong")):
        for person in people:
            for word in SIX:
                for n in range(5):
                    write_image(root / top / spectrum / light / person / word / f"{n:03d}.jpeg")
    return root


def write_rafd(root: Path, folder: str = "", models: tuple[int, ...] = (28, 31)) -> Path:
    for model in models:
        for camera in (45, 90):
            for word in RAFD_WORDS:
                for gaze in ("frontal", "left"):
                    name = f"Rafd{camera:03d}_{model:02d}_Caucasian_male_{word}_{gaze}.jpg"
                    write_image(root / folder.format(word=word) / name)
    return root


def write_mug(root: Path, people: tuple[str, ...] = ("001", "002"), length: int = 5) -> Path:
    for person in people:
        for word in (*(word.lower() for word in SIX), "neutral"):
            for take in range(2):
                for n in range(length):
                    write_image(root / f"subjects3/{person}/{word}/take{take:03d}/img_{n:04d}.jpg")
    return root


def unit_rows(names: list[str], heading: str = " AU{:02d}_r") -> pd.DataFrame:
    """A table of action units as OpenFace writes it; row i of unit j is (i + j) % 6."""
    units = {heading.format(int(name[2:])): [(i + j) % 6 for i in range(len(names))]
             for j, name in enumerate(AU_COLUMNS)}  # fmt: skip
    return pd.DataFrame({"filename": names, " confidence": 0.98, " success": 1, **units})


def write_emotionet(root: Path, count: int = 6) -> Path:
    names = [f"N_{n:04d}" for n in range(count)]
    for name in names:
        write_image(root / f"imgs/{name}.jpg")
    unit_rows(names).to_csv(root / "aus_openface.csv", index=False)
    return root


def reasons(table: FrameTable) -> dict[str, str]:
    return {drop.path: drop.reason for drop in table.drops}
