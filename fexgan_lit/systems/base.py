"""The base class of all systems, and the protocols for what a system can offer besides."""

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
from fexgan_lit.utils.options import checked_sections

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judges.affect import Judge
    from fexgan_lit.systems.export import Exported


Step = TypeVar("Step", bound=Callable[..., Any])

#: What a subclass of `ExpressionSystem` must define; `abstractmethod` has no effect without the metaclass of `abc.ABC`.
REQUIRED = {
    "settings_class": "the dataclass of the options `model`",
    "loss_class": "the dataclass of the options `loss`",
    "optimizer_class": "the dataclass of the options `optimizer`",
    "forward": "gives images (B, 3, S, S) the target expressions",
    "training_step": "trains on a batch and returns its losses",
    "validation_step": "generates the targets of a batch and returns a ValidationOutput",
    "configure_optimizers": "returns with_schedule(optimizers)",
}


class Sheet(NamedTuple):
    """An extra figure of one system: a grid of images with one reference image per row.

    Attributes:
        name: file name, without suffix.
        caption: one sentence for the report.
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
    """A system with a prior over latent codes, which can generate images without a source image."""

    def sample(
        self, n: int, target: Expression, prior: str = "normal", generator: torch.Generator | None = None
    ) -> Tensor:
        """Generate `n` images (n, 3, S, S) in [-1, 1] with the affects of `target` (n, K) from codes of the prior."""

    def fit_prior(self, frames: FrameSet, seed: int = 0, most: int = 4096) -> None:
        """Fit the prior to the codes of at most `most` training frames."""


@runtime_checkable
class Reconstructs(Protocol):
    """A system that redraws faces from codes, and therefore only draws the faces that it was trained on."""

    def reconstruction_error(self, image: Tensor) -> Tensor:
        """Return the mean absolute difference (B,) of images (B, 3, S, S) from themselves redrawn, in levels of 255."""

    def reconstruction_limit(self, frames: FrameSet, most: int = 128) -> float:
        """Return the largest error of at most `most` frames of the training's identities."""


@runtime_checkable
class EditsSeveral(Protocol):
    """A system that combines several pictures of one person."""

    def synthesize_among(
        self, source: Tensor, source_expression: Expression | None, target: Expression, others: Tensor
    ) -> Tensor:
        """Return images (B, 3, S, S) made of each source (B, 3, S, S) and of `others` (N, 3, S, S) of its person."""


@runtime_checkable
class Exportable(Protocol):
    """A system whose networks `python -m fexgan_lit.export` can write for other programs."""

    def export_modules(self) -> dict[str, Exported]:
        """Return the networks by file name; the one named `generator` maps an image to an image."""


def exportable(system: LightningModule) -> Exportable:
    """Return `system` as an `Exportable`.

    Raises:
        UserError: `system` has no `export_modules`.
    """
    if isinstance(system, Exportable):
        return system
    raise UserError(f"{type(system).__name__} has no export_modules(), which names the networks to export")


@runtime_checkable
class GraphCapturable(Protocol):
    """A system whose iteration can be captured as a CUDA graph (`trainer.cuda_graphs`)."""

    def graph_key(self) -> tuple[Hashable, ...]:
        """Return the non-tensor values that `training_step` reads and a later iteration may change."""

    def update_graph_inputs(self, images: int) -> None:
        """Copy the values that change every iteration to the device before a replay with `images` pairs."""


def full_precision(step: Step) -> Step:
    """Decorate a method to run without gradients and in float32, whatever the precision of the training."""

    @functools.wraps(step)
    def measured(self: LightningModule, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return step(self, *args, **kwargs)

    return cast("Step", measured)


class ExpressionSystem(LightningModule):
    """Base class of all systems: a `LightningModule` with manual optimisation that edits expressions.

    A subclass implements `forward`, `training_step`, `validation_step` and `configure_optimizers`, and may implement
    the protocols `LatentPrior`, `Exportable` and `GraphCapturable`. A system works with any `lightning.Trainer`; with a
    `FrameDataModule` the project's metrics are computed too, and `setup` calls `prepare` with the training frames.

    **Iterations.** One iteration trains both networks on one batch. `trainer.global_step` counts optimizer steps, so
    exactly one step per batch goes through Lightning's wrapper: `step(index, counted=True)`. All other steps use
    `counted=False`. `max_steps`, `every_n_train_steps` and the loggers' x axes then count iterations, however many
    optimizer steps a system makes.

    Args:
        model: network options, as a `settings_class` or a mapping with its fields.
        loss: loss options, as a `loss_class` or a mapping.
        optimizer: optimizer options, as an `optimizer_class` or a mapping.
        affects: class names of the data set in index order.
        seed: seed of the random numbers in training; torch's global generator initialises the weights.

    Raises:
        UserError: the subclass lacks something of `REQUIRED`, or options are unknown or invalid; the error lists all.

    Attributes:
        reads: the fields of `Expression` that this system reads.
        pairing: `identity` where source and target of a pair must show the same identity, otherwise `none`.
        settings: `model` as a `settings_class`.
        loss_weights: `loss` as a `loss_class`.
        optimizer_settings: `optimizer` as an `optimizer_class`.
        image_size: edge length of the images in pixels.
        iteration: number of finished iterations, equal to `trainer.global_step`.
        micro_batch: largest number of pairs in one forward pass; None for the whole batch.
        decay_start: fraction of the training after which the learning rates decay linearly to zero; None for constant
            rates.
        suites: metrics of the last validation or test, by split.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"affect"})
    #: fields of `Expression` that training reads of the source; in use, a source may lack them
    source_reads: ClassVar[frozenset[str]] = frozenset()
    #: whether target landmarks may be those of any face, since the system fits them to the source itself
    fuses_landmarks: ClassVar[bool] = False
    #: `identity`: training needs two frames of one identity; `none`: training reads only the expression of the target
    pairing: str = "identity"
    #: dataclasses for the groups model, loss and optimizer of the configuration
    settings_class: ClassVar[type]
    loss_class: ClassVar[type]
    optimizer_class: ClassVar[type]
    settings: Any
    loss_weights: Any
    optimizer_settings: Any
    #: smallest batch size that the networks can be trained with, and the reason
    min_batch: ClassVar[int] = 1
    min_batch_reason: ClassVar[str] = ""
    #: names of the attributes that hold loss functions; compiling fuses their dozens of small operations
    compilable_losses: ClassVar[tuple[str, ...]] = ()
    #: whether `trainer.kernels` may replace modules of the networks; impossible under a gradient penalty
    supports_kernels: ClassVar[bool] = False
    #: class for `configure_optimizers`; `fexgan_lit.training.accelerate` sets a faster subclass of the same name
    adam: type[Adam] = Adam
    #: why gradients cannot be accumulated over parts of a batch (`micro_batch`); empty where they can
    whole_batch_reason: ClassVar[str] = "its training step takes a batch as a whole"

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        mine = type(self)
        lacking = [name for name in REQUIRED if getattr(mine, name, None) is getattr(ExpressionSystem, name, None)]
        if lacking:
            listed = "\n".join(f"  - {name}: {REQUIRED[name]}" for name in lacking)
            raise UserError(f"{mine.__name__} lacks, see docs/adding_a_system.md:\n{listed}")
        self.automatic_optimization = False
        classes = {"model": self.settings_class, "loss": self.loss_class, "optimizer": self.optimizer_class}
        given = zip(classes.items(), (model, loss, optimizer), strict=True)
        options = checked_sections({name: (cls, values) for (name, cls), values in given})
        self.settings, self.loss_weights, self.optimizer_settings = options.values()
        # plain values, which a checkpoint stores without pickling classes
        plain = {name: asdict(values) for name, values in options.items()}
        self.save_hyperparameters({**plain, "affects": list(affects), "seed": seed})
        self.affects = tuple(affects)
        self.image_size = self.settings.image_size
        self.seed = seed
        self.iteration = 0
        #: random numbers of a batch, independent of the number of processes that share the batch
        self.noise = BatchNoise()
        self.micro_batch: int | None = None
        self.decay_start: float | None = None
        #: whether a CUDA graph of the iteration is being captured (`fexgan_lit.training.cuda_graphs`)
        self.capturing = False
        self.suites: dict[str, Any] = {}

    # ------------------------------------------------------------------ interface of a system

    @abstractmethod
    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Give the images `source` (B, 3, S, S) in [-1, 1] the expression `target`; shape and range stay the same.

        Gradients flow, so that expression blends can be learnt and a system can be fine-tuned on a few images.
        """

    @torch.no_grad()
    def synthesize(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Call `forward` without gradients."""
        return self(source, source_expression, target)

    @abstractmethod
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """Generate the targets of a batch, and let the discriminator judge the sources and the generated images.

        Decorate the method with `full_precision`. `on_validation_batch_end` adds the returned output to the metrics.
        """

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the networks for `weights/*.safetensors` by file name; by default all child modules with parameters.

        Together the networks must restore every public method.
        """
        return {name: child for name, child in self.named_children() if any(True for _ in child.parameters())}

    def weights_of(self, other: ExpressionSystem) -> dict[str, dict[str, Tensor]]:
        """Return the weights of a trained system for a new one that starts from them, by name in `saved_modules`.

        Override it if the same layer has another name in a system of another size.
        """
        return {name: dict(part.state_dict()) for name, part in other.saved_modules().items()}

    def discriminate(self, image: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the discriminator's outputs for images alone, without gradients.

        Args:
            image: (B, 3, S, S) in [-1, 1].

        Returns:
            Realness logits (B,), None where the discriminator gives no logits or needs a condition; and affect logits
            (B, K), None where the discriminator does not classify affects.
        """
        return None, None

    def compilable_networks(self) -> dict[str, nn.Module]:
        """Return the networks that `trainer.compile` may compile, by name.

        A compiled network computes all its gradients in every backward pass. A network whose graph serves two losses
        therefore gets slower, and a network that is differentiated twice cannot be compiled.
        """
        return {}

    def prepare(self, frames: FrameSet, judge: Callable[[], Judge | None]) -> None:
        """Compute what training needs and does not learn; `setup` calls this before a fit with a `FrameDataModule`.

        Args:
            frames: the training split.
            judge: returns the judge of this data set, training it if necessary, or None where the run has no judge.
        """
        return

    def summary_lines(self) -> list[str]:
        """Return lines about this system, besides its size, for the terminal and the report."""
        return []

    def condition_warnings(self) -> list[str]:
        """Return one sentence per problem found in the target expressions since the last call, and forget them."""
        return []

    def diagnose(self, parts: Mapping[str, float]) -> str | None:
        """Return advice where the loss parts show a known problem of this system, otherwise None."""
        return None

    def sample_figures(
        self, references: Tensor, shown: Expression, wanted: Sequence[Expression], identities: Sequence[str]
    ) -> list[Sheet]:
        """Return figures that this system adds to the figures of every run.

        Args:
            references: one image of each identity, (I, 3, S, S).
            shown: expressions of the references, (I, ...).
            wanted: target expressions of the references for each of the K affects, (I, ...).
            identities: I names.
        """
        return []

    def check_reads(self, wanted: Expression) -> None:
        """Raise a UserError if `wanted` lacks a field this system reads."""
        lacking = [FIELD_NAMES[name] for name in sorted(self.reads) if getattr(wanted, name) is None]
        if lacking:
            raise UserError(f"{self.settings.name} reads {' and '.join(lacking)}; the target expression has none")

    def expression(self, indices: Tensor | Sequence[int], strength: float = 1.0) -> Expression:
        """Return one affect per row on this system's device: `indices` (B,) -> affect (B, K)."""
        return Expression.of_affects(indices, len(self.affects), strength).to(self.device)

    # ------------------------------------------------------------------ training

    @property
    def attached_trainer(self) -> Trainer | None:
        """Return the trainer, or None where no trainer is attached (Lightning's `trainer` raises an error there)."""
        try:
            return self.trainer
        except RuntimeError:
            return None

    def timed(self, part: str) -> AbstractContextManager[Any]:
        """Record the enclosed code as `part` in the trainer's profiler; do nothing without a trainer."""
        trainer: Any = self.attached_trainer
        return nullcontext() if trainer is None else trainer.profiler.profile(part)

    def step(self, index: int, *, counted: bool) -> None:
        """Clip the gradients of optimizer number `index`, step the optimizer, and clear the gradients.

        Args:
            index: position of the optimizer in the list from `configure_optimizers`.
            counted: whether `trainer.global_step` counts this step; exactly one step per batch is counted. The other
                steps pass through the same strategy and precision plugin but bypass Lightning's counter.
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
                self.trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)  # gradients are there
            optimizer.zero_grad(set_to_none=True)

    def with_schedule(self, optimizers: list[Optimizer]) -> Any:
        """Return the optimizers for `configure_optimizers`, each with a `LambdaLR` if `decay_start` is set."""
        if self.decay_start is None:
            return optimizers
        return optimizers, [LambdaLR(optimizer, self.rate_factor) for optimizer in optimizers]

    def rate_factor(self, iteration: int) -> float:
        """Return the factor on the learning rates: 1, then a linear decay to zero after `decay_start`."""
        if self.decay_start is None or iteration == 0:  # at 0 Lightning does not know the length of an epoch yet
            return 1.0
        t = self.trainer
        total = t.max_steps if t.max_steps > 0 else (t.max_epochs or 1) * t.num_training_batches
        return min(1.0, max(0.0, (1 - iteration / total) / (1 - self.decay_start)))

    def setup(self, stage: str) -> None:
        """Call `prepare` before a fit."""
        from fexgan_lit.data.datamodule import FrameDataModule

        # this long warning is for users who want the weights before the step; this project saves the weights after it
        warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and isinstance(data, FrameDataModule):
            from fexgan_lit.metrics.of_data import judge_of

            self.noise.share = data.share
            self.prepare(data.train, lambda: judge_of(data))

    def on_train_start(self) -> None:
        """Continue counting from the trainer's step."""
        self.iteration = self.trainer.global_step

    def on_train_batch_start(self, batch: PairBatch, batch_idx: int) -> None:
        """Set the learning rates of this iteration."""
        schedulers: Any = self.lr_schedulers() or []
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if self.iteration:  # the scheduler's constructor sets the rate of the first iteration
                with warnings.catch_warnings():  # a generator may step on every n-th iteration only
                    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                    scheduler.step()

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:
        """Count the iteration and log its losses at the trainer's interval; logging costs 7 ms.

        Raises:
            UserError: `training_step` did not count exactly one optimizer step, so `max_steps` would count no batches.
        """
        if (counted := self.trainer.global_step - self.iteration) != 1:
            raise UserError(
                f"{type(self).__name__}.training_step counted {counted} optimizer steps in a batch; expected exactly "
                "one self.step(index, counted=True), and counted=False for the others"
            )
        self.iteration = self.trainer.global_step
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.iteration % every == 0:
            self.log_dict({f"loss/{name}": loss for name, loss in outputs.items()})
            self.log_at_iteration()

    def log_at_iteration(self) -> None:
        """Log the number of finished iterations as Lightning's step, in place of the index of the last batch."""
        self.log("step", float(self.iteration))

    def seed_iteration(self) -> None:
        """Make the random numbers of an iteration depend on (seed, rank, iteration) alone.

        Dropout and latent noise then need no saved generator state: a resumed run draws the same numbers as an
        uninterrupted run, whatever validation and figures draw in between. The numbers from `noise` do not even depend
        on the rank.
        """
        if self.capturing:
            return  # a generator cannot be seeded during capture; the code that replays the graph seeds it
        # torch.manual_seed also formats a stack trace for every unused kind of device, which costs a millisecond
        seed = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seed(self._key_of(self.noise.share.rank))
        self.noise.seed(self._key_of(0), self.device)

    def _key_of(self, rank: int) -> int:
        return hash((self.seed, rank, self.iteration)) & 0x7FFF_FFFF_FFFF_FFFF

    def clip_gradients(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as Lightning does; with several processes, average the gradients over the processes first.

        With `bf16-mixed` Lightning refuses fused optimizers, since they unscale gradients themselves; gradients of bf16
        have no scale, so they are clipped here.
        """
        average = getattr(self.trainer.strategy, "average", None)
        if average is not None:
            average(getattr(optimizer, "optimizer", optimizer))
        plugin = self.trainer.precision_plugin
        if plugin.precision == "bf16-mixed" and gradient_clip_val and gradient_clip_algorithm == "norm":
            plugin.clip_grad_by_norm(optimizer, gradient_clip_val)
        else:
            super().clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # ------------------------------------------------------------------ validation, test, prediction

    def on_validation_epoch_start(self) -> None:
        """Create the metrics of the validation split."""
        self._begin_suites(("val",), fid=False)

    def on_test_epoch_start(self) -> None:
        """Create the final metrics of the splits in `FrameDataModule.test_splits`."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self._begin_suites(getattr(data, "test_splits", ("val",)), fid=True)

    def _begin_suites(self, splits: Sequence[str], fid: bool) -> None:
        from fexgan_lit.data.datamodule import FrameDataModule
        from fexgan_lit.metrics.groups import DiscriminatorMetrics, PixelMetrics
        from fexgan_lit.metrics.of_data import metric_suite
        from fexgan_lit.metrics.suite import MetricSuite

        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.suites = {
            split: metric_suite(data, split, fid=fid, device=self.device)
            if isinstance(data, FrameDataModule)
            else MetricSuite([PixelMetrics(), DiscriminatorMetrics()], f"split={split}")  # there is no judge
            for split in splits
        }

    def test_step(self, batch: PairBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Call `validation_step` on a batch of the split with index `dataloader_idx`."""
        return self.validation_step(batch, batch_idx)

    def on_validation_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add a batch to the metrics of the validation split."""
        self.suites["val"].add(self, batch, outputs)

    def on_test_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add a batch to the metrics of its split, and log them as `final/<split>/...` with its last batch.

        Lightning prints what `on_test_epoch_end` logs once per split.
        """
        split, suite = list(self.suites.items())[dataloader_idx]
        suite.add(self, batch, outputs)
        if len(self.suites) > 1 and batch_idx + 1 == self.trainer.num_test_batches[dataloader_idx]:
            self._log_final(split, on_step=False, on_epoch=True, add_dataloader_idx=False, batch_size=1)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics as `val/...`."""
        self.log_dict({f"val/{name}": value for name, value in self.suites["val"].compute().items()})
        self.log_at_iteration()

    def on_test_epoch_end(self) -> None:
        """Log the metrics of a single split as `final/<split>/...`."""
        if len(self.suites) == 1:
            self._log_final(*self.suites)
        self.log_at_iteration()

    def _log_final(self, split: str, **options: Any) -> None:
        self.log_dict(
            {f"final/{split}/{name}": value for name, value in self.suites[split].compute().items()}, **options
        )

    def predict_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Generate the sources (B, 3, S, S) with the expressions of their targets."""
        K = len(self.affects)
        return self.synthesize(batch.source, batch.source_expression(K), batch.target_expression(K))

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the name of the system and the number of iterations beside the weights."""
        checkpoint["system"] = class_path(type(self))
        checkpoint["iteration"] = self.trainer.global_step
        plain_groups(checkpoint.get("optimizer_states", []))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint belongs to this system, and restore the number of iterations.

        Raises:
            UserError: the checkpoint belongs to another system or to other networks, or optimizer states are missing or
                superfluous.
        """
        from fexgan_lit.systems.checkpoints import add_loops, check_fits

        trainer = self.attached_trainer
        fitting = trainer is not None and trainer.state.fn == TrainerFn.FITTING
        check_fits(checkpoint, self, resume=fitting)
        self.iteration = int(checkpoint["iteration"])
        lay_out_like(self, checkpoint.get("optimizer_states", []))
        if trainer is not None and fitting:
            add_loops(checkpoint, trainer)


def check_units(low: float, high: float, where: str) -> None:
    """Raise a UserError that names `where` if action units from `low` to `high` are not intensities in 0..1."""
    if not (low >= 0 and high <= 1):  # NaN fails both comparisons
        raise UserError(
            f"{where}: action units from {low:.3g} to {high:.3g}, expected intensities in 0..1. OpenFace writes 0..5: "
            "divide by 5 (dataset.annotations does so itself)"
        )
