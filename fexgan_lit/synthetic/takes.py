"""How a character acts: neutral, apex and back, with the small life of a face around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.synthetic.prototypes import AU_COLUMN

#: Frames a second of a take, as MH-FED was filmed (2203.05975, section 4.1).
FPS = 60


@dataclass(frozen=True)
class FaceState:
    """All that one frame needs beside the character.

    Attributes:
        units: (2, 17) action units in [0, 1], left and right half of the image.
        gaze: -1..1, right and down positive.
        pose: yaw, pitch and roll in degrees; right, down and clockwise positive.
        light: gain of the key light, its side (-1..1 from the usual side), and warmth (-1 cold..1 warm).
    """

    units: NDArray[np.float64]
    gaze: tuple[float, float] = (0.0, 0.0)
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    light: tuple[float, float, float] = (1.0, 0.0, 0.0)


def ease(t: float) -> float:
    """Smooth step of `t` in [0, 1], clamped: slow at both ends."""
    t = min(max(t, 0.0), 1.0)
    return t * t * (3 - 2 * t)


class Take:
    """One take of one character, the same for every affect but for the muscles that act it.

    Head, gaze, light, blinks, timing and the small asymmetries are drawn here and do not depend on the affect. So
    the frames of one moment differ in the expression alone, and no pose or light gives an affect away.

    Args:
        key: integers that name the take, for example (seed, person, take).
        seconds: how long it lasts.
        head_motion: bound of the head sway in degrees.
    """

    def __init__(self, key: tuple[int, ...], seconds: float, head_motion: float) -> None:
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

    def strength(self, t: float) -> float:
        """Intensity in [0, 1] of the acting at `t` in [0, 1] of the take: 0, up to 1, held, back to 0."""
        return ease(t / self._rise) * (1 - ease((t - self._leave) / (self._end - self._leave)))

    def blink(self, t: float) -> float:
        """AU45 in [0, 1]; a blink lasts about a sixth of a second."""
        if self._blink is None:
            return 0.0
        return max(0.0, 1 - (abs(t - self._blink) * self.seconds / 0.1) ** 2)

    def pose(self, t: float) -> tuple[float, float, float]:
        """Yaw, pitch and roll in degrees."""
        waves = np.sin(self._phase + 2 * np.pi * self._rate * t)  # (2, 3)
        yaw, pitch, roll = (float(v) for v in self._sway * waves.mean(axis=0) * 2)
        return yaw, pitch, roll

    def gaze(self, t: float) -> tuple[float, float]:
        """Where the eyes look, -1..1, right and down positive."""
        x, y = self._look + self._drift * np.sin(2 * np.pi * t + self._phase[0, :2])
        return float(x), float(y)

    def perform(self, t: float, apex: NDArray[np.float64], strength: float | None = None) -> FaceState:
        """What the painter needs for the moment `t` in [0, 1].

        Args:
            t: share of the take.
            apex: (17,) action units of the expression at its apex.
            strength: of the expression, 0..1; the one of the take at `t` by default.
        """
        level = self.strength(t) if strength is None else strength
        units = np.clip(np.clip(apex * self._scale, 0.0, 1.0) * level * self._skew, 0.0, 1.0)  # (2, 17)
        units[:, AU_COLUMN[45]] = np.maximum(units[:, AU_COLUMN[45]], self.blink(t))
        gain, side, warmth = (float(v) for v in self._light)
        return FaceState(units, self.gaze(t), self.pose(t), (gain, side, warmth))
