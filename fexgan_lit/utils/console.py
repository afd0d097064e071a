"""The console of a command, and progress bars for its stages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


#: A function that is called with (done, total).
Progress = Callable[[int, int], None]


#: Least seconds between two lines of progress in a log file.
_LINES_APART = 30.0


class Stages:
    """Progress bars for consecutive stages; only the current one is shown.

    Off a terminal there is a line for each stage, and every half minute how far it is.
    """

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def __call__(self, description: str) -> Progress:
        """Replace the bar by a new one and return its update function of (done, total)."""
        if not self.bar.console.is_terminal:
            self.bar.console.print(f"  {description}", markup=False, soft_wrap=True)
            return self._lines(description)
        for task in list(self.bar.task_ids):
            self.bar.remove_task(task)
        task = self.bar.add_task(description, total=None)
        return lambda done, total: self.bar.update(task, completed=done, total=total)

    def _lines(self, description: str) -> Progress:
        last = time.monotonic()

        def update(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _LINES_APART and done < total:
                last = time.monotonic()
                self.bar.console.print(f"  {description} {done}/{total}", markup=False, soft_wrap=True)

        return update


@contextlib.contextmanager
def stages(console: Console) -> Iterator[Stages]:
    """Show a progress bar on `console` for each stage that starts in the body."""
    with stage_bar(console) as bar:
        yield Stages(bar)


def stage_bar(console: Console) -> Any:
    """Return a bar for tasks other than training (packing frames, training the judge); it disappears at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def train_console() -> Console:
    """Return Rich's global console, which Lightning's bar also uses; log files are 120 columns wide for tables."""
    import rich

    rich.reconfigure(highlight=False, soft_wrap=True)
    console = rich.get_console()
    if not console.is_terminal:
        console.width = 120
    return console
