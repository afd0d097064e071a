"""Client of the detector's process: requests and answers are lines of JSON, and the process may die at any time."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.data.config import DETECTORS
from fexgan_lit.data.faces.geometry import MESH_POINTS, head_pose, is_face, landmarks_of_mesh
from fexgan_lit.data.faces.install import detector_python
from fexgan_lit.utils.errors import UserError

#: Seconds until the process must be ready (its libraries load slowly from a cold disk), and for one image.
START_SECONDS, PICTURE_SECONDS = 120.0, 60.0
#: Number of consecutive failures after which the detector, and not the image, is considered broken.
_PATIENCE = 3


class FoundFace(NamedTuple):
    """A detected face: landmarks (68, 2) in pixels, and yaw in degrees, positive to the right."""

    points: NDArray[np.float64]
    yaw: float


class NoFaceError(Exception):
    """An image without a detected face; the message is the reason."""


def worker_command() -> list[str]:
    """Return the command of the detector's process; raise a UserError if it is not installed."""
    return [str(detector_python()), str(Path(__file__).with_name("mediapipe_worker.py"))]


def check_detector(name: str | None) -> None:
    """Raise a UserError unless `name` is a detector and installed."""
    if name not in DETECTORS:
        raise UserError(f"dataset.detector={name}: expected one of {', '.join(DETECTORS)}.")
    worker_command()


class FaceWorker:
    """A context manager for one detector process, started on the first request and again after it died.

    Only one thread at a time may send requests.
    """

    def __init__(self, command: list[str] | None = None, picture_seconds: float = PICTURE_SECONDS) -> None:
        self._command = command or worker_command()
        self._seconds = picture_seconds
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._stderr: IO[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._asked = 0
        self._failures = 0

    def __enter__(self) -> FaceWorker:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()
        self._folder.cleanup()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # unsent data are of no use to a dead process
                        pipe.close()
            self._process = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def find(self, pixels: np.ndarray) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
        """Return landmarks (68, 2) in pixels of an RGB image (H, W, 3), and yaw, pitch and roll in degrees.

        Raises:
            NoFaceError: no face was found, or the detector died or took too long.
            UserError: the detector does not start, or fails on several images in a row.
        """
        answer = self._answer_for(pixels)
        mesh, width, height = _mesh(answer["points"]), int(answer["width"]), int(answer["height"])
        return _landmarks(mesh, width, height), head_pose(mesh, width, height)

    def find_all(self, pixels: np.ndarray, most: int) -> list[FoundFace]:
        """Return up to `most` faces in an RGB image (H, W, 3), from left to right.

        Raises:
            NoFaceError: see `find`.
            UserError: see `find`.
        """
        answer = self._answer_for(pixels, most=most)
        meshes = [_mesh(points) for points in answer.get("faces") or [answer["points"]]]
        size = int(answer["width"]), int(answer["height"])
        faces = [FoundFace(_landmarks(mesh, *size), head_pose(mesh, *size)[0]) for mesh in meshes]
        return sorted(faces, key=lambda face: float(face.points[:, 0].mean()))

    def _answer_for(self, pixels: np.ndarray, **options: int) -> dict[str, Any]:
        """Return an answer with a face."""
        path = Path(self._folder.name) / "picture.npy"
        np.save(path, pixels)
        answer = self._ask(str(path), **options)
        if "error" in answer:
            raise NoFaceError(f"cannot be read by the detector ({answer['error']})")
        if answer.get("points") is None:
            raise NoFaceError("no face found")
        return answer

    def _ask(self, path: str, **options: int) -> dict[str, Any]:
        if self._process is None:
            self._start()
        self._asked += 1
        sent = self._send({"id": self._asked, "path": path, **options})
        answer = sent and self._receive("id", self._asked, self._seconds)
        if answer:
            self._failures = 0
            return answer
        reason = self._ending(self._seconds)
        tail = self._said()
        self.close()
        self._failures += 1
        if self._failures >= _PATIENCE:
            raise UserError(f"the face detector {reason} on {self._failures} images in a row.{tail}")
        raise NoFaceError(f"the detector {reason} on this image")

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (a file: an unread pipe would fill up)
        try:
            self._process = subprocess.Popen(  # noqa: S603
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                encoding="utf-8", errors="replace",
            )  # fmt: skip
        except OSError as error:
            self.close()
            raise UserError(f"the face detector cannot be started ({self._command[0]}: {error.strerror}).") from error
        self._lines = queue.Queue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True).start()
        if self._receive("ready", None, START_SECONDS) is None:
            reason, tail = self._ending(START_SECONDS), self._said()
            self.close()
            raise UserError(f"the face detector {reason} before it was ready.{tail}")

    def _send(self, request: dict[str, Any]) -> bool:
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None:
            return False
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except OSError:  # a broken pipe: the process died
            return False
        return True

    def _receive(self, key: str, value: int | None, seconds: float) -> dict[str, Any] | None:
        """Return the next answer with `key` (equal to `value`), or None at the end of the pipe or of the time."""
        until = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
            if line is None:
                return None
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # output of a native library
            if isinstance(answer, dict) and key in answer and (value is None or answer[key] == value):
                return answer

    def _ending(self, seconds: float) -> str:
        """Describe how the process ended."""
        if self._process is None:
            return "was not running"
        try:
            code = self._process.wait(timeout=0.5)  # its pipes close a moment before it can be waited for
        except subprocess.TimeoutExpired:
            return f"gave no answer in {seconds:g} s"
        return f"ended with code {code}"

    def _said(self) -> str:
        """Return the last lines of its stderr for an error message."""
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()[-4:]
        return "\nIts last output:\n" + "\n".join(lines) if lines else ""


def _mesh(points: Any) -> NDArray[np.float64]:
    """Return the points of one face as an array (468 or more, 3)."""
    mesh = np.array(points, np.float64)
    if mesh.ndim != 2 or len(mesh) < MESH_POINTS or mesh.shape[1] != 3 or not np.isfinite(mesh).all():
        raise NoFaceError(f"the detector gave an array of shape {mesh.shape} instead of a mesh")
    return mesh


def _landmarks(mesh: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Return the landmarks (68, 2) in pixels."""
    points = landmarks_of_mesh(mesh, width, height)
    if not is_face(points[None])[0]:
        raise NoFaceError("no face found (both eyes in one place)")
    return points


def _pump(pipe: IO[str] | None, lines: queue.Queue[str | None]) -> None:
    """Move lines to the queue, where they can be awaited with a time limit; None marks the end."""
    with contextlib.suppress(ValueError, OSError):  # closed while reading
        for line in pipe or ():
            lines.put(line)
    lines.put(None)
