"""The judge: a small network that names affect and identity of a face, and what is known about its own reliability."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.metrics.trunk import FaceTrunk

#: Raised whenever the network or its training changes, so that stored judges of another version are not taken.
JUDGE_VERSION = 1


class JudgeReading(NamedTuple):
    """What the judge sees in a batch: affect logits (B, K), identity logits (B, I), features (B, F)."""

    affect_logits: Tensor
    identity_logits: Tensor
    features: Tensor

    @property
    def affect(self) -> Tensor:
        """The verdict, (B,) int64 in 0..K-1."""
        return self.affect_logits.argmax(dim=1)

    @property
    def identity(self) -> Tensor:
        """The verdict, (B,) int64 in 0..I-1."""
        return self.identity_logits.argmax(dim=1)


class JudgeNet(FaceTrunk):
    """Names affect and identity of a face, and embeds it.

    Args:
        affects: K.
        identities: I.
        working_size: side in pixels the network works at, a multiple of 16.
        widths: channels after the stem and after each of the three blocks.
        feature_size: F, the length of a feature vector.
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
        """Read images (B, 3, S, S) in [-1, 1]."""
        features = self.embed(images)
        return JudgeReading(self.affect_head(features), self.identity_head(features), features)


@dataclass
class Judge:
    """A trained judge with the evidence for it.

    Attributes:
        net: the frozen network, in evaluation mode.
        affects: class names of the affect head, in order.
        identities: class names of the identity head, in order.
        image_size: side in pixels of the images it was trained for.
        affect_accuracy: share of held-out frames (half intensity or more, unknown intensity, or neutral) named
            rightly; None when nothing was held out.
        identity_accuracy: the same for identities.
        train_affect_accuracy: on the frames it learnt from, after training, without augmentation.
        train_identity_accuracy: the same for identities.
        n_held_out: held-out frames behind the two held-out accuracies.
        n_train: frames it learnt from.
        seed: of initialisation, order and augmentation.
        seconds: training time; 0.0 when it came from the cache.
        from_cache: whether it was loaded instead of trained.
        recipe: the options it was trained with.
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
        """Read images (N, 3, S, S) in [-1, 1], `batch_size` at a time; the reading is on the CPU, without gradient."""
        device = next(self.net.parameters()).device
        with torch.no_grad():
            parts = [self.net(chunk.to(device)) for chunk in images.split(batch_size)]
        return JudgeReading(*(torch.cat([part[i].cpu() for part in parts]) for i in range(3)))

    def to(self, device: torch.device | str) -> Judge:
        """Move the network; returns the judge itself."""
        self.net.to(device)
        return self

    def describe(self) -> str:
        """One line for reports: who judges, and how often it is right itself."""
        if self.affect_accuracy is None or self.identity_accuracy is None:
            return (
                f"judge trained on {self.n_train} frames (seed {self.seed}); no held-out frames, so its accuracy is "
                f"unknown; on its own training frames: affect {self.train_affect_accuracy:.1%}, "
                f"identity {self.train_identity_accuracy:.1%}"
            )
        return (
            f"judge trained on {self.n_train} frames (seed {self.seed}); on {self.n_held_out} held-out frames: "
            f"affect {self.affect_accuracy:.1%}, identity {self.identity_accuracy:.1%}"
        )
