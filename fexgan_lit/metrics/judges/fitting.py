"""The training loop of all judges: shuffled epochs with one-cycle AdamW on lightly augmented frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Callback with (steps done, total steps).
Progress = Callable[[int, int], None]

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


@dataclass(frozen=True)
class FitRecipe:
    """Training options of a judge.

    Attributes:
        working_size: input size in pixels; larger images are averaged down.
        widths: channels after the stem and each block.
        epochs: passes over the frames; `min_images` and `max_images` bound the number of images.
        min_images: least number of images in the training, with repetition.
        max_images: largest number of images in the training, with repetition.
        batch_size: images per step.
        learning_rate: peak of the one-cycle schedule of AdamW.
        weight_decay: weight decay of AdamW.
        shift: largest translation, as a fraction of the side.
        light: largest change of brightness and of contrast, as a fraction.
        noise: largest standard deviation of added noise, on the scale of [-1, 1].
        blur: fraction of images that are blurred, since generated faces are slightly soft.
    """

    working_size: int = 64
    widths: tuple[int, int, int, int] = (24, 48, 96, 128)
    epochs: float = 8.0
    min_images: int = 6_000
    max_images: int = 40_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    shift: float = 0.06
    light: float = 0.1
    noise: float = 0.05
    blur: float = 0.5


def working_size(image_size: int, recipe: FitRecipe) -> int:
    """Return the input size of the network: a multiple of 16, since the network halves it four times."""
    return max(16, 16 * round(min(image_size, recipe.working_size) / 16))


def fit(
    net: nn.Module,
    rows: np.ndarray,
    loss_of: Callable[[np.ndarray], Tensor],
    recipe: FitRecipe,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> None:
    """Train `net` with `recipe`; `loss_of` returns the loss of a batch of `rows` (n,)."""
    images_seen = min(max(recipe.epochs * len(rows), recipe.min_images), recipe.max_images)
    batch_size = min(recipe.batch_size, max(8, len(rows)))
    steps = max(2, round(images_seen / batch_size))
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.2)
    for step, chunk in enumerate(_batches(rows, batch_size, steps, generator)):
        loss = loss_of(chunk)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)


def _batches(rows: np.ndarray, batch_size: int, steps: int, generator: torch.Generator) -> list[np.ndarray]:
    """Return `steps` full batches from consecutive shuffled passes over `rows`."""
    passes = -(-steps * batch_size // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(passes)]).numpy()
    return [rows[order[i * batch_size : (i + 1) * batch_size]] for i in range(steps)]


def augment(images: Tensor, recipe: FitRecipe, generator: torch.Generator) -> Tensor:
    """Apply a random shift, light, blur and noise to each of the images (B, 3, S, S) in [-1, 1]."""
    return spoilt(shifted(images, draw_shift(len(images), recipe, generator)), recipe, generator)


def draw_shift(batch: int, recipe: FitRecipe, generator: torch.Generator) -> Tensor:
    """Draw translations (B, 2) to the left and up, as fractions of the side."""
    return _uniform(-recipe.shift, recipe.shift, (batch, 2), generator)


def shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Move each image by `shift` (B, 2), as fractions of the side, left and up where positive; borders are repeated.

    A point at p in -1..1 moves to p - 2 * shift.
    """
    theta = torch.zeros(images.shape[0], 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1.0
    theta[:, :, 2] = 2.0 * shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def spoilt(images: Tensor, recipe: FitRecipe, generator: torch.Generator) -> Tensor:
    """Apply random light, blur and noise to each of the images (B, 3, S, S) in [-1, 1], without moving them."""
    each = (images.shape[0], 1, 1, 1)
    contrast = _uniform(1 - recipe.light, 1 + recipe.light, each, generator)
    images = images * contrast + _uniform(-recipe.light, recipe.light, each, generator)
    softness = _uniform(0, 1, each, generator) * (_uniform(0, 1, each, generator) < recipe.blur)
    images = torch.lerp(images, _blurred(images), softness)
    noise = torch.randn(images.shape, generator=generator) * _uniform(0, recipe.noise, each, generator)
    return (images + noise).clamp(-1, 1)


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _blurred(images: Tensor) -> Tensor:
    """Apply a 5x5 binomial blur, about one pixel of standard deviation."""
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    # Weighted sums of shifted views are several times faster on CPUs than a depthwise convolution.
    for dim in (2, 3):
        side = images.shape[dim]
        views = (weight * padded.narrow(dim, i, side) for i, weight in enumerate(_BINOMIAL))
        padded = reduce(torch.add, views)
    return padded
