"""What accompanies a training run: its callbacks, the judge, and what the terminal says before it starts."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console

from fexgan_lit import callbacks as cb
from fexgan_lit.concerns import Concerns
from fexgan_lit.config import TrainSettings
from fexgan_lit.distributed.callbacks import Ending, WholeLosses
from fexgan_lit.progress import TrainingBar, stage_bar
from fexgan_lit.result import Clock
from fexgan_lit.systems.base import ExpressionSystem, Sheet
from fexgan_lit.trackers.run_id import KeptRunId
from fexgan_lit.trainer import precision_note

if TYPE_CHECKING:
    from PIL import Image

    from fexgan_lit.data.datamodule import FrameData
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.distributed.team import Team
    from fexgan_lit.metrics.judge import Judge
    from fexgan_lit.runfolder import RunFolder
    from fexgan_lit.sweeps.pruning import Pruning
    from fexgan_lit.trainer import IterationStream


#: Faces in the pictures of a set without affects.
_SHOWN_FACES = 8


class Watch:
    """The eyes on one run.

    Args:
        system: what is trained.
        data: prepared data.
        settings: of the run.
        run: its folder.
        loggers: where numbers and pictures go.
        console: the terminal.
        team: the processes that train together; None for one. Rank 0 alone measures, draws and writes.

    Attributes:
        clock: seconds spent on the run.
        feed: a line on where the training frames lie; None where it is not worth one.
        ending: tells whether a signal ended the training.
        pruning: stops the run where its sweep leaves it behind; None where no sweep wants that.
    """

    def __init__(
        self, system: ExpressionSystem, data: FrameData, settings: TrainSettings, run: RunFolder,
        loggers: list[Logger], console: Console, team: Team | None = None,
    ) -> None:  # fmt: skip
        self.system = system
        self.data = data
        self.settings = settings
        self.run = run
        self.loggers = loggers
        self.console = console
        self.team = team
        self.ending = Ending(together=team is not None)
        self.concerns: Concerns | None = None
        self.clock = Clock()
        self.feed: str | None = None
        self.pruning = self._pruning()

    def callbacks(self, stream: IterationStream) -> list[Callback]:
        """Schedules first, then the log and its guard, measurements, pictures, and the checkpoint that holds them."""
        whole: list[Callback] = [] if self.team is None else [WholeLosses()]
        if self.team is not None and self.team.place.rank:
            return [*whole, *self.settings.callbacks.values(), self.ending]
        t = self.settings.trainer
        log = cb.LossLog(t.log_every, self.run, stream)
        self.concerns = Concerns(t.log_every, log, self.console)
        chosen: list[Callback] = [*whole, *self.settings.callbacks.values(), log, self.concerns]
        if self.data.val_dataloader():
            chosen.append(cb.Validation(t.val_every, self.measure_validation, self.run, self._score()))
        if self.pruning is not None:
            chosen.append(self.pruning)
        if self.data.labelled:
            chosen.append(cb.Grids(t.figures_every, self.draw_affects, self.run))
        elif type(self.system).sheets is not ExpressionSystem.sheets:
            chosen.append(cb.Grids(t.figures_every, self.draw_sheet, self.run, "sheet"))
        if t.max_minutes:
            chosen.append(cb.TimeLimit(t.max_minutes))
        chosen += [self.ending, cb.KeepTime(self.clock), KeptRunId(), cb.Checkpoints(t.checkpoint_every, self.run, log)]
        chosen.append(TrainingBar(self.console, t.max_steps))
        if t.profile:
            from fexgan_lit.profiling.callback import ProfileRun

            folder = self.run.path / "profile"
            return [ProfileRun(t.profile_iterations, folder, stream, chosen, self.console), *chosen]
        return chosen

    def _pruning(self) -> Pruning | None:
        """What stops a hopeless run of a sweep, where the sweep wants that."""
        from fexgan_lit.sweeps.job import is_sweep_job

        s = self.settings.sweep
        if s.pruning is None or not is_sweep_job():
            return None
        from fexgan_lit.sweeps.pruning import Pruning

        return Pruning(s.pruning, s.directions, self.run.path, self.settings.trainer.val_every)

    def _score(self) -> tuple[str, bool]:
        if not self.data.has_truth:
            return "fid", True  # measured after training only, so no checkpoint is called the best
        return ("fd_judge", True) if self.settings.metrics.judge else ("ssim", False)

    @cached_property
    def judge(self) -> Judge | None:
        """The judge of this data, trained when first needed; None where the run wants none or could train none."""
        if not self.settings.metrics.judge or not self.data.has_truth:
            return None
        from fexgan_lit.data.cache import cache_root
        from fexgan_lit.metrics.judge_cache import load_or_train_judge

        d = self.settings.dataset
        with stage_bar(self.console) as bar:
            task = bar.add_task("training the judge", total=None)
            return load_or_train_judge(
                self.data.train, self.data.val, image_size=d.image_size, cache_dir=cache_root(d.cache_dir),
                key=self.data.key,
                progress=lambda done, total, *_: bar.update(task, completed=done, total=total),
            )  # fmt: skip

    def measure_validation(self, system: ExpressionSystem) -> dict[str, float]:
        """The metric suite on the fixed validation pairs."""
        from fexgan_lit.distributed.alone import alone
        from fexgan_lit.metrics.measure import measure
        from fexgan_lit.metrics.suite import TrainingSuite
        from fexgan_lit.metrics.unpaired import UnpairedSuite, measure_unpaired

        loader = self.data.val_dataloader()
        if not self.data.has_truth:
            return measure_unpaired(system, loader, alone(UnpairedSuite()))  # type: ignore[arg-type]
        suite = alone(TrainingSuite(self.data.affects, self.judge, split="val"))
        return measure(system, loader, suite)  # type: ignore[arg-type]

    def draw_affects(self, system: ExpressionSystem) -> Image.Image:
        """The grid of the papers: a reference of every identity turned into every affect."""
        from fexgan_lit import figures
        from fexgan_lit.metrics.measure import affect_grid

        grid = affect_grid(system, self.shown_frames)
        return figures.affect_grid(grid.references, grid.generated, grid.identities, self.data.affects)

    def draw_sheet(self, system: ExpressionSystem) -> Image.Image:
        """The first of the pictures that the system has of its own, in place of the grid of affects."""
        from fexgan_lit import figures

        sheet = self.sheets(system)[0]
        return figures.complex_grid(sheet.references, sheet.cells, sheet.rows, sheet.columns)

    def sheets(self, system: ExpressionSystem) -> list[Sheet]:
        """The system's own pictures of a few faces of a set without affects."""
        import numpy as np

        from fexgan_lit.data.wanted import frame_expression

        frames = self.shown_frames
        rows = np.unique(np.linspace(0, len(frames) - 1, _SHOWN_FACES).astype(np.int64))
        names = [frames.identities[i] for i in frames.identity[rows]]
        references = frames.floats(rows, system.image_size).to(system.device)
        return system.sheets(references, frame_expression(frames, rows).to(system.device), (), names)

    @property
    def shown_frames(self) -> FrameSet:
        """The split the pictures start from: validation, unless an identity is missing there that has an affect."""
        val = self.data.val
        if val is not None and not self.data.labelled:
            return val
        complete = val is not None and len(set(val.identity.tolist())) == len(self.data.identities)
        return val if val is not None and complete else self.data.train

    @property
    def width(self) -> str:
        """The factor on all channel counts, in words; nothing where a system has none."""
        width = getattr(self.settings.model, "width", None)
        return "" if width is None else f", width {width:g}"

    def _absent(self) -> list[str]:
        """What will not be measured or drawn, and why."""
        if self.data.has_truth:
            return []
        from fexgan_lit.metrics.unpaired import ABSENT

        grid = [] if self.data.labelled else ["absent     the grid of affects: the frames have none"]
        return [f"absent     {ABSENT}", *grid]

    def _parts(self) -> list[str]:
        """How a batch is worked off, where that is said or not all at once."""
        t, pairs = self.settings.trainer, self.settings.dataset.batch_size
        if t.micro_batch is None:
            return []
        if t.micro_batch >= pairs:
            return ["           the batch fits into the memory as a whole"] if t.auto_batch else []
        parts = -(-pairs // t.micro_batch)
        return [
            f"           each in {parts} parts of at most {t.micro_batch} pairs, their gradients added up; batch norm "
            "sees the parts"
        ]

    def announce(self, trainer: Trainer, stream: IterationStream) -> None:
        """Say what is about to be trained, on what, and where it will lie."""
        import torch

        s = self.settings
        parts = ", ".join(
            f"{name} {sum(p.numel() for p in part.parameters()) / 1e6:.2f} M"
            for name, part in self.system.portable_parts().items()
            if any(True for _ in part.parameters())
        )
        device = trainer.strategy.root_device
        threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        epochs = s.trainer.max_steps / len(stream.loader)
        limit = f", at most {s.trainer.max_minutes:g} minutes" if s.trainer.max_minutes else ""
        resumed = f"; going on at iteration {self.system.iteration}" if self.system.iteration else ""
        shared = f" on {self.team.place.world} processes" if self.team else ""
        for line in (
            f"model      {s.model.name}, {s.dataset.image_size} px{self.width}: {parts} parameters",
            *(f"           {fact}" for fact in self.system.facts()),
            f"training   {s.trainer.max_steps} iterations of {s.dataset.batch_size} pairs{shared} ({epochs:.1f} epochs)"
            f"{limit}{resumed}",
            *self._parts(),
            *self._absent(),
            f"device     {device}, {trainer.precision}{threads}; seed {s.seed}",
            *([f"           {note}"] if (note := precision_note(s.trainer.precision, s.trainer.accelerator)) else []),
            *([self.feed] if self.feed else []),
            f"run        {self.run.path}",
            "",
        ):
            self.console.print(f"  {line}" if line else "", markup=False)
