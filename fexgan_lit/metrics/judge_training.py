"""How a judge is trained: on the training split only, on frames whose label shows, lightly augmented, in seconds."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fexgan_lit.metrics.fitting import FitRecipe, Progress, augment, fit, working_size
from fexgan_lit.metrics.judge import Judge, JudgeNet, JudgeReading

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


@dataclass(frozen=True)
class JudgeRecipe(FitRecipe):
    """Options of judge training, besides those of every fit.

    Attributes:
        label_smoothing: of both cross-entropies.
        min_intensity: weaker frames of an affect that is not neutral are left out: their label does not show.
        held_out_intensity: the same bound for the frames that measure the judge.
    """

    label_smoothing: float = 0.05
    min_intensity: float = 0.3
    held_out_intensity: float = 0.5


def train_judge(
    train: FrameSet,
    held_out: FrameSet | None,
    *,
    image_size: int,
    seed: int = 0,
    recipe: JudgeRecipe | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Judge:
    """Train a judge on `train` and measure it on `held_out`.

    The global random state of torch is as before afterwards; the same seed and thread count give the same judge.

    Args:
        train: the training split, and nothing else of the data.
        held_out: frames of the same affects and identities it does not learn from, or None.
        image_size: side in pixels of the frames it will judge.
        seed: of initialisation, order and augmentation.
        recipe: options; the defaults suit a few dozen to some ten thousand frames.
        device: where to train; the judge stays there.
        progress: told of every step.

    Raises:
        ValueError: `train` is empty, or `held_out` has other affects or identities.
    """
    recipe = recipe or JudgeRecipe()
    _check_frames(train, held_out)
    start = time.perf_counter()
    size = working_size(image_size, recipe)
    rows = telling_rows(train, recipe.min_intensity)
    held_rows = telling_rows(held_out, recipe.held_out_intensity) if held_out is not None else rows[:0]
    net = _fit(train, rows, size, seed, recipe, torch.device(device), progress)
    on_train = judge_accuracy(net, train, rows[:: max(1, len(rows) // 512)], size)
    on_held_out = judge_accuracy(net, held_out, held_rows, size) if held_out is not None and len(held_rows) else None
    return Judge(
        net=net,
        affects=train.affects,
        identities=train.identities,
        image_size=image_size,
        affect_accuracy=on_held_out[0] if on_held_out else None,
        identity_accuracy=on_held_out[1] if on_held_out else None,
        train_affect_accuracy=on_train[0],
        train_identity_accuracy=on_train[1],
        n_held_out=len(held_rows),
        n_train=len(rows),
        seed=seed,
        seconds=time.perf_counter() - start,
        recipe=asdict(recipe),
    )


def _check_frames(train: FrameSet, held_out: FrameSet | None) -> None:
    if len(train) == 0:
        raise ValueError("a judge needs at least one training frame")
    if held_out is not None and (held_out.affects, held_out.identities) != (train.affects, train.identities):
        raise ValueError("held-out frames have other affects or identities than the training frames")


def telling_rows(frames: FrameSet, min_intensity: float) -> np.ndarray:
    """Rows of `frames` (int64) whose affect shows: unknown intensity, neutral, or at least `min_intensity`.

    An affect that would be left with no frame keeps all of its frames.
    """
    everything = np.arange(len(frames))
    if frames.intensity is None:
        return everything
    with np.errstate(invalid="ignore"):
        shows = np.isnan(frames.intensity) | (frames.intensity >= min_intensity)
    if "neutral" in frames.affects:
        shows |= frames.affect == frames.affects.index("neutral")
    for k in range(len(frames.affects)):
        mine = frames.affect == k
        if not shows[mine].any():
            shows |= mine
    return everything[shows]


def judge_accuracy(net: JudgeNet, frames: FrameSet, rows: np.ndarray, size: int) -> tuple[float, float]:
    """Shares of `rows` whose affect and whose identity `net` names rightly."""
    device = next(net.parameters()).device
    affect_hits = identity_hits = 0
    for chunk in np.array_split(rows, max(1, len(rows) // 256)):
        with torch.no_grad():
            reading = net(frames.floats(chunk, size).to(device))
        affect_hits += int((reading.affect.cpu().numpy() == frames.affect[chunk]).sum())
        identity_hits += int((reading.identity.cpu().numpy() == frames.identity[chunk]).sum())
    return affect_hits / len(rows), identity_hits / len(rows)


def _fit(
    frames: FrameSet,
    rows: np.ndarray,
    size: int,
    seed: int,
    recipe: JudgeRecipe,
    device: torch.device,
    progress: Progress | None,
) -> JudgeNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = JudgeNet(len(frames.affects), len(frames.identities), size, recipe.widths).to(device)
    generator = torch.Generator().manual_seed(seed)

    def loss_of(chunk: np.ndarray) -> Tensor:
        images = augment(frames.floats(chunk, size), recipe, generator)
        return _loss(net(images.to(device)), frames, chunk, recipe.label_smoothing)

    fit(net, rows, loss_of, recipe, generator, progress)
    return net.freeze()


def _loss(reading: JudgeReading, frames: FrameSet, chunk: np.ndarray, smoothing: float) -> Tensor:
    """Cross-entropy of both heads, equally weighted."""
    affect = torch.from_numpy(frames.affect[chunk]).to(reading.features.device)
    identity = torch.from_numpy(frames.identity[chunk]).to(reading.features.device)
    affect_loss = F.cross_entropy(reading.affect_logits, affect, label_smoothing=smoothing)
    return affect_loss + F.cross_entropy(reading.identity_logits, identity, label_smoothing=smoothing)
