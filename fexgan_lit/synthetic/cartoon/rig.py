"""The rig: maps action units to the curves of a face, from which both the image and the 68 landmarks are taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.cartoon.canvas import Points, points_of, spline
from fexgan_lit.synthetic.cartoon.identity import Identity
from fexgan_lit.synthetic.prototypes import AU_COLUMN

#: Samples of a lid or lip from one corner to the other, which include the landmark positions.
_LID = np.linspace(-1, 1, 13)
_LIP = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 13))


@dataclass(frozen=True)
class Eye:
    """One eye: lids from the left to the right corner in the image, the iris, and the squeeze of the lids."""

    upper: Points  # (13, 2)
    lower: Points  # (13, 2)
    crease: Points  # (13, 2) fold of the upper lid
    iris: Points  # (2,)
    squeeze: float
    wide: float


@dataclass(frozen=True)
class Mouth:
    """Lip contours from the left to the right corner in the image; inner contours meet where the lips touch."""

    upper_outer: Points  # (13, 2)
    upper_inner: Points
    lower_inner: Points
    lower_outer: Points
    gap: float
    teeth: tuple[float, float]  # visible height of the upper and the lower teeth, head units


@dataclass(frozen=True)
class Face:
    """All curves of a face in head units, after yaw and pitch, and the action units that drive its folds."""

    jaw: Points  # (17, 2)
    outline: Points  # closed, jaw and cranium
    brows: tuple[Points, Points]  # (5, 2) each, left to right in the image
    eyes: tuple[Eye, Eye]
    bridge: Points  # (4, 2)
    nostrils: Points  # (5, 2)
    mouth: Mouth
    units: NDArray[np.float64]  # (2, 17) left and right side of the image
    turn: tuple[float, float]  # sine of yaw and of pitch

    def unit(self, number: int, side: int | None = None) -> float:
        """Return the intensity of an action unit on one side, or the mean of both sides."""
        column = AU_COLUMN[number]
        return float(self.units[:, column].mean() if side is None else self.units[side, column])

    def landmarks(self) -> Points:
        """Return (68, 2) Multi-PIE points in head units."""
        lids = [np.concatenate([e.upper[[0, 4, 8, 12]], e.lower[[8, 4]]]) for e in self.eyes]
        m = self.mouth
        outer = np.concatenate([m.upper_outer[[0, 3, 5, 6, 7, 9, 12]], m.lower_outer[[9, 7, 6, 5, 3]]])
        inner = np.concatenate([m.upper_inner[[0, 4, 6, 8, 12]], m.lower_inner[[8, 6, 4]]])
        return np.concatenate([self.jaw, *self.brows, self.bridge, self.nostrils, *lids, outer, inner])


class _Side:
    """The action units of one half of the face by number."""

    def __init__(self, row: NDArray[np.float64]) -> None:
        self._row = row

    def __getitem__(self, unit: int) -> float:
        return float(self._row[AU_COLUMN[unit]])


def turned(points: Points, turn: tuple[float, float], lift: float = 0.0) -> Points:
    """Shift points (n, 2) like a rounded head that turns; `lift` is their height above the head's surface."""
    x, y = points[:, 0], points[:, 1]
    depth = 0.75 * np.sqrt(np.clip(1 - (x / 1.1) ** 2 - (y / 1.6) ** 2, 0.0, 1.0)) + lift
    yaw, pitch = turn
    return points_of(x * np.sqrt(1 - yaw**2) + depth * yaw, y * np.sqrt(1 - pitch**2) + depth * pitch)


def pose_face(
    who: Identity,
    units: NDArray[np.float64],
    gaze: tuple[float, float] = (0.0, 0.0),
    turn: tuple[float, float] = (0.0, 0.0),
) -> Face:
    """Apply action units, gaze and head rotation to a character.

    Args:
        who: the character.
        units: (2, 17) action units in [0, 1] of the left and right half of the image.
        gaze: direction of the irises, -1..1, right and down positive.
        turn: sine of yaw (right positive) and of pitch (down positive).
    """
    sides = (_Side(units[0]), _Side(units[1]))
    both = _Side(units.mean(axis=0))
    jaw, outline = _outline(who, both)
    bridge, nostrils = _nose(who, both)
    eyes = [_eye(who, sides[k], sign, gaze) for k, sign in enumerate((-1, 1))]
    brows = [_brow(who, sides[k], sign) for k, sign in enumerate((-1, 1))]
    mouth = _mouth(who, sides, both)
    return Face(
        jaw=turned(jaw, turn),
        outline=turned(outline, turn),
        brows=(turned(brows[0], turn), turned(brows[1], turn)),
        eyes=(_turned_eye(eyes[0], turn), _turned_eye(eyes[1], turn)),
        bridge=turned(bridge, turn, 0.15),
        nostrils=turned(nostrils, turn, 0.1),
        mouth=_turned_mouth(mouth, turn),
        units=units,
        turn=turn,
    )


def _turned_eye(eye: Eye, turn: tuple[float, float]) -> Eye:
    upper, lower, crease = (turned(c, turn) for c in (eye.upper, eye.lower, eye.crease))
    return Eye(upper, lower, crease, turned(eye.iris[None], turn)[0], eye.squeeze, eye.wide)


def _turned_mouth(m: Mouth, turn: tuple[float, float]) -> Mouth:
    a, b, c, d = (turned(line, turn, 0.05) for line in (m.upper_outer, m.upper_inner, m.lower_inner, m.lower_outer))
    return Mouth(a, b, c, d, m.gap, m.teeth)


def _jaw_drop(au: _Side) -> float:
    return 0.42 * au[26] * (0.4 + 0.6 * au[25])


def _outline(who: Identity, au: _Side) -> tuple[Points, Points]:
    temple, cheek, jaw, corner = who.face
    drop = 0.75 * _jaw_drop(au) - 0.03 * au[17]
    fat = 0.03 * au[12] + 0.02 * au[6]
    long = 1 - 0.04 * au[26]
    right = np.array(
        [
            (temple * 1.01, -0.3),
            (cheek * (1 + 0.3 * fat), 0.12),
            (0.5 * (cheek + jaw) * 1.03 * (long + fat), 0.52 + 0.15 * drop),
            (jaw * (long + 0.6 * fat), 0.84 + 0.4 * drop),
            (0.5 * (jaw + corner) * 1.03 * long, who.chin - 0.2 + 0.8 * drop),
            (corner * long, who.chin - 0.055 + drop),
            (corner * 0.45, who.chin - 0.005 + drop),
        ]
    )
    mirror = right * np.array((-1, 1))
    whole = spline(np.concatenate([mirror, [(0.0, who.chin + drop)], right[::-1]]), steps=4)
    arc = np.deg2rad(np.linspace(24, 156, 9))
    skull = points_of(temple * 1.03 * np.cos(arc), -0.36 + (who.top + 0.36) * np.sin(arc) ** 0.92)
    outline = spline(np.concatenate([whole[::2], skull]), steps=4, closed=True)
    return _resample(whole, 17), outline


def _resample(line: Points, count: int) -> Points:
    steps = np.hypot(*np.diff(line, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0, along[-1], count)
    return points_of(np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1]))


#: Lift of the five brow points from the inner to the outer end by action unit, head units.
_BROW_LIFT = {
    1: np.array([0.28, 0.21, 0.12, 0.03, -0.02]),
    2: np.array([0.0, 0.09, 0.18, 0.23, 0.18]),
    4: np.array([-0.27, -0.19, -0.1, 0.0, 0.06]),
    6: np.array([0.0, 0.0, 0.0, -0.01, -0.03]),
    9: np.array([-0.07, -0.05, -0.02, 0.0, 0.0]),
}


def _brow(who: Identity, au: _Side, sign: int) -> Points:
    y, _, half, arch = who.brow
    t = np.array([1.0, 0.5, 0.0, -0.5, -1.0])  # from the inner to the outer end
    inner, outer = np.clip(t, 0, 1), np.clip(-t, 0, 1)
    furrow, sorrow = au[4] * (1 - 0.75 * au[1]), au[1] * (1 - au[2])
    strength = {1: au[1], 2: au[2], 4: furrow, 6: au[6], 9: au[9]}
    lift = sum(strength[unit] * shape for unit, shape in _BROW_LIFT.items())
    lift = lift + arch * (1 - 0.7 * sorrow) * (1 - t**2 - 0.5 * outer) + (who.brow_tilt - 0.1 * sorrow) * outer**1.5
    pull = 0.055 * au[4] * (0.3 + inner) + 0.015 * au[9]
    points = points_of(sign * (who.eye[0] + 0.055 - t * half * 0.97 - pull), y - lift)
    return points if sign > 0 else points[::-1]


def _eye(who: Identity, au: _Side, sign: int, gaze: tuple[float, float]) -> Eye:
    x0, y0, half, height = who.eye
    inward = -sign * _LID  # +1 at the inner corner
    bend = (1 - np.abs(_LID) ** 2.3) ** 0.72
    scowl, sorrow = au[4] * (1 - 0.9 * au[1]), au[1] * (1 - au[2]) * (1 - 0.8 * au[5])
    opening = 1 + 0.36 * au[5] - 0.42 * au[7] - 0.26 * au[6] - 0.22 * au[9] - 0.12 * scowl - 0.2 * sorrow
    slant = 1 - 0.5 * scowl * np.clip(inward + 0.25, 0, 1.25) - 0.62 * sorrow * np.clip(0.35 - inward, 0, 1.35)
    raised = 1 + 0.12 * au[5] - 0.5 * au[7] - 0.62 * au[6] - 0.35 * au[9]
    tilt = who.eye_tilt * -inward + (0.02 * scowl - 0.03 * sorrow) * inward
    level = y0 - tilt + 0.05 * np.clip(inward, 0, 1) ** 3
    up, down = height * max(opening, 0.2) * slant * bend, 0.78 * height * max(raised, 0.02) * bend
    lower_y = level + down * (1 - 0.25 * au[45])
    upper_y = (level - up) * (1 - au[45]) + lower_y * au[45]
    crease_y = level - height * (1.22 + 0.25 * au[5]) * bend**0.8 * (1 - 0.2 * scowl) - 0.035 + 0.1 * scowl * inward
    crease_y = np.minimum(crease_y + 0.14 * au[45] * bend, upper_y - 0.035 * bend)
    x = sign * x0 + half * _LID
    iris = np.array([sign * x0 + gaze[0] * 0.5 * half, y0 - 0.1 * height + gaze[1] * 0.5 * height])
    upper, lower, crease = (points_of(x, y) for y in (upper_y, lower_y, crease_y))
    return Eye(upper, lower, crease, iris, min(1.0, 0.5 * au[6] + 0.5 * au[7] + 0.4 * au[9]), au[5])


def _nose(who: Identity, au: _Side) -> tuple[Points, Points]:
    wing, tip, _, _ = who.nose
    lift = 0.09 * au[9] + 0.03 * au[10] + 0.02 * au[12]
    wing *= 1 + 0.2 * au[9] + 0.12 * au[12] + 0.08 * au[20] + 0.06 * au[23]
    start = who.eye[1] - 0.06
    ys = np.linspace(start, tip - 0.06 - 0.5 * lift, 4)
    bridge = points_of(np.zeros(4), ys)
    base = tip + 0.1 - lift
    nostrils = np.array([(-wing, base - 0.02), (-0.5 * wing, base + 0.02), (0, base + 0.045)])
    return bridge, np.concatenate([nostrils, nostrils[1::-1] * np.array((-1, 1))])


def _corner(who: Identity, au: _Side, sign: int, drop: float) -> tuple[float, float]:
    y, half, _, _ = who.mouth
    oval = au[26] * (1 - au[12]) * (1 - au[20])
    x = half + 0.17 * au[12] + 0.16 * au[20] + 0.05 * au[14] + 0.03 * au[10] + 0.03 * au[15]
    x -= 0.1 * au[23] * (1 - 0.8 * au[15]) + 0.05 * au[17] + 0.13 * oval
    dy = (
        -0.23 * au[12]
        + 0.2 * au[15] * (1 - 0.4 * au[23])
        + 0.12 * au[20]
        + 0.03 * au[10]
        - 0.03 * au[14]
        + 0.05 * au[23] * au[17] * (1 - au[15])
    )
    return sign * x, y - 0.015 + dy + 0.36 * drop * (1 - 0.35 * au[12])


def _mouth(who: Identity, sides: tuple[_Side, _Side], au: _Side) -> Mouth:
    drop = _jaw_drop(au)
    left, right = _corner(who, sides[0], -1, drop), _corner(who, sides[1], 1, drop)
    w = (_LIP + 1) / 2
    x = left[0] * (1 - w) + right[0] * w
    base = left[1] * (1 - w) + right[1] * w
    side = [s[10] + 0.4 * s[9] for s in sides]
    sneer = side[0] * (1 - w) + side[1] * w
    apart = min(1.0, au[25] + 0.3 * au[26])
    gap = apart * (0.06 + 0.17 * au[12] + 0.1 * au[20] + 0.06 * au[10] + 0.1 * au[6] * au[12]) + drop
    top = who.mouth[0] - 0.07 * au[17] - 0.02 * au[12] - 0.03 * apart + 0.12 * drop - 0.05 * au[15]
    oval = au[26] * (1 - 0.8 * au[12]) * (1 - 0.9 * au[20])
    box = 2 + 1.6 * au[20] + 1.4 * au[10] * apart
    r = np.abs(_LIP)
    bulge = (1 - r**box) ** (1 - 0.48 * min(1.0, oval))
    smile = base + (top - base) * (1 - r**2)
    upper = smile - (1 - r**3.2) * (0.085 * sneer * apart + 0.02 * apart + 0.05 * oval) - 0.045 * sneer * (1 - r**2)
    lower = upper + (gap + 0.085 * au[10] * apart + 0.02 * apart + 0.05 * oval) * bulge
    return _lips(who, au, x, upper, lower, gap)


def _lips(who: Identity, au: _Side, x: Points, upper: Points, lower: Points, gap: float) -> Mouth:
    thin = 1 - 0.5 * au[23] - 0.2 * au[12] - 0.25 * au[20] - 0.15 * au[10]
    _, _, above, below = who.mouth
    above, below = above * thin * (1 - 0.15 * au[17]), below * thin * (1 + 0.35 * au[17] * (1 - au[23]))
    r = np.abs(_LIP)
    arch = (1 - r**2.4) ** 0.7
    bow = arch * (1 + 0.22 * np.exp(-(((r - 0.3) / 0.22) ** 2)) - 0.16 * np.exp(-((r / 0.14) ** 2)))
    centre = 0.5 * (x[0] + x[-1])
    outer_x = centre + (x - centre) * 1.05
    full = 1 - r**2.6
    curves = (
        points_of(outer_x, upper - above * bow - 0.004),
        points_of(x, upper),
        points_of(x, lower),
        points_of(outer_x, lower + below * full**0.8 + 0.004),
    )
    apart = min(1.0, au[25] + 0.3 * au[26])
    teeth_up = 0.05 + 0.16 * au[12] + 0.12 * au[10] + 0.06 * au[20] - 0.01 * au[26]
    teeth_low = 0.1 * au[20] + 0.07 * au[10] * apart
    return Mouth(*curves, gap=gap, teeth=(teeth_up, teeth_low))
