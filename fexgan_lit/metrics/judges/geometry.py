"""The geometry judge: a small network that estimates action units and landmarks, and its training."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.metrics.expression import landmark_distances
from fexgan_lit.metrics.judges.backbone import FaceTrunk
from fexgan_lit.metrics.judges.cache import JudgeKind
from fexgan_lit.metrics.judges.fitting import FitRecipe, Progress, draw_shift, fit, shifted, spoilt, working_size

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


class GeometryReading(NamedTuple):
    """Estimates for a batch: aus (B, 17) in [0, 1], landmarks (B, 68, 2) in [-1, 1]; None without such a head."""

    aus: Tensor | None
    landmarks: Tensor | None


class GeometryNet(FaceTrunk):
    """Network that estimates action units and landmarks of a face.

    Args:
        aus: whether it has a head for action units.
        landmarks: whether it has a head for landmarks, which predicts the deviation from `mean_landmarks`.
        working_size: input size of the network in pixels, a multiple of 16.
        widths: channels after the stem and after each of the three blocks.
        feature_size: length F of a feature vector.
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
        """Map images (B, 3, S, S) in [-1, 1] to unbounded action units (B, 17) and landmarks (B, 68, 2)."""
        features = self.embed(images)
        aus = self.au_head(features) if self.au_head is not None else None
        if self.landmark_head is None:
            return aus, None
        moved = self.landmark_head(features).unflatten(1, (68, 2))  # (B, 136) -> (B, 68, 2)
        return aus, self.mean_landmarks + self.deviation * moved

    def forward(self, images: Tensor) -> GeometryReading:
        """Estimate action units and landmarks of images (B, 3, S, S) in [-1, 1]."""
        aus, landmarks = self.heads(images)
        # Clamped and not squashed: most units of most faces are 0, which a sigmoid never reaches.
        return GeometryReading(None if aus is None else aus.clamp(0, 1), landmarks)


@dataclass
class GeometryJudge:
    """A trained geometry judge with its held-out errors.

    Attributes:
        net: the frozen network, in evaluation mode.
        has_aus: whether it estimates action units.
        has_landmarks: whether it estimates landmarks.
        image_size: size in pixels of the images it was trained for.
        au_errors: mean absolute error of each action unit on held-out frames, in the order of `ACTION_UNITS`; this and
            the next two are None without held-out frames or action units.
        au_errors_of_mean: the same for the constant mean of the training frames.
        au_errors_of_median: the same for their constant median, the best constant for this metric.
        landmark_error: mean distance of the landmarks on held-out frames, as a fraction of the distance between the
            outer eye corners; None without held-out frames or landmarks.
        landmark_error_of_mean: the same for the constant mean landmarks of the training frames.
        n_held_out: number of held-out frames.
        n_train: number of training frames.
        seed: seed of initialisation, order and augmentation.
        seconds: training time.
        from_cache: whether it was loaded from the cache.
        recipe: the training options.
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
        """Mean over the units of the better constant's error; a useful judge has a smaller `au_error`."""
        if self.au_errors_of_mean is None or self.au_errors_of_median is None:
            return None
        return _mean([min(pair) for pair in zip(self.au_errors_of_mean, self.au_errors_of_median, strict=True)])

    @property
    def unlearnt_units(self) -> tuple[int, ...]:
        """Action units that vary in held-out frames and whose error is not below a constant's."""
        if self.au_errors is None or self.au_errors_of_mean is None or self.au_errors_of_median is None:
            return ()
        rows = zip(ACTION_UNITS, self.au_errors, self.au_errors_of_mean, self.au_errors_of_median, strict=True)
        return tuple(unit for unit, error, *constant in rows if max(constant) > 1e-3 and error >= min(constant))

    def read(self, images: Tensor, batch_size: int = 256) -> GeometryReading:
        """Evaluate images (N, 3, S, S) in [-1, 1] in batches of `batch_size`, without gradients; return CPU tensors."""
        device = next(self.net.parameters()).device
        with torch.no_grad():
            parts = [self.net(chunk.to(device)) for chunk in images.split(batch_size)]
        return GeometryReading(
            torch.cat([part.aus.cpu() for part in parts]) if self.has_aus else None,
            torch.cat([part.landmarks.cpu() for part in parts]) if self.has_landmarks else None,
        )

    def to(self, device: torch.device | str) -> GeometryJudge:
        """Move the network to `device` and return `self`."""
        self.net.to(device)
        return self

    def describe(self) -> str:
        """Return one line for reports, with the held-out errors."""
        what = " and ".join([*["action units"] * self.has_aus, *["landmarks"] * self.has_landmarks])
        start = f"judge of {what} trained on {self.n_train} frames (seed {self.seed})"
        if not self.n_held_out:
            return f"{start}; its errors are unknown without held-out frames"
        return f"{start}; on {self.n_held_out} held-out frames: {'; '.join(self._errors())}"

    def _errors(self) -> list[str]:
        found = []
        if self.au_error is not None:
            found.append(
                f"action units off by {self.au_error:.3f} of 1 on average ({_mean(self.au_errors_of_mean):.3f} for the "
                f"constant training mean, {_mean(self.au_errors_of_median):.3f} for the median)"
            )
        if self.landmark_error is not None:
            found.append(
                f"landmarks off by {self.landmark_error:.1%} of the eye distance "
                f"({self.landmark_error_of_mean:.1%} for the constant training mean)"
            )
        return found


def _mean(errors: list[float] | None) -> float | None:
    return None if errors is None else sum(errors) / len(errors)


@dataclass(frozen=True)
class GeometryRecipe(FitRecipe):
    """Training options of the geometry judge.

    Attributes:
        au_weight: weight of the action units' loss relative to the landmarks' loss.
        most_held_out: most held-out frames to evaluate, evenly spaced.
    """

    widths: tuple[int, int, int, int] = (16, 32, 64, 96)
    epochs: float = 12.0
    max_images: int = 40_000
    au_weight: float = 10.0
    most_held_out: int = 4096


def can_read_geometry(frames: FrameSet) -> bool:
    """Return whether `frames` have action units or landmarks."""
    return frames.aus is not None or frames.landmarks is not None


def train_geometry_judge(
    train: FrameSet,
    held_out: FrameSet | None,
    *,
    image_size: int,
    seed: int = 0,
    recipe: GeometryRecipe | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> GeometryJudge:
    """Train a geometry judge on `train` and evaluate it on `held_out`; see `train_judge`.

    Raises:
        ValueError: `train` is empty or has neither action units nor landmarks.
    """
    recipe = recipe or GeometryRecipe()
    if len(train) == 0 or not can_read_geometry(train):
        raise ValueError("a geometry judge needs training frames with action units or landmarks")
    start = time.perf_counter()
    size = working_size(image_size, recipe)
    net = _fit(train, size, seed, recipe, torch.device(device), progress)
    judge = GeometryJudge(
        net=net,
        has_aus=train.aus is not None,
        has_landmarks=train.landmarks is not None,
        image_size=image_size,
        au_errors=None,
        au_errors_of_mean=None,
        au_errors_of_median=None,
        landmark_error=None,
        landmark_error_of_mean=None,
        n_held_out=0,
        n_train=len(train),
        seed=seed,
        recipe=asdict(recipe),
    )
    if held_out is not None and len(held_out):
        _measure(judge, train, held_out, recipe.most_held_out, size)
    judge.seconds = time.perf_counter() - start
    return judge


def _fit(
    frames: FrameSet,
    size: int,
    seed: int,
    recipe: GeometryRecipe,
    device: torch.device,
    progress: Progress | None,
) -> GeometryNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = GeometryNet(frames.aus is not None, frames.landmarks is not None, size, recipe.widths)
    if frames.landmarks is not None:
        mean = frames.landmarks.mean(axis=0, dtype=np.float64)
        spread = float(np.sqrt(((frames.landmarks - mean) ** 2).mean()))
        net.mean_landmarks.copy_(torch.from_numpy(mean))
        net.deviation.fill_(max(spread, 1e-3))
    net.to(device)
    generator = torch.Generator().manual_seed(seed)
    fit(net, np.arange(len(frames)), _loss(net, frames, size, recipe, generator, device), recipe, generator, progress)
    return net.freeze()


def _loss(
    net: GeometryNet,
    frames: FrameSet,
    size: int,
    recipe: GeometryRecipe,
    generator: torch.Generator,
    device: torch.device,
) -> Callable[[np.ndarray], Tensor]:
    """Return a function for the loss: squared errors of action units, and of landmarks relative to their spread."""

    def loss_of(chunk: np.ndarray) -> Tensor:
        shift = draw_shift(len(chunk), recipe, generator)
        images = spoilt(shifted(frames.floats(chunk, size), shift), recipe, generator)
        aus, landmarks = net.heads(images.to(device))
        loss = torch.zeros((), device=device)
        if aus is not None and frames.aus is not None:
            loss = loss + recipe.au_weight * F.mse_loss(aus, torch.from_numpy(frames.aus[chunk]).to(device))
        if landmarks is not None and frames.landmarks is not None:
            moved = torch.from_numpy(frames.landmarks[chunk]) - 2 * shift[:, None]  # (B, 68, 2), shifted with the image
            loss = loss + F.mse_loss(landmarks, moved.to(device)) / net.deviation**2
        return loss

    return loss_of


def _measure(judge: GeometryJudge, train: FrameSet, held_out: FrameSet, most: int, size: int) -> None:
    """Set the errors of `judge` on at most `most` frames of `held_out`."""
    rows = np.unique(np.linspace(0, len(held_out) - 1, min(most, len(held_out))).round().astype(np.int64))
    parts = [judge.read(held_out.floats(chunk, size)) for chunk in np.array_split(rows, -(-len(rows) // 256))]
    if train.aus is not None and held_out.aus is not None:
        truth = held_out.aus[rows]
        read = np.concatenate([part.aus.numpy() for part in parts if part.aus is not None])
        judge.au_errors = unit_errors(read, truth)
        judge.au_errors_of_mean = unit_errors(train.aus.mean(axis=0), truth)
        judge.au_errors_of_median = unit_errors(np.median(train.aus, axis=0), truth)
        judge.n_held_out = len(rows)
    if train.landmarks is not None and held_out.landmarks is not None:
        points = torch.from_numpy(held_out.landmarks[rows])
        seen = torch.cat([part.landmarks for part in parts if part.landmarks is not None])
        judge.landmark_error = float(landmark_distances(seen, points).mean())
        judge.landmark_error_of_mean = float(
            landmark_distances(judge.net.mean_landmarks.cpu().expand_as(points), points).mean()
        )
        judge.n_held_out = len(rows)


def unit_errors(answers: np.ndarray, truth: np.ndarray) -> list[float]:
    """Return the mean absolute error of each action unit: `answers` (n, 17) or (17,) against `truth` (n, 17)."""
    return np.abs(answers - truth).mean(axis=0, dtype=np.float64).tolist()


def _digest(frames: FrameSet) -> str:
    """Return a hash of the action units and landmarks of `frames`."""
    known = hashlib.sha256()
    for values in (frames.aus, frames.landmarks):
        known.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
    return known.hexdigest()


#: Judges of action units and landmarks in the cache.
GEOMETRY: JudgeKind[GeometryJudge] = JudgeKind(
    name="geometry",
    version=1,
    judge=GeometryJudge,
    recipe=lambda: GeometryRecipe(),
    train=train_geometry_judge,
    network=lambda facts, recipe, size: GeometryNet(facts["has_aus"], facts["has_landmarks"], size, recipe.widths),
    facts=lambda train, held_out: [_digest(train), None if held_out is None else _digest(held_out)],
)
load_or_train_geometry_judge = GEOMETRY.load_or_train
