"""One clip: labels from its file name, and its frames with their time stamps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fexgan_lit.data.datasets.labels import IGNORE
from fexgan_lit.expression import AFFECT_ALIASES, KNOWN_AFFECTS, normalise_affect
from fexgan_lit.utils.errors import UserError

VIDEO_EXTENSIONS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm"})

#: A file with less than this share of the frames promised by its header is truncated; headers are off by a few frames.
_WHOLE = 0.9
_FEW = 3


class ClipError(Exception):
    """A file without usable frames; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Clip:
    """A video file with the identity, affect and take in its name (take 1 if the name has no number)."""

    path: Path
    identity: str
    affect: str
    take: int

    @property
    def stem(self) -> str:
        """Prefix of the names of its frames."""
        return f"{self.identity}_{self.affect}_t{self.take}"


class ClipNames:
    """Parser of file names `<identity>_<affect>`, with or without a suffix `_take2` or `_2`.

    Args:
        affects: the user's list of affects, or None for all.
        aliases: the user's aliases of affects.
    """

    def __init__(self, affects: Sequence[str] | None, aliases: Mapping[str, str]) -> None:
        self._aliases = aliases
        self._wanted = None if affects is None else {normalise_affect(name, aliases) for name in affects}
        known = {*KNOWN_AFFECTS, *AFFECT_ALIASES, *aliases, *(affects or ())}
        words = "|".join(re.escape(word) for word in sorted(known, key=len, reverse=True))
        # the identity is greedy, so the last of two affects in a name counts
        pattern = "(?P<identity>.+)_(?P<affect>{})(?:_(?:take|t)?_?(?P<take>[0-9]+))?"
        self._known = re.compile(pattern.format(words), re.IGNORECASE)
        self._any = re.compile(pattern.format("[^_0-9][^_]*"), re.IGNORECASE)

    def read(self, path: Path) -> tuple[Clip | None, str]:
        """Return the clip and "", or None and the reason to skip the file.

        Raises:
            UserError: the name has the right form, but its affect is unknown.
        """
        match = self._known.fullmatch(path.stem)
        if match is None:
            other = self._any.fullmatch(path.stem)
            if other is None:
                return None, "name does not fit <identity>_<affect> or <identity>_<affect>_take<n>"
            raise UserError(_unknown_affect(path, other["affect"]))
        affect = normalise_affect(match["affect"], self._aliases)
        if affect == IGNORE:
            return None, f"'{match['affect']}' is set to '{IGNORE}' in dataset.aliases"
        if self._wanted is not None and affect not in self._wanted:
            return None, f"affect '{affect}' is not in dataset.affects"
        return Clip(path, match["identity"], affect, int(match["take"] or 1)), ""


def _unknown_affect(path: Path, word: str) -> str:
    return (
        f"{path.name}: '{word}' is not an affect; expected <identity>_<affect>{path.suffix} with one of "
        f"{', '.join(KNOWN_AFFECTS)}. Rename the file, or define an alias with "
        f"'dataset.aliases={{{word}: joy}}' (or '{{{word}: {IGNORE}}}' to leave it out)."
    )


class ClipReader:
    """A context manager that decodes the frames of a video file in order.

    Attributes:
        fps: frames per second according to the container, 0 if unknown.
        promised: number of frames according to the container, 0 if unknown.
        width: width of the displayed frames, pixels.
        height: height of the displayed frames, pixels.

    Raises:
        ClipError: the file is empty or has no video that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        try:
            if path.stat().st_size == 0:
                raise ClipError("empty file")
        except OSError as error:
            raise ClipError(f"cannot be read ({error.strerror})") from error
        # ffmpeg would print the errors a second time, without the file's name; OpenCV reads this on its first use
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            self._capture.release()
            raise ClipError("not a video, truncated, or of a kind that OpenCV cannot decode")
        self.fps = self._number(cv2.CAP_PROP_FPS)
        self.promised = round(self._number(cv2.CAP_PROP_FRAME_COUNT))
        self.width, self.height = (
            round(self._number(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(self, *reason: object) -> None:
        self._capture.release()

    def frames(self) -> Iterator[tuple[NDArray[np.uint8], float]]:
        """Yield (H, W, 3) uint8 BGR images, each with the container's time stamp in milliseconds."""
        while True:
            there, image = self._capture.read()
            if not there:
                return
            yield np.asarray(image, np.uint8), float(self._capture.get(cv2.CAP_PROP_POS_MSEC))

    def sample(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield about `count` images spread evenly over the clip; the others are skipped without conversion."""
        step = max(1, self.promised // count)
        number = 0
        while self._capture.grab():
            if number % step == step // 2 and number // step < 2 * count:
                there, image = self._capture.retrieve()
                if there:
                    yield np.asarray(image, np.uint8)
            number += 1

    def check_whole(self, found: int) -> None:
        """Raise a ClipError if `found` is 0 or much smaller than the container's number of frames."""
        if found == 0:
            raise ClipError("no frame can be decoded")
        if found + _FEW < _WHOLE * self.promised:
            raise ClipError(f"truncated or damaged: {found} of {self.promised} frames can be decoded")

    def _number(self, name: int) -> float:
        value = self._capture.get(name)
        return float(value) if np.isfinite(value) and value > 0 else 0.0


def frame_times(stamps: Sequence[float], fps: float) -> tuple[NDArray[np.float64], bool]:
    """Return the seconds since the first frame, and whether they are the container's own.

    Args:
        stamps: time stamps of the frames in milliseconds, from `ClipReader.frames`.
        fps: the container's frame rate, used if the stamps do not increase.

    Raises:
        ClipError: neither stamps nor rate are valid.
    """
    times = np.asarray(stamps, np.float64) / 1000
    if len(times) == 1:
        return np.zeros(1), True
    if np.isfinite(times).all() and (np.diff(times) > 0).all():
        return times - times[0], True
    if fps <= 0:
        raise ClipError("neither time stamps nor a frame rate")
    return np.arange(len(times)) / fps, False
