"""Checks for action units, landmarks and intensities with a wrong scale or meaning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fexgan_lit.data.checks.finding import Finding, counted
from fexgan_lit.data.table import FrameTable, first_few
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS

#: Maximum action unit of a data set (0..1) below which its scale is suspicious.
_SMALL = 0.25
#: Difference of mean activation (0..1) by which another affect must exceed the affects that an action unit signals.
_CONTRARY = 0.1
#: Affects that an action unit signals (EMFACS): lip corners up, nose wrinkled, lip corners down, jaw dropped.
SIGNS = {
    "au12": ("joy", "contempt"),
    "au09": ("disgust", "anger"),
    "au15": ("sadness", "disgust", "anger", "contempt"),
    "au26": ("surprise", "fear", "joy", "anger"),
}
#: Minimum share of a face's landmarks outside the image for the face to count as outside.
_OUTSIDE = 0.25


def value_findings(table: FrameTable) -> list[Finding]:
    """Return the findings on action units, landmarks and intensities, as far as the table has them."""
    return [*_action_units(table), *_signs(table), *_landmarks(table), *_intensity(table)]


def _action_units(table: FrameTable) -> Iterator[Finding]:
    if AU_COLUMNS[0] not in table.frame:
        return
    units = table.frame[list(AU_COLUMNS)].to_numpy(np.float32)
    units = units[~np.isnan(units).any(axis=1)]  # (M, 17)
    if not len(units):
        return
    still = np.ptp(units, axis=0) == 0
    if still.all() or (units == units[:, :1]).all():
        what = "are the same in every frame" if still.all() else "are equal to each other in every frame"
        yield Finding("problem", "values", f"all 17 action units {what}", "values that follow the expression",
                      "Check the columns of dataset.annotations.")  # fmt: skip
        return
    if units.max() < _SMALL:
        yield Finding(
            "warning", "values", f"the largest action unit of the data set is {5 * units.max():.2f}",
            "OpenFace's scale of 0..5", "If they were given as 0..1, multiply them by 5.",
        )  # fmt: skip
    if still.any():
        names = [name.upper() for name, flag in zip(AU_COLUMNS, still, strict=True) if flag]
        yield Finding("info", "values", f"{', '.join(names)} never change{'s' if len(names) == 1 else ''}")


def _signs(table: FrameTable) -> Iterator[Finding]:
    """Find affects whose visible expressions show the sign of another affect."""
    if AU_COLUMNS[0] not in table.frame:
        return
    frame = table.frame
    if table.intensity is not None:
        frame = frame[~(table.intensity < 0.5)]
    means = frame.groupby("affect")[list(SIGNS)].mean()
    for column, owners in SIGNS.items():
        known = [name for name in owners if name in means.index]
        if not known or means[column].isna().all():
            continue
        top, highest = means[column].idxmax(), means[column].max()
        if top not in owners and highest > means.loc[known, column].max() + _CONTRARY:
            found = f"{column.upper()} is highest in {top} (mean {5 * highest:.1f} of 5)"
            yield Finding("warning", "values", found, f"it highest in {' or '.join(known)}",
                          "Check that affects and action units belong to the same frames.")  # fmt: skip


def _landmarks(table: FrameTable) -> Iterator[Finding]:
    frame = table.frame
    if LANDMARK_COLUMNS[0] not in frame or "height" not in frame or "width" not in frame:
        return
    points = frame[list(LANDMARK_COLUMNS)].to_numpy(np.float32).reshape(-1, 68, 2)  # (N, 136) -> (N, 68, 2)
    known = ~np.isnan(points).any(axis=(1, 2))
    if not known.any():
        return
    points, rows = points[known], np.flatnonzero(known)
    size = frame[["width", "height"]].to_numpy(np.float32)[rows][:, None]  # (M, 1, 2)
    low, high = (np.percentile(points / size, share, axis=(0, 1)) for share in (2, 98))  # (2,) x and y
    if (np.abs(points) <= 2).all():
        yield Finding("problem", "values", "all landmarks lie in 0..2", "pixels of the stored image",
                      "Multiply normalised landmarks by width and height.")  # fmt: skip
        return
    if (high < 0.55).all() or (low > 0.45).all():
        corner = "top left" if (high < 0.55).all() else "bottom right"
        yield Finding("warning", "values", f"all landmarks lie in the {corner} quarter of the images",
                      "a face in the middle", "They may belong to images of another size.")  # fmt: skip
    outside = ((points < -1) | (points > size + 1)).any(axis=2).mean(axis=1) > _OUTSIDE  # (M,)
    if outside.any():
        found = f"in {counted(int(outside.sum()), 'frame')} of {len(points)} a quarter of the landmarks or more lies "
        found += "outside the image"
        hint = (
            f"They reach {max(high):.1f} times its side: were they made for a larger image?" if max(high) > 1.2 else ""
        )
        names = first_few(table.frame["path"].iloc[rows[outside]])
        yield Finding("warning", "values", found, "points inside", hint, names)


def _intensity(table: FrameTable) -> Iterator[Finding]:
    if table.intensity is None:
        return
    neutral = (table.frame["affect"] == "neutral").to_numpy()
    known = table.intensity[~neutral & ~np.isnan(table.intensity)]
    if len(known) > 1 and np.ptp(known) == 0:
        yield Finding(
            "info", "values", f"the intensity is {known[0]:g} in every frame that is not neutral", "",
            "dataset.min_target_intensity cannot distinguish these frames.",
        )  # fmt: skip
    strong = np.flatnonzero(neutral & (table.intensity > 0.5))
    if len(strong):
        found = f"{counted(len(strong), 'neutral frame')} with an intensity above 0.5"
        names = first_few(table.frame["path"].iloc[strong])
        yield Finding("warning", "values", found, "0, for a face without expression", "Check the labels.", names)
