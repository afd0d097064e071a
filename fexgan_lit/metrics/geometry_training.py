"""How a geometry judge is trained and measured: on whatever the training split knows of its faces' geometry."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fexgan_lit.metrics.expression_scores import landmark_distances
from fexgan_lit.metrics.fitting import FitRecipe, Progress, draw_shift, fit, shifted, spoilt, working_size
from fexgan_lit.metrics.geometry_judge import GEOMETRY_VERSION, GeometryJudge, GeometryNet
from fexgan_lit.metrics.shelf import Shelf

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


@dataclass(frozen=True)
class GeometryRecipe(FitRecipe):
    """Options of the training, besides those of every fit.

    Attributes:
        au_weight: of the action units' loss beside that of the landmarks.
        most_held_out: held-out frames looked at, evenly spread, at most.
    """

    widths: tuple[int, int, int, int] = (16, 32, 64, 96)
    epochs: float = 12.0
    max_images: int = 40_000
    au_weight: float = 10.0
    most_held_out: int = 4096


def can_read_geometry(frames: FrameSet) -> bool:
    """Whether `frames` know action units or landmarks."""
    return frames.aus is not None or frames.landmarks is not None


def load_or_train_geometry_judge(
    train: FrameSet,
    held_out: FrameSet | None,
    *,
    image_size: int,
    cache_dir: str | Path,
    key: str,
    seed: int = 0,
    recipe: GeometryRecipe | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> GeometryJudge:
    """The geometry judge of this data from ``cache_dir/judges/``, trained and stored there first when need be.

    Action units and landmarks are part of what it is found by. See `load_or_train_judge` for the arguments.

    Raises:
        ValueError: `train` is empty, or knows neither action units nor landmarks.
        UserError: the cache folder cannot be written.
    """
    recipe = recipe or GeometryRecipe()

    def train_it() -> GeometryJudge:
        return train_geometry_judge(
            train, held_out, image_size=image_size, seed=seed, recipe=recipe, device=device, progress=progress
        )

    known = [_digest(train), _digest(held_out) if held_out is not None else None]
    parts = ["geometry", GEOMETRY_VERSION, key, image_size, seed, known, asdict(recipe)]
    return Shelf.of(cache_dir, "geometry", parts).taken_or_trained(_rebuild, train_it).to(device)


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
    """Train a geometry judge on `train` and measure it on `held_out`; see `train_judge`.

    Raises:
        ValueError: `train` is empty, or knows neither action units nor landmarks.
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
    """Squared errors: of action units, and of landmarks in units of their spread."""

    def loss_of(chunk: np.ndarray) -> Tensor:
        shift = draw_shift(len(chunk), recipe, generator)
        images = spoilt(shifted(frames.floats(chunk, size), shift), recipe, generator)
        aus, landmarks = net.heads(images.to(device))
        loss = torch.zeros((), device=device)
        if aus is not None and frames.aus is not None:
            loss = loss + recipe.au_weight * F.mse_loss(aus, torch.from_numpy(frames.aus[chunk]).to(device))
        if landmarks is not None and frames.landmarks is not None:
            moved = torch.from_numpy(frames.landmarks[chunk]) - 2 * shift[:, None]  # (B, 68, 2), with the picture
            loss = loss + F.mse_loss(landmarks, moved.to(device)) / net.deviation**2
        return loss

    return loss_of


def _measure(judge: GeometryJudge, train: FrameSet, held_out: FrameSet, most: int, size: int) -> None:
    """Fill in the errors of `judge` on at most `most` frames of `held_out`."""
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
    """Mean absolute error of each action unit: `answers` (n, 17) or (17,) against `truth` (n, 17)."""
    return np.abs(answers - truth).mean(axis=0, dtype=np.float64).tolist()


def _rebuild(facts: dict[str, Any], state: dict[str, Tensor]) -> GeometryJudge:
    recipe = GeometryRecipe(**facts["recipe"] | {"widths": tuple(facts["recipe"]["widths"])})
    size = working_size(facts["image_size"], recipe)
    with torch.random.fork_rng(devices=[]):  # building a network draws its initial weights
        net = GeometryNet(facts["has_aus"], facts["has_landmarks"], size, recipe.widths)
    net.load_state_dict(state, strict=True)
    return GeometryJudge(**{**facts, "recipe": asdict(recipe), "net": net.freeze(), "from_cache": True})


def _digest(frames: FrameSet) -> str:
    """A hash of the action units and landmarks of `frames`."""
    known = hashlib.sha256()
    for values in (frames.aus, frames.landmarks):
        known.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
    return known.hexdigest()
