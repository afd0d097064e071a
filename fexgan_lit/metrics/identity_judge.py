"""The identity judge: a small network that embeds faces so that one person's lie close whatever they express."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fexgan_lit.metrics.trunk import FaceTrunk

#: Raised whenever the network or its training changes, so that stored judges of another version are not taken.
IDENTITY_VERSION = 1


class IdentityNet(FaceTrunk):
    """Embeds a face on the unit sphere.

    Args:
        working_size: side in pixels the network works at, a multiple of 16.
        widths: channels after the stem and after each of the three blocks.
        feature_size: F, length of the features before the sphere.
        embedding_size: E.
    """

    def __init__(
        self,
        working_size: int = 64,
        widths: tuple[int, int, int, int] = (16, 32, 64, 96),
        feature_size: int = 128,
        embedding_size: int = 64,
    ) -> None:
        super().__init__(working_size, widths, feature_size)
        self.embedding_size = embedding_size
        self.projection = nn.Linear(feature_size, embedding_size, bias=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] -> embeddings (B, E) of length 1."""
        return F.normalize(self.projection(self.embed(images)), dim=1)


@dataclass
class IdentityJudge:
    """A trained identity judge with the evidence for it.

    The evidence is the ceiling of the same scores for generated frames: held-out true frames are recognised from one
    neutral gallery frame of each take of a person (see `gallery_and_probes`).

    Attributes:
        net: the frozen network, in evaluation mode.
        image_size: side in pixels of the images it was trained for.
        people: identities it learnt to tell apart.
        strangers: how many of the people it was measured on were not among them.
        rank1: share of held-out probes whose nearest gallery frame shows the same person; None where it could not be
            measured.
        tar: true accept rates by false accept rate, both as shares; None where a rate cannot be measured.
        impostors: impostor pairs behind `tar`.
        n_gallery: held-out frames in the gallery.
        n_held_out: held-out frames recognised.
        n_train: frames it learnt from.
        seed: of initialisation, order and augmentation.
        seconds: training time, as measured when it was trained.
        from_cache: whether it was loaded instead of trained.
        recipe: the options it was trained with.
    """

    net: IdentityNet
    image_size: int
    people: tuple[str, ...]
    n_train: int
    seed: int
    strangers: int = 0
    rank1: float | None = None
    tar: dict[str, float | None] = field(default_factory=dict)
    impostors: int = 0
    n_gallery: int = 0
    n_held_out: int = 0
    seconds: float = 0.0
    from_cache: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)

    def embed(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Unit embeddings (N, E) of images (N, 3, S, S) in [-1, 1], on the CPU, without gradient."""
        device = next(self.net.parameters()).device
        with torch.no_grad():
            return torch.cat([self.net(chunk.to(device)).cpu() for chunk in images.split(batch_size)])

    def to(self, device: torch.device | str) -> IdentityJudge:
        """Move the network; returns the judge itself."""
        self.net.to(device)
        return self

    def describe(self) -> str:
        """One line for reports: on whom it was trained, and how well it recognises true frames."""
        start = f"identity embedding trained on {self.n_train} frames of {len(self.people)} people (seed {self.seed})"
        if self.rank1 is None:
            return f"{start}; not measured on held-out frames, so its worth is unknown"
        who = f", {self.strangers} of their people unknown to it" if self.strangers else ""
        rates = "".join(
            f", TAR at FAR {float(far):.1%} {f'{tar:.1%}' if tar is not None else 'not measurable'}"
            for far, tar in self.tar.items()
        )
        return (
            f"{start}; on {self.n_held_out} held-out true frames against a gallery of {self.n_gallery}{who}: "
            f"Rank-1 {self.rank1:.1%}{rates} ({self.impostors} impostor pairs)"
        )
