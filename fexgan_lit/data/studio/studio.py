"""The embedded data set: characters that act the seven affects in front of a plain wall, with exact ground truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fexgan_lit.data.studio.canvas import Image
from fexgan_lit.data.studio.cast import make_cast
from fexgan_lit.data.studio.identity import Identity
from fexgan_lit.data.studio.painter import Painter, landmarks
from fexgan_lit.data.studio.takes import Performance, Take
from fexgan_lit.errors import UserError
from fexgan_lit.expression import ACTION_UNITS, AFFECTS

if TYPE_CHECKING:
    from fexgan_lit.data.table import FrameTable

#: Raise when the drawing or the acting changes, so that packed copies are made anew.
VERSION = 1

_SIZES = (32, 64, 128, 256, 512)


@lru_cache(maxsize=64)
def _painter(who: Identity, size: int) -> Painter:
    return Painter(who, size)


@dataclass(frozen=True)
class CartoonStudio:
    """Procedural cartoon characters x seven affects x takes x frames.

    Rows are ordered by character, affect, take and frame. The same arguments give the same bytes in any process and
    any order of access.

    Attributes:
        identities: number of characters; the first eight are hand-made, further ones are drawn from the seed.
        takes: takes per character and affect.
        frames: frames of a take, spread evenly over it; the first is neutral. A single frame shows the apex.
        size: width and height in pixels, a power of two from 32 to 512.
        seed: of the takes and of drawn characters.
        head_motion: bound of yaw, pitch and roll in degrees.

    Raises:
        UserError: an argument is out of range.
    """

    identities: int = 8
    takes: int = 5
    frames: int = 12
    size: int = 64
    seed: int = 0
    head_motion: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the pixels, JSON-able: the arguments and the version of the drawing."""
        return {"studio": "cartoon", "version": VERSION, **asdict(self)}

    @cached_property
    def cast(self) -> tuple[Identity, ...]:
        """The characters, in row order."""
        return make_cast(self.identities, self.seed)

    def __len__(self) -> int:
        return self.identities * len(AFFECTS) * self.takes * self.frames

    def table(self) -> FrameTable:
        """One row a frame: labels, take, time, intensity, 17 AUs in [0, 1], 68 landmarks and the pose in degrees.

        Landmarks are in pixels of the picture, 0 at its left or top edge and `size` at the opposite one.
        """
        import pandas as pd

        from fexgan_lit.data.table import FrameTable

        frame = pd.DataFrame([self._record(row) for row in range(len(self))])
        names = tuple(sorted(who.name for who in self.cast))
        return FrameTable(frame=frame, affects=AFFECTS, identities=names, root=None)

    def render(self, row: int) -> Image:
        """(size, size, 3) uint8 RGB of one row of the table."""
        who, _, take, t, _, _ = self._locate(row)
        return _painter(who, self.size).paint(take.frame(t))

    def render_face(
        self,
        identity: int | str,
        aus: ArrayLike,
        *,
        gaze: tuple[float, float] = (0.0, 0.0),
        pose: tuple[float, float, float] = (0.0, 0.0, 0.0),
        size: int | None = None,
    ) -> Image:
        """Draw any expression on any character: what a counterfactual target looks like.

        Args:
            identity: position in the cast or name.
            aus: (17,) action units, or (2, 17) for the left and the right half of the picture; clipped to [0, 1].
            gaze: right and down positive, 1 is the corner of the eye.
            pose: yaw, pitch, roll in degrees; right, down, clockwise positive.
            size: pixels; the studio's own by default.
        """
        units = np.asarray(aus, dtype=np.float64)
        if units.shape not in ((len(ACTION_UNITS),), (2, len(ACTION_UNITS))) or not np.isfinite(units).all():
            raise UserError(
                f"aus: found an array of shape {units.shape}, expected 17 finite numbers, or 2 x 17 of them."
            )
        size = self.size if size is None else size
        _check_size(size)
        sides = np.clip(np.broadcast_to(units, (2, len(ACTION_UNITS))), 0.0, 1.0)
        return _painter(self._person(identity), size).paint(Performance(sides, gaze, pose))

    def _person(self, identity: int | str) -> Identity:
        by_name = {who.name: who for who in self.cast}
        if isinstance(identity, str):
            if identity in by_name:
                return by_name[identity]
        elif 0 <= identity < len(self.cast):
            return self.cast[identity]
        known = ", ".join(by_name)
        raise UserError(f"identity: found {identity!r}, expected 0..{len(self.cast) - 1} or one of: {known}.")

    def _locate(self, row: int) -> tuple[Identity, str, Take, float, int, int]:
        """Character, affect, take, moment of the take in [0, 1], and the numbers of take and frame."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a studio of {len(self)} frames")
        person, affect, number, frame = np.unravel_index(row, (self.identities, len(AFFECTS), self.takes, self.frames))
        key = (self.seed, int(person), int(affect), int(number))
        take = _take(AFFECTS[affect], key, self.head_motion)
        t = frame / (self.frames - 1) if self.frames > 1 else 0.5
        return self.cast[person], AFFECTS[affect], take, float(t), int(number), int(frame)

    def _record(self, row: int) -> dict[str, Any]:
        who, affect, take, t, number, frame = self._locate(row)
        act = take.frame(t)
        units: NDArray[np.float64] = act.units.mean(axis=0)
        points = landmarks(who, act, self.size)
        record: dict[str, Any] = {
            "path": f"studio/{who.name}/{affect}/t{number}_{frame:03d}",
            "identity": who.name,
            "affect": affect,
            "take": number,
            "frame": frame,
            "time_s": t * take.duration_s,
            "intensity": take.strength(t),
        }
        record |= {f"au{unit:02d}": float(value) for unit, value in zip(ACTION_UNITS, units, strict=True)}
        for k, (x, y) in enumerate(points):
            record[f"x{k:02d}"], record[f"y{k:02d}"] = float(x), float(y)
        record["yaw"], record["pitch"], record["roll"] = act.pose
        return record


@lru_cache(maxsize=1024)
def _take(affect: str, key: tuple[int, ...], head_motion: float) -> Take:
    return Take(affect, key, head_motion)


def _check_size(size: int) -> None:
    if size not in _SIZES:
        raise UserError(f"size: found {size!r}, expected one of {', '.join(map(str, _SIZES))} pixels.")


def _check(studio: CartoonStudio) -> None:
    """Collect every wrong argument in one message."""
    wrong = []
    for name, least in (("identities", 1), ("takes", 1), ("frames", 1), ("seed", 0)):
        value = getattr(studio, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            wrong.append(f"{name}: found {value!r}, expected a whole number of at least {least}.")
    if studio.size not in _SIZES:
        wrong.append(f"size: found {studio.size!r}, expected one of {', '.join(map(str, _SIZES))} pixels.")
    if not isinstance(studio.head_motion, (int, float)) or not 0 <= studio.head_motion <= 15:
        wrong.append(f"head_motion: found {studio.head_motion!r}, expected degrees from 0 to 15.")
    if wrong:
        raise UserError("The studio cannot be set up. " + " ".join(wrong))
