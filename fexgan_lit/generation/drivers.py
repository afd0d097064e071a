"""What drives an animation: the expressions of a clip from moment to moment, wherever they come from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fexgan_lit.errors import UserError
from fexgan_lit.expression import resolve_affect
from fexgan_lit.generation.timing import Beat, follow, nearest

if TYPE_CHECKING:
    import pandas as pd

    from fexgan_lit.generation.workbench import Workbench


@dataclass(frozen=True, eq=False)
class Driver:
    """T moments of a clip; each field but the first two is None where the driver does not tell.

    Attributes:
        name: for labels.
        times: (T,) seconds, rising.
        aus: (T, 17) action units in 0..1; NaN in the columns of units that it does not move.
        landmarks: (T, 68, 2) in any unit of length.
        rest: (68, 2) landmarks of the same face at rest, in that unit; None means those of the first moment.
        affect: (T, K) weights.
        pictures: (T, S, S, 3) uint8 RGB, for the strip.
        notes: sentences for the user.
    """

    name: str
    times: np.ndarray
    aus: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    rest: np.ndarray | None = None
    affect: np.ndarray | None = None
    pictures: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def at(self, beat: Beat) -> Driver:
        """The driver at the moments of `beat`: numbers interpolated, of the pictures the nearest."""
        if not beat.note:
            return replace(self, times=beat.times, rest=self._at_rest())
        start = self.times - self.times[0]
        moved: dict[str, Any] = {}
        for name in ("aus", "landmarks", "affect"):
            values = getattr(self, name)
            moved[name] = None if values is None else follow(values, start, beat.times)
        shown = None if self.pictures is None else self.pictures[nearest(start, beat.times)]
        return replace(self, times=beat.times, rest=self._at_rest(), pictures=shown, **moved)

    def _at_rest(self) -> np.ndarray | None:
        return self.landmarks[0] if self.rest is None and self.landmarks is not None else self.rest


def read_driver(bench: Workbench, text: str, fps: float | None, au_scale: float | None) -> Driver:
    """What `driver=text` means: a CSV, a video, or a take of the run's data as IDENTITY/AFFECT[/TAKE].

    Raises:
        UserError: there is no such file or take, or it cannot be used.
    """
    from fexgan_lit.data.clips import VIDEO_EXTENSIONS

    path = Path(text).expanduser()
    kind = path.suffix.lower()
    if kind == ".csv" or kind in VIDEO_EXTENSIONS:
        if not path.is_file():
            raise UserError(f"driver={text}: there is no such file")
        if kind == ".csv":
            from fexgan_lit.generation.driver_csv import csv_driver

            return csv_driver(path, fps, au_scale)
        from fexgan_lit.generation.driver_video import video_driver

        return video_driver(path, bench)
    return take_driver(bench, text, fps)


def take_driver(bench: Workbench, text: str, fps: float | None) -> Driver:
    """A take of the run's data, whichever split its frames are in.

    Raises:
        UserError: no such take, or its frames have no time stamps and `fps` is None.
    """
    from fexgan_lit.data.frames import resize_batch

    table, frames = bench.data.table, bench.data.everything()
    identity, affect, take = _take_name(text, table.identities, table.affects)
    rows, notes = _take_rows(table.frame, identity, affect, take, text)
    rows, times = _in_order(table.frame, rows, fps, text)
    return Driver(
        name=f"{identity} {affect}",
        times=times,
        aus=None if frames.aus is None else frames.aus[rows],
        landmarks=None if frames.landmarks is None else frames.landmarks[rows],
        rest=_rest(bench, identity),
        affect=_affect_weights(frames.affect[rows], frames.intensity, rows, table.affects),
        pictures=resize_batch(frames.pixels(rows), bench.system.image_size),
        notes=notes,
    )


def _take_name(text: str, identities: tuple[str, ...], affects: tuple[str, ...]) -> tuple[str, str, str | None]:
    """Identity, affect and number of the take, where it has one."""
    parts = text.split("/")
    if len(parts) not in (2, 3):
        raise UserError(
            f"driver={text}: expected a take of the run's data as IDENTITY/AFFECT or IDENTITY/AFFECT/TAKE, a CSV, or a "
            "video file"
        )
    if parts[0] not in identities:
        near = difflib.get_close_matches(parts[0], identities, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        there = f"{', '.join(identities[:20])}{' ...' if len(identities) > 20 else ''}"
        raise UserError(f"driver={text}: neither a file nor one of {there}, who are in the run's data.{hint}")
    return parts[0], resolve_affect(parts[1], affects), parts[2] if len(parts) == 3 else None


def _take_rows(
    frame: pd.DataFrame, identity: str, affect: str, take: str | None, text: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(T,) rows of the table, and a note where one of several takes was taken."""
    chosen = ((frame["identity"] == identity) & (frame["affect"] == affect)).to_numpy()
    if not chosen.any():
        raise UserError(f"driver={text}: {identity} has no frame of {affect}")
    notes: tuple[str, ...] = ()
    if "take" in frame and frame.loc[chosen, "take"].notna().all():
        numbers = sorted({int(number) for number in frame.loc[chosen, "take"]})
        if take is not None and (not take.isdigit() or int(take) not in numbers):
            raise UserError(f"driver={text}: expected one of the takes {', '.join(map(str, numbers))}")
        wanted = numbers[0] if take is None else int(take)
        chosen = chosen & (frame["take"] == wanted).fillna(False).to_numpy(bool)
        if take is None and len(numbers) > 1:
            notes = (f"driver: take {wanted} of {', '.join(map(str, numbers))}; driver={text}/TAKE chooses",)
    elif take is not None:
        raise UserError(f"driver={text}: the frames of {identity} have no numbers of takes; say {identity}/{affect}")
    if "clip" in frame and frame.loc[chosen, "clip"].notna().all():
        # a filmed clip runs from neutral to its affect; its neutral frames belong to it
        clips = frame.loc[chosen, "clip"].unique()
        chosen = ((frame["identity"] == identity) & (frame["clip"] == clips[0])).to_numpy()
    return np.flatnonzero(chosen), notes


def _in_order(frame: pd.DataFrame, rows: np.ndarray, fps: float | None, text: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows as they were filmed, and their times in seconds."""
    known = {name for name in ("time_s", "frame") if name in frame and frame.loc[rows, name].notna().all()}
    if "time_s" in known:
        times = frame.loc[rows, "time_s"].to_numpy(np.float64)
        order = np.argsort(times, kind="stable")
        return rows[order], times[order]
    if fps is None:
        raise UserError(f"driver={text}: its frames have no time stamps; say how many a second were filmed with fps=")
    numbers = frame.loc[rows, "frame"].to_numpy(np.float64) if "frame" in known else np.arange(len(rows), dtype=float)
    order = np.argsort(numbers, kind="stable")
    return rows[order], numbers[order] / fps


def _rest(bench: Workbench, identity: str) -> np.ndarray | None:
    """Landmarks of the identity's reference frame, from which its motion counts."""
    from fexgan_lit.data.wanted import reference_row

    row = reference_row(bench.frames, bench.frames.identities.index(identity))
    marks = bench.frames.landmarks
    return None if row is None or marks is None else marks[row]


def _affect_weights(
    labels: np.ndarray, intensity: np.ndarray | None, rows: np.ndarray, affects: tuple[str, ...]
) -> np.ndarray:
    """(T, K): one-hot, or where intensities are known their share, the rest neutral."""
    weights = np.eye(len(affects), dtype=np.float32)[labels]
    if intensity is None or "neutral" not in affects or np.isnan(intensity[rows]).any():
        return weights
    share = np.clip(intensity[rows], 0, 1)[:, None].astype(np.float32)
    neutral = np.eye(len(affects), dtype=np.float32)[affects.index("neutral")]
    return share * weights + (1 - share) * neutral
