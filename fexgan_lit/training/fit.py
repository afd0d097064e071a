"""Perform a training run, from its configuration to its report."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.plugins.environments import ClusterEnvironment
    from lightning.pytorch.strategies import Strategy
    from rich.console import Console

    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.runs.config import TrainerSettings, TrainSettings
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.runs.result import Clock
    from fexgan_lit.systems.base import ExpressionSystem
    from fexgan_lit.training.distributed import Processes


def train_run(cfg: DictConfig, console: Console, place: tuple[RunFolder, Path] | None) -> None:
    """Train a new run, or resume from the run folder and checkpoint in `place`.

    Raises:
        UserError: the configuration, the data or the folder is invalid, or another process trains in the folder.
    """
    from fexgan_lit.runs.build import build_system, check_reads
    from fexgan_lit.runs.config import train_settings
    from fexgan_lit.runs.lock import held
    from fexgan_lit.runs.weights import copy_weights, find_start
    from fexgan_lit.training.trainer import check_trainer

    settings = train_settings(cfg)
    check_trainer(settings.trainer)  # fails before frames are packed, which may be slow
    start = None if settings.start is None or place is not None else find_start(settings.start)
    if place is not None:
        check_steps(settings, place[1])
    data = open_data(settings, console)
    check_reads(settings, data.train)
    system = build_system(settings, data.affects)
    if place is None:
        if start is not None:
            console.print(f"  start      {copy_weights(system, start, str(settings.start))}\n", markup=False)
        run, checkpoint = claim_folder(cfg, data, system), None
    else:
        check_same_data(settings, data)
        run, checkpoint = place
    with held(run.path):
        if checkpoint is not None:
            run.write_config(cfg)
        fit_and_test(system, data, settings, run, checkpoint, console)


def check_steps(settings: TrainSettings, checkpoint: Path) -> None:
    """Check that `trainer.max_steps` is not below the iteration of the checkpoint.

    Raises:
        UserError: `trainer.max_steps` is too small.
    """
    from fexgan_lit.systems.checkpoints import read_checkpoint

    done, most = int(read_checkpoint(checkpoint)["iteration"]), settings.trainer.max_steps
    if most < done:
        raise UserError(f"trainer.max_steps={most}: {checkpoint} is at iteration {done}; expected {done} or more")


def fit_and_test(
    system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, run: RunFolder, checkpoint: Path | None,
    console: Console,
) -> None:  # fmt: skip
    """Train for the given iterations or minutes, then compute the final metrics and write the report."""
    from fexgan_lit.metrics.of_data import judge_of
    from fexgan_lit.runs.result import RESULT, Clock, record_failure, record_pruned
    from fexgan_lit.runs.sweeps.job import is_sweep_job
    from fexgan_lit.training import callbacks as cb
    from fexgan_lit.training.loggers.build import close_loggers
    from fexgan_lit.training.pruning import Pruning

    if checkpoint is not None:
        (run.path / RESULT).unlink(missing_ok=True)  # a resumed run has no result until it ends
    clock, t = Clock(), settings.trainer
    loggers = open_loggers(system, settings, run, checkpoint, console)
    prunes = settings.sweep.pruning is not None and is_sweep_job()
    try:
        with discard_unstarted(run, system, fresh=checkpoint is None), several_processes(system, t) as processes:
            callbacks = make_callbacks(system, data, settings, run, console, clock, prunes, processes is not None)
            environment = None
            if processes is not None:
                judge_of(data)  # train the judge before other processes wait for it
                environment = processes.start()
                processes.on_loss = lambda why: record_failure(run.path, why, system.iteration, clock)
                config = OmegaConf.to_yaml(run.read_config(), resolve=True)
                start = str(checkpoint.resolve()) if checkpoint else None
                processes.tell(
                    {"config": config, "run": str(run.path.resolve()), "checkpoint": start, "pruning": prunes}
                )
            trainer = prepare_trainer(system, data, settings, run, console, callbacks, loggers, environment)
            fit(trainer, system, data, settings, run, checkpoint, console, processes)
        by_class: dict[type, Any] = {type(callback): callback for callback in callbacks}
        if by_class[cb.StopOnSignal].stopped:
            stop_here(system, run, console)
        pruning = by_class.get(Pruning)
        if pruning is not None and pruning.reason:
            record_pruned(run.path, pruning.reason, pruning.numbers, system.iteration, clock)
            return
        # imported here, since it takes a second that would delay the first iteration
        from fexgan_lit.training.final_metrics import finish
        from fexgan_lit.training.trainer import build_trainer

        if processes is not None:  # only rank 0 computes the final metrics
            trainer = build_trainer(t, [], loggers, str(run.path))
        limit = by_class.get(cb.TimeLimit)
        short = stopped_early(system, t, run) if limit is not None and limit.is_over else None
        finish(trainer, system, data, settings, run, console, clock, by_class[cb.LossMonitor].problem, short)
    except Exception as error:
        if run.config.exists():  # the run folder was not discarded
            record_failure(run.path, error, system.iteration, clock)
        raise
    finally:
        for line in close_loggers(loggers):
            console.print(f"  upload     {line}", markup=False)


def several_processes(
    system: ExpressionSystem, settings: TrainerSettings
) -> contextlib.AbstractContextManager[Processes | None]:
    """Return the context of the processes that train together; for one process nothing is imported."""
    alone = settings.devices * settings.num_nodes == 1 or system.iteration >= settings.max_steps
    if alone and not is_started_among_several():
        return contextlib.nullcontext()
    from fexgan_lit.runs.sweeps.job import is_sweep_job
    from fexgan_lit.training.distributed import several

    return several(settings, is_sweep_job())


def make_callbacks(
    system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, run: RunFolder, console: Console,
    clock: Clock, pruning: bool, several: bool,
) -> list[Callback]:  # fmt: skip
    """Make the callbacks in order: schedules, loss monitor, figures, and last the checkpoint, which saves their state.

    All processes have the same callbacks, since some communicate; only rank 0 draws, prints and writes.
    """
    from fexgan_lit.systems.base import ExpressionSystem
    from fexgan_lit.training import callbacks as cb
    from fexgan_lit.training.loggers.wandb import KeepRunId
    from fexgan_lit.training.pruning import Pruning

    t, chosen = settings.trainer, list(settings.callbacks.values())
    if several:
        chosen.insert(0, cb.AverageLosses())
    if t.profile:
        from fexgan_lit.training.profiling import ProfileRun

        chosen.insert(0, ProfileRun(t.profile_iterations, run.path / "profile", console))
    monitor = cb.LossMonitor(run, console)
    chosen.append(monitor)
    if t.val_every and data.has_truth:  # FID is only computed after training
        monitored = ("val/fd_judge", "min") if settings.metrics.judge else ("val/ssim", "max")
        chosen.append(cb.BestCheckpoint(run, *monitored))
    if pruning and settings.sweep.pruning is not None:
        chosen.append(Pruning(settings.sweep.pruning, settings.sweep.directions, run.path))
    if t.figures_every and (data.labelled or type(system).sample_figures is not ExpressionSystem.sample_figures):

        def draw() -> Any:
            from fexgan_lit.training.final_metrics import progress_picture  # takes a second

            return progress_picture(system, data)

        chosen.append(cb.Grids(t.figures_every, run, draw, data.labelled))
    if t.max_minutes:
        chosen.append(cb.TimeLimit(timedelta(minutes=t.max_minutes), verbose=False))
    chosen += [cb.StopOnSignal(together=several), cb.KeepTime(clock), KeepRunId()]
    if t.lightning.get("enable_progress_bar", True):
        chosen.append(cb.RunProgressBar(console))
    return [*chosen, cb.LastCheckpoint(t.checkpoint_every, run.last, monitor)]


def prepare_trainer(
    system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, run: RunFolder, console: Console,
    callbacks: list[Callback], loggers: list[Logger], environment: ClusterEnvironment | None = None,
) -> Trainer:  # fmt: skip
    """Place frames and networks on the device, build the trainer and print a summary of the training.

    Raises:
        UserError: the frames do not fit on the device with `trainer.data_on_device`, or no micro-batch fits.
    """
    from fexgan_lit.metrics.of_data import judge_of
    from fexgan_lit.training.accelerate import accelerate, graph_strategy
    from fexgan_lit.training.trainer import build_trainer, training_device
    from fexgan_lit.utils.hardware import precision_note

    t, world = settings.trainer, 1
    if environment is not None:
        from fexgan_lit.data.pairs import Share

        world = environment.world_size()
        data.share_batches(Share(environment.global_rank(), world))
    device, going_on = training_device(t, environment), system.iteration < t.max_steps
    strategy: Strategy | str = "auto"
    feed = None
    if going_on:
        with console.status("  loading frames"):  # may copy gigabytes to the device
            feed = data.place_on(device, t.data_on_device)
        system.prepare(data.train, lambda: judge_of(data))
        if t.auto_batch and t.micro_batch is None:
            choose_micro_batch(system, data, settings, run, console)
    system.micro_batch = t.micro_batch
    if t.cuda_graphs:
        strategy = graph_strategy(
            system, device, lambda line: console.print(f"  graphs     {line}\n", markup=False), world
        )
    compiled = accelerate(
        system, device, kernels=t.kernels != "false", channels_last=t.channels_last, compile=t.compile and going_on
    )
    trainer = build_trainer(t, callbacks, loggers, str(run.path), environment, strategy)
    notes = [feed] if feed else []
    if note := precision_note(t.precision, t.accelerator):
        notes.insert(0, f"           {note}")
    announce(trainer, system, data, settings, run, console, notes, world)
    for line in compiled:
        console.print(f"  {line}\n", markup=False)
    return trainer


def announce(
    trainer: Trainer, system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, run: RunFolder,
    console: Console, notes: list[str], processes: int,
) -> None:  # fmt: skip
    """Print a summary of model, training, device and run folder."""
    import torch

    from fexgan_lit.metrics.groups import UNPAIRED
    from fexgan_lit.training.report import width_of

    s, t, pairs = settings, settings.trainer, settings.dataset.batch_size
    networks = ", ".join(
        f"{name} {sum(p.numel() for p in part.parameters()) / 1e6:.2f} M"
        for name, part in system.saved_modules().items()
        if any(True for _ in part.parameters())
    )
    device, width = trainer.strategy.root_device, width_of(s)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    limit = f", at most {t.max_minutes:g} minutes" if t.max_minutes else ""
    resumed = f"; resuming at iteration {system.iteration}" if system.iteration else ""
    shared = f" on {processes} processes" if processes > 1 else ""
    lines = [
        f"model      {s.model.name}, {s.dataset.image_size} px{', ' if width else ''}{width}: {networks} parameters",
        *(f"           {fact}" for fact in system.summary_lines()),
        f"training   {t.max_steps} iterations of {pairs} pairs{shared} "
        f"({t.max_steps / len(data.train_dataloader()):.1f} epochs){limit}{resumed}",
    ]
    if t.micro_batch is not None and t.micro_batch < pairs:
        lines.append(
            f"           each in {-(-pairs // t.micro_batch)} parts of at most {t.micro_batch} pairs with accumulated "
            "gradients; batch norm works on the parts"
        )
    elif t.micro_batch is not None and t.auto_batch:
        lines.append("           the batch fits into the memory as a whole")
    if not data.has_truth:
        lines.append(f"absent     {UNPAIRED}")
        lines += [] if data.labelled else ["absent     the grid of affects: the frames have no affects"]
    lines += [f"device     {device}, {trainer.precision}{threads}; seed {s.seed}", *notes, f"run        {run.path}"]
    for line in lines:
        console.print(f"  {line}", markup=False)
    console.print()


def fit(
    trainer: Trainer, system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, run: RunFolder,
    checkpoint: Path | None, console: Console, processes: Processes | None = None,
) -> None:  # fmt: skip
    """Run the remaining iterations; for a finished run this only restores the checkpoint.

    Raises:
        UserError: a batch does not fit into GPU memory, or Lightning rejects the configuration.
        RankLostError: another process died or failed.
    """
    import torch
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    try:
        trainer.fit(system, data, ckpt_path=checkpoint, weights_only=True)
    except torch.OutOfMemoryError as error:
        from fexgan_lit.data.device_cache import ResidentPairs, gigabytes

        loader, room = data.train_dataloader(), ""
        if isinstance(loader, ResidentPairs):
            room = f", or trainer.data_on_device=false, which frees {gigabytes(loader.pixels.nbytes)}"
        raise UserError(
            f"a batch of {settings.dataset.batch_size} pairs does not fit into the memory of the GPU "
            f"({str(error).splitlines()[0]}). Use trainer.auto_batch=true, which finds how many pairs fit and "
            f"accumulates gradients, or a smaller dataset.batch_size{room}"
        ) from error
    except MisconfigurationException as error:
        raise UserError(f"Lightning refuses to train: {error}") from error
    except SystemExit:  # Lightning exits on Ctrl-C
        kept = "there is no checkpoint yet, so it cannot be resumed"
        if run.last.exists():
            kept = f"resume from its last checkpoint with: python -m fexgan_lit.train run={run.path}"
        console.print(f"\n  stopped at iteration {system.iteration}; {kept}", markup=False)
        raise
    except Exception as error:
        reason = processes.reason_of(error) if processes is not None else None
        if reason is None:
            raise
        from fexgan_lit.training.distributed import RankLostError

        kept = f"{run.last} is complete" if run.last.exists() else "there is no checkpoint yet"
        raise RankLostError(
            f"{reason}. A run cannot continue without one of its processes. {kept}; resume with: "
            f"python -m fexgan_lit.train run={run.path}"
        ) from error


def open_data(settings: TrainSettings, console: Console) -> FrameDataModule:
    """Index, pack and split the frames, and print a summary."""
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.utils.console import stages
    from fexgan_lit.utils.version import __version__

    console.print(f"[bold]fexgan_lit {__version__}[/]  {settings.model.name} on {settings.dataset.name}\n")
    data = FrameDataModule(
        settings.dataset, settings.seed, settings.system.pairing, settings.metrics.judge,
        settings.metrics.inception_weights,
    )  # fmt: skip
    data.stages = functools.partial(stages, console)
    data.setup()
    for line in data.summary.lines():
        console.print(f"  {line}", markup=False)
    return data


def check_same_data(settings: TrainSettings, data: FrameDataModule) -> None:
    """Check that the data are those the run was started with.

    Raises:
        UserError: they differ; the message lists the differences.
    """
    from fexgan_lit.data.datamodule import changed_facts

    if differing := changed_facts(data, settings.data):
        raise UserError(
            f"the data in {data.table.root or 'the studio'} changed since the run was started: {differing}. "
            "Put the frames back as they were, or start a new run."
        )


def claim_folder(cfg: DictConfig, data: FrameDataModule, system: ExpressionSystem) -> RunFolder:
    """Create the run folder and write the resolved configuration, with presets filled in and facts about the data."""
    from hydra.core.hydra_config import HydraConfig

    from fexgan_lit.data.datamodule import data_facts
    from fexgan_lit.data.streaming.storage import absolute_root
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.utils.trust import foreign_packages

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    plain["data"] = data_facts(data)
    # only a request: whoever opens the run must grant it with `trust=`
    plain["trust"] = foreign_packages(plain)
    plain["model"] |= asdict(system.settings)
    plain["loss"] |= asdict(system.loss_weights)
    if plain["dataset"]["root"]:
        plain["dataset"]["root"] = absolute_root(plain["dataset"]["root"])
    return RunFolder.create(Path(HydraConfig.get().runtime.output_dir), OmegaConf.create(plain))


def stopped_early(system: ExpressionSystem, settings: TrainerSettings, run: RunFolder) -> str | None:
    """Return a note on a run that `trainer.max_minutes` ended early and how to resume it; None for a complete run."""
    if system.iteration >= settings.max_steps:
        return None
    return (
        f"training ended after {settings.max_minutes:g} minutes (trainer.max_minutes) at iteration {system.iteration} "
        f"of {settings.max_steps}, so the faces are those of a shorter training; resume with: "
        f"python -m fexgan_lit.train run={run.path}"
    )


def stop_here(system: ExpressionSystem, run: RunFolder, console: Console) -> NoReturn:
    """Print how to resume a training that a signal stopped, and exit with the code for that."""
    from fexgan_lit.training.callbacks import STOPPED

    console.print(
        f"\n  stopped by a signal at iteration {system.iteration}, its checkpoint is written; resume with: "
        f"python -m fexgan_lit.train run={run.path}", markup=False,
    )  # fmt: skip
    sys.exit(STOPPED)


def open_loggers(
    system: ExpressionSystem, settings: TrainSettings, run: RunFolder, checkpoint: Path | None, console: Console
) -> list[Logger]:
    """Make the loggers of the run, resumed at the checkpoint; if that fails, a new run folder is discarded."""
    from fexgan_lit.systems.checkpoints import read_checkpoint
    from fexgan_lit.training.loggers.build import make_loggers
    from fexgan_lit.training.loggers.wandb import RUN_ID

    resume_at, run_id = None, None
    if checkpoint is not None:
        kept = read_checkpoint(checkpoint)
        system.iteration = resume_at = int(kept["iteration"])
        run_id = kept.get(RUN_ID)
    config: Any = OmegaConf.to_container(run.read_config())
    try:
        return make_loggers(settings.logger, run, config, resume_at, console, run_id)
    except UserError:
        if checkpoint is None:
            run.discard()
        raise


@contextlib.contextmanager
def discard_unstarted(run: RunFolder, system: ExpressionSystem, fresh: bool) -> Iterator[None]:
    """Discard the folder of a new run if a UserError occurs before its first iteration."""
    try:
        yield
    except UserError:
        trainer = system.attached_trainer
        if fresh and (trainer is None or trainer.global_step == 0):
            run.discard()
        raise


def choose_micro_batch(
    system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, run: RunFolder, console: Console
) -> None:
    """Find the largest micro-batch that fits, and write it to the run's config."""
    from fexgan_lit.training.batch_size import settle_micro_batch
    from fexgan_lit.utils.hardware import root_device

    t = settings.trainer
    with console.status("  looking for the largest batch that fits"):
        batch = data.train_dataloader().batch(0, 0)
        t.micro_batch = settle_micro_batch(system, batch, t, root_device(t.accelerator))
    kept = run.read_config()
    OmegaConf.update(kept, "trainer.micro_batch", t.micro_batch, force_add=True)
    run.write_config(kept)


def is_started_among_several() -> bool:
    """Return whether torchrun, srun or rank 0 may have started this process, without importing anything."""
    return "WORLD_SIZE" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1
