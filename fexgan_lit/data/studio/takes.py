"""How a character acts an affect: neutral, apex and part of the way back, with the small life of a face around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.data.studio.prototypes import AU_COLUMN, GAZE, prototype
from fexgan_lit.expression import ACTION_UNITS


@dataclass(frozen=True)
class Performance:
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
    """One filmed take: everything random about it is drawn here, so that frames can be asked for in any order.

    Args:
        affect: what is acted.
        key: integers that name the take, for example (seed, identity, affect, take).
        head_motion: bound of the head sway in degrees.
    """

    def __init__(self, affect: str, key: tuple[int, ...], head_motion: float) -> None:
        rng = np.random.default_rng(np.random.SeedSequence(key))
        count = len(ACTION_UNITS)
        self.duration_s = float(rng.uniform(1.0, 1.4))
        self._apex = np.clip(prototype(affect) * rng.uniform(0.85, 1.15, count), 0.0, 1.0)
        skew = rng.uniform(-0.09, 0.09, count)
        self._skew = np.stack([1 + skew, 1 - skew])  # (2, 17)
        self._rise, self._leave = float(rng.uniform(0.26, 0.34)), float(rng.uniform(0.72, 0.84))
        self._rest = float(rng.uniform(0.35, 0.65))
        self._blink = float(rng.uniform(0.15, 0.85)) if rng.random() < 0.35 else None
        self._drift = rng.uniform(-0.12, 0.12, 2)
        self._look = np.asarray(GAZE.get(affect, (0.0, 0.0))) + rng.uniform(-0.1, 0.1, 2)
        self._sway = head_motion * rng.uniform(0.25, 0.5, 3)
        self._phase, self._rate = rng.uniform(0, 2 * np.pi, (2, 3)), rng.uniform(0.4, 1.3, (2, 3))
        self._light = (1 + rng.uniform(-0.05, 0.05), rng.uniform(-1, 1), rng.uniform(-1, 1))
        self._neutral = not self._apex.any()

    def strength(self, t: float) -> float:
        """Intensity in [0, 1] at `t` in [0, 1] of the take; zero throughout a neutral one."""
        if self._neutral:
            return 0.0
        fall = ease((t - self._leave) / (1 - self._leave)) * (1 - self._rest)
        return ease(t / self._rise) * (1 - fall)

    def units(self, t: float) -> NDArray[np.float64]:
        """(17,) action units, the mean of both sides of the face."""
        units = self._apex * self.strength(t)
        if self._blink is not None:
            units[AU_COLUMN[45]] = max(0.0, 1 - (abs(t - self._blink) / 0.09) ** 2)
        return units

    def pose(self, t: float) -> tuple[float, float, float]:
        """Yaw, pitch and roll in degrees."""
        waves = np.sin(self._phase + 2 * np.pi * self._rate * t)  # (2, 3)
        yaw, pitch, roll = (float(v) for v in self._sway * waves.mean(axis=0) * 2)
        return yaw, pitch, roll

    def frame(self, t: float) -> Performance:
        """What the painter needs for the moment `t` in [0, 1]."""
        sides = np.clip(self.units(t) * self._skew, 0.0, 1.0)
        sides[:, AU_COLUMN[45]] = self.units(t)[AU_COLUMN[45]]
        drift = self._drift * np.sin(2 * np.pi * t + self._phase[0, :2])
        gaze = self._look * (self.strength(t) if not self._neutral else 1.0) + drift
        gain, side, warmth = (float(v) for v in self._light)
        return Performance(sides, (float(gaze[0]), float(gaze[1])), self.pose(t), (gain, side, warmth))
