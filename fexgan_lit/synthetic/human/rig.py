"""The rig: maps action units, gaze and pose to the vertices of a head."""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.synthetic.human.camera import rotation
from fexgan_lit.synthetic.prototypes import AU_COLUMN
from fexgan_lit.synthetic.takes import FaceState

#: Blend shapes of each action unit at full intensity. Names without a side get the mean of both sides.
SHAPES_OF_UNIT: MappingProxyType[int, dict[str, float]] = MappingProxyType(
    {
        1: {"browInnerUp_": 1.5},
        2: {"browOuterUp_": 1.05},
        4: {"browDown_": 1.7},
        5: {"eyeWide_": 1.3},
        6: {"cheekSquint_": 0.75, "cheekRaiser_": 0.45},
        7: {"eyeSquint_": 1.0, "eyeBlink_": 0.16},
        9: {"noseSneer_": 1.1},
        10: {"mouthUpperUp_": 0.85},
        12: {"mouthSmile_": 0.95},
        14: {"mouthDimple_": 0.9},
        15: {"mouthFrown_": 1.5},
        17: {"mouthShrugLower": 0.5},
        20: {"mouthStretch_": 1.05},
        23: {
            "mouthPress_": 0.45,
            "mouthRollUpper": 0.5,
            "mouthRollLower": 0.5,
            "mouthFrown_": 0.3,
            "mouthPucker": 0.12,
        },
        25: {"mouthLowerDown_": 0.5, "mouthUpperUp_": 0.25},
        26: {"jawOpen": 0.72},
        45: {"eyeBlink_": 1.05},
    }
)

#: Suffix of the blend shapes for the left and the right half of the image: the subject's right and left.
SIDES = ("R", "L")
#: Rotation of an eye in degrees for a gaze of 1, horizontally and vertically.
GAZE_REACH = (26.0, 20.0)
#: Rotation of an eye in degrees at which the accompanying lid shapes have full weight.
_LID_REACH = 30.0
#: Fraction of the outer brow's rise that is removed where the inner brow rises alone.
_OBLIQUE = 0.35
#: Weight of the lid shape at which all eyes are shut, including those of unusual heads.
_SHUT = 1.05
#: Centre of the neck's rotation; below FIXED nothing moves, above FREE everything moves with the head.
PIVOT = np.array([0.0, -8.0, -1.0], np.float32)
FIXED, FREE = -16.5, -7.5


def shape_weights(names: tuple[str, ...], act: FaceState, lids: float = 0.0) -> NDArray[np.float32]:
    """Return the weights (E,) of the blend shapes `names` for a state; `lids` is the lid shape's weight at rest."""
    weights = dict.fromkeys(names, 0.0)
    for side, suffix in enumerate(SIDES):
        wide, shut = (float(act.units[side, AU_COLUMN[unit]]) for unit in (5, 45))
        weights["eyeBlink_" + suffix] += lids * (1.0 - wide) * (1.0 - shut)
        for column, unit in enumerate(ACTION_UNITS):
            value = float(act.units[side, column])
            for stem, gain in SHAPES_OF_UNIT[unit].items():
                if stem.endswith("_"):
                    weights[stem + suffix] += gain * value
                else:
                    weights[stem] += gain * value / len(SIDES)
        weights["browOuterUp_" + suffix] -= _OBLIQUE * _alone(act, side)
        for stem, value in _lids_of_gaze(act.gaze, suffix).items():
            weights[stem + suffix] += value
        _keep_lids_apart(weights, suffix)
    return np.array([weights[name] for name in names], np.float32)


def _alone(act: FaceState, side: int) -> float:
    """Return how much the inner brow rises without the outer one; in grief the outer end sinks."""
    return float(act.units[side, AU_COLUMN[1]] * (1.0 - act.units[side, AU_COLUMN[2]]))


def _lids_of_gaze(gaze: tuple[float, float], suffix: str) -> dict[str, float]:
    """Return lid shapes that follow the gaze; without them, a downward gaze would show the white above the iris."""
    across, down = gaze[0] * GAZE_REACH[0] / _LID_REACH, gaze[1] * GAZE_REACH[1] / _LID_REACH
    outward = across if suffix == "L" else -across
    return {
        "eyeLookOut_": max(0.0, outward),
        "eyeLookIn_": max(0.0, -outward),
        "eyeLookDown_": max(0.0, down),
        "eyeLookUp_": max(0.0, -down),
    }


def _keep_lids_apart(weights: dict[str, float], suffix: str) -> None:
    """Reduce all other lid shapes while a lid closes, and limit the closing to shut."""
    blink = min(_SHUT, weights["eyeBlink_" + suffix])
    weights["eyeBlink_" + suffix] = blink
    for stem, share in (("eyeWide_", 1.0), ("eyeLookDown_", 1.0), ("eyeSquint_", 0.7), ("eyeLookUp_", 1.0)):
        weights[stem + suffix] *= 1.0 - share * min(1.0, blink)


def neck_weight(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the fraction (N,) of the head's rotation for points (N, 3) at rest."""
    t = (points[:, 1] + 0.4 * (points[:, 2] - 4.0) - FIXED) / (FREE - FIXED)
    t = np.clip(t, 0.0, 1.0)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def posed(
    points: NDArray[np.float32], weight: NDArray[np.float32], pose: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return points (N, 3) after a rotation of the head by yaw, pitch and roll in degrees."""
    turned = (points - PIVOT) @ rotation(*pose).T + PIVOT
    return (points + weight[:, None] * (turned - points)).astype(np.float32, copy=False)


@njit(cache=True)
def blend(
    base: NDArray[np.float32], offsets: NDArray[np.float32], active: NDArray[np.int64], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return `base` (V, 3) plus the `active` ones of `offsets` (E, V, 3) times their weights."""
    out = base.copy()
    for k in active:
        w = weights[k]
        for v in range(out.shape[0]):
            for c in range(3):
                out[v, c] += w * offsets[k, v, c]
    return out


@njit(cache=True)
def keep_outside(
    points: NDArray[np.float32], numbers: NDArray[np.int64], centre: NDArray[np.float32], radius: float, bulge: float
) -> None:
    """Push `points[numbers]` out of an eyeball: a sphere of `radius` with a cornea of height `bulge`."""
    for v in numbers:
        x, y, z = points[v, 0] - centre[0], points[v, 1] - centre[1], points[v, 2] - centre[2]
        far = math.sqrt(x * x + y * y + z * z) + 1e-9
        front = max(0.0, z / far)
        least = radius + bulge * min(1.0, max(0.0, (front - 0.80) / 0.16))
        if far < least:
            push = least / far
            points[v, 0] = centre[0] + x * push
            points[v, 1] = centre[1] + y * push
            points[v, 2] = centre[2] + z * push


def eye_rotation(gaze: tuple[float, float]) -> NDArray[np.float32]:
    """Return the rotation (3, 3) of an eyeball for a gaze of -1..1, right and down positive."""
    return rotation(gaze[0] * GAZE_REACH[0], gaze[1] * GAZE_REACH[1], 0.0)
