"""Extraction of frames with time stamps from clips: `<identity>_<affect>.mp4` to `<identity>/<affect>/*.jpg`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.faces.geometry import face_squares
from fexgan_lit.data.faces.worker import FaceWorker, NoFaceError, check_detector
from fexgan_lit.data.table import Drop
from fexgan_lit.data.videos.read import VIDEO_EXTENSIONS, Clip, ClipError, ClipNames, ClipReader, frame_times
from fexgan_lit.utils.cache import builder_lock
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.hardware import cores

Progress = Callable[[int, int], None]

ANNOTATIONS = "annotations.csv"
#: Folder below the root with one record for each completed clip; it also holds frames in progress.
RECORDS = ".extraction"

#: Raise this number when the frames of an unchanged clip change.
_FORMAT = 1
_QUALITY = 95
#: Number of frames of a clip on which the face detector runs.
_SAMPLES = 15
_SECONDS_BETWEEN_REPORTS = 0.2


@dataclass(frozen=True)
class ClipReport:
    """A clip that was split: file name, labels, frame rate of the container, and displayed size in pixels."""

    path: str
    identity: str
    affect: str
    fps: float
    frames: int
    width: int
    height: int
    take: int = 1


@dataclass(frozen=True)
class VideoExtraction:
    """Results of the extraction.

    Attributes:
        root: folder of the data set, in the layout `folder`.
        annotations: CSV with path, take, frame and time_s of every frame.
        frames: number of frames of all clips.
        clips: the clips that were split, by name, including unchanged ones of earlier runs.
        drops: files of the folder without frames, and the reasons.
        notes: sentences for the report.
    """

    root: Path
    annotations: Path
    frames: int
    clips: tuple[ClipReport, ...]
    drops: tuple[Drop, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Job:
    """State shared by all threads: the settings, the only detector process, and the number of frames written."""

    root: Path
    settings: dict[str, Any]
    margin: float
    worker: FaceWorker | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    written: int = 0

    def count(self) -> None:
        with self.lock:
            self.written += 1


def extract_videos(config: DatasetConfig, progress: Progress | None = None) -> VideoExtraction:
    """Split the clips of `config.videos` into JPEG frames below `config.root`, each at its own frame rate.

    Frames of a clip appear under the root only when the clip is complete. Complete clips are not split again while
    their file and the settings are unchanged.

    Args:
        config: videos, root, affects, aliases, crop, crop_margin, detector, workers.
        progress: called with (frames done, total frames according to the containers), from this thread.

    Raises:
        UserError: the folder is missing or has no clips, the root is missing or holds other files, an affect is
            unknown, two clips are the same take, no clip can be read, or the disk is full.
    """
    folder, root = _folders(config)
    clips, drops = _list_clips(folder, config)
    try:
        (root / RECORDS).mkdir(parents=True, exist_ok=True)
        with builder_lock(root / RECORDS / "all"):
            failed = _split_all(clips, root, config, progress)
            return _finish(clips, root, [*drops, *failed], config)
    except OSError as error:
        raise UserError(
            f"dataset.root={root} cannot be written ({error.strerror or error}); complete clips are kept, and the same "
            "command continues with the others."
        ) from error


def _folders(config: DatasetConfig) -> tuple[Path, Path]:
    folder = Path(config.videos or "").expanduser()
    if not config.videos or not folder.is_dir():
        raise UserError(f"dataset.videos={config.videos}: no such folder; expected one with <identity>_<affect>.mp4.")
    if config.root is None:
        raise UserError("dataset.videos needs dataset.root=DIR, the folder to write the frames to (new or empty).")
    root = Path(config.root).expanduser()
    if root.exists() and not root.is_dir():
        raise UserError(f"dataset.root={root} is a file; expected a folder to write the frames to (new or empty).")
    if root.is_dir() and any(root.iterdir()) and not (root / RECORDS).is_dir():
        raise UserError(
            f"dataset.root={root} holds other files, such as {sorted(root.iterdir())[0].name}; expected a new or empty "
            "folder for the frames of dataset.videos, or one that an earlier run of this command wrote."
        )
    return folder, root


def _list_clips(folder: Path, config: DatasetConfig) -> tuple[list[Clip], list[Drop]]:
    """Return the clips in `folder` by name, and everything else in it as drops."""
    names = ClipNames(config.affects, config.aliases)
    clips: list[Clip] = []
    drops: list[Drop] = []
    for path in sorted(folder.iterdir()):
        reason = _refusal(path, folder)
        clip = None
        if not reason:
            clip, reason = names.read(path)
        if clip is None:
            drops.append(Drop(path.name.encode("utf-8", "replace").decode(), reason))
        else:
            clips.append(clip)
    if not clips:
        seen = "; ".join(f"{drop.path} ({drop.reason})" for drop in drops[:5]) or "an empty folder"
        raise UserError(f"dataset.videos={folder}: no clip <identity>_<affect>.mp4 in this folder; found {seen}.")
    _check_unique(clips)
    return clips, drops


def _refusal(path: Path, folder: Path) -> str:
    """Return why an entry of the folder is skipped, or ""."""
    if path.name.startswith("."):
        return "hidden"
    if path.name.encode("utf-8", "replace").decode() != path.name:
        return "name is not valid Unicode"
    if path.is_symlink() and folder.resolve() not in path.resolve().parents:
        return "link that leaves the folder"
    if path.is_dir():
        return "folder"
    return "" if path.suffix.lower() in VIDEO_EXTENSIONS else "not a video by its extension"


def _check_unique(clips: list[Clip]) -> None:
    seen: dict[tuple[str, str, int], Clip] = {}
    for clip in clips:
        # many file systems ignore case, so such names are one file
        other = seen.setdefault((clip.identity.casefold(), clip.affect, clip.take), clip)
        if other is not clip:
            raise UserError(
                f"dataset.videos: {other.path.name} and {clip.path.name} are both take {clip.take} of {clip.affect} by "
                f"{clip.identity}; rename one to {clip.identity}_{clip.affect}_take2{clip.path.suffix}, or remove "
                "one."
            )


def _split_all(clips: list[Clip], root: Path, config: DatasetConfig, progress: Progress | None) -> list[Drop]:
    """Split the clips that are not complete, several at a time; return those that cannot be split."""
    face = config.crop == "face" and config.detector is not None
    if face:
        check_detector(config.detector)
    settings = {"format": _FORMAT, "crop": [config.detector, config.crop_margin] if face else "centre"}
    todo = [clip for clip in clips if _read_record(clip, root, settings) is None]
    for partial in (root / RECORDS).glob("partial-*"):  # the lock is held, so no process writes them
        shutil.rmtree(partial, ignore_errors=True)
    drops: list[Drop] = []
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(FaceWorker()) if face and todo else None
        job = _Job(root, settings, config.crop_margin, worker)
        for clip, error in _run(job, todo, cores(config.workers), progress):
            if error is not None:
                drops.append(Drop(clip.path.name, error))
    return drops


def _run(job: _Job, clips: list[Clip], workers: int, progress: Progress | None) -> Iterator[tuple[Clip, str | None]]:
    """Yield each clip with the reason why it gave no frames, or None; decoding and encoding release the GIL."""
    total = sum(_promised(clip) for clip in clips)
    with ThreadPoolExecutor(max(1, min(workers, len(clips)))) as pool:
        waiting: dict[Future[str | None], Clip] = {pool.submit(_try_split, job, clip): clip for clip in clips}
        try:
            while waiting:
                done, _ = wait(waiting, _SECONDS_BETWEEN_REPORTS, FIRST_COMPLETED)
                if progress is not None:
                    progress(min(job.written, total), total)
                for future in done:
                    yield waiting.pop(future), future.result()
        finally:
            job.stop.set()
            pool.shutdown(cancel_futures=True)


def _promised(clip: Clip) -> int:
    try:
        with ClipReader(clip.path) as reader:
            return reader.promised
    except ClipError:
        return 0


def _try_split(job: _Job, clip: Clip) -> str | None:
    try:
        _split(job, clip)
    except ClipError as error:
        _forget(job.root, clip)  # else frames of an older version of the file would remain
        return str(error)
    return None


def _split(job: _Job, clip: Clip) -> None:
    """Write the frames to a partial folder, move them to the root, then write the record that marks them complete."""
    state = _file_state(clip.path)
    partial = job.root / RECORDS / f"partial-{clip.stem}"
    partial.mkdir()
    try:
        square = _face_square(job, clip) if job.worker is not None else None
        with ClipReader(clip.path) as reader:
            stamps = _write_frames(job, clip, reader, square, partial)
            if job.stop.is_set():
                return
            reader.check_whole(len(stamps))
            times, stamped = frame_times(stamps, reader.fps)
            rate = reader.fps or (len(times) - 1) / float(times[-1])
            report = ClipReport(
                clip.path.name, clip.identity, clip.affect, rate, len(times), reader.width, reader.height, clip.take
            )
        _place(job.root, clip, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    record = {"source": state, "settings": job.settings, "stamped": stamped, "times": times.round(6).tolist()}
    write_atomic(_record_path(job.root, clip), json.dumps({**record, "report": asdict(report)}))


def _write_frames(
    job: _Job, clip: Clip, reader: ClipReader, square: NDArray[np.float64] | None, partial: Path
) -> list[float]:
    """Write every frame, cropped; return their time stamps in milliseconds."""
    stamps = []
    for number, (image, stamp) in enumerate(reader.frames()):
        if job.stop.is_set():
            break
        done, data = cv2.imencode(".jpg", _crop(image, square), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not done:
            raise ClipError(f"frame {number} of {image.shape[1]}x{image.shape[0]} pixels cannot be written as JPEG")
        (partial / f"{clip.stem}_{number:06d}.jpg").write_bytes(data.tobytes())
        stamps.append(stamp)
        job.count()
    return stamps


def _crop(image: NDArray[np.uint8], square: NDArray[np.float64] | None) -> NDArray[np.uint8]:
    """Crop to `square` (left, top, side), moved and shrunk to lie inside the image; None crops the central square."""
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    if square is not None:
        side = max(1, min(side, round(float(square[2]))))
        middle = square[:2] + square[2] / 2
        left, top = np.clip(middle - side / 2, 0, (width - side, height - side))
    column, row = round(float(left)), round(float(top))
    return image[row : row + side, column : column + side]


def _face_square(job: _Job, clip: Clip) -> NDArray[np.float64]:
    """Return left, top and side (3,) of one square for the whole clip, so that the head moves within a fixed crop."""
    found = []
    with ClipReader(clip.path) as reader:
        for image in reader.sample(_SAMPLES):
            with contextlib.suppress(NoFaceError), job.lock:
                if job.worker is not None:
                    found.append(job.worker.find(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))[0])
    if not found:
        raise ClipError("no face found in the clip")
    return face_squares(np.array(found), job.margin, np.zeros(len(found)))[0]


def _place(root: Path, clip: Clip, partial: Path) -> None:
    """Move the frames to `<identity>/<affect>`, replacing those of an older version of the clip."""
    folder = root / clip.identity / clip.affect
    folder.mkdir(parents=True, exist_ok=True)
    _forget(root, clip)
    for frame in sorted(partial.iterdir()):
        frame.rename(folder / frame.name)


def _forget(root: Path, clip: Clip) -> None:
    _record_path(root, clip).unlink(missing_ok=True)
    for old in _frames_of(clip, root):
        old.unlink()


def _frames_of(clip: Clip, root: Path) -> list[Path]:
    """Return the clip's frames below the root."""
    folder = root / clip.identity / clip.affect
    start = f"{clip.stem}_"
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.name.startswith(start))
    return []


def _record_path(root: Path, clip: Clip) -> Path:
    return root / RECORDS / f"{clip.stem}.json"


def _file_state(path: Path) -> list[int]:
    """Return size and modification time; an OSError becomes a ClipError."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ClipError(f"cannot be read ({error.strerror})") from error
    return [stat.st_size, stat.st_mtime_ns]


def _read_record(clip: Clip, root: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a clip whose frames are complete and made from the current file, or None."""
    try:
        record = json.loads(_record_path(root, clip).read_text(encoding="utf-8"))
        fresh = record["source"] == _file_state(clip.path) and record["settings"] == settings
        return record if fresh and len(_frames_of(clip, root)) == len(record["times"]) else None
    except (OSError, ValueError, KeyError, TypeError, ClipError):
        return None


def _finish(clips: list[Clip], root: Path, drops: list[Drop], config: DatasetConfig) -> VideoExtraction:
    """Write the annotations of all records, including those of clips that are no longer in the folder."""
    import pandas as pd

    stored = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / RECORDS).glob("*.json"))]
    if not stored:
        named = "; ".join(f"{drop.path} ({drop.reason})" for drop in drops[:5])
        raise UserError(f"dataset.videos={config.videos}: none of the {len(clips)} clips gave frames: {named}.")
    reports = [ClipReport(**record["report"]) for record in stored]
    rows = [
        (f"{r.identity}/{r.affect}/{r.identity}_{r.affect}_t{r.take}_{number:06d}.jpg", r.take, number, time)
        for r, record in zip(reports, stored, strict=True)
        for number, time in enumerate(record["times"])
    ]
    write_atomic(
        root / ANNOTATIONS, pd.DataFrame(rows, columns=["path", "take", "frame", "time_s"]).to_csv(index=False)
    )
    notes = _notes(reports, stored, config)
    return VideoExtraction(root, root / ANNOTATIONS, len(rows), tuple(reports), tuple(drops), notes)


def _notes(reports: list[ClipReport], stored: list[dict[str, Any]], config: DatasetConfig) -> tuple[str, ...]:
    notes = []
    counted = [r.path for r, record in zip(reports, stored, strict=True) if not record["stamped"]]
    if counted:
        notes.append(
            f"times computed from the frame rate, because the container has no time stamps: {', '.join(counted)}"
        )
    folder = Path(config.videos or "").expanduser()
    gone = sorted(r.path for r in reports if not (folder / r.path).exists())
    if gone:
        notes.append(f"frames kept of clips that are no longer in {config.videos}: {', '.join(gone)}")
    if config.crop == "face" and config.detector is None:
        notes.append("dataset.crop=face needs dataset.detector=mediapipe; used the central square instead")
    return tuple(notes)
