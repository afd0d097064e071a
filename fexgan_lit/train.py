"""`python -m fexgan_lit.train`: compose, build, fit, and leave a run folder."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.distributed.place import place_from_environment
from fexgan_lit.doors import fail, run_door
from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from rich.console import Console

    from fexgan_lit.config import TrainerSettings, TrainSettings
    from fexgan_lit.data.datamodule import FrameData
    from fexgan_lit.distributed.team import Team
    from fexgan_lit.runfolder import RunFolder
    from fexgan_lit.systems.base import ExpressionSystem
    from fexgan_lit.trainer import IterationStream
    from fexgan_lit.watch import Watch

#: What may change when a run goes on: how long and how it is watched, never what is trained.
RESUMABLE = (
    "trainer.",
    "metrics.",
    "logger",
    "run=",
    "hydra",
    "dataset.root=",
    "dataset.cache_dir=",
    "dataset.workers=",
)


def train(cfg: DictConfig) -> Any:
    """Train the run that `cfg` describes, go on with the one `cfg.run` names, or work off a run of a sweep."""
    from fexgan_lit.sweeps.job import is_sweep_job, work_off

    if is_sweep_job():
        return work_off(cfg, train_run)
    place = None
    if cfg.run:
        run, checkpoint, cfg = resumed(cfg)
        place = run, checkpoint
    elif cfg.trainer.go_on:
        from hydra.core.hydra_config import HydraConfig

        from fexgan_lit.requeue import standing_run

        cfg, place = standing_run(Path(HydraConfig.get().runtime.output_dir), cfg)
    return train_run(cfg, train_console(), place)


def train_console() -> Console:
    """The terminal, or a log file with room for the tables."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    return console


def train_run(cfg: DictConfig, console: Console, place: tuple[RunFolder, Path] | None) -> None:
    """Train a new run, or go on in the run folder and from the checkpoint that `place` names.

    Raises:
        UserError: a mistake in the configuration, the data or the folder; another process trains in it.
    """
    from fexgan_lit.config import train_settings
    from fexgan_lit.sweeps.lock import held

    settings = train_settings(cfg)
    with team_of(settings.trainer) as team:
        from fexgan_lit.systems import build_system, check_reads
        from fexgan_lit.trainer import check_trainer

        check_trainer(settings.trainer)  # before frames are packed, which may take long
        data = open_data(settings, console, team)
        check_reads(settings, data.train)
        system = build_system(settings, data.affects)
        system.noise.share = data.share
        if place is None:
            run, checkpoint = claim_folder(cfg, data, system), None
        else:
            check_same_data(settings, data)
            run, checkpoint = place
        with held(run.path):
            if checkpoint is not None:
                run.write_config(cfg)
            fit(system, data, settings, run, checkpoint, console, team)


def team_of(settings: TrainerSettings) -> contextlib.AbstractContextManager[Team | None]:
    """The processes that train together; nothing of them is imported where one is enough."""
    if settings.devices * settings.num_nodes == 1 and place_from_environment() is None:
        return contextlib.nullcontext()
    from fexgan_lit.distributed.leading import leading

    return leading(settings)


def resumed(cfg: DictConfig) -> tuple[RunFolder, Path, DictConfig]:
    """The folder, checkpoint and configuration of the run to go on with, changed by what the user may change.

    Raises:
        UserError: there is no such run, or an option would change what is trained.
    """
    from hydra.core.hydra_config import HydraConfig

    from fexgan_lit.runfolder import RunFolder

    run, checkpoint = RunFolder.open(cfg.run)
    overrides = list(HydraConfig.get().overrides.task)
    foreign = [o for o in overrides if not o.lstrip("+").startswith(RESUMABLE)]
    if foreign:
        raise UserError(
            f"run={cfg.run} goes on with the configuration it was started with; {', '.join(foreign)} would change "
            "what is trained. Only trainer.*, metrics.*, logger and the place of the data may change; start a new run "
            "for the rest."
        )
    kept = run.read_config()
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key != "run" and not key.startswith("hydra"):
            OmegaConf.update(kept, key, OmegaConf.select(cfg, key), force_add=True)
    return run, checkpoint, kept


def open_data(settings: TrainSettings, console: Console, team: Team | None = None) -> FrameData:
    """Index, pack and split the frames, and say what was found; of several processes each takes its share."""
    from fexgan_lit import __version__
    from fexgan_lit.data.datamodule import FrameData
    from fexgan_lit.progress import stage_bar

    console.print(f"[bold]fexgan_lit {__version__}[/]  {settings.model.name} on {settings.dataset.name}\n")
    share = None if team is None else team.place.share
    data = FrameData(settings.dataset, settings.seed, settings.system.pairing, share)
    with stage_bar(console) as bar:
        task = bar.add_task("preparing frames", total=None)
        data.progress = lambda done, total: bar.update(task, completed=done, total=total)
        data.setup()
    for line in data.summary.lines():
        console.print(f"  {line}", markup=False)
    return data


def check_same_data(settings: TrainSettings, data: FrameData) -> None:
    """Refuse to go on with other data than the run was started with.

    Raises:
        UserError: naming what differs.
    """
    from fexgan_lit.data.datamodule import changed_facts

    if differing := changed_facts(data, settings.data):
        raise UserError(
            f"the data in {data.table.root or 'the studio'} changed since the run was started: {differing}. "
            "Put the frames back as they were, or start a new run."
        )


def claim_folder(cfg: DictConfig, data: FrameData, system: ExpressionSystem) -> RunFolder:
    """The new run folder, with the configuration as it was resolved: presets filled in, the data named."""
    from hydra.core.hydra_config import HydraConfig

    from fexgan_lit.data.datamodule import data_facts
    from fexgan_lit.data.streaming.places import absolute_root
    from fexgan_lit.runfolder import RunFolder

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    plain["data"] = data_facts(data)
    plain["model"] |= asdict(system.settings)
    plain["loss"] |= asdict(system.weights)
    if plain["dataset"]["root"]:
        plain["dataset"]["root"] = absolute_root(plain["dataset"]["root"])
    return RunFolder.create(Path(HydraConfig.get().runtime.output_dir), OmegaConf.create(plain))


def fit(
    system: ExpressionSystem, data: FrameData, settings: TrainSettings, run: RunFolder, checkpoint: Path | None,
    console: Console, team: Team | None = None,
) -> None:  # fmt: skip
    """Train until the iterations or minutes are spent, then measure, draw and report."""
    from fexgan_lit.feed import open_stream
    from fexgan_lit.result import RESULT, record_failure, record_pruned
    from fexgan_lit.trackers.send import close_loggers
    from fexgan_lit.watch import Watch

    if checkpoint is not None:
        (run.path / RESULT).unlink(missing_ok=True)  # until it ends again, the run has not
    loggers = open_loggers(system, settings, run, checkpoint, console)
    watch = Watch(system, data, settings, run, loggers, console, team)
    try:
        with or_no_folder(run, fresh=checkpoint is None):
            with console.status("  opening the stream of frames"):  # gigabytes may go to the device
                stream, watch.feed = open_stream(system, data, settings.trainer, team)
            system.prepare(data.train, lambda: watch.judge)
        choose_micro_batch(watch, stream)
        if team is not None and len(stream):
            call_others(team, watch, checkpoint)
        iterate(watch, stream, checkpoint)
        if watch.ending.stopped:
            stop_here(watch)
        if watch.pruning is not None and watch.pruning.reason:
            record_pruned(watch.run.path, watch.pruning.reason, watch.pruning.numbers, system.iteration, watch.clock)
            return
        # its imports take a second that the first iteration need not wait for
        from fexgan_lit.finish import finish

        finish(watch)
    except Exception as error:
        if run.config.exists():  # not where the run never began
            record_failure(run.path, error, system.iteration, watch.clock)
        raise
    finally:
        for line in close_loggers(loggers):
            console.print(f"  upload     {line}", markup=False)


def call_others(team: Team, watch: Watch, checkpoint: Path | None) -> None:
    """Let the other processes begin, now that the pack, the judge and the run folder are there."""
    from fexgan_lit.distributed.leading import call_team
    from fexgan_lit.distributed.team import RankLostError
    from fexgan_lit.result import record_failure

    run, system, clock = watch.run, watch.system, watch.clock

    def record(reason: str) -> None:
        record_failure(run.path, RankLostError(reason), system.iteration, clock)

    team.on_loss = record
    call_team(team, run.read_config(), run.path, checkpoint)


def stop_here(watch: Watch) -> NoReturn:
    """A signal ended the training: say how to go on, and end with the exit code that means so."""
    from fexgan_lit.distributed.callbacks import STOPPED

    watch.console.print(
        f"\n  stopped by a signal at iteration {watch.system.iteration}, its checkpoint is written; go on with: "
        f"python -m fexgan_lit.train run={watch.run.path}", markup=False,
    )  # fmt: skip
    sys.exit(STOPPED)


def open_loggers(
    system: ExpressionSystem, settings: TrainSettings, run: RunFolder, checkpoint: Path | None, console: Console
) -> list[Logger]:
    """The trackers of the run, going on where the checkpoint stands; a fresh run without them leaves no folder."""
    from fexgan_lit.hub import read_checkpoint
    from fexgan_lit.trackers.run_id import kept_run_id
    from fexgan_lit.trackers.send import make_loggers

    resume_at, run_id = None, None
    if checkpoint is not None:
        kept = read_checkpoint(checkpoint)
        system.iteration = resume_at = int(kept["iteration"])
        run_id = kept_run_id(kept)
    config: Any = OmegaConf.to_container(run.read_config())
    try:
        return make_loggers(settings.logger, run, config, resume_at, console, run_id)
    except UserError:
        if checkpoint is None:
            run.discard()
        raise


@contextlib.contextmanager
def or_no_folder(run: RunFolder, fresh: bool) -> Iterator[None]:
    """A fresh run that cannot have what it needs leaves no folder."""
    try:
        yield
    except UserError:
        if fresh:
            run.discard()
        raise


def choose_micro_batch(watch: Watch, stream: IterationStream) -> None:
    """Tell the system how many pairs to look at at once; where that has to be found out, the run's config keeps it."""
    t, run = watch.settings.trainer, watch.run
    if t.auto_batch and t.micro_batch is None and len(stream):
        from fexgan_lit.auto_batch import settle_micro_batch
        from fexgan_lit.trainer import root_device

        with watch.console.status("  looking for the largest batch that fits"):
            batch = stream.loader.batch(0, 0)
            t.micro_batch = settle_micro_batch(watch.system, batch, t, root_device(t.accelerator))
        kept = run.read_config()
        OmegaConf.update(kept, "trainer.micro_batch", t.micro_batch, force_add=True)
        run.write_config(kept)
    watch.system.micro_batch = t.micro_batch


def iterate(watch: Watch, stream: IterationStream, checkpoint: Path | None) -> None:
    """Run the iterations that are still to come; a finished run only gets its weights read."""
    import torch

    from fexgan_lit.calls import called
    from fexgan_lit.feed import other_room
    from fexgan_lit.hub import load_checkpoint_weights
    from fexgan_lit.trainer import make_trainer

    system, settings, run, console = watch.system, watch.settings, watch.run, watch.console
    team = watch.team if len(stream) else None
    place = None if team is None else team.place
    if settings.trainer.sync_batchnorm and team is not None:
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(system)
    trainer = make_trainer(settings.trainer, watch.callbacks(stream), watch.loggers, str(run.path), place)
    watch.announce(trainer, stream)
    if not len(stream):
        load_checkpoint_weights(system, checkpoint or run.last)
        return
    if settings.trainer.channels_last:
        system.to(memory_format=torch.channels_last)
    if settings.trainer.compile:
        from fexgan_lit.compilation import compile_networks

        console.print(f"  {compile_networks(system, trainer.strategy.root_device).line}\n", markup=False)
    try:
        with in_step(team, watch.run), called(system, trainer, settings, console):
            trainer.fit(system, stream, ckpt_path=checkpoint, weights_only=True)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"a batch of {settings.dataset.batch_size} pairs does not fit into the memory of the GPU "
            f"({str(error).splitlines()[0]}). Give trainer.auto_batch=true, which finds how many do and adds up the "
            f"gradients, or a smaller dataset.batch_size{other_room(stream.loader)}"
        ) from error
    except SystemExit:  # Lightning's answer to Ctrl-C
        kept = "nothing was kept, no checkpoint was due yet"
        if run.last.exists():
            kept = f"go on from its last checkpoint with: python -m fexgan_lit.train run={run.path}"
        console.print(f"\n  stopped at iteration {system.iteration}; {kept}", markup=False)
        raise


@contextlib.contextmanager
def in_step(team: Team | None, run: RunFolder) -> Iterator[None]:
    """Average gradients with the other processes meanwhile; where one of them is lost, say so in its place.

    Raises:
        RankLostError: another process died or failed.
    """
    if team is None:
        yield
        return
    from fexgan_lit.distributed.team import RankLostError

    team.connect()
    try:
        yield
    except Exception as error:
        if reason := team.reason_of(error):
            kept = f"{run.last} is whole" if run.last.exists() else "no checkpoint was due yet"
            raise RankLostError(
                f"{reason}. A run cannot go on without one of its processes. {kept}; go on with: "
                f"python -m fexgan_lit.train run={run.path}"
            ) from error
        raise
    finally:
        team.part()


def main() -> None:
    """The door; of several processes that torchrun, SLURM or rank 0 started, the others follow rank 0."""
    try:
        place = place_from_environment()
        if place is None:
            run_door(train, "train")
        elif place.rank:
            from fexgan_lit.distributed.following import follow

            follow(place)
        else:
            from fexgan_lit.distributed.leading import joined

            with joined(place):
                run_door(train, "train")
    except UserError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
