"""Drivers of animations: the expressions of a clip over time, from a CSV, a video or frames of a data set."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fexgan_lit.data.datasets.annotations import AU_SCALE
from fexgan_lit.data.datasets.csv_files import check_scales, read_csv, to_numbers
from fexgan_lit.data.datasets.openface import FACES, lost_faces, own_names
from fexgan_lit.data.images import EXTENSIONS as IMAGES
from fexgan_lit.data.table import some
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS, resolve_affect
from fexgan_lit.inference.animation.timeline import Beat, follow, nearest
from fexgan_lit.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from fexgan_lit.inference.session import GenerationSession


@dataclass(frozen=True, eq=False)
class Driver:
    """T moments of a clip; all fields except the first two may be None.

    Attributes:
        name: used in labels.
        times: (T,) seconds, increasing.
        aus: (T, 17) action units in 0..1; NaN in the columns of units that the driver lacks.
        landmarks: (T, 68, 2) in any unit of length.
        rest: (68, 2) landmarks of the same face at rest, in the same unit; None means those of the first moment.
        affect: (T, K) weights.
        pictures: (T, S, S, 3) uint8 RGB, shown beside the result.
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
        """Resample the driver at the moments of `beat`: numbers are interpolated, images are the nearest."""
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


def driver_problem(text: str) -> str | None:
    """Check the form of `driver=text`, and that its file exists, before a run is opened; return a message or None."""
    from fexgan_lit.data.videos.read import VIDEO_EXTENSIONS
    from fexgan_lit.inference.animation.keyframes import EXTENSIONS

    path = Path(text).expanduser()
    if path.suffix.lower() in (".csv", *EXTENSIONS, *VIDEO_EXTENSIONS, *IMAGES):
        return None if path.is_file() else f"driver={text}: there is no such file"
    if len(text.split("/")) in (2, 3):
        return None
    return (
        f"driver={text}: expected a take of the run's data as IDENTITY/AFFECT or IDENTITY/AFFECT/TAKE, a CSV, an "
        "image or video file, or keyframes in YAML"
    )


def read_driver(session: GenerationSession, text: str, fps: float | None, au_scale: float | None) -> Driver:
    """Read `driver=text`: a CSV, a video, or a take of the run's data as IDENTITY/AFFECT[/TAKE].

    Raises:
        UserError: the take does not exist, or the driver cannot be used.
    """
    from fexgan_lit.data.videos.read import VIDEO_EXTENSIONS

    path = Path(text).expanduser()
    kind = path.suffix.lower()
    if kind == ".csv":
        return csv_driver(path, fps, au_scale)
    if kind in VIDEO_EXTENSIONS:
        return video_driver(path, session)
    return take_driver(session, text, fps)


def take_driver(session: GenerationSession, text: str, fps: float | None) -> Driver:
    """Read a take of the run's data, from any split.

    Raises:
        UserError: the take does not exist, or its frames have no time stamps and `fps` is None.
    """
    from fexgan_lit.data.frames import resize_batch

    table, frames = session.data.table, session.data.everything()
    identity, affect, take = driver_name(text, table.identities, table.affects)
    rows, notes = _take_rows(table.frame, identity, affect, take, text)
    rows, times = _in_order(table.frame, rows, fps, text)
    return Driver(
        name=f"{identity} {affect}",
        times=times,
        aus=None if frames.aus is None else frames.aus[rows],
        landmarks=None if frames.landmarks is None else frames.landmarks[rows],
        rest=_rest(session, identity),
        affect=affect_weights(frames.affect[rows], frames.intensity, rows, table.affects),
        pictures=resize_batch(frames.pixels(rows), session.system.image_size),
        notes=notes,
    )


def driver_name(text: str, identities: tuple[str, ...], affects: tuple[str, ...]) -> tuple[str, str, str | None]:
    """Return the identity, the affect and, if given, the number of the take."""
    parts = text.split("/")
    if parts[0] not in identities:
        hint = did_you_mean(parts[0], identities)
        there = f"{', '.join(identities[:20])}{' ...' if len(identities) > 20 else ''}"
        raise UserError(f"driver={text}: it is not a file, and the identities of the run's data are {there}.{hint}")
    return parts[0], resolve_affect(parts[1], affects), parts[2] if len(parts) == 3 else None


def _take_rows(
    frame: pd.DataFrame, identity: str, affect: str, take: str | None, text: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the rows (T,) of the take, and a note if the first of several takes was chosen."""
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
            notes = (f"driver: using take {wanted} of {', '.join(map(str, numbers))}; driver={text}/TAKE selects one",)
    elif take is not None:
        raise UserError(f"driver={text}: the frames of {identity} have no take numbers; use {identity}/{affect}")
    if "clip" in frame and frame.loc[chosen, "clip"].notna().all():
        # a clip runs from neutral to its affect and includes its neutral frames
        clips = frame.loc[chosen, "clip"].unique()
        chosen = ((frame["identity"] == identity) & (frame["clip"] == clips[0])).to_numpy()
    return np.flatnonzero(chosen), notes


def _in_order(frame: pd.DataFrame, rows: np.ndarray, fps: float | None, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows in order of time, and their times in seconds."""
    known = {name for name in ("time_s", "frame") if name in frame and frame.loc[rows, name].notna().all()}
    if "time_s" in known:
        times = frame.loc[rows, "time_s"].to_numpy(np.float64)
        order = np.argsort(times, kind="stable")
        return rows[order], times[order]
    if fps is None:
        raise UserError(f"driver={text}: its frames have no time stamps; give the frames per second with fps=")
    numbers = frame.loc[rows, "frame"].to_numpy(np.float64) if "frame" in known else np.arange(len(rows), dtype=float)
    order = np.argsort(numbers, kind="stable")
    return rows[order], numbers[order] / fps


def _rest(session: GenerationSession, identity: str) -> np.ndarray | None:
    """Return the landmarks of the identity's reference frame, which motion is measured from."""
    from fexgan_lit.data.reference import reference_row

    row = reference_row(session.frames, session.frames.identities.index(identity))
    marks = session.frames.landmarks
    return None if row is None or marks is None else marks[row]


def affect_weights(
    labels: np.ndarray, intensity: np.ndarray | None, rows: np.ndarray, affects: tuple[str, ...]
) -> np.ndarray:
    """Return weights (T, K): one-hot, or the intensity if known, with the remainder to 1 for neutral."""
    weights = np.eye(len(affects), dtype=np.float32)[labels]
    if intensity is None or "neutral" not in affects or np.isnan(intensity[rows]).any():
        return weights
    share = np.clip(intensity[rows], 0, 1)[:, None].astype(np.float32)
    neutral = np.eye(len(affects), dtype=np.float32)[affects.index("neutral")]
    return share * weights + (1 - share) * neutral


_OPTION = "driver"


_RATED = re.compile(r"au\d\d?_r")


_OTHER_UNIT = re.compile(r"au\d\d?(_r)?")


def csv_driver(path: Path, fps: float | None, au_scale: float | None) -> Driver:
    """Read a CSV with one row per moment: a time, action units and, optionally, landmarks.

    The time is `time_s` or `timestamp` in seconds, or `frame` at the rate `fps`. Action units are OpenFace's `AU12_r`
    in 0..5, or `au12` in 0..1 or 0..5, which is inferred from their largest value. Missing units keep the values of
    the face.

    Args:
        path: the file.
        fps: frames per second of the column `frame`; not used if the file has times.
        au_scale: the largest value of an action unit in the file (1 or 5); None infers it.

    Raises:
        UserError: the file has no times or no action units, or a value is not a number or out of range.
    """
    rows, rated, notes = _rows(path)
    rows, said = _faces(rows, path)
    units = [name for name in AU_COLUMNS if name in rows]
    marks = list(LANDMARK_COLUMNS) if set(LANDMARK_COLUMNS) <= set(rows) else []
    if not units and not marks:
        raise UserError(f"driver={path}: no action units; expected columns such as AU12_r (OpenFace) or au12")
    notes += said
    clock = _clock(rows, fps, path)
    timed = to_numbers(rows[["path", clock, *units, *marks]], [clock], path, _OPTION)
    values = to_numbers(timed, [*units, *marks], path, _OPTION, gaps=True)
    whole = values[[*units, *marks]].notna().all(axis=1)
    if not whole.all():
        lines = values.loc[~whole, "path"].tolist()
        notes.append(f"{path.name}: {len(lines)} of {len(values)} rows lack a number and are left out: {some(lines)}")
        values = values[whole]
    if values.empty:
        raise UserError(f"driver={path}: no row is left; {' '.join(notes)}")
    aus, said = _scaled(values, units, rated, au_scale, path)
    times = values[clock].to_numpy(np.float64) / (fps if clock == "frame" and fps else 1)
    landmarks = values[marks].to_numpy(np.float32).reshape(-1, 68, 2) if marks else None  # (T, 136) -> (T, 68, 2)
    others = sorted(name for name in rows if _OTHER_UNIT.fullmatch(name) and name not in AU_COLUMNS)
    if others:
        notes.append(f"columns besides the 17 action units are not used: {', '.join(others)}")
    return Driver(path.stem, times, aus, landmarks, notes=(*notes, *said))


def _rows(path: Path) -> tuple[pd.DataFrame, bool, list[str]]:
    """Return the rows with renamed columns, whether action units are OpenFace's `_r`, and notes on the format."""
    given, notes = read_csv(path, _OPTION)
    rows = own_names(given)
    if rows.empty:
        raise UserError(f"driver={path} has no rows")
    lines = [f"line {number}" for number in range(2, len(rows) + 2)]  # messages refer to rows by these
    return rows.assign(path=lines), any(_RATED.fullmatch(name) for name in given), notes


def _faces(rows: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Keep the rows of one face in which the tracker found it; return them with notes on the others."""
    notes = []
    column = next((name for name in FACES if name in rows and rows[name].nunique() > 1), None)
    if column is not None:
        first = rows[column].iloc[0]
        notes.append(f"the driver has {rows[column].nunique()} faces; using {column} {first}")
        rows = rows[rows[column] == first]
    lost, said = lost_faces(rows, path, _OPTION)
    return rows[~lost].reset_index(drop=True), [*notes, *said]


def _clock(rows: pd.DataFrame, fps: float | None, path: Path) -> str:
    """Return the name of the column with the time."""
    if "time_s" in rows:
        return "time_s"
    if "frame" in rows and fps is not None:
        return "frame"
    if "frame" in rows:
        raise UserError(f"driver={path} has frame numbers and no times; give the frames per second with fps=")
    raise UserError(f"driver={path}: no time; expected a column time_s or timestamp (seconds), or frame with fps=")


def _scaled(
    values: pd.DataFrame, units: list[str], rated: bool, au_scale: float | None, path: Path
) -> tuple[np.ndarray | None, list[str]]:
    """Return action units (T, 17) in 0..1, NaN in missing columns, and notes on the scale and on those columns."""
    if not units:
        return None, []
    largest = float(values[units].to_numpy().max())
    scale = au_scale or (AU_SCALE if rated or largest > 1 else 1.0)
    check_scales(values, dict.fromkeys(units, scale), path, _OPTION)
    aus = np.full((len(values), len(AU_COLUMNS)), np.nan, np.float32)
    for name in units:
        aus[:, AU_COLUMNS.index(name)] = values[name].to_numpy(np.float32) / scale
    why = "as given by au_scale" if au_scale else "OpenFace's columns _r" if rated else f"the largest is {largest:.3g}"
    said = [f"action units of the driver are read as 0..{scale:g} ({why}); au_scale=1|5 sets the scale"]
    missing = [name for name in AU_COLUMNS if name not in units]
    if missing:
        said.append(f"action units that the driver lacks keep the values of the face: {', '.join(missing)}")
    return aus, said


_DETECTOR = "mediapipe"


def video_driver(path: Path, session: GenerationSession) -> Driver:
    """Read the frames of a video that show a face; the first face is assumed to be at rest.

    Raises:
        UserError: the detector is not installed, the video cannot be read, or fewer than two frames show a face.
    """
    from fexgan_lit.data.faces.worker import check_detector
    from fexgan_lit.data.videos.read import ClipError, frame_times

    try:
        check_detector(_DETECTOR)
    except UserError as error:
        raise UserError(f"driver={path.name} is a video, in which faces must be detected. {error}") from error
    try:
        stamps, rate, points, pictures = _watch(path, session)
        times, _ = frame_times(stamps, rate)
    except ClipError as error:
        raise UserError(f"driver={path}: {error}") from error
    found = np.isfinite(points).all((1, 2))
    if found.sum() < 2:
        raise UserError(
            f"driver={path}: found a face in {int(found.sum())} of {len(found)} frames; expected two or more"
        )
    aus, note = estimated_units(points[found], session)
    lost = int((~found).sum())
    notes = [note, "the first face of the video is assumed to be at rest"]
    if lost:
        notes.append(f"found no face in {lost} of {len(found)} frames of the driver; they are interpolated")
    marks = points[found].astype(np.float32)
    return Driver(path.stem, times[found], aus, marks, pictures=pictures[found], notes=tuple(notes))


def _watch(path: Path, session: GenerationSession) -> tuple[list[float], float, np.ndarray, np.ndarray]:
    """Read a video and detect its faces.

    Returns:
        Time stamps (T,) in ms, the container's frame rate, landmarks (T, 68, 2) in pixels (NaN where no face was
        found), and square images (T, S, S, 3).
    """
    from fexgan_lit.data.faces.worker import FaceWorker, NoFaceError
    from fexgan_lit.data.packing.sources import fit_square
    from fexgan_lit.data.videos.read import ClipReader
    from fexgan_lit.utils.console import stage_bar

    stamps, points, pictures = [], [], []
    with FaceWorker() as worker, ClipReader(path) as reader, stage_bar(session.console) as bar:
        task = bar.add_task("detecting the driver's face", total=reader.promised or None)
        for image, stamp in reader.frames():
            rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            try:
                points.append(worker.find(rgb)[0])
            except NoFaceError:
                points.append(np.full((68, 2), np.nan))
            stamps.append(stamp)
            pictures.append(fit_square(rgb, session.system.image_size))
            bar.update(task, advance=1)
        reader.check_whole(len(stamps))
        return stamps, reader.fps, np.stack(points), np.stack(pictures)


def estimated_units(points: np.ndarray, session: GenerationSession) -> tuple[np.ndarray, str]:
    """Estimate action units (T, 17) in 0..1 from landmarks (T, 68, 2), the first at rest; also return a note."""
    from fexgan_lit.data.faces.action_units import face_estimator, quality_note

    config = session.run.dataset
    estimator = face_estimator(config.cache_dir, config.facekit)
    calm = np.arange(len(points)) == 0
    units = estimator.estimate(points, np.zeros(len(points), int), calm)
    return (units / AU_SCALE).astype(np.float32), quality_note(estimator)
