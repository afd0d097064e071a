"""The affect classifier of `protocol=augmentation`: network, training recipe and accuracy on real frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fexgan_lit.metrics.judges.backbone import FaceTrunk
from fexgan_lit.metrics.judges.fitting import FitRecipe, Progress, augment, fit, working_size
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.evaluation.protocols.augmented_data import Enlarged


@dataclass(frozen=True)
class ClassifierRecipe(FitRecipe):
    """Training options of the classifier.

    Attributes:
        label_smoothing: label smoothing of the cross-entropy.
    """

    label_smoothing: float = 0.05


class AffectClassifier(FaceTrunk):
    """Affect classifier: the trunk of the judges with a linear head.

    Args:
        affects: number of affects K.
        size: input side in pixels, a multiple of 16.
        widths: channels after the stem and after each of the three blocks.
    """

    def __init__(self, affects: int, size: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__(size, widths, feature_size=128)
        self.head = nn.Linear(self.feature_size, affects)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) in [-1, 1] to logits (B, K)."""
        return self.head(self.embed(images))


def recipe_for(real: int, images: int) -> ClassifierRecipe:
    """Return the recipe shared by all classifiers, independent of the number of training images.

    Args:
        real: number of real frames; few real frames reduce the batch size of all classifiers.
        images: number of images that each classifier sees in training.
    """
    usual = ClassifierRecipe()
    batch_size = min(usual.batch_size, max(8, real))
    return replace(usual, min_images=images, max_images=images, batch_size=batch_size)


def steps_of(recipe: FitRecipe) -> int:
    """Return the number of optimizer steps of `recipe`."""
    return max(2, round(recipe.max_images / recipe.batch_size))


def require_network(name: str) -> None:
    """Check that the network can be built, before any image is generated.

    Raises:
        UserError: ResNet-18 without a torchvision that fits the installed torch.
    """
    if name == "resnet18":
        _resnet18()


def _resnet18() -> Callable[..., nn.Module]:
    try:
        from torchvision.models import resnet18
    except (ImportError, RuntimeError) as error:  # torchvision built for another torch raises RuntimeError
        raise UserError(
            f"augmentation.network=resnet18 needs torchvision, which cannot be imported ({error}). Install the build "
            "for the installed torch with pip install 'fexgan_lit[fid]', or use augmentation.network=judge."
        ) from error
    return resnet18


def classifier_size(name: str, image_size: int) -> int:
    """Return the input side in pixels of a network for frames of `image_size`."""
    return working_size(image_size, FitRecipe()) if name == "judge" else image_size


def make_network(name: str, affects: int, size: int, seed: int) -> nn.Module:
    """Build a network with random weights that maps images (B, 3, size, size) to logits (B, `affects`)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "judge":
            return AffectClassifier(affects, size, ClassifierRecipe().widths)
        return _resnet18()(weights=None, num_classes=affects)


def train_classifier(
    net: nn.Module,
    frames: Enlarged,
    rows: np.ndarray,
    size: int,
    seed: int,
    recipe: ClassifierRecipe,
    progress: Progress | None = None,
) -> nn.Module:
    """Train `net` on the `rows` (n,) of `frames` with the judges' augmentation, and freeze it."""
    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(seed)

    def loss_of(chunk: np.ndarray) -> Tensor:
        images = augment(frames.floats(chunk, size), recipe, generator).to(device)
        wanted = torch.from_numpy(frames.affect_of(chunk)).to(device)
        return F.cross_entropy(net(images), wanted, label_smoothing=recipe.label_smoothing)

    net.train()
    fit(net, rows, loss_of, recipe, generator, progress)
    return net.requires_grad_(False).eval()


@torch.no_grad()
def accuracy(net: nn.Module, frames: FrameSet, rows: np.ndarray, size: int) -> float:
    """Return the accuracy of `net` on the `rows` (n,) of `frames`.

    Raises:
        ValueError: `rows` is empty.
    """
    if not len(rows):
        raise ValueError("rows is empty, so there is no accuracy")
    device = next(net.parameters()).device
    hits = 0
    for chunk in np.array_split(rows, -(-len(rows) // 256)):
        verdict = net(frames.floats(chunk, size).to(device)).argmax(dim=1)  # (B, K) -> (B,)
        hits += int((verdict.cpu().numpy() == frames.affect[chunk]).sum())
    return hits / len(rows)
