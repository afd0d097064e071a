"""`trainer.profile`: time some iterations of a run part by part, trace a few, count the FLOP of one, and say so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import Strategy
from torch.profiler import ProfilerActivity, profile

from fexgan_lit.benchmarks.flops import FlopsByPrecision
from fexgan_lit.files import write_atomic
from fexgan_lit.profiling.floor import floor_of
from fexgan_lit.profiling.parts import networks, part_names, watch_parts
from fexgan_lit.profiling.ranges import Ranges, Wrapped
from fexgan_lit.profiling.report import Profile, longest_operators, operators_table, parts_table

if TYPE_CHECKING:
    from rich.console import Console

#: Iterations before the timed ones, and iterations that are traced after them.
WARM_UP, TRACED = 5, 3


class ProfileRun(Callback):
    """Profile the first iterations of a run, then get out of the way; the run goes on.

    It must be the first of the callbacks: an iteration lasts from its hook to its next hook.

    Args:
        wanted: iterations that are timed; rounded up to whole rounds of n_critic.
        folder: gets trace.json and profile.md.
        console: gets the tables.
    """

    def __init__(self, wanted: int, folder: Path, console: Console) -> None:
        self.wanted, self.folder, self.console = wanted, folder, console
        self._seen = -1
        self._ends: tuple[int, int, int, int] | None = None
        self._wrapped: Wrapped | None = None
        self._times: list[float] = []
        self._counter = FlopsByPrecision()
        self._counted: Strategy | None = None

    def on_train_start(self, trainer: Trainer, system: LightningModule) -> None:
        """Plan: warm-up, timed, traced, counted."""
        cycle = int(getattr(getattr(system, "optimizer_settings", None), "n_critic", 1))
        traced = -(-TRACED // cycle) * cycle
        to_come = trainer.max_steps - trainer.global_step
        room = (to_come - WARM_UP - traced - cycle) // cycle * cycle
        timed = min(-(-self.wanted // cycle) * cycle, room)
        if timed < 1:
            needed = WARM_UP + traced + 2 * cycle
            self._say(f"nothing: it takes {needed} iterations or more, {to_come} are to come")
            return
        ends = np.cumsum((WARM_UP, timed, traced, cycle)).tolist()
        self._ends = (ends[0], ends[1], ends[2], ends[3])
        self._ranges = Ranges(trainer.strategy.root_device)

    def on_train_batch_start(self, trainer: Trainer, system: LightningModule, batch: Any, batch_idx: int) -> None:
        """An iteration ends, the next begins."""
        self._advance(trainer, system)

    def on_train_end(self, trainer: Trainer, system: LightningModule) -> None:
        """The last iteration ends."""
        self._advance(trainer, system)
        if self._ends is not None:
            self._leave()
            self._say("nothing: the run ended before it was done")

    def on_exception(self, trainer: Trainer, system: LightningModule, exception: BaseException) -> None:
        """Leave the system as it was."""
        self._leave()

    def _advance(self, trainer: Trainer, system: LightningModule) -> None:
        if self._ends is None:
            return
        self._seen += 1
        warm, timed, traced, counted = self._ends
        if warm < self._seen <= timed:
            self._times.append(self._ranges.now())
        if self._seen == warm:
            self._wrapped = watch_parts(self._ranges, trainer, system)  # type: ignore[arg-type]
            self._ranges.clear()
            self._times.append(self._ranges.now())
        elif self._seen == timed:
            self._parts = {name: s / (timed - warm) for name, s in self._ranges.seconds.items()}
            self._trace = profile(activities=_activities())
            self._trace.start()
        elif self._seen == traced:
            self._trace.stop()
            self._count(trainer, system)
        elif self._seen == counted:
            self._write(trainer, system)

    def _count(self, trainer: Trainer, system: LightningModule) -> None:
        """Count what the steps to come compute, without what callbacks do between them."""
        if self._wrapped is not None:
            self._wrapped.restore()
        if any(network._compiled_call_impl for network in networks(system).values()):  # type: ignore[arg-type]
            return  # compiled code has no operators to count
        step, strategy = trainer.strategy.training_step, trainer.strategy

        def counted(batch: Any, batch_idx: int) -> Any:
            with self._counter:
                return step(batch, batch_idx)

        vars(strategy)["training_step"] = counted
        self._counted = strategy

    def _write(self, trainer: Trainer, system: Any) -> None:
        _, timed, traced, counted = self._ends or (0, 0, 0, 0)
        self._leave()
        device, names = trainer.strategy.root_device, part_names(system)
        rows = longest_operators(self._trace.key_averages(), traced - timed, device.type == "cuda", names)
        flops = {kind: count / (counted - traced) for kind, count in self._counter.counts.items()}
        found = Profile(
            iterations=np.diff(self._times),
            parts={name: self._parts[name] for name in names if name in self._parts},
            operators=rows, operators_s=sum(row.seconds for row in rows),
            gflop=sum(flops.values()) / 1e9 or None, floor_s=floor_of(flops, device),
            notes=[f"{device}, {trainer.precision}, torch {torch.__version__}"
                   + (f", {torch.get_num_threads()} threads" if device.type == "cpu" else "")],
        )  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        self._trace.export_chrome_trace(str(self.folder / "trace.json"))
        tables = parts_table(found), operators_table(found)
        write_atomic(self.folder / "profile.md", "# Profile\n\n" + "\n".join(table.markdown() for table in tables))
        for table in tables:
            self.console.print(table.rich())
        self._say(f"{self.folder / 'profile.md'}, and trace.json beside it for chrome://tracing or ui.perfetto.dev")

    def _leave(self) -> None:
        """Take away all that was put in."""
        if self._wrapped is not None:
            self._wrapped.restore()
            self._wrapped = None
        if self._counted is not None:
            vars(self._counted).pop("training_step", None)
            self._counted = None
        self._ends = None

    def _say(self, line: str) -> None:
        self.console.print(f"  profile    {line}", markup=False)


def _activities() -> list[ProfilerActivity]:
    gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    return [ProfilerActivity.CPU, *gpu]
