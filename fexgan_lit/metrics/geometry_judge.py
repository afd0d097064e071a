"""The geometry judge: a small network that reads action units and landmarks from a face, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.metrics.trunk import FaceTrunk

#: Raised whenever the network or its training changes, so that stored judges of another version are not taken.
GEOMETRY_VERSION = 1


class GeometryReading(NamedTuple):
    """What is seen in a batch: aus (B, 17) in [0, 1], landmarks (B, 68, 2) in [-1, 1]; None where never learnt."""

    aus: Tensor | None
    landmarks: Tensor | None


class GeometryNet(FaceTrunk):
    """Reads action units and landmarks of a face.

    Args:
        aus: whether it has a head for action units.
        landmarks: whether it has a head for landmarks, which gives the deviation from `mean_landmarks`.
        working_size: side in pixels the network works at, a multiple of 16.
        widths: channels after the stem and after each of the three blocks.
        feature_size: F, the length of a feature vector.
    """

    mean_landmarks: Tensor
    deviation: Tensor

    def __init__(
        self,
        aus: bool,
        landmarks: bool,
        working_size: int = 64,
        widths: tuple[int, int, int, int] = (16, 32, 64, 96),
        feature_size: int = 128,
    ) -> None:
        super().__init__(working_size, widths, feature_size)
        self.au_head = nn.Linear(feature_size, len(ACTION_UNITS)) if aus else None
        self.landmark_head = nn.Linear(feature_size, 68 * 2) if landmarks else None
        self.register_buffer("mean_landmarks", torch.zeros(68, 2))
        self.register_buffer("deviation", torch.ones(()))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def heads(self, images: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Images (B, 3, S, S) in [-1, 1] -> unbounded action units (B, 17), landmarks (B, 68, 2)."""
        features = self.embed(images)
        aus = self.au_head(features) if self.au_head is not None else None
        if self.landmark_head is None:
            return aus, None
        moved = self.landmark_head(features).unflatten(1, (68, 2))  # (B, 136) -> (B, 68, 2)
        return aus, self.mean_landmarks + self.deviation * moved

    def forward(self, images: Tensor) -> GeometryReading:
        """Read images (B, 3, S, S) in [-1, 1]."""
        aus, landmarks = self.heads(images)
        # Cut off, not squashed: most units of most faces are at 0, which a sigmoid never says.
        return GeometryReading(None if aus is None else aus.clamp(0, 1), landmarks)


@dataclass
class GeometryJudge:
    """A trained geometry judge with the evidence for it.

    Attributes:
        net: the frozen network, in evaluation mode.
        has_aus: whether it reads action units.
        has_landmarks: whether it reads landmarks.
        image_size: side in pixels of the images it was trained for.
        au_errors: mean absolute error of each action unit on held-out frames, in the order of `ACTION_UNITS`; None
            without held-out frames or action units, as are the next two.
        au_errors_of_mean: the same of always answering the mean of the training frames.
        au_errors_of_median: the same of their median, the best of all constant answers by this measure.
        landmark_error: mean distance of its landmarks on held-out frames, as a share of the distance between the
            outer corners of the eyes; None without.
        landmark_error_of_mean: the same of always answering the mean landmarks of the training frames.
        n_held_out: held-out frames behind these errors.
        n_train: frames it learnt from.
        seed: of initialisation, order and augmentation.
        seconds: training time, as measured when it was trained.
        from_cache: whether it was loaded instead of trained.
        recipe: the options it was trained with.
    """

    net: GeometryNet
    has_aus: bool
    has_landmarks: bool
    image_size: int
    au_errors: list[float] | None
    au_errors_of_mean: list[float] | None
    au_errors_of_median: list[float] | None
    landmark_error: float | None
    landmark_error_of_mean: float | None
    n_held_out: int
    n_train: int
    seed: int
    seconds: float = 0.0
    from_cache: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def au_error(self) -> float | None:
        """Mean of `au_errors`."""
        return _mean(self.au_errors)

    @property
    def au_error_of_constant(self) -> float | None:
        """Mean error of the better constant answer to each unit; a judge that is not below it has learnt nothing."""
        if self.au_errors_of_mean is None or self.au_errors_of_median is None:
            return None
        return _mean([min(pair) for pair in zip(self.au_errors_of_mean, self.au_errors_of_median, strict=True)])

    @property
    def unlearnt_units(self) -> tuple[int, ...]:
        """Action units it reads no better than a constant answer would, of those that move on held-out frames."""
        if self.au_errors is None or self.au_errors_of_mean is None or self.au_errors_of_median is None:
            return ()
        rows = zip(ACTION_UNITS, self.au_errors, self.au_errors_of_mean, self.au_errors_of_median, strict=True)
        return tuple(unit for unit, error, *constant in rows if max(constant) > 1e-3 and error >= min(constant))

    def read(self, images: Tensor, batch_size: int = 256) -> GeometryReading:
        """Read images (N, 3, S, S) in [-1, 1], `batch_size` at a time; the reading is on the CPU, without gradient."""
        device = next(self.net.parameters()).device
        with torch.no_grad():
            parts = [self.net(chunk.to(device)) for chunk in images.split(batch_size)]
        return GeometryReading(
            torch.cat([part.aus.cpu() for part in parts]) if self.has_aus else None,
            torch.cat([part.landmarks.cpu() for part in parts]) if self.has_landmarks else None,
        )

    def to(self, device: torch.device | str) -> GeometryJudge:
        """Move the network; returns the judge itself."""
        self.net.to(device)
        return self

    def describe(self) -> str:
        """One line for reports: what it reads, and how far off it is itself."""
        what = " and ".join([*["action units"] * self.has_aus, *["landmarks"] * self.has_landmarks])
        start = f"reader of {what} trained on {self.n_train} frames (seed {self.seed})"
        if not self.n_held_out:
            return f"{start}; no held-out frames, so its errors are unknown"
        return f"{start}; on {self.n_held_out} held-out frames: {'; '.join(self._errors())}"

    def _errors(self) -> list[str]:
        found = []
        if self.au_error is not None:
            found.append(
                f"action units off by {self.au_error:.3f} of 1 on average ({_mean(self.au_errors_of_mean):.3f} when "
                f"always answering the training mean, {_mean(self.au_errors_of_median):.3f} the median)"
            )
        if self.landmark_error is not None:
            found.append(
                f"landmarks off by {self.landmark_error:.1%} of the eye distance "
                f"({self.landmark_error_of_mean:.1%} when always answering the training mean)"
            )
        return found


def _mean(errors: list[float] | None) -> float | None:
    return None if errors is None else sum(errors) / len(errors)
