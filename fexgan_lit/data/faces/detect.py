"""Landmarks, head pose and action units for a table that has none, as an annotations CSV in the cache."""

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
#: One line of the journal: a path and its 68 landmarks and pose, or the reason there are none.
Entry = dict[str, Any]

#: Raise when the landmarks of the same picture would come out differently.
FORMAT = 1
#: A detector process takes about 300 MB and a few seconds to start.
_FRAMES_A_WORKER, _MOST_WORKERS = 64, 16
_NEUTRAL = "neutral"


@dataclass(frozen=True)
class Detection:
    """What was found.

    Attributes:
        annotations: CSV for `dataset.annotations`, one row for every frame with a face.
        found: frames with a face.
        missing: frames without, and why; they have no row.
        aus_estimated: whether the CSV holds action units; not where the table brings its own.
        notes: sentences for the report: how good the estimates are.
    """

    annotations: Path
    found: int
    missing: tuple[Drop, ...]
    aus_estimated: bool
    notes: tuple[str, ...] = ()


def detect_landmarks(table: FrameTable, config: DatasetConfig, progress: Progress | None = None) -> Detection:
    """Run `config.detector` over the frames of `table`, once for the same files; a killed run goes on where it was.

    Args:
        table: frames below `table.root`; what it already knows of action units and pose is not estimated again.
        config: detector, name, cache_dir, workers, facekit.
        progress: called with (frames done, frames in all), from this thread.

    Raises:
        UserError: unknown detector, not installed, broken, no face in any frame, or a cache that cannot be written.
    """
    if table.root is None:
        raise UserError("dataset.detector: the frames of a studio are drawn and bring exact landmarks; leave it out.")
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
            f"the cache folder {place} cannot be used ({error.strerror or error}); what was found so far is kept where "
            "possible. Make room or make it writable, or choose another place with dataset.cache_dir=DIR."
        ) from error


def _files_key(table: FrameTable, detector: str) -> str:
    """64 hex digits over the detector and the path, size and time of last change of every file."""
    digest = hashlib.sha256(f"{FORMAT} {detector} {DETECTOR_VERSION}\n".encode())
    for path in table.paths:
        digest.update(f"{path}\0".encode())
        with contextlib.suppress(OSError):  # gone: it will be listed as missing
            stat = os.stat(f"{table.root}/{path}")  # noqa: PTH116 (a Path a file would cost seconds)
            digest.update(f"{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _detect(table: FrameTable, config: DatasetConfig, journal: Path, progress: Progress | None) -> dict[str, Entry]:
    """The journal's entries by path, completed and with every new one written as soon as it is there."""
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
    """Entries of the frames whose landmarks the table has: they are taken as they are, without a pose."""
    if not set(LANDMARK_COLUMNS) <= set(table.frame):
        return {}
    points = table.frame[list(LANDMARK_COLUMNS)].to_numpy(np.float64)
    rows = np.flatnonzero(is_face(points.reshape(-1, 68, 2))).tolist()  # (N, 136) -> (N, 68, 2)
    return {table.paths[row]: {"path": table.paths[row], "points": points[row].tolist()} for row in rows}


def _read_journal(journal: Path) -> dict[str, Entry]:
    """What an earlier run left, without a last line that a kill cut short."""
    if not journal.exists():
        return {}
    text = journal.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        with journal.open("r+b") as file:
            file.truncate(len(whole))
    return {entry["path"]: entry for entry in map(json.loads, whole.splitlines())}


def _find_all(root: Path | None, paths: Sequence[str], count: int) -> Generator[Entry, None, None]:
    """Entries in the order in which `count` detector processes finish them; closing the iterator ends these."""
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
    """One thread: one detector process, asked for one picture after the other."""
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
    """The CSV, keyed by the journal and by what else decides its columns."""
    missing = tuple(Drop(path, entries[path]["reason"]) for path in table.paths if "points" not in entries[path])
    found = len(table) - len(missing)
    if not found:
        raise UserError(
            f"dataset.detector={config.detector}: no face in any of the {len(table)} frames of {table.root}; first: "
            f"{missing[0].path} ({missing[0].reason}). Leave dataset.detector out for pictures without faces."
        )
    estimate = not set(AU_COLUMNS) <= set(table.frame)
    known = [entry["points"] for entry in _known(table).values()]
    notes = [
        f"{found} of {len(table)} frames have landmarks, by {config.detector} {DETECTOR_VERSION} where the set has none"
    ]
    labels = json.dumps([table.frame["identity"].tolist(), table.frame["affect"].tolist(), list(table.frame), known])
    mark = hashlib.sha256(f"{key} {AU_VERSION} {config.facekit} {labels}".encode()).hexdigest()
    csv = place / f"{config.name}-{mark[:16]}.csv"
    estimator = face_estimator(config.cache_dir, config.facekit) if estimate else None
    if estimator is not None:
        notes.append(quality_note(estimator))
        if _NEUTRAL not in table.affects:
            notes.append("without neutral frames the median face stands in, so the estimates are weaker")
    if not csv.exists():
        write_atomic(csv, _rows(table, entries, estimator).to_csv(index=False))
    return Detection(csv, found, missing, estimate, tuple(notes))


def _rows(table: FrameTable, entries: dict[str, Entry], estimator: Any) -> pd.DataFrame:
    """One row a face: path, landmarks in pixels, and what the table lacks of pose (degrees) and units (0..5)."""
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
