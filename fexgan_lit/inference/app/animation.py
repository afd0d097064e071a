"""The timeline: from keyframes to frames, and from frames to a GIF, an MP4 or single images."""

from __future__ import annotations

import io
import json
import zipfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import Expression, between
from fexgan_lit.inference.animation.video import enlarged, write_gif, write_mp4
from fexgan_lit.inference.app.requests import FaceRequest, number, read_asked, words
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.inference.app.session import Session, SourceFace

MOST_KEYFRAMES, MOST_FRAMES, LONGEST_S = 32, 240, 30.0
SLOWEST, FASTEST = 2, 30
EASES = ("smooth", "linear")
FORMATS = {"gif": "image/gif", "mp4": "video/mp4", "png": "application/zip"}
#: Frames generated at once, before other requests get their turn.
_AT_ONCE = 4


@dataclass(frozen=True)
class Film:
    """Keyframes and their interpolation.

    Attributes:
        times: seconds, increasing from 0.
        asked: the request of each keyframe.
        fps: frames per second.
        ease: `smooth` (velocity 0 at every keyframe) or `linear`.
    """

    times: tuple[float, ...]
    asked: tuple[FaceRequest, ...]
    fps: int = 12
    ease: str = "smooth"

    @property
    def count(self) -> int:
        """Number of frames, including both ends."""
        return round(self.times[-1] * self.fps) + 1

    def place(self, frame: int) -> tuple[int, float]:
        """Return the index of the keyframe before a frame, and the weight 0..1 of the next keyframe."""
        moment = min(frame / self.fps, self.times[-1])
        before = min(bisect_right(self.times, moment) - 1, len(self.times) - 2)
        start, end = self.times[before], self.times[before + 1]
        share = (moment - start) / (end - start)
        return before, share * share * (3 - 2 * share) if self.ease == "smooth" else share


def read_film(tree: Any, affects: Sequence[str]) -> Film:
    """Parse a `Film` from ``{"keyframes": [{"time": 0, "weights": {...}}, ...], "fps": 12, "ease": "smooth"}``.

    Raises:
        UserError: there are fewer than two keyframes or more frames than `MOST_FRAMES`, times do not increase, or a
            request is invalid.
    """
    keyframes = tree.get("keyframes") if isinstance(tree, Mapping) else None
    if not isinstance(keyframes, list) or not 2 <= len(keyframes) <= MOST_KEYFRAMES:
        raise UserError(f"A film needs 2 to {MOST_KEYFRAMES} keyframes.")
    asked = tuple(read_asked(one, affects) for one in keyframes)
    times = [number(one.get("time"), "time of a keyframe", LONGEST_S) for one in keyframes]
    for earlier, later in pairwise(times):
        if later <= earlier:
            raise UserError(f"Keyframes are out of order: {later:g} s comes after {earlier:g} s. Times must increase.")
    fps, ease = number(tree.get("fps", 12), "frames a second", FASTEST, SLOWEST), words(tree, "ease", "smooth")
    if ease not in EASES:
        raise UserError(f"ease is '{ease}'; expected {' or '.join(EASES)}")
    film = Film(tuple(time - times[0] for time in times), asked, round(fps), ease)
    if film.count > MOST_FRAMES:
        raise UserError(
            f"The film has {film.count} frames; expected at most {MOST_FRAMES}. Make it shorter, or use fewer frames "
            "a second."
        )
    return film


def wanted_frames(film: Film, source_face: SourceFace) -> Expression:
    """Return the expression of every frame for the system of `source_face`, (T, ...)."""
    ends = [source_face.wanted(one) for one in film.asked]
    places = [film.place(frame) for frame in range(film.count)]
    return Expression.stack([between(ends[before], ends[before + 1], share) for before, share in places])


def painted(film: Film, source_face: SourceFace, session: Session) -> Iterator[Tensor]:
    """Yield the frames in small batches, (t, 3, S, S) in [-1, 1]; other requests may run between them."""
    wanted = wanted_frames(film, source_face)
    fields = {name: value.split(_AT_ONCE) for name, value in wanted.known.items()}
    for part in range(len(next(iter(fields.values())))):
        with session.painting() as run:
            frames = run(source_face.paint, Expression(**{name: pieces[part] for name, pieces in fields.items()}))
        yield frames


def frames_of(film: Film, source_face: SourceFace, session: Session) -> np.ndarray:
    """Return all frames, (T, S, S, 3) uint8 RGB."""
    return to_uint8(torch.cat(list(painted(film, source_face, session))))


def side_by_side(films: Sequence[np.ndarray]) -> np.ndarray:
    """Join films (T, S, S, 3) of equal length side by side, enlarged to one height: (T, H, W, 3)."""
    from fexgan_lit.data.frames import resize_batch

    tall = [enlarged(film) for film in films]
    height = max(film.shape[1] for film in tall)
    return np.concatenate([resize_batch(film, height) for film in tall], axis=2)


def exported(film: Film, films: Sequence[np.ndarray], kind: str, folder: Path) -> bytes:
    """Return the film as the bytes of a file.

    Args:
        film: the keyframes, for the rate and the record.
        films: frames of each system, (T, S, S, 3) uint8 RGB.
        kind: one of `FORMATS`; `png` is a ZIP of the keyframes and of the frames in the system's own size.
        folder: folder for temporary files.
    """
    if kind == "png":
        return _frames_zipped(film, films)
    write = write_gif if kind == "gif" else write_mp4
    with TemporaryDirectory(dir=folder) as place:
        path = Path(place) / f"film.{kind}"
        write(path, side_by_side(films), Fraction(film.fps))
        return path.read_bytes()


def _frames_zipped(film: Film, films: Sequence[np.ndarray]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for system, frames in enumerate(films):
            for moment, pixels in enumerate(frames):
                page = io.BytesIO()
                Image.fromarray(pixels).save(page, "PNG")
                archive.writestr(f"system_{system + 1}/{moment:04d}.png", page.getvalue())
        archive.writestr("film.json", json.dumps(record(film), indent=1))
        keys = driver(film)
        if keys is not None:
            archive.writestr("film.yaml", keys)
    return packed.getvalue()


def driver(film: Film) -> str | None:
    """Return the keyframes as YAML for `python -m fexgan_lit.generate mode=animate driver=film.yaml`.

    Return None if a keyframe has both affects and action units, or neither, which a driver does not support.
    """
    entries = []
    for time, asked in zip(film.times, film.asked, strict=True):
        if bool(asked.weights) == bool(asked.units):
            return None
        wish = asked.weights or {f"AU{unit}": value for unit, value in asked.units.items()}
        entries.append({"time": time, "expression": wish, "ease": film.ease})
    return yaml.safe_dump(entries, sort_keys=False)


def record(film: Film) -> dict[str, Any]:
    """Return the keyframes as plain values, in the form that `read_film` reads."""
    keyframes = [{"time": time, "weights": asked.weights, "units": {str(k): v for k, v in asked.units.items()}}
                 for time, asked in zip(film.times, film.asked, strict=True)]  # fmt: skip
    return {"fps": film.fps, "ease": film.ease, "keyframes": keyframes}
