"""The affect judge: a small network that classifies affect and identity of a frame, and its training."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fexgan_lit.data.reference import telling_rows
from fexgan_lit.metrics.judges.backbone import FaceTrunk
from fexgan_lit.metrics.judges.cache import JudgeKind
from fexgan_lit.metrics.judges.fitting import FitRecipe, Progress, augment, fit, working_size

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


class JudgeReading(NamedTuple):
    """Output of the judge for a batch: affect logits (B, K), identity logits (B, I), features (B, F)."""

    affect_logits: Tensor
    identity_logits: Tensor
    features: Tensor

    @property
    def affect(self) -> Tensor:
        """Predicted affects, (B,) int64 in 0..K-1."""
        return self.affect_logits.argmax(dim=1)

    @property
    def identity(self) -> Tensor:
        """Predicted identities, (B,) int64 in 0..I-1."""
        return self.identity_logits.argmax(dim=1)


class JudgeNet(FaceTrunk):
    """Network that classifies affect and identity of a face, and embeds the face.

    Args:
        affects: number of affects K.
        identities: number of identities I.
        working_size: input size of the network in pixels, a multiple of 16.
        widths: channels after the stem and after each of the three blocks.
        feature_size: length F of a feature vector.
    """

    def __init__(
        self,
        affects: int,
        identities: int,
        working_size: int = 64,
        widths: tuple[int, int, int, int] = (24, 48, 96, 128),
        feature_size: int = 128,
    ) -> None:
        super().__init__(working_size, widths, feature_size)
        self.affect_head = nn.Linear(feature_size, affects)
        self.identity_head = nn.Linear(feature_size, identities)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> JudgeReading:
        """Evaluate images (B, 3, S, S) in [-1, 1]."""
        features = self.embed(images)
        return JudgeReading(self.affect_head(features), self.identity_head(features), features)


@dataclass
class Judge:
    """A trained affect judge with its accuracies.

    Attributes:
        net: the frozen network, in evaluation mode.
        affects: class names of the affect head, in order.
        identities: class names of the identity head, in order.
        image_size: size in pixels of the images it was trained for.
        affect_accuracy: fraction of correctly classified held-out frames (half intensity or more, unknown intensity, or
            neutral); None without held-out frames.
        identity_accuracy: the same for identities.
        train_affect_accuracy: accuracy on the training frames, after training, without augmentation.
        train_identity_accuracy: the same for identities.
        n_held_out: number of held-out frames.
        n_train: number of training frames.
        seed: seed of initialisation, order and augmentation.
        seconds: training time; 0.0 for a judge from the cache.
        from_cache: whether it was loaded from the cache.
        recipe: the training options.
    """

    net: JudgeNet
    affects: tuple[str, ...]
    identities: tuple[str, ...]
    image_size: int
    affect_accuracy: float | None
    identity_accuracy: float | None
    train_affect_accuracy: float
    train_identity_accuracy: float
    n_held_out: int
    n_train: int
    seed: int
    seconds: float = 0.0
    from_cache: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)

    def read(self, images: Tensor, batch_size: int = 256) -> JudgeReading:
        """Evaluate images (N, 3, S, S) in [-1, 1] in batches of `batch_size`, without gradients; return CPU tensors."""
        device = next(self.net.parameters()).device
        with torch.no_grad():
            parts = [self.net(chunk.to(device)) for chunk in images.split(batch_size)]
        return JudgeReading(*(torch.cat([part[i].cpu() for part in parts]) for i in range(3)))

    def to(self, device: torch.device | str) -> Judge:
        """Move the network to `device` and return `self`."""
        self.net.to(device)
        return self

    def describe(self) -> str:
        """Return one line for reports, with the judge's accuracies."""
        if self.affect_accuracy is None or self.identity_accuracy is None:
            return (
                f"judge trained on {self.n_train} frames (seed {self.seed}); its accuracy is unknown without held-out "
                f"frames; on its own training frames: affect {self.train_affect_accuracy:.1%}, "
                f"identity {self.train_identity_accuracy:.1%}"
            )
        return (
            f"judge trained on {self.n_train} frames (seed {self.seed}); on {self.n_held_out} held-out frames: "
            f"affect {self.affect_accuracy:.1%}, identity {self.identity_accuracy:.1%}"
        )


@dataclass(frozen=True)
class JudgeRecipe(FitRecipe):
    """Training options of the affect judge.

    Attributes:
        label_smoothing: label smoothing of both cross-entropies.
        min_intensity: frames below this intensity are left out unless they are neutral: their label is not visible.
        held_out_intensity: the same bound for the held-out frames.
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
    """Train a judge on `train` and evaluate it on `held_out`.

    The global random state of torch is restored; the same seed and thread count give the same judge.

    Args:
        train: the training split; the judge must not see other data.
        held_out: frames with the same affects and identities for evaluation, or None.
        image_size: size in pixels of the frames to judge.
        seed: seed of initialisation, order and augmentation.
        recipe: training options; the defaults suit a few dozen to some ten thousand frames.
        device: device of the training and of the judge.
        progress: called after every step.

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


def judge_accuracy(net: JudgeNet, frames: FrameSet, rows: np.ndarray, size: int) -> tuple[float, float]:
    """Return the fractions of `rows` whose affect and whose identity `net` classifies correctly."""
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
    """Return the sum of the cross-entropies of both heads."""
    affect = torch.from_numpy(frames.affect[chunk]).to(reading.features.device)
    identity = torch.from_numpy(frames.identity[chunk]).to(reading.features.device)
    affect_loss = F.cross_entropy(reading.affect_logits, affect, label_smoothing=smoothing)
    return affect_loss + F.cross_entropy(reading.identity_logits, identity, label_smoothing=smoothing)


#: Judges of affects in the cache.
AFFECT: JudgeKind[Judge] = JudgeKind(
    name="judge",
    version=1,
    judge=Judge,
    recipe=lambda: JudgeRecipe(),  # looked up when it is called, so that tests can make it brief
    train=train_judge,
    network=lambda facts, recipe, size: JudgeNet(len(facts["affects"]), len(facts["identities"]), size, recipe.widths),
    facts=lambda train, held_out: [train.affects, train.identities],
)
load_or_train_judge, kept_judge = AFFECT.load_or_train, AFFECT.load
