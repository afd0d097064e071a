"""The terminal: the console of a command, and bars for the stages of its work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


#: Called with (done, in all).
Progress = Callable[[int, int], None]


class Stages:
    """Bars for the stages of the work, one after the other."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def __call__(self, description: str) -> Progress:
        """A new bar, and what to call with (done, in all); the bars before it go away."""
        for task in list(self.bar.task_ids):
            self.bar.remove_task(task)
        task = self.bar.add_task(description, total=None)
        return lambda done, total: self.bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def stages(console: Console) -> Iterator[Stages]:
    """Draw the stages begun inside on `console`."""
    with stage_bar(console) as bar:
        yield Stages(bar)


def stage_bar(console: Console) -> Any:
    """A bar for what is not training (packing frames, training the judge), gone when it is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def train_console() -> Console:
    """The terminal, or a log file with room for the tables; Rich's own console, which Lightning's bar shares."""
    import rich

    rich.reconfigure(highlight=False, soft_wrap=True)
    console = rich.get_console()
    if not console.is_terminal:
        console.width = 120
    return console
