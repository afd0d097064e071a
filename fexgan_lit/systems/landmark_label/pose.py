"""How far a head is turned and rolled, from its 68 landmarks, and which faces are beyond what the training showed."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Depth of the nose tip before the line of the outer corners of the eyes, in half lengths of that line. Fitted on
#: rendered heads of six people, turned by up to 40 and rolled by up to 30 degrees.
_NOSE_DEPTH = 1.15
#: Points of the tip of the nose and of the outer corners of the eyes, left to right in the picture.
_NOSE, _LEFT_EYE, _RIGHT_EYE = 30, 36, 45
#: Degrees beyond the training frames that pass without a word: faces differ by about half of it.
TOLERANCE = 5.0
_NAMES = ("yaw", "roll")


def head_turn(landmarks: Tensor) -> Tensor:
    """Yaw and roll (B, 2) in degrees of landmarks (B, 68, 2); right and clockwise, as the picture shows it, positive.

    Roll is the direction of the line between the outer corners of the eyes, e. The nose tip lies before the middle of
    that line; turning the head by yaw moves it along the line by depth * sin(yaw) while half the line shrinks to
    h * cos(yaw), so yaw = atan(t / (depth / h)), where t is the shift in half lengths |e| / 2.

    On the rendered heads the mean error of yaw was 2.3 degrees (correlation 0.99), of roll 0.4. The yaw of flatter
    faces is understated, on drawn cartoon faces to two fifths, so compare faces of one kind only.
    """
    points = landmarks.float()
    eyes = points[:, _RIGHT_EYE] - points[:, _LEFT_EYE]  # (B, 2)
    middle = (points[:, _RIGHT_EYE] + points[:, _LEFT_EYE]) / 2
    shift = ((points[:, _NOSE] - middle) * eyes).sum(1) / (eyes.square().sum(1) / 2).clamp(min=1e-12)
    yaw = torch.atan(shift / _NOSE_DEPTH)
    return torch.rad2deg(torch.stack((yaw, torch.atan2(eyes[:, 1], eyes[:, 0])), dim=1))


class PoseRange(nn.Module):
    """How far the heads of the training frames are turned and rolled, kept with the weights; without end until learned.

    Mirrored frames (augmentation) are not counted.

    Buffers:
        limits: (2, 2) degrees; lowest and highest, of yaw and roll.
    """

    #: weights written before it was kept lack its file
    optional = True
    limits: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("limits", torch.tensor([[-math.inf] * 2, [math.inf] * 2]))
        self._seen: dict[str, Tensor] = {}
        self._warned = False

    @property
    def known(self) -> bool:
        """Whether it was learned."""
        return bool(self.limits.isfinite().all())

    def learn(self, landmarks: np.ndarray | None) -> None:
        """Take the range of landmarks (n, 68, 2); None leaves it as it is."""
        if landmarks is not None and len(landmarks):
            turns = head_turn(torch.from_numpy(landmarks))
            self.limits.copy_(torch.stack((turns.amin(0), turns.amax(0))))

    def beyond(self, landmarks: Tensor) -> Tensor:
        """(B,) bool: faces (B, 68, 2) turned or rolled further than any training frame by more than `TOLERANCE`."""
        turns = head_turn(landmarks)
        return ((turns < self.limits[0] - TOLERANCE) | (turns > self.limits[1] + TOLERANCE)).any(1)

    def look(self, which: str, landmarks: Tensor | None) -> None:
        """Count the faces beyond the range, and warn of the first ones.

        Args:
            which: `wanted` or `source`.
            landmarks: (B, 68, 2), or None where they are not known.
        """
        if landmarks is None or not self.known:
            return
        turns = head_turn(landmarks)[self.beyond(landmarks)].cpu()
        before = self._seen.get(which, torch.empty(0, 2))
        self._seen[which] = torch.cat((before, turns))
        self._seen[f"{which} in all"] = self._seen.get(f"{which} in all", torch.tensor(0)) + len(landmarks)
        if len(turns) and not self._warned:
            self._warned = True
            warnings.warn(self._sentence(which), stacklevel=4)

    def condition_warnings(self) -> list[str]:
        """A sentence each for wanted and source faces that `look` found beyond the range; then they are forgotten."""
        found = [self._sentence(which) for which in ("wanted", "source") if len(self._seen.get(which, ()))]
        self._seen = {}
        return found

    def _sentence(self, which: str) -> str:
        found, asked = self._seen[which], int(self._seen[f"{which} in all"])
        shown, trained = _span(torch.stack((found.amin(0), found.amax(0)))), _span(self.limits)
        return (
            f"{len(found)} of {asked} {which} faces are turned or rolled further than the training frames "
            f"({shown} degrees by their landmarks; trained on {trained}): such heads were never learned, so expect "
            "distortion"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Checkpoints written before the range was kept lack it."""
        state_dict.setdefault(f"{prefix}limits", torch.tensor([[-math.inf] * 2, [math.inf] * 2]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _span(limits: Tensor) -> str:
    """The lowest and highest yaw and roll (2, 2) in words."""
    low, high = limits.tolist()
    return ", ".join(f"{name} {a:.0f} to {b:.0f}" for name, a, b in zip(_NAMES, low, high, strict=True))
