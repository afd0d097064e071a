"""The terminal output of a sweep: planned, ended and failed runs."""

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
#: Seconds between two checks for runs that ended in other processes.
_LOOK_S = 1.0
#: Statuses of runs that are not started again.
ENDED = ("finished", "pruned")


def standing(folder: Path) -> str:
    """Return the status of a run: finished, pruned, failed, half-done or not begun."""
    result = read_result(folder)
    if result is not None:
        return result.status
    return "half-done" if RunFolder(folder).last.is_file() else "not begun"


class SweepProgress:
    """Prints the progress of a sweep.

    Args:
        console: the terminal.
        folder: folder of the sweep.
        total: number of runs.
        in_turn: whether runs train one after the other in this process and print their own progress.
        shown: metrics to print when a run has ended.
    """

    def __init__(self, console: Console, folder: Path, total: int, in_turn: bool, shown: Sequence[str] = ()) -> None:
        self.console = console
        self.folder = folder
        self.total = total
        self.in_turn = in_turn
        self.shown = shown
        self.done = 0

    def opening(self, what: str, standings: Mapping[str, str], notes: Sequence[str]) -> None:
        """Print how many runs are finished, will be resumed and will be started."""
        counts = Counter(standings.values())
        words = {
            "finished": "finished before", "pruned": "stopped early before", "half-done": "resume from a checkpoint",
            "failed": "failed before and are tried again", "not begun": "to start",
        }  # fmt: skip
        parts = [f"{counts[status]} {text}" for status, text in words.items() if counts[status]]
        self.done = sum(counts[status] for status in ENDED)
        self.console.print(f"[bold]sweep[/]  {what}: {', '.join(parts)}")
        for line in (f"folder     {self.folder}", *notes, ""):
            self.console.print(f"  {line}" if line else "", markup=False)

    @contextlib.contextmanager
    def during(self, batch: Sequence[Setting]) -> Iterator[None]:
        """Report the runs of a batch as they end."""
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
        """Print the runs that have ended and remove them from `waiting`."""
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
        """Print that a worker died and that its runs are started again."""
        names = ", ".join(setting.name for setting in begun)
        self.console.print(f"  a worker died (killed, or out of memory); starting again: {names}", markup=False)

    def stopped(self) -> None:
        """Print that the sweep was stopped by Ctrl-C and can be resumed."""
        self.console.print("\n  the sweep was stopped; the same command resumes it", markup=False)

    def closing(self, results: Mapping[str, Mapping[str, Any]]) -> bool:
        """Print the summary; list failed runs in a table and in failures.txt. Return True if no run failed."""
        counts = Counter(result["status"] for result in results.values())
        order = ("finished", "pruned", "failed", ELSEWHERE)
        parts = [f"{counts[status]} {status}" for status in order if counts[status]]
        self.console.print(f"\n[bold]sweep[/]  {', '.join(parts) or 'nothing to do'}  {self.folder}")
        failed = {name: result for name, result in results.items() if result["status"] == "failed"}
        write_failures(self.folder, failed)
        if failed:
            self._failures(failed)
        if counts[ELSEWHERE]:
            self.console.print("  another process trains the runs in work elsewhere; this command left them to it")
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
    """Write `failures.txt` if runs failed, else remove it; errors are ignored, since the terminal has the table."""
    lines = [f"{name}\n  {result['error']}\n  {folder / name / ERROR}" for name, result in failed.items()]
    with contextlib.suppress(OSError):
        if lines:
            write_atomic(folder / FAILURES, "\n".join([*lines, "", "The same command tries them again.", ""]))
        else:
            (folder / FAILURES).unlink(missing_ok=True)
