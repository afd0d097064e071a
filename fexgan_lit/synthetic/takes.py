"""Performance of a character over a take: from neutral to the apex and back, with head motion, gaze and blinks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.synthetic.prototypes import AU_COLUMN

#: Frames per second of a take, as in MH-FED (2203.05975, section 4.1).
FPS = 60

#: Separate the random numbers of the view and of the framing from the other ones of a take.
_VIEW, _CROP = 0xF1E1D, 0xC20B
#: Bounds of the view's yaw, pitch and roll in degrees; with the head motion they stay below 15.
_VIEWS = np.array([10.0, 5.0, 4.0])


@dataclass(frozen=True)
class FaceState:
    """The state of a character in one frame.

    Attributes:
        units: (2, 17) action units in [0, 1], left and right half of the image.
        gaze: horizontal and vertical gaze in -1..1, right and down positive.
        pose: yaw, pitch and roll in degrees; right, down and clockwise positive.
        light: gain of the key light, its horizontal offset (-1..1), and warmth (-1 cold..1 warm).
        framing: magnification about the middle of the image, and shift to the right and down as fractions of its side.
    """

    units: NDArray[np.float64]
    gaze: tuple[float, float] = (0.0, 0.0)
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    light: tuple[float, float, float] = (1.0, 0.0, 0.0)
    framing: tuple[float, float, float] = (1.0, 0.0, 0.0)


def ease(t: float) -> float:
    """Return the smooth step of `t`, clamped to [0, 1]."""
    t = min(max(t, 0.0), 1.0)
    return t * t * (3 - 2 * t)


class Take:
    """One take of one character; only the action units depend on the affect.

    Head motion, gaze, light, blinks, timing and small asymmetries do not depend on the affect. Frames of the same
    moment therefore differ only in the expression, and neither pose nor light reveals the affect.

    Args:
        key: integers that identify the take, for example (seed, person, take).
        seconds: length of the take.
        head_motion: bound of the head motion in degrees.
        any_view: whether the camera looks at the head from a random side (up to 10 degrees) instead of from the front.
        any_framing: whether the head is 0.85 to 1.15 times as large, and up to a tenth of the image off its place; in a
            `square` it is 0.9 to 1.1 times as large, and off by up to 0.06.
        square: centre (x, y) and side of the part of the usual image that is shown, as fractions of its side.
    """

    def __init__(
        self,
        key: tuple[int, ...],
        seconds: float,
        head_motion: float,
        any_view: bool = False,
        any_framing: bool = False,
        square: tuple[float, float, float] | None = None,
    ) -> None:
        rng = np.random.default_rng(np.random.SeedSequence(key))
        count = len(ACTION_UNITS)
        self.seconds = seconds
        self._scale = rng.uniform(0.85, 1.15, count)
        skew = rng.uniform(-0.09, 0.09, count)
        self._skew = np.stack([1 + skew, 1 - skew])  # (2, 17)
        self._rise = float(rng.uniform(0.26, 0.34))
        self._leave, self._end = float(rng.uniform(0.66, 0.76)), float(rng.uniform(0.96, 1.0))
        self._blink = float(rng.uniform(0.15, 0.85)) if rng.random() < 0.35 else None
        self._look, self._drift = rng.uniform(-0.1, 0.1, 2), rng.uniform(-0.12, 0.12, 2)
        self._sway = head_motion * rng.uniform(0.25, 0.5, 3)
        self._phase, self._rate = rng.uniform(0, 2 * np.pi, (2, 3)), rng.uniform(0.4, 1.3, (2, 3))
        self._light = (1 + rng.uniform(-0.05, 0.05), rng.uniform(-1, 1), rng.uniform(-1, 1))
        view = np.random.default_rng(np.random.SeedSequence((*key, _VIEW)))
        self._view = _VIEWS * view.uniform(-1, 1, 3) * any_view
        self._framing = (1.0, 0.0, 0.0)
        if any_framing:
            crop = np.random.default_rng(np.random.SeedSequence((*key, _CROP)))
            scale = float(crop.uniform(0.85, 1.15))
            reach = 0.1 - 0.4 * max(0.0, scale - 1.0)  # large faces have less room
            self._framing = (scale, float(crop.uniform(-reach, reach)), float(crop.uniform(-reach, 0.5 * reach)))
        if square is not None:
            x, y, side = square
            scale, right, down = self._framing
            zoom = (1 + (scale - 1) / 1.5) / side
            self._framing = (zoom, 0.6 * right - zoom * (x - 0.5), 0.6 * down - zoom * (y - 0.5))

    def strength(self, t: float) -> float:
        """Return the intensity in [0, 1] at `t` in [0, 1] of the take: 0, up to 1, held, back to 0."""
        return ease(t / self._rise) * (1 - ease((t - self._leave) / (self._end - self._leave)))

    def blink(self, t: float) -> float:
        """Return AU45 in [0, 1]; a blink lasts about a sixth of a second."""
        if self._blink is None:
            return 0.0
        return max(0.0, 1 - (abs(t - self._blink) * self.seconds / 0.1) ** 2)

    def pose(self, t: float) -> tuple[float, float, float]:
        """Return yaw, pitch and roll in degrees."""
        waves = np.sin(self._phase + 2 * np.pi * self._rate * t)  # (2, 3)
        yaw, pitch, roll = (float(v) for v in self._sway * waves.mean(axis=0) * 2 + self._view)
        return yaw, pitch, roll

    def gaze(self, t: float) -> tuple[float, float]:
        """Return the gaze in -1..1, right and down positive."""
        x, y = self._look + self._drift * np.sin(2 * np.pi * t + self._phase[0, :2])
        return float(x), float(y)

    def perform(self, t: float, apex: NDArray[np.float64], strength: float | None = None) -> FaceState:
        """Return the state of the face at the moment `t` in [0, 1].

        Args:
            t: position in the take.
            apex: (17,) action units of the expression at its apex.
            strength: strength of the expression, 0..1; by default that of the take at `t`.
        """
        level = self.strength(t) if strength is None else strength
        units = np.clip(np.clip(apex * self._scale, 0.0, 1.0) * level * self._skew, 0.0, 1.0)  # (2, 17)
        units[:, AU_COLUMN[45]] = np.maximum(units[:, AU_COLUMN[45]], self.blink(t))
        gain, side, warmth = (float(v) for v in self._light)
        return FaceState(units, self.gaze(t), self.pose(t), (gain, side, warmth), self._framing)
