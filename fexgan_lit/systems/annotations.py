"""What systems do with annotations of frames: action units per affect, regions around landmarks, drawn landmarks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.data.datasets.labels import has_affects
from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.systems.base import ExpressionSystem, check_units
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from typing import Any

    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.metrics.judges.affect import Judge

#: Number of action units.
UNITS = len(ACTION_UNITS)
#: Landmarks of a face in dlib's order.
LANDMARKS = 68
#: The regions: their landmarks (dlib's order), height and width in pixels of a 128 px image.
REGIONS = {"eyes": ((*range(17, 27), *range(36, 48)), 48, 96), "mouth": (tuple(range(48, 68)), 48, 64)}
#: Lines of jaw, brows, nose, eyes and lips: first and last of dlib's 68 points, and whether the line is closed.
LINES = ((0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False),
         (36, 41, True), (42, 47, True), (48, 59, True), (60, 67, True))  # fmt: skip


class UnitPrototypes(nn.Module):
    """Action units of K affects, stored with the weights; NaN before `learn`.

    Buffers:
        units: (K, 17) in [0, 1].
    """

    units: Tensor

    def __init__(self, affects: int) -> None:
        super().__init__()
        self.register_buffer("units", torch.full((affects, UNITS), float("nan")))

    @property
    def known(self) -> bool:
        """Return whether the prototypes were learned."""
        return not bool(self.units.isnan().any())

    def learn(self, frames: FrameSet) -> None:
        """Take the upper quartile over the identities of each action unit in each affect's strongest frame.

        The mean would be weaker than the affects of most people where strengths vary, and would add a little of every
        unit that few people show. An affect without frames gets a neutral face; frames without affects change nothing.
        """
        from fexgan_lit.data.reference import strongest_row

        if frames.aus is None or not has_affects(frames.affects):
            return
        for affect in range(len(self.units)):
            found = (strongest_row(frames, identity, affect) for identity in range(len(frames.identities)))
            rows = [row for row in found if row is not None]
            units = np.quantile(frames.aus[rows], 0.75, axis=0) if rows else np.zeros(UNITS)
            self.units[affect] = torch.from_numpy(units)

    def forward(self, weights: Tensor) -> Tensor:
        """Map affect weights (B, K) to action units (B, 17) in [0, 1]."""
        return (weights @ self.units).clamp(0, 1)


class ReadsActionUnits(ExpressionSystem):
    """A system whose condition are action units; an affect means its action units in training, see `UnitPrototypes`."""

    reads: ClassVar[frozenset[str]] = frozenset({"aus"})

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        self.prototypes = UnitPrototypes(len(self.affects))

    def prepare(self, frames: FrameSet, judge: Callable[[], Judge | None]) -> None:
        """Learn the action units of each affect."""
        self.prototypes.learn(frames)

    def summary_lines(self) -> list[str]:
        """See the base class."""
        if has_affects(self.affects):
            return []
        return ["the frames have no affects: targets are action units alone, and there are no prototypes"]

    def expression(self, indices: Tensor | Sequence[int], strength: float = 1.0) -> Expression:
        """Return one affect per row with, once training has started, the action units of the affect.

        Raises:
            UserError: the system was trained on frames without affects.
        """
        if not has_affects(self.affects):
            raise UserError(
                f"this {self.settings.name} was trained on frames without affects and cannot read affects; "
                "expected action units (`Expression(aus=...)`, (B, 17) in 0..1)"
            )
        wanted = super().expression(indices, strength)
        known = self.prototypes.known and wanted.affect is not None
        return replace(wanted, aus=self.prototypes(wanted.affect)) if known else wanted

    def units_of(self, aus: Tensor | None) -> Tensor:
        """Return the action units of training frames; raise a UserError if they have none."""
        if aus is None:
            raise UserError(f"{self.settings.name} reads action units; the frames have none")
        return aus

    def checked_units(self, target: Expression) -> Tensor:
        """Return the action units (B, 17) of a target expression.

        Raises:
            UserError: `target` has no action units, or they are not in 0..1.
        """
        self.check_reads(target)
        aus = self.units_of(target.aus)
        low, high = aus.detach().aminmax()
        check_units(float(low), float(high), f"{self.settings.name}: the target expression")
        return aus

    def units_in_use(self, source_expression: Expression | None, target: Expression) -> tuple[Tensor, Tensor, Tensor]:
        """Return the action units of target and source, (B, 17), and where those of the source are known, (B, 1)."""
        wanted = self.checked_units(target)
        shown = None if source_expression is None else source_expression.aus
        known = wanted.new_full((len(wanted), 1), float(shown is not None))
        return wanted, torch.zeros_like(wanted) if shown is None else shown, known

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the networks, and the action units of the affects."""
        return {**super().saved_modules(), "prototypes": self.prototypes}


def _pixels(landmarks: Tensor, size: int) -> Tensor:
    """Map -1..1 from edge to edge to indices of pixels, whose centres are integers: -1 is -0.5."""
    return (landmarks.float() + 1) * (size / 2) - 0.5


def _bells(places: Tensor, size: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Return Gaussians of height 1 along x and along y, (B, n, S) each, around `places` (B, n, 2) in pixels."""
    pixels = torch.arange(size, device=places.device, dtype=torch.float32)
    along_x, along_y = torch.exp(-0.5 * ((pixels - places.unsqueeze(3)) / sigma).square()).unbind(2)
    return along_x, along_y


def landmark_heatmaps(landmarks: Tensor, size: int, sigma: float) -> Tensor:
    """Return a Gaussian of height 1 around every landmark, computed on the device of `landmarks`.

    A two-dimensional Gaussian is the product of one along x and one along y, so a map of size * size needs only
    2 * size exponentials. Landmarks outside the image contribute the part of their Gaussian that lies inside.

    Args:
        landmarks: (B, 68, 2), x then y, -1..1 from edge to edge of the image.
        size: edge length S of the maps in pixels.
        sigma: standard deviation in pixels.

    Returns:
        (B, 68, S, S) float32 in [0, 1].

    Raises:
        UserError: the shape is not (B, 68, 2).
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 2):
        raise UserError(
            f"landmarks of shape {tuple(landmarks.shape)}: expected (batch, {LANDMARKS}, 2), the {LANDMARKS} points of "
            "dlib with x and y from -1 to 1; `python -m fexgan_lit.prepare ... dataset.detector=mediapipe` finds them"
        )
    along_x, along_y = _bells(_pixels(landmarks, size), size, sigma)  # (B, 68, S) each
    return along_y.unsqueeze(3) * along_x.unsqueeze(2)  # (B, 68, S, 1) * (B, 68, 1, S) -> (B, 68, S, S)


class Box(NamedTuple):
    """A region of fixed size at another place in every image of a batch.

    Attributes:
        pixels: (B, h, w), index of each of its pixels in the flat image: S * row + column.
    """

    pixels: Tensor

    @classmethod
    def around(cls, landmarks: Tensor, height: int, width: int, size: int) -> Box:
        """Return the box around the middle of some landmarks, moved so that it lies inside the image.

        Args:
            landmarks: (B, n, 2), x then y, -1..1 from edge to edge; numbers that are not finite count as 0.
            height: height h of the box in pixels.
            width: width w of the box in pixels.
            size: edge length S of the image.
        """
        points = landmarks.float().nan_to_num(0.0, 0.0, 0.0)
        middle = (points.amin(1) + points.amax(1)) / 2  # (B, n, 2) -> (B, 2)
        left, top = ((middle + 1) * (size / 2)).unbind(1)  # (B,) each
        left = (left - width / 2).round().clamp(0, size - width).long()
        top = (top - height / 2).round().clamp(0, size - height).long()
        rows = top[:, None, None] + torch.arange(height, device=top.device)[:, None]  # (B, h, 1)
        columns = left[:, None, None] + torch.arange(width, device=top.device)  # (B, 1, w)
        return cls(size * rows + columns)

    def crop(self, image: Tensor) -> Tensor:
        """Return the region of every image: (B, c, S, S) -> (B, c, h, w)."""
        return image.flatten(2).gather(2, self._of(image)).unflatten(2, self.pixels.shape[1:])

    def paste(self, image: Tensor, patch: Tensor, window: Tensor) -> Tensor:
        """Return `image` (B, c, S, S) with `window * patch + (1 - window) * image` in the region.

        Args:
            image: unchanged where the window is 0 and outside the region.
            patch: (B, c, h, w).
            window: (h, w) in [0, 1].
        """
        mixed = window * patch + (1 - window) * self.crop(image)  # (B, c, h, w)
        return image.flatten(2).scatter(2, self._of(image), mixed.flatten(2).to(image.dtype)).view_as(image)

    def _of(self, image: Tensor) -> Tensor:
        """Return the indices for each channel of `image` (B, c, S, S): (B, c, h * w)."""
        return self.pixels.flatten(1)[:, None].expand(-1, image.shape[1], -1)


def region_shape(name: str, size: int) -> tuple[int, int]:
    """Return height and width in pixels of a region of `REGIONS` in an image of `size` pixels."""
    _, height, width = REGIONS[name]
    return height * size // 128, width * size // 128


def region_boxes(landmarks: Tensor, size: int) -> dict[str, Box]:
    """Return the box of each region of `REGIONS` around `landmarks` (B, 68, 2), -1..1 from edge to edge."""
    return {
        name: Box.around(landmarks[:, list(points)], *region_shape(name, size), size)
        for name, (points, _, _) in REGIONS.items()
    }


def draw_landmarks(landmarks: Tensor, size: int, dots: int = 8) -> Tensor:
    """Draw landmarks as lines, differentiably with respect to their coordinates.

    A line is the integral of a Gaussian along it, as a sum over `dots` points of each segment, so its height does not
    depend on the length of its segments. Lines outside the image are not drawn.

    Args:
        landmarks: (B, 68, 2), x then y, -1..1 from edge to edge of the image.
        size: edge length S of the image in pixels.
        dots: points per segment.

    Returns:
        (B, 1, S, S) float32 in [0, 1): 1 - 1/e on a line of a pixel's width (of S/128 pixels above 128 px).
    """
    sigma = max(1.0, size / 128)
    with torch.autocast(landmarks.device.type, enabled=False):
        places = _pixels(landmarks, size)
        parts = places.split([last + 1 - first for first, last, _ in LINES], dim=1)  # (B, n, 2) each
        lines = [(part, closed) for part, (_, _, closed) in zip(parts, LINES, strict=True)]
        start = torch.cat([line if closed else line[:, :-1] for line, closed in lines], dim=1)  # (B, 63, 2)
        end = torch.cat([line.roll(-1, 1) if closed else line[:, 1:] for line, closed in lines], dim=1)
        share = (torch.arange(dots, device=places.device) + 0.5) / dots
        points = start.unsqueeze(2) + share[:, None] * (end - start).unsqueeze(2)  # (B, 63, dots, 2)
        length = ((end - start).square().sum(2) + 1e-12).sqrt()  # without the sum, two equal points have no gradient
        weight = (length / (dots * sigma * math.sqrt(2 * math.pi))).repeat_interleave(dots, dim=1)  # (B, 63 * dots)
        along_x, along_y = _bells(points.flatten(1, 2), size, sigma)  # (B, 63 * dots, S) each
        ink = along_y.transpose(1, 2) @ (weight.unsqueeze(2) * along_x)  # (B, S, S)
        return 1 - torch.exp(-ink.unsqueeze(1))
