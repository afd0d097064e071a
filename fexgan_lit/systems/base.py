"""What every published system promises to the doors: an expression system turns (source, expression) into a face."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from fexgan_lit.expression import Expression

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch


class Outcome(NamedTuple):
    """One measured batch: what was made and what the discriminator says of the real source and of it (logits)."""

    generated: Tensor  # (B, 3, S, S) in [-1, 1]
    real_realness: Tensor  # (B,)
    real_affect: Tensor  # (B, K)
    fake_realness: Tensor  # (B,)
    fake_affect: Tensor  # (B, K)


class ExpressionSystem(LightningModule):
    """Base of all systems: manual optimisation, iterations counted in batches, one public promise `synthesize`.

    Attributes:
        reads: the fields of `Expression` this system looks at.
        affects: class names in index order, given by the data set.
        image_size: edge of the images in pixels.
        iteration: batches seen by both networks since the first one of the run, whatever the number of optimizers.
        last_iteration: where the run is meant to end.
        batches_per_epoch: iterations that make one pass over the training frames.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"affect"})
    #: dataclasses that the groups model, loss and optimizer of the configuration fill
    settings_class: ClassVar[type]
    loss_class: ClassVar[type]
    optimizer_class: ClassVar[type]
    #: those dataclasses, filled, nulls resolved
    settings: Any
    weights: Any
    #: smallest batch the networks can be trained on, and why
    min_batch: ClassVar[int] = 1
    min_batch_reason: ClassVar[str] = ""

    def __init__(self, affects: Sequence[str], image_size: int, seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.affects = tuple(affects)
        self.image_size = image_size
        self.seed = seed
        self.iteration = 0
        self.last_iteration = 0
        self.batches_per_epoch = 1

    @property
    def epoch(self) -> int:
        """Passes over the training frames that are complete."""
        return self.iteration // self.batches_per_epoch

    @abstractmethod
    def synthesize(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Give the faces `source` (B, 3, S, S) in [-1, 1] the expression `target`; same shape and range."""

    @abstractmethod
    def assess(self, batch: PairBatch) -> Outcome:
        """Synthesise a batch's targets and let the discriminator judge source and result, without gradients."""

    @abstractmethod
    def portable_parts(self) -> dict[str, nn.Module]:
        """The networks worth carrying elsewhere, by file name; together they restore every public method."""

    def expression(self, indices: Tensor | Sequence[int], strength: float = 1.0) -> Expression:
        """One affect a row, on this system's device: `indices` (B,) -> affect (B, K)."""
        return Expression.of_affects(indices, len(self.affects), strength).to(self.device)

    def seed_iteration(self) -> None:
        """Make the random numbers of an iteration depend on (seed, rank, iteration) alone.

        Dropout and the latent noise then need no saved generator state: a resumed run draws what an uninterrupted
        one would, whatever was drawn in between for validation or figures.
        """
        torch.manual_seed(hash((self.seed, self.global_rank, self.iteration)) & 0x7FFF_FFFF_FFFF_FFFF)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the count of iterations with the weights.

        Lightning's own counters are left out: they count optimizer steps and would take a finished run for one that
        cannot go on. Everything a resumed run needs follows from the iteration.
        """
        checkpoint["iteration"] = self.iteration
        checkpoint.pop("loops", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting where the checkpoint stopped."""
        self.iteration = int(checkpoint["iteration"])
