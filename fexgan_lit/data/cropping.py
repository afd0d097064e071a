"""`dataset.crop=face`: which square of each picture the networks see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fexgan_lit.data.faces.crops import face_squares
from fexgan_lit.data.guides import CROP_COLUMNS, take_numbers
from fexgan_lit.data.table import LANDMARK_COLUMNS, Drop, FrameTable
from fexgan_lit.errors import UserError


def crop_to_faces(table: FrameTable, margin: float) -> FrameTable:
    """`table` with the square around each face in the columns `CROP_COLUMNS`, whole pixels.

    Frames of one take share a square, so that the camera stands still while the head moves. Frames without landmarks
    and without a take that has some become drops.

    Raises:
        UserError: no frame has landmarks.
    """
    if not set(LANDMARK_COLUMNS) <= set(table.frame) or table.frame["x00"].isna().all():
        raise UserError(
            "dataset.crop=face: this data set has no landmarks to find the faces by; find them first with "
            "`python -m fexgan_lit.prepare ... dataset.detector=mediapipe`, or give dataset.annotations=FILE.csv with "
            "the columns x00,y00..x67,y67, or use dataset.crop=centre."
        )
    points = table.frame[list(LANDMARK_COLUMNS)].to_numpy(np.float64).reshape(-1, 68, 2)  # (N, 136) -> (N, 68, 2)
    squares = np.rint(face_squares(points, margin, take_numbers(table.frame)))
    lost = np.isnan(squares).any(axis=1)
    drops = [Drop(path, "no landmarks to find the face by") for path in table.frame["path"][lost]]
    kept = table.select(np.flatnonzero(~lost), drops)
    named = dict(zip(CROP_COLUMNS, squares[~lost].T, strict=True))
    return replace(kept, frame=kept.frame.assign(**named))
