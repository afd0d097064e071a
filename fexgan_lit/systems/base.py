"""What every published system promises to the doors: an expression system turns (source, expression) into a face."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from fexgan_lit.distributed.noise import BatchNoise
from fexgan_lit.errors import UserError
from fexgan_lit.expression import FIELD_NAMES, Expression
from fexgan_lit.systems.optimisers import lay_out_like, plain_groups

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judge import Judge
    from fexgan_lit.systems.exported import Exported


class Outcome(NamedTuple):
    """One measured batch: what was made and what the discriminator says of the real source and of it.

    Attributes:
        generated: (B, 3, S, S) in [-1, 1].
        real_realness: (B,) of the sources; a map of patches is averaged.
        real_affect: (B, K) class logits of the sources, or None where the discriminator has no class head.
        fake_realness: (B,) of the generated faces.
        fake_affect: (B, K) class logits of the generated faces, or None.
        calibrated: whether realness is a logit, so that its sign says real or generated. The score of a Wasserstein
            critic is none: only differences mean something.
    """

    generated: Tensor
    real_realness: Tensor
    real_affect: Tensor | None
    fake_realness: Tensor
    fake_affect: Tensor | None
    calibrated: bool = True


class Sheet(NamedTuple):
    """A picture that one system alone can give: faces in rows and columns beside the faces they come from.

    Attributes:
        name: of its file.
        caption: a sentence for the report.
        references: (R, 3, S, S) in [-1, 1].
        cells: (R, C, 3, S, S) in [-1, 1].
        rows: R labels.
        columns: C labels.
    """

    name: str
    caption: str
    references: Tensor
    cells: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]


class ExpressionSystem(LightningModule):
    """Base of all systems: manual optimisation, iterations counted in batches, one public promise `synthesize`.

    Attributes:
        reads: the fields of `Expression` this system looks at.
        pairing: `identity` where source and target of a pair must show one identity, `none` where they need not.
        affects: class names in index order, given by the data set.
        image_size: edge of the images in pixels.
        iteration: batches seen by both networks since the first one of the run, whatever the number of optimizers.
        last_iteration: where the run is meant to end.
        batches_per_epoch: iterations that make one pass over the training frames.
        micro_batch: most pairs that the networks see at once; None: the whole batch.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"affect"})
    #: `identity`: learns from two frames of one identity; `none`: of a target it reads the expression alone
    pairing: ClassVar[str] = "identity"
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
    #: attributes that hold the functions of its losses: dozens of small operations each, which a compiler makes few
    compilable_losses: ClassVar[tuple[str, ...]] = ()
    #: whether `trainer.cuda_graphs` may record its iteration: `frozen` tells what its step reads and is no tensor
    replayable: ClassVar[bool] = False
    #: why the gradients of a batch cannot be added up part by part (`micro_batch`); empty where they can
    whole_batch_reason: ClassVar[str] = "its training step takes a batch as a whole"

    def __init__(self, affects: Sequence[str], image_size: int, seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.affects = tuple(affects)
        self.image_size = image_size
        self.seed = seed
        self.iteration = 0
        #: random numbers of a batch, the same whatever the number of processes that share it
        self.noise = BatchNoise()
        self.last_iteration = 0
        self.batches_per_epoch = 1
        self.micro_batch: int | None = None
        #: whether the iteration is being recorded right now (`fexgan_lit.replay`)
        self.recorded = False

    @property
    def epoch(self) -> int:
        """Passes over the training frames that are complete."""
        return self.iteration // self.batches_per_epoch

    @abstractmethod
    def synthesize(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Give the faces `source` (B, 3, S, S) in [-1, 1] the expression `target`; same shape and range."""

    def render(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """`synthesize` with gradients: what learns from outside (a blend, a few new images) walks back through it.

        Raises:
            UserError: the system has none.
        """
        raise UserError(f"{self.settings.name} gives no gradients through the faces it makes (`render`)")

    @abstractmethod
    def assess(self, batch: PairBatch) -> Outcome:
        """Synthesise a batch's targets and let the discriminator judge source and result, without gradients."""

    @abstractmethod
    def portable_parts(self) -> dict[str, nn.Module]:
        """The networks worth carrying elsewhere, by file name; together they restore every public method."""

    def read_faces(self, image: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What the discriminator says of faces alone, without gradients.

        Args:
            image: (B, 3, S, S) in [-1, 1].

        Returns:
            Logits of realness (B,), None where they are none or a condition is needed; and of the affects (B, K), None
            where it does not read them.
        """
        return None, None

    def export_parts(self) -> dict[str, Exported]:
        """The networks that `python -m fexgan_lit.export` writes for other programs, by file name.

        One of them is called `generator` and goes the whole way from face to face.
        """
        return {}

    def compilable_networks(self) -> dict[str, nn.Module]:
        """The networks that `trainer.compile` may compile, by name.

        A compiled network gives all its gradients whenever it is walked back, asked for or not, so one whose graph
        serves two losses is slower compiled; one that is differentiated twice cannot be.
        """
        return {}

    def prepare(self, frames: FrameSet, judge: Callable[[], Judge | None]) -> None:
        """Take what training needs and does not learn; called once, before the first iteration.

        Args:
            frames: the training split.
            judge: gives the judge of this data, trained if need be, or None where the run has none.
        """
        return

    def frozen(self) -> tuple[Hashable, ...]:
        """What a recording of the training step would freeze and a later iteration may have otherwise."""
        return ()

    def refresh(self, images: int) -> None:
        """Before an iteration of so many pairs is replayed: write to the device what changes with every iteration."""
        return

    def facts(self) -> list[str]:
        """What terminal and report say of this system besides its size."""
        return []

    def notices(self) -> list[str]:
        """What was noticed in the faces asked for since the last call, a sentence each; then it is forgotten."""
        return []

    def concern(self, parts: Mapping[str, float]) -> str | None:
        """What to change where the parts of the loss show a known trouble of this system; None where all is well."""
        return None

    def sheets(
        self, references: Tensor, shown: Expression, wanted: Sequence[Expression], identities: Sequence[str]
    ) -> list[Sheet]:
        """Pictures that this system adds to those of every run.

        Args:
            references: a face of each identity, (I, 3, S, S).
            shown: what they show, (I, ...).
            wanted: for each of the K affects what the references are asked for, (I, ...).
            identities: I names.
        """
        return []

    def check_reads(self, wanted: Expression) -> None:
        """Raise a UserError if `wanted` lacks a field this system reads."""
        lacking = [FIELD_NAMES[name] for name in sorted(self.reads) if getattr(wanted, name) is None]
        if lacking:
            raise UserError(f"{self.settings.name} reads {' and '.join(lacking)}; the wanted expression has none")

    def expression(self, indices: Tensor | Sequence[int], strength: float = 1.0) -> Expression:
        """One affect a row, on this system's device: `indices` (B,) -> affect (B, K)."""
        return Expression.of_affects(indices, len(self.affects), strength).to(self.device)

    def seed_iteration(self) -> None:
        """Make the random numbers of an iteration depend on (seed, rank, iteration) alone.

        Dropout and the latent noise then need no saved generator state: a resumed run draws what an uninterrupted
        one would, whatever was drawn in between for validation or figures. What `noise` draws does not depend on the
        rank either.
        """
        if self.recorded:
            return  # a generator takes no seed meanwhile; whoever replays the iteration gives it
        # torch.manual_seed also formats a stack trace for every kind of device that is not in use: a millisecond here
        seed = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seed(self._key_of(self.noise.share.rank))
        self.noise.seed(self._key_of(0), self.device)

    def _key_of(self, rank: int) -> int:
        return hash((self.seed, rank, self.iteration)) & 0x7FFF_FFFF_FFFF_FFFF

    def clip_gradients(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        """As in Lightning; of several processes, all clip the mean of their gradients."""
        average = getattr(self.trainer.strategy, "average", None)
        if average is not None:
            average(getattr(optimizer, "optimizer", optimizer))
        super().clip_gradients(optimizer, *args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the count of iterations with the weights.

        Lightning's own counters are left out: they count optimizer steps and would take a finished run for one that
        cannot go on. Everything a resumed run needs follows from the iteration.
        """
        checkpoint["iteration"] = self.iteration
        plain_groups(checkpoint.get("optimizer_states", []))
        checkpoint.pop("loops", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting where the checkpoint stopped, with moments that lie in memory as the weights now do."""
        self.iteration = int(checkpoint["iteration"])
        lay_out_like(self, checkpoint.get("optimizer_states", []))
