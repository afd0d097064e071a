"""From clips to frames with time stamps: `<identity>_<affect>.mp4` becomes `<identity>/<affect>/*.jpg`."""

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
#: Folder below the root with one record a clip that is whole; frames under way are kept in it, too.
RECORDS = ".extraction"

#: Raise when the frames of the same clip would come out differently.
_FORMAT = 1
_QUALITY = 95
#: Frames of a clip in which its face is looked for.
_SAMPLES = 15
_SECONDS_BETWEEN_REPORTS = 0.2


@dataclass(frozen=True)
class ClipReport:
    """One clip that was split: its file name, labels, frame rate by the container, and size in pixels as shown."""

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
    """What became of the clips.

    Attributes:
        root: the data set's folder, in the form of the layout `folder`.
        annotations: CSV with path, take, frame and time_s of every frame.
        frames: of all clips.
        clips: those that were split, by name; split earlier and unchanged ones as well.
        drops: files of the folder that gave no frames, and why.
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
    """What all threads share: the settings, the one detector, and the count of frames written."""

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
    """Split the clips of `config.videos` into JPEG frames below `config.root`, each at the clip's own rate.

    A clip becomes visible when it is whole; clips that are, with an unchanged file and settings, are not split again.

    Args:
        config: videos, root, affects, aliases, crop, crop_margin, detector, workers.
        progress: called with (frames done, frames in all as the containers say), from this thread.

    Raises:
        UserError: no such folder, no clips in it, a root that is missing or holds other things, an unknown affect, two
            clips of one take, no clip that can be read, or a full disk.
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
            f"dataset.root={root} cannot be written ({error.strerror or error}); clips that were whole are kept, and "
            "the same command goes on with the others."
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
            f"dataset.root={root} holds other things, such as {sorted(root.iterdir())[0].name}; the frames of "
            "dataset.videos go to a new or empty folder, or to one that an earlier run of this command wrote."
        )
    return folder, root


def _list_clips(folder: Path, config: DatasetConfig) -> tuple[list[Clip], list[Drop]]:
    """The clips in `folder` by name, and everything else in it."""
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
        raise UserError(f"dataset.videos={folder}: no clip <identity>_<affect>.mp4 in it; found {seen}.")
    _check_unique(clips)
    return clips, drops


def _refusal(path: Path, folder: Path) -> str:
    """Why an entry of the folder is not looked at, or ""."""
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
        # names that differ in case alone are one file on many disks
        other = seen.setdefault((clip.identity.casefold(), clip.affect, clip.take), clip)
        if other is not clip:
            raise UserError(
                f"dataset.videos: {other.path.name} and {clip.path.name} are both take {clip.take} of {clip.affect} by "
                f"{clip.identity}; tell them apart as {clip.identity}_{clip.affect}_take2{clip.path.suffix}, or remove "
                "one."
            )


def _split_all(clips: list[Clip], root: Path, config: DatasetConfig, progress: Progress | None) -> list[Drop]:
    """Split what is not yet whole, several clips at a time; returns those that cannot be."""
    face = config.crop == "face" and config.detector is not None
    if face:
        check_detector(config.detector)
    settings = {"format": _FORMAT, "crop": [config.detector, config.crop_margin] if face else "centre"}
    todo = [clip for clip in clips if _read_record(clip, root, settings) is None]
    for partial in (root / RECORDS).glob("partial-*"):  # the lock is held, so whoever wrote it is gone
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
    """Each clip with the reason it gave no frames, or None; decoding and encoding free the interpreter."""
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
        _forget(job.root, clip)  # frames of an older version of the file would pass for this one's
        return str(error)
    return None


def _split(job: _Job, clip: Clip) -> None:
    """Write the frames to a partial folder, move them to their place, then write the record that makes them count."""
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
    """Write every frame, cropped; returns their time stamps in milliseconds."""
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
    """The square (left, top, side), moved and shrunk into the picture where it reaches over; None: the central one."""
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
    """(3,) left, top and side of the one square for all frames of the clip: the camera stays still, the head moves."""
    found = []
    with ClipReader(clip.path) as reader:
        for image in reader.sample(_SAMPLES):
            with contextlib.suppress(NoFaceError), job.lock:
                if job.worker is not None:
                    found.append(job.worker.find(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))[0])
    if not found:
        raise ClipError("no face found in it")
    return face_squares(np.array(found), job.margin, np.zeros(len(found)))[0]


def _place(root: Path, clip: Clip, partial: Path) -> None:
    """Move the frames to `<identity>/<affect>`, in place of what an older version of the clip left there."""
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
    """The clip's frames that lie below the root."""
    folder = root / clip.identity / clip.affect
    start = f"{clip.stem}_"
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.name.startswith(start))
    return []


def _record_path(root: Path, clip: Clip) -> Path:
    return root / RECORDS / f"{clip.stem}.json"


def _file_state(path: Path) -> list[int]:
    """Size and time of last change; OSError becomes the clip's own trouble."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ClipError(f"cannot be read ({error.strerror})") from error
    return [stat.st_size, stat.st_mtime_ns]


def _read_record(clip: Clip, root: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a clip whose frames are all there, made from the file as it is now; else None."""
    try:
        record = json.loads(_record_path(root, clip).read_text(encoding="utf-8"))
        fresh = record["source"] == _file_state(clip.path) and record["settings"] == settings
        return record if fresh and len(_frames_of(clip, root)) == len(record["times"]) else None
    except (OSError, ValueError, KeyError, TypeError, ClipError):
        return None


def _finish(clips: list[Clip], root: Path, drops: list[Drop], config: DatasetConfig) -> VideoExtraction:
    """Write the annotations of all records, those of clips no longer in the folder included."""
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
        notes.append(f"times counted from the frame rate, as the container has no time stamps: {', '.join(counted)}")
    folder = Path(config.videos or "").expanduser()
    gone = sorted(r.path for r in reports if not (folder / r.path).exists())
    if gone:
        notes.append(f"frames kept of clips that are no longer in {config.videos}: {', '.join(gone)}")
    if config.crop == "face" and config.detector is None:
        notes.append("dataset.crop=face needs dataset.detector=mediapipe; the central square was taken instead")
    return tuple(notes)
