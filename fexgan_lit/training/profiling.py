"""`trainer.profile`: time iterations of a run by parts, trace a few and count the FLOP of one."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from rich.console import Console
from torch import nn
from torch.profiler import profile, record_function

from fexgan_lit.training.flops import FlopsByPrecision
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.tables import TextTable

#: Number of iterations before the timed ones, and number of traced iterations after them.
WARM_UP, TRACED = 5, 3
#: Parts of an iteration by substrings of Lightning's action names; systems name their own parts.
_PARTS = {
    "train_dataloader_next": "data", "batch_to_device": "data to the device",
    "training_step": "losses, penalties and the rest of the step", "[Callback]": "logging and callbacks",
    "on_train_batch": "logging and callbacks",
}  # fmt: skip
_REST = "Lightning's loop"


def _is_compiled(network: nn.Module) -> bool:
    """Return whether `network.compile` was called; torch has no public API for that."""
    return getattr(network, "_compiled_call_impl", None) is not None


class PartProfiler(Profiler):
    """Measures the seconds of each part of an iteration.

    While an inner part is open the clock of the outer part is paused, so the parts add up to the whole. A GPU is
    synchronized at the start and end of every part.

    Attributes:
        seconds: seconds so far, by part.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        self._open: list[tuple[str, record_function | None]] = [(_REST, None)]
        self._since = time.perf_counter()

    def start(self, action_name: str) -> None:
        """Open a part; it also appears in the trace of torch.profiler."""
        self.turn()
        part = next((part for word, part in _PARTS.items() if word in action_name), action_name)
        part = self._open[-1][0] if part.startswith(("[", "run_")) else part  # other Lightning actions
        self._open.append((part, record_function(part).__enter__()))

    def stop(self, action_name: str) -> None:
        """Close the part that was opened last."""
        self.turn()
        _, shown = self._open.pop()
        if shown is not None:
            shown.__exit__(None, None, None)

    def turn(self) -> None:
        """Add the time since the last call to the open part."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[self._open[-1][0]] += now - self._since
        self._since = now


class ProfileRun(Callback):
    """Profiles the first iterations of a run; the run then continues as usual.

    This must be the first callback, since it measures an iteration from one call of its hook to the next.

    Args:
        wanted: number of timed iterations; rounded up to whole rounds of n_critic.
        folder: folder for trace.json and profile.md.
        console: terminal for the tables.
    """

    def __init__(self, wanted: int, folder: Path, console: Console) -> None:
        self.wanted, self.folder, self.console = wanted, folder, console
        self._seen, self._cycle, self._timed = -1, 1, 0
        self._hooks: list[Any] = []
        self._before: Profiler | None = None
        self._counter: FlopsByPrecision | None = None

    def on_train_start(self, trainer: Trainer, system: LightningModule) -> None:
        """Plan the iterations: warm-up, timed, traced, counted."""
        cycle = self._cycle = int(getattr(getattr(system, "optimizer_settings", None), "n_critic", 1))
        self._traced = -(-TRACED // cycle) * cycle
        to_come = trainer.max_steps - trainer.global_step
        room = (to_come - WARM_UP - self._traced - cycle) // cycle * cycle
        self._timed = max(0, min(-(-self.wanted // cycle) * cycle, room))
        if not self._timed:
            needed = WARM_UP + self._traced + 2 * cycle
            self._say(f"nothing: it needs {needed} iterations or more, but only {to_come} are left")

    def on_train_batch_start(self, trainer: Trainer, system: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin or end a phase of the profile between two iterations."""
        if not self._timed:
            return
        self._seen += 1
        if self._seen == WARM_UP:
            self._watch(trainer, system)
        elif self._seen == WARM_UP + self._timed:
            self.parts.turn()
            self._seconds = {part: seconds / self._timed for part, seconds in self.parts.seconds.items()}
            self._trace = profile()
            self._trace.start()
        elif self._seen == WARM_UP + self._timed + self._traced:
            self._trace.stop()
            self._leave(trainer)
            if not any(map(_is_compiled, system.children())):  # compiled networks have no operators to count
                self._counter = FlopsByPrecision().__enter__()
        elif self._seen == WARM_UP + self._timed + self._traced + self._cycle:
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, system: LightningModule) -> None:
        """Finish the profile after the last iteration."""
        self.on_train_batch_start(trainer, system, None, 0)
        if self._timed:
            self._leave(trainer)
            self._say("nothing: the run ended before the profile was complete")

    def on_exception(self, trainer: Trainer, system: LightningModule, exception: BaseException) -> None:
        """Restore the trainer."""
        self._leave(trainer)

    def _watch(self, trainer: Trainer, system: LightningModule) -> None:
        """Replace the trainer's profiler, and time the forward passes of the networks."""
        parts = self.parts = PartProfiler(trainer.strategy.root_device)
        self._before, trainer.profiler = trainer.profiler, parts  # type: ignore[attr-defined]
        for name, network in system.named_children():
            # the hooks of a compiled network would be compiled with it
            if name == "average" or _is_compiled(network) or not any(True for _ in network.parameters()):
                continue
            part = f"{name} forward"
            self._hooks += [
                network.register_forward_pre_hook(lambda *_, part=part: parts.start(part)),
                network.register_forward_hook(lambda *_, part=part: parts.stop(part), always_call=True),
            ]

    def _leave(self, trainer: Trainer) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._before is not None:
            trainer.profiler, self._before = self._before, None  # type: ignore[attr-defined]
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
        self._counter = None

    def _write(self, trainer: Trainer) -> None:
        counted = 0 if self._counter is None else sum(self._counter.counts.values()) / self._cycle / 1e9
        self._leave(trainer)
        self._timed, whole, device = 0, sum(self._seconds.values()), trainer.strategy.root_device
        rows = [(part, f"{1e3 * seconds:.4g}", f"{seconds / whole:.1%}") for part, seconds in self._seconds.items()]
        notes = [f"{device}, {trainer.precision}, torch {torch.__version__}, {torch.get_num_threads()} threads"]
        if counted:
            notes.append(f"{counted:.4g} GFLOP in convolutions and matrix products, {counted / whole:.4g} GFLOP/s")
        table = TextTable(
            "Time of an iteration", ("part", "ms", "share"),
            (*rows, ("an iteration", f"{1e3 * whole:.4g}", "100.0%")), notes=tuple(notes),
        )  # fmt: skip
        order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        operators = self._trace.key_averages().table(order, row_limit=15, max_name_column_width=50)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._trace.export_chrome_trace(str(self.folder / "trace.json"))
        title = f"**Operators of {self._traced} iterations**, under torch.profiler, which slows small operators"
        text = f"# Profile\n\n{table.markdown()}\n{title}\n\n```text\n{operators}\n```\n"
        write_atomic(self.folder / "profile.md", text)
        self.console.print(table.rich())
        self._say(f"{self.folder / 'profile.md'}, and trace.json beside it for chrome://tracing or ui.perfetto.dev")

    def _say(self, line: str) -> None:
        self.console.print(f"  profile    {line}", markup=False)
