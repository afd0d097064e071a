"""How a judge is trained: on the training split only, on frames whose label shows, lightly augmented, in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fexgan_lit.metrics.judge import Judge, JudgeNet, JudgeReading

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet

#: Called with (steps done, steps in all).
Progress = Callable[[int, int], None]

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


@dataclass(frozen=True)
class JudgeRecipe:
    """Options of judge training.

    Attributes:
        working_size: pixels; larger images are averaged down to this side.
        widths: channels after the stem and each block.
        epochs: passes over the frames, before `min_images` and `max_images` bound their product.
        min_images: images seen at least, however few frames there are.
        max_images: images seen at most, however many frames there are.
        batch_size: images a step.
        learning_rate: peak of the one-cycle schedule of AdamW.
        weight_decay: of AdamW.
        label_smoothing: of both cross-entropies.
        min_intensity: weaker frames of an affect that is not neutral are left out: their label does not show.
        held_out_intensity: the same bound for the frames that measure the judge.
        shift: largest translation, share of the side.
        light: largest change of brightness and of contrast, share.
        noise: largest standard deviation of added noise, on the scale of [-1, 1].
        blur: share of images that are blurred, since generated faces are a little soft.
    """

    working_size: int = 64
    widths: tuple[int, int, int, int] = (24, 48, 96, 128)
    epochs: float = 8.0
    min_images: int = 6_000
    max_images: int = 40_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    min_intensity: float = 0.3
    held_out_intensity: float = 0.5
    shift: float = 0.06
    light: float = 0.1
    noise: float = 0.05
    blur: float = 0.5


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


def working_size(image_size: int, recipe: JudgeRecipe) -> int:
    """The side judged at: a multiple of 16, since the network halves it four times."""
    return max(16, 16 * round(min(image_size, recipe.working_size) / 16))


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
    images_seen = min(max(recipe.epochs * len(rows), recipe.min_images), recipe.max_images)
    batch_size = min(recipe.batch_size, max(8, len(rows)))
    steps = max(2, round(images_seen / batch_size))
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.2)
    for step, chunk in enumerate(_batches(rows, batch_size, steps, generator)):
        images = augment(frames.floats(chunk, size), recipe, generator)
        loss = _loss(net(images.to(device)), frames, chunk, recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    return net.freeze()


def _loss(reading: JudgeReading, frames: FrameSet, chunk: np.ndarray, smoothing: float) -> Tensor:
    """Cross-entropy of both heads, equally weighted."""
    affect = torch.from_numpy(frames.affect[chunk]).to(reading.features.device)
    identity = torch.from_numpy(frames.identity[chunk]).to(reading.features.device)
    affect_loss = F.cross_entropy(reading.affect_logits, affect, label_smoothing=smoothing)
    return affect_loss + F.cross_entropy(reading.identity_logits, identity, label_smoothing=smoothing)


def _batches(rows: np.ndarray, batch_size: int, steps: int, generator: torch.Generator) -> list[np.ndarray]:
    """`steps` batches from shuffled passes over `rows`, one pass after the other, none left short."""
    passes = -(-steps * batch_size // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(passes)]).numpy()
    return [rows[order[i * batch_size : (i + 1) * batch_size]] for i in range(steps)]


def augment(images: Tensor, recipe: JudgeRecipe, generator: torch.Generator) -> Tensor:
    """Shift, light, blur and noise for images (B, 3, S, S) in [-1, 1], each drawn per image."""
    batch = images.shape[0]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    images = _shifted(images, uniform(-recipe.shift, recipe.shift, 2))
    images = images * uniform(1 - recipe.light, 1 + recipe.light, 1, 1, 1) + uniform(
        -recipe.light, recipe.light, 1, 1, 1
    )
    softness = uniform(0, 1, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < recipe.blur)
    images = torch.lerp(images, _blurred(images), softness)
    noise = torch.randn(images.shape, generator=generator) * uniform(0, recipe.noise, 1, 1, 1)
    return (images + noise).clamp(-1, 1)


def _shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Move each image by `shift` (B, 2), shares of the side; what comes in repeats the edge."""
    theta = torch.zeros(images.shape[0], 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1.0
    theta[:, :, 2] = 2.0 * shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _blurred(images: Tensor) -> Tensor:
    """A 5x5 binomial blur, about one pixel of standard deviation."""
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    # Weighted sums of shifted views: several times faster on CPUs than a convolution with one kernel a channel.
    for dim in (2, 3):
        side = images.shape[dim]
        views = (weight * padded.narrow(dim, i, side) for i, weight in enumerate(_BINOMIAL))
        padded = reduce(torch.add, views)
    return padded
