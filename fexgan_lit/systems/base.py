"""The base class of all systems: what a system must implement, what it may offer, and what it gets."""

from __future__ import annotations

import functools
import warnings
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fexgan_lit.expression import FIELD_NAMES, Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.checkpoints import class_path
from fexgan_lit.systems.noise import BatchNoise
from fexgan_lit.systems.optimizers import lay_out_like, plain_groups
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judges.affect import Judge
    from fexgan_lit.systems.export import Exported


Step = TypeVar("Step", bound=Callable[..., Any])


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


@runtime_checkable
class LatentPrior(Protocol):
    """A system with a prior over latent codes: it can draw faces that start from no source."""

    def sample(
        self, n: int, target: Expression, prior: str = "normal", generator: torch.Generator | None = None
    ) -> Tensor:
        """`n` faces (n, 3, S, S) in [-1, 1] with the affects of `target` (n, K), decoded from codes of the prior."""

    def fit_prior(self, frames: FrameSet, seed: int = 0, most: int = 4096) -> None:
        """Fit the prior to the codes of at most `most` training frames."""


@runtime_checkable
class Exportable(Protocol):
    """A system whose networks `python -m fexgan_lit.export` writes for other programs."""

    def export_modules(self) -> dict[str, Exported]:
        """The networks by file name; one is called `generator` and maps a face to a face."""


def exportable(system: LightningModule) -> Exportable:
    """`system` as an `Exportable`.

    Raises:
        UserError: it has no `export_modules`.
    """
    if isinstance(system, Exportable):
        return system
    raise UserError(f"{type(system).__name__} has no export_modules(), which names the networks to export")


@runtime_checkable
class GraphCapturable(Protocol):
    """A system whose iteration `trainer.cuda_graphs` may capture."""

    def graph_key(self) -> tuple[Hashable, ...]:
        """The values that `training_step` reads, that are not tensors, and that a later iteration may change."""

    def update_graph_inputs(self, images: int) -> None:
        """Before an iteration of `images` pairs is replayed: write to the device what changes every iteration."""


def full_precision(step: Step) -> Step:
    """Decorate a method to run without gradients and in float32, whatever the precision of the training."""

    @functools.wraps(step)
    def measured(self: LightningModule, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return step(self, *args, **kwargs)

    return cast("Step", measured)


class ExpressionSystem(LightningModule):
    """Base class of all systems: a `LightningModule` with manual optimisation that edits expressions.

    A subclass implements `forward`, `training_step`, `validation_step` and `configure_optimizers`. The protocols
    `LatentPrior`, `Exportable` and `GraphCapturable` name what it may offer besides. It works with any
    `lightning.Trainer`; with a `FrameDataModule` it is measured by the project's metrics and takes what it needs of the
    data in `setup`.

    **Iterations.** An iteration is a batch seen by both networks. `trainer.global_step` counts optimizer steps, so
    exactly one step of a batch goes through Lightning's wrapper: `step(index, counted=True)`. All other steps use
    `counted=False`. `max_steps`, `every_n_train_steps` and the axes of loggers then count iterations, however many
    optimizer steps a system makes.

    Args:
        model: options of the networks, a `settings_class` or a mapping with its fields.
        loss: options of the losses, a `loss_class` or a mapping.
        optimizer: options of the optimizers, an `optimizer_class` or a mapping.
        affects: class names in index order, given by the data set.
        seed: of the random numbers in training; initial weights come from torch's global generator.

    Attributes:
        reads: the fields of `Expression` this system looks at.
        pairing: `identity` where source and target of a pair must show one identity, `none` where they need not.
        settings: `model`, filled.
        weights: `loss`, filled.
        optimizer_settings: `optimizer`, filled.
        image_size: edge of the images in pixels.
        iteration: iterations done, as `trainer.global_step` counts them.
        micro_batch: most pairs that the networks see at once; None: the whole batch.
        decay_start: share of the training after which the learning rates fall linearly to zero; None keeps them.
        suites: metrics of the last validation or test, by split.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"affect"})
    #: `identity`: learns from two frames of one identity; `none`: of a target it reads the expression alone
    pairing: ClassVar[str] = "identity"
    #: dataclasses that the groups model, loss and optimizer of the configuration fill
    settings_class: ClassVar[type]
    loss_class: ClassVar[type]
    optimizer_class: ClassVar[type]
    settings: Any
    loss_weights: Any
    optimizer_settings: Any
    #: smallest batch the networks can be trained on, and why
    min_batch: ClassVar[int] = 1
    min_batch_reason: ClassVar[str] = ""
    #: attributes that hold the functions of its losses: dozens of small operations each, which a compiler makes few
    compilable_losses: ClassVar[tuple[str, ...]] = ()
    #: whether `trainer.kernels` may swap the modules of its networks; not where a gradient penalty is on them
    supports_kernels: ClassVar[bool] = False
    #: what `configure_optimizers` should make; `fexgan_lit.training.accelerate` puts a faster one with its name there
    adam: type[Adam] = Adam
    #: why the gradients of a batch cannot be added up part by part (`micro_batch`); empty where they can
    whole_batch_reason: ClassVar[str] = "its training step takes a batch as a whole"

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        classes = (self.settings_class, self.loss_class, self.optimizer_class)
        self.settings, self.loss_weights, self.optimizer_settings = (
            cls(**given) if isinstance(given, Mapping) else given
            for cls, given in zip(classes, (model, loss, optimizer), strict=True)
        )
        # plain values, which a checkpoint keeps without pickling classes
        options = {"model": self.settings, "loss": self.loss_weights, "optimizer": self.optimizer_settings}
        plain = {name: asdict(values) for name, values in options.items()}
        self.save_hyperparameters({**plain, "affects": list(affects), "seed": seed})
        self.affects = tuple(affects)
        self.image_size = self.settings.image_size
        self.seed = seed
        self.iteration = 0
        #: random numbers of a batch, the same whatever the number of processes that share it
        self.noise = BatchNoise()
        self.micro_batch: int | None = None
        self.decay_start: float | None = None
        #: whether a CUDA graph of the iteration is being captured right now (`fexgan_lit.training.cuda_graphs`)
        self.capturing = False
        self.suites: dict[str, Any] = {}

    # ------------------------------------------------------------------ what a system is

    @abstractmethod
    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Give the faces `source` (B, 3, S, S) in [-1, 1] the expression `target`; same shape and range.

        Gradients are kept, so that blends can be learnt and a system tuned on a few images.
        """

    @torch.no_grad()
    def synthesize(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """`forward` without gradients."""
        return self(source, source_expression, target)

    @abstractmethod
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """Synthesize the targets of a batch and let the discriminator judge the sources and the results.

        Decorate it with `full_precision`. What it returns is added to the metrics in `on_validation_batch_end`.
        """

    def saved_modules(self) -> dict[str, nn.Module]:
        """The networks that `weights/*.safetensors` of a run hold, by file name; by default all child modules.

        Together they must restore every public method.
        """
        return {name: child for name, child in self.named_children() if any(True for _ in child.parameters())}

    def discriminate(self, image: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What the discriminator says of faces alone, without gradients.

        Args:
            image: (B, 3, S, S) in [-1, 1].

        Returns:
            Logits of realness (B,), None where they are none or a condition is needed; and of the affects (B, K), None
            where it does not read them.
        """
        return None, None

    def compilable_networks(self) -> dict[str, nn.Module]:
        """The networks that `trainer.compile` may compile, by name.

        A compiled network gives all its gradients whenever it is walked back, asked for or not, so one whose graph
        serves two losses is slower compiled; one that is differentiated twice cannot be.
        """
        return {}

    def prepare(self, frames: FrameSet, judge: Callable[[], Judge | None]) -> None:
        """Take what training needs and does not learn; `setup` calls it before a fit with a `FrameDataModule`.

        Args:
            frames: the training split.
            judge: gives the judge of this data, trained if need be, or None where the run has none.
        """
        return

    def summary_lines(self) -> list[str]:
        """What terminal and report say of this system besides its size."""
        return []

    def condition_warnings(self) -> list[str]:
        """What was noticed in the faces asked for since the last call, a sentence each; then it is forgotten."""
        return []

    def diagnose(self, parts: Mapping[str, float]) -> str | None:
        """What to change where the parts of the loss show a known trouble of this system; None where all is well."""
        return None

    def sample_figures(
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

    # ------------------------------------------------------------------ training

    @property
    def attached_trainer(self) -> Trainer | None:
        """The trainer; None before the system met one, where Lightning's `trainer` raises."""
        try:
            return self.trainer
        except RuntimeError:
            return None

    def timed(self, part: str) -> AbstractContextManager[Any]:
        """Name what runs inside to the trainer's profiler as a part of the step; without a trainer nothing is timed."""
        trainer: Any = self.attached_trainer
        return nullcontext() if trainer is None else trainer.profiler.profile(part)

    def step(self, index: int, *, counted: bool) -> None:
        """Clip the gradients of optimizer number `index`, step it, and clear them.

        Args:
            index: of the optimizer, as `configure_optimizers` returned them.
            counted: whether this is the one step of the batch that `trainer.global_step` counts. The others take the
                same way through strategy and precision, past Lightning's counter.
        """
        optimizers: Any = self.optimizers()
        optimizer = optimizers[index] if isinstance(optimizers, list) else optimizers
        clip_norm = getattr(self.optimizer_settings, "clip_norm", None)
        if clip_norm is not None:
            self.clip_gradients(optimizer, clip_norm, "norm")
        with self.timed("optimizers"):
            if counted and not self.capturing:
                optimizer.step()
            else:
                self.trainer.strategy.optimizer_step(optimizer.optimizer, _no_closure)
            optimizer.zero_grad(set_to_none=True)

    def with_schedule(self, optimizers: list[Optimizer]) -> Any:
        """What `configure_optimizers` returns: the optimizers, with `decay_start` each with a `LambdaLR`."""
        if self.decay_start is None:
            return optimizers
        return optimizers, [LambdaLR(optimizer, self.rate_factor) for optimizer in optimizers]

    def rate_factor(self, iteration: int) -> float:
        """Factor on the learning rates: 1, then linearly to zero over the last part of the training."""
        if self.decay_start is None or iteration == 0:  # at 0 Lightning does not know the length of an epoch yet
            return 1.0
        t = self.trainer
        total = t.max_steps if t.max_steps > 0 else (t.max_epochs or 1) * t.num_training_batches
        return min(1.0, max(0.0, (1 - iteration / total) / (1 - self.decay_start)))

    def setup(self, stage: str) -> None:
        """Before a fit, take what the system needs of the data (`prepare`)."""
        from fexgan_lit.data.datamodule import FrameDataModule

        # a page of advice for those who want the weights before the step; here the ones after it are meant
        warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and isinstance(data, FrameDataModule):
            from fexgan_lit.metrics.of_data import judge_of

            self.noise.share = data.share
            self.prepare(data.train, lambda: judge_of(data))

    def on_train_start(self) -> None:
        """Count from where the trainer stands."""
        self.iteration = self.trainer.global_step

    def on_train_batch_start(self, batch: PairBatch, batch_idx: int) -> None:
        """Set the learning rates of this iteration."""
        schedulers: Any = self.lr_schedulers() or []
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if self.iteration:  # the rate of the first is the one it was made with
                with warnings.catch_warnings():  # a generator may step on every n-th iteration only
                    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                    scheduler.step()

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:
        """Count the iteration and log its losses at the trainer's interval; logging each one would cost 7 ms."""
        self.iteration = self.trainer.global_step
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.iteration % every == 0:
            self.log_dict({f"loss/{name}": loss for name, loss in outputs.items()})
            self.log_at_iteration()

    def log_at_iteration(self) -> None:
        """Let Lightning log with the number of iterations done as the step, in place of the index of the last batch."""
        self.log("step", float(self.iteration))

    def seed_iteration(self) -> None:
        """Make the random numbers of an iteration depend on (seed, rank, iteration) alone.

        Dropout and the latent noise then need no saved generator state: a resumed run draws what an uninterrupted
        one would, whatever was drawn in between for validation or figures. What `noise` draws does not depend on the
        rank either.
        """
        if self.capturing:
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

    # ------------------------------------------------------------------ validation, test, prediction

    def on_validation_epoch_start(self) -> None:
        """Begin the metrics of the validation pairs."""
        self._begin_suites(("val",), fid=False)

    def on_test_epoch_start(self) -> None:
        """Begin the final metrics, those of `FrameDataModule.test_splits`."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self._begin_suites(getattr(data, "test_splits", ("val",)), fid=True)

    def _begin_suites(self, splits: Sequence[str], fid: bool) -> None:
        from fexgan_lit.data.datamodule import FrameDataModule
        from fexgan_lit.metrics.groups import DiscriminatorMetrics, PixelMetrics
        from fexgan_lit.metrics.suite import MetricSuite

        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, FrameDataModule):
            from fexgan_lit.metrics.of_data import metric_suite

            self.suites = {split: metric_suite(data, split, fid=fid, device=self.device) for split in splits}
        else:  # other loaders than those of a FrameDataModule: there is no judge
            self.suites = {
                split: MetricSuite([PixelMetrics(), DiscriminatorMetrics()], f"split={split}") for split in splits
            }

    def test_step(self, batch: PairBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """The same as `validation_step`, on the split that `dataloader_idx` stands for."""
        return self.validation_step(batch, batch_idx)

    def on_validation_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add a batch of validation pairs to the metrics."""
        self.suites["val"].update(batch, outputs.generated, outputs, self)

    def on_test_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add a batch to the metrics of its split."""
        self.suites[list(self.suites)[dataloader_idx]].update(batch, outputs.generated, outputs, self)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics as `val/...`."""
        self.log_dict({f"val/{name}": value for name, value in self.suites["val"].compute().items()})
        self.log_at_iteration()

    def on_test_epoch_end(self) -> None:
        """Log the metrics of every split as `final/<split>/...`."""
        for split, suite in self.suites.items():
            self.log_dict({f"final/{split}/{name}": value for name, value in suite.compute().items()})
        self.log_at_iteration()

    def predict_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """The sources (B, 3, S, S) with the expressions of their targets."""
        K = len(self.affects)
        return self.synthesize(batch.source, batch.source_expression(K), batch.target_expression(K))

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the system and the iteration beside the weights."""
        checkpoint["system"] = class_path(type(self))
        checkpoint["iteration"] = self.trainer.global_step
        plain_groups(checkpoint.get("optimizer_states", []))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this system, and go on counting where it stopped.

        Raises:
            UserError: it is of another system or of other networks, or optimizer states are missing or too many.
        """
        from fexgan_lit.systems.checkpoints import add_loops, check_fits

        trainer = self.attached_trainer
        fitting = trainer is not None and trainer.state.fn == TrainerFn.FITTING
        check_fits(checkpoint, self, resume=fitting)
        self.iteration = int(checkpoint["iteration"])
        lay_out_like(self, checkpoint.get("optimizer_states", []))
        if trainer is not None and fitting:
            add_loops(checkpoint, trainer)


def _no_closure() -> None:
    """Optimizers of manual optimisation have their gradients already."""


def check_units(low: float, high: float, where: str) -> None:
    """Raise a UserError that names `where` if action units from `low` to `high` are not intensities in 0..1."""
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise UserError(
            f"{where}: action units from {low:.3g} to {high:.3g}, expected intensities in 0..1. OpenFace writes 0..5: "
            "divide by 5 (dataset.annotations does so itself)"
        )
