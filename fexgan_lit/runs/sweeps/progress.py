"""What a sweep says: what will run, what has ended, what failed."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import ERROR, read_result
from fexgan_lit.runs.sweeps.axes import Setting
from fexgan_lit.runs.sweeps.job import ELSEWHERE
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

if TYPE_CHECKING:
    from rich.console import Console

FAILURES = "failures.txt"
#: Seconds between two looks for runs that ended elsewhere.
_LOOK_S = 1.0
#: Statuses after which a run has nothing left to do.
ENDED = ("finished", "pruned")


def standing(folder: Path) -> str:
    """How a run stands: finished, pruned, failed, half-done or not begun."""
    result = read_result(folder)
    if result is not None:
        return result.status
    return "half-done" if RunFolder(folder).last.is_file() else "not begun"


class SweepProgress:
    """Lines about the runs of one sweep.

    Args:
        console: the terminal.
        folder: of the sweep.
        total: runs of the sweep.
        in_turn: whether runs come one after the other in this process; they then speak for themselves.
        shown: the metric to name when a run has ended; None names none.
    """

    def __init__(self, console: Console, folder: Path, total: int, in_turn: bool, shown: Sequence[str] = ()) -> None:
        self.console = console
        self.folder = folder
        self.total = total
        self.in_turn = in_turn
        self.shown = shown
        self.done = 0

    def opening(self, what: str, standings: Mapping[str, str], notes: Sequence[str]) -> None:
        """What will run, what is finished, what goes on."""
        counts = Counter(standings.values())
        words = {
            "finished": "finished before", "pruned": "stopped early before", "half-done": "go on from their checkpoint",
            "failed": "failed before and are tried again", "not begun": "to begin",
        }  # fmt: skip
        parts = [f"{counts[status]} {text}" for status, text in words.items() if counts[status]]
        self.done = sum(counts[status] for status in ENDED)
        self.console.print(f"[bold]sweep[/]  {what}: {', '.join(parts)}")
        for line in (f"folder     {self.folder}", *notes, ""):
            self.console.print(f"  {line}" if line else "", markup=False)

    @contextlib.contextmanager
    def during(self, batch: Sequence[Setting]) -> Iterator[None]:
        """Speak of the runs of a batch as they end."""
        if self.in_turn:
            for setting in batch:
                self.console.rule(f"run {self.done + 1} of {self.total}: {setting.name}", align="left", style="dim")
            yield
            self.look([setting.name for setting in batch])
            return
        waiting, over = [setting.name for setting in batch], threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK_S):
                self.look(waiting)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.look(waiting)

    def look(self, waiting: list[str]) -> None:
        """Say which of the runs have ended, and forget those."""
        for name in list(waiting):
            with contextlib.suppress(UserError):
                if (result := read_result(self.folder / name)) is not None:
                    waiting.remove(name)
                    self.done += 1
                    numbers = "".join(f", {m} {result.metrics[m]:.4g}" for m in self.shown if m in result.metrics)
                    end = f": {result.error}" if result.error else numbers
                    line = f"{self.done}/{self.total}  {name}  {result.status} after {result.seconds:.0f} s{end}"
                    self.console.print(f"  {line}", markup=False)

    def death(self, begun: Sequence[Setting]) -> None:
        """A worker is gone; what was in work is started again."""
        names = ", ".join(setting.name for setting in begun)
        self.console.print(f"  a worker died (killed, or out of memory); started again: {names}", markup=False)

    def stopped(self) -> None:
        """Ctrl-C."""
        self.console.print("\n  the sweep is stopped; the same command goes on where it was", markup=False)

    def closing(self, results: Mapping[str, Mapping[str, Any]]) -> bool:
        """How everything ended, with the failed runs in a table and in failures.txt; True if nothing failed."""
        counts = Counter(result["status"] for result in results.values())
        order = ("finished", "pruned", "failed", ELSEWHERE)
        parts = [f"{counts[status]} {status}" for status in order if counts[status]]
        self.console.print(f"\n[bold]sweep[/]  {', '.join(parts) or 'nothing to do'}  {self.folder}")
        failed = {name: result for name, result in results.items() if result["status"] == "failed"}
        write_failures(self.folder, failed)
        if failed:
            self._failures(failed)
        if counts[ELSEWHERE]:
            self.console.print("  another process has those in work elsewhere; this command has left them to it")
        return not failed

    def _failures(self, failed: Mapping[str, Mapping[str, Any]]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table("run", "error", "traceback", box=None, pad_edge=False, padding=(0, 2, 0, 2))
        for name, result in failed.items():
            table.add_row(name, Text(str(result["error"])), f"{name}/{ERROR}")
        self.console.print(table)
        self.console.print("  the same command tries the failed runs again")


def write_failures(folder: Path, failed: Mapping[str, Mapping[str, Any]]) -> None:
    """`failures.txt`, only where runs failed; a full disk does not hide the table on the terminal."""
    lines = [f"{name}\n  {result['error']}\n  {folder / name / ERROR}" for name, result in failed.items()]
    with contextlib.suppress(OSError):
        if lines:
            write_atomic(folder / FAILURES, "\n".join([*lines, "", "The same command tries them again.", ""]))
        else:
            (folder / FAILURES).unlink(missing_ok=True)
