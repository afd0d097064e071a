from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.expression import LANDMARK_COLUMNS
from fexgan_lit.utils.errors import UserError

AFFECTS = ("joy", "neutral")


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Dark pictures of 160 x 120 with a bright face of 40 pixels; its place differs from person to person."""
    rows = []
    for who, left in (("anna", 10), ("bob", 100)):
        for affect in AFFECTS:
            for n in range(4):
                path = tmp_path / "set" / who / affect / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture = np.zeros((120, 160, 3), np.uint8)
                picture[50:90, left : left + 40] = 200 + n
                cv2.imwrite(str(path), picture)
                points = np.random.default_rng(n).uniform(0, 40, (68, 2)) + np.array((left, 50))
                points[0], points[16] = (left, 54), (left + 40, 54)
                points[[36, 39, 42, 45]] = np.array([(left + x, 60) for x in (8, 16, 24, 32)])
                points[33] = (left + 20, 72)
                points[8] = (left, 50)  # a corner of the bright square
                row = {"path": str(path.relative_to(tmp_path))}
                rows.append(row | dict(zip(LANDMARK_COLUMNS, points.ravel(), strict=True)))
    pd.DataFrame(rows).to_csv(tmp_path / "marks.csv", index=False)
    return tmp_path / "set"


def open_set(root: Path, **changes) -> FrameDataModule:
    settings = {"name": "mhfed", "root": str(root), "affects": list(AFFECTS), "image_size": 32, "batch_size": 4,
                "val_fraction": 0.0, "crop": "face", "annotations": str(root.parent / "marks.csv")}  # fmt: skip
    data = FrameDataModule(DatasetConfig(**(settings | changes)))
    data.setup()
    return data


def test_the_square_follows_the_face_and_the_landmarks_follow_the_square(scenes, tmp_path):
    data = open_set(scenes, crop_margin=0.25, cache_dir=str(tmp_path / "cache"))
    frames = data.train.pixels(np.arange(len(data.train)))
    centre = frames[:, 12:20, 12:20].mean()
    assert centre > 190
    # 40 pixels in a square of 1.2 * 40 * 1.5
    assert (frames > 100).mean() == pytest.approx((40 / 72) ** 2, abs=0.05)
    points = data.train.landmarks
    assert np.abs(points).max() < 0.8
    corner = (points[:, 8] + 1) * 16  # upper left corner of the face, pixels of the frame
    for image, (x, y) in zip(frames, corner, strict=True):
        assert image[int(y) + 2, int(x) + 2].mean() > 150
        assert image[int(y) - 2, int(x) - 2].mean() < 60


def test_frames_without_a_face_are_dropped_and_named(scenes, tmp_path):
    marks = pd.read_csv(scenes.parent / "marks.csv")
    marks[marks["path"] != "set/bob/joy/2.png"].to_csv(scenes.parent / "marks.csv", index=False)
    data = open_set(scenes, cache_dir=str(tmp_path / "cache"))
    assert [(drop.path, drop.reason) for drop in data.summary.drops] == [
        ("bob/joy/2.png", "no landmarks to crop the face")
    ]
    assert len(data.train) == 15


def test_without_landmarks_the_way_to_them_is_named(scenes):
    with pytest.raises(UserError, match=r"dataset\.detector=mediapipe"):
        open_set(scenes, annotations=None)
