"""A driver from a film: landmarks by the face detector, action units estimated from them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexgan_lit.errors import UserError
from fexgan_lit.generation.drivers import Driver

if TYPE_CHECKING:
    from fexgan_lit.generation.workbench import Workbench

_DETECTOR = "mediapipe"


def video_driver(path: Path, bench: Workbench) -> Driver:
    """Every frame of a film in which a face is found; its first face is taken as the one at rest.

    Raises:
        UserError: the detector is not installed, the film cannot be read, or hardly a frame has a face.
    """
    from fexgan_lit.data.clips import ClipError, frame_times
    from fexgan_lit.data.faces.worker import check_detector

    try:
        check_detector(_DETECTOR)
    except UserError as error:
        raise UserError(f"driver={path.name} is a film, whose faces must be found first. {error}") from error
    try:
        stamps, rate, points, pictures = _watch(path, bench)
        times, _ = frame_times(stamps, rate)
    except ClipError as error:
        raise UserError(f"driver={path}: {error}") from error
    found = np.isfinite(points).all((1, 2))
    if found.sum() < 2:
        raise UserError(f"driver={path}: a face in {int(found.sum())} of {len(found)} frames; expected two or more")
    aus, note = _units(points[found], bench)
    lost = int((~found).sum())
    notes = [note, "the first face of the film is taken as the one at rest"]
    if lost:
        notes.append(f"no face in {lost} of {len(found)} frames of the driver; they are filled in")
    marks = points[found].astype(np.float32)
    return Driver(path.stem, times[found], aus, marks, pictures=pictures[found], notes=tuple(notes))


def _watch(path: Path, bench: Workbench) -> tuple[list[float], float, np.ndarray, np.ndarray]:
    """Time stamps (ms), the container's rate, landmarks (T, 68, 2) in pixels (NaN: no face), squares (T, S, S, 3)."""
    from fexgan_lit.data.clips import ClipReader
    from fexgan_lit.data.faces.worker import FaceWorker, NoFaceError
    from fexgan_lit.data.sources import fit_square
    from fexgan_lit.stages import stage_bar

    stamps, points, pictures = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder, FaceWorker() as worker, ClipReader(path) as reader,
        stage_bar(bench.console) as bar,
    ):  # fmt: skip
        task = bar.add_task("finding the driver's face", total=reader.promised or None)
        still = Path(folder) / "frame.png"
        for image, stamp in reader.frames():
            still.write_bytes(cv2.imencode(".png", image)[1].tobytes())
            try:
                points.append(worker.find(still)[0])
            except NoFaceError:
                points.append(np.full((68, 2), np.nan))
            stamps.append(stamp)
            pictures.append(fit_square(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), bench.system.image_size))
            bar.update(task, advance=1)
        reader.check_whole(len(stamps))
        return stamps, reader.fps, np.stack(points), np.stack(pictures)


def _units(points: np.ndarray, bench: Workbench) -> tuple[np.ndarray, str]:
    """(T, 17) in 0..1 from landmarks (T, 68, 2), and how good such estimates are."""
    from fexgan_lit.data.annotations import AU_SCALE
    from fexgan_lit.data.faces.action_units import face_estimator, quality_note

    config = bench.run.dataset
    estimator = face_estimator(config.cache_dir, config.facekit)
    calm = np.arange(len(points)) == 0
    units = estimator.estimate(points, np.zeros(len(points), int), calm)
    return (units / AU_SCALE).astype(np.float32), quality_note(estimator)
