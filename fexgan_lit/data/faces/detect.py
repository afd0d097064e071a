"""Landmarks, head pose and action units for a table without them, as an annotations CSV in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.faces.action_units import VERSION as AU_VERSION
from fexgan_lit.data.faces.action_units import face_estimator, quality_note
from fexgan_lit.data.faces.geometry import is_face
from fexgan_lit.data.faces.install import VERSION as DETECTOR_VERSION
from fexgan_lit.data.faces.worker import FaceWorker, NoFaceError, check_detector
from fexgan_lit.data.images import FrameError, read_frame
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS
from fexgan_lit.utils.cache import builder_lock, cache_root
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.hardware import cores

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int], None]
#: One line of the journal: a path with its 68 landmarks and pose, or with the reason why there are none.
Entry = dict[str, Any]

#: Raise this number when the landmarks of an unchanged image change.
FORMAT = 1
#: A detector process takes about 300 MB and a few seconds to start.
_FRAMES_A_WORKER, _MOST_WORKERS = 64, 16
_NEUTRAL = "neutral"


@dataclass(frozen=True)
class Detection:
    """Results of the detector.

    Attributes:
        annotations: CSV for `dataset.annotations`, one row for every frame with a face.
        found: frames with a face.
        missing: frames without a face, and the reasons; they have no row.
        aus_estimated: whether the CSV holds action units; false if the table has its own.
        notes: sentences for the report on the accuracy of the estimates.
    """

    annotations: Path
    found: int
    missing: tuple[Drop, ...]
    aus_estimated: bool
    notes: tuple[str, ...] = ()


def detect_landmarks(table: FrameTable, config: DatasetConfig, progress: Progress | None = None) -> Detection:
    """Run `config.detector` on the frames of `table`, once for unchanged files; a killed run resumes where it stopped.

    Args:
        table: frames below `table.root`; its own action units and poses are kept.
        config: detector, name, cache_dir, workers, facekit.
        progress: called with (frames done, total), from this thread.

    Raises:
        UserError: the detector is unknown, not installed or broken, no frame shows a face, or the cache is read-only.
    """
    if table.root is None:
        raise UserError("dataset.detector: the frames of a studio are drawn with exact landmarks; leave it out.")
    place = cache_root(config.cache_dir) / "annotations"
    key = _files_key(table, str(config.detector))
    journal = place / f"{config.name}-{key[:16]}.jsonl"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with builder_lock(journal):
            entries = _detect(table, config, journal, progress)
            return _write(table, config, entries, place, key)
    except OSError as error:
        raise UserError(
            f"the cache folder {place} cannot be used ({error.strerror or error}); results so far are kept if "
            "possible. Free space, make it writable, or choose another folder with dataset.cache_dir=DIR."
        ) from error


def _files_key(table: FrameTable, detector: str) -> str:
    """Return 64 hex digits over the detector and the path, size and modification time of every file."""
    digest = hashlib.sha256(f"{FORMAT} {detector} {DETECTOR_VERSION}\n".encode())
    for path in table.paths:
        digest.update(f"{path}\0".encode())
        with contextlib.suppress(OSError):  # deleted: it will be listed as missing
            stat = os.stat(f"{table.root}/{path}")  # noqa: PTH116 (a Path a file would cost seconds)
            digest.update(f"{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _detect(table: FrameTable, config: DatasetConfig, journal: Path, progress: Progress | None) -> dict[str, Entry]:
    """Return the journal's entries by path; new entries are appended to the journal as soon as they are found."""
    entries = {**_read_journal(journal), **_known(table)}
    todo = [path for path in table.paths if path not in entries]
    if not todo:
        return entries
    check_detector(config.detector)
    count = min(cores(config.workers), _MOST_WORKERS, -(-len(todo) // _FRAMES_A_WORKER))
    total = len(table)
    with journal.open("a", encoding="utf-8") as out, contextlib.closing(_find_all(table.root, todo, count)) as found:
        for entry in found:
            entries[entry["path"]] = entry
            out.write(json.dumps(entry) + "\n")
            if progress is not None:
                progress(len(entries), total)
    return entries


def _known(table: FrameTable) -> dict[str, Entry]:
    """Return entries of the frames whose landmarks the table has; they are used unchanged, without a pose."""
    if not set(LANDMARK_COLUMNS) <= set(table.frame):
        return {}
    points = table.frame[list(LANDMARK_COLUMNS)].to_numpy(np.float64)
    rows = np.flatnonzero(is_face(points.reshape(-1, 68, 2))).tolist()  # (N, 136) -> (N, 68, 2)
    return {table.paths[row]: {"path": table.paths[row], "points": points[row].tolist()} for row in rows}


def _read_journal(journal: Path) -> dict[str, Entry]:
    """Read the entries of an earlier run; an incomplete last line, left by a kill, is cut off."""
    if not journal.exists():
        return {}
    text = journal.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        with journal.open("r+b") as file:
            file.truncate(len(whole))
    return {entry["path"]: entry for entry in map(json.loads, whole.splitlines())}


def _find_all(root: Path | None, paths: Sequence[str], count: int) -> Generator[Entry, None, None]:
    """Yield entries as `count` detector processes finish them; closing the iterator ends the processes."""
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    for path in paths:
        jobs.put(path)
    results: queue.SimpleQueue[Entry | BaseException] = queue.SimpleQueue()
    stop = threading.Event()
    threads = [threading.Thread(target=_serve, args=(root, jobs, results, stop), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        for _ in paths:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _serve(root: Path | None, jobs: queue.SimpleQueue[str], results: queue.SimpleQueue, stop: threading.Event) -> None:
    """Run one detector process and send it the images one by one; the body of a thread."""
    try:
        with FaceWorker() as worker:
            while not stop.is_set():
                path = jobs.get_nowait()
                results.put(_entry(worker, root, path))
    except queue.Empty:
        return
    except Exception as error:  # raised in the thread that waits for results
        results.put(error)


def _entry(worker: FaceWorker, root: Path | None, path: str) -> Entry:
    try:
        points, pose = worker.find(read_frame(f"{root}/{path}"))
    except (FrameError, NoFaceError) as reason:
        return {"path": path, "reason": str(reason)}
    return {"path": path, "points": points.round(3).ravel().tolist(), "pose": np.round(pose, 3).tolist()}


def _write(table: FrameTable, config: DatasetConfig, entries: dict[str, Entry], place: Path, key: str) -> Detection:
    """Write the CSV; its name is a hash of the journal's key and of everything else that decides its columns."""
    missing = tuple(Drop(path, entries[path]["reason"]) for path in table.paths if "points" not in entries[path])
    found = len(table) - len(missing)
    if not found:
        raise UserError(
            f"dataset.detector={config.detector}: no face in any of the {len(table)} frames of {table.root}; first: "
            f"{missing[0].path} ({missing[0].reason}). Leave out dataset.detector for images without faces."
        )
    estimate = not set(AU_COLUMNS) <= set(table.frame)
    known = [entry["points"] for entry in _known(table).values()]
    notes = [
        f"{found} of {len(table)} frames have landmarks, by {config.detector} {DETECTOR_VERSION} if not in the data set"
    ]
    labels = json.dumps([table.frame["identity"].tolist(), table.frame["affect"].tolist(), list(table.frame), known])
    mark = hashlib.sha256(f"{key} {AU_VERSION} {config.facekit} {labels}".encode()).hexdigest()
    csv = place / f"{config.name}-{mark[:16]}.csv"
    estimator = face_estimator(config.cache_dir, config.facekit) if estimate else None
    if estimator is not None:
        notes.append(quality_note(estimator))
        if _NEUTRAL not in table.affects:
            notes.append("without neutral frames the median face replaces them, so the estimates are less accurate")
    if not csv.exists():
        write_atomic(csv, _rows(table, entries, estimator).to_csv(index=False))
    return Detection(csv, found, missing, estimate, tuple(notes))


def _rows(table: FrameTable, entries: dict[str, Entry], estimator: Any) -> pd.DataFrame:
    """Return one row for each face: path, landmarks in pixels, and pose (degrees) and units (0..5) unless known."""
    import pandas as pd

    rows = np.array([row for row, path in enumerate(table.paths) if "points" in entries[path]])
    faces = [entries[table.paths[row]] for row in rows.tolist()]
    points = np.array([face["points"] for face in faces])  # (M, 136)
    parts = [
        pd.DataFrame({"path": [face["path"] for face in faces]}),
        pd.DataFrame(points, columns=list(LANDMARK_COLUMNS)),
    ]
    if not set(POSE_COLUMNS) <= set(table.frame) and all("pose" in face for face in faces):
        parts.append(pd.DataFrame([face["pose"] for face in faces], columns=list(POSE_COLUMNS)))
    if estimator is not None:
        chosen = table.frame.iloc[rows]
        shapes = points.reshape(len(points), 68, 2)  # (M, 136) -> (M, 68, 2)
        units = estimator.estimate(shapes, chosen["identity"].to_numpy(), (chosen["affect"] == _NEUTRAL).to_numpy())
        parts.append(pd.DataFrame(units.round(3), columns=list(AU_COLUMNS)))
    return pd.concat(parts, axis=1)
