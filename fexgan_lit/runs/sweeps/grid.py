"""A grid: every combination of the axes once, going on where the same command was stopped."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from fexgan_lit.runs.result import RESULT
from fexgan_lit.runs.sweeps.axes import Setting, combine, make_axis, split_overrides, sweep_name, values_of
from fexgan_lit.runs.sweeps.compose import Workshop, check_settings
from fexgan_lit.runs.sweeps.launcher import Launching
from fexgan_lit.runs.sweeps.progress import ENDED, News, standing
from fexgan_lit.runs.sweeps.record import SweepRecord, common_base, identity, join, read_record, runs_of
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

#: Guards sweep.yaml against two commands that start in the same folder.
RECORD_LOCK = ".sweep.lock"


def run_grid(workshop: Workshop, arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Run what is missing of the grid, report on all of it, and exit with 1 where a run failed.

    Raises:
        UserError: the grid or the folder cannot be used; nothing was started.
    """
    from fexgan_lit.utils.console import train_console

    console = train_console()
    constant, varying = split_overrides(arguments, workshop.parser)
    axes = [make_axis(override, workshop.parser) for override in varying]
    settings, doubles = combine(axes, constant)
    base = common_base(check_settings(workshop, settings), [axis.key for axis in axes])
    record = SweepRecord(workshop.command, values_of(axes), base, "grid", runs_of(settings))
    folder, notes = open_folder(workshop, record)
    if doubles:
        notes.append(f"doubles    {doubles} of the {len(settings) + doubles} combinations came twice and run once")
    return work(workshop, folder, settings, notes, console)


def open_folder(workshop: Workshop, record: SweepRecord) -> tuple[Path, list[str]]:
    """The folder of the sweep with its record written, and what there is to say of it.

    Raises:
        UserError: it holds another sweep, or cannot be written.
    """
    name = workshop.config.name or sweep_name(record.axes, distinguishing(record))
    folder = workshop.place(str(name)).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / RECORD_LOCK):
            there = read_record(folder)
            if there is None:
                record.write(folder)
                return folder, []
            joined, fresh = join(record, there, folder)
            joined.write(folder)
    except OSError as error:
        raise UserError(f"cannot write the sweep folder {folder}: {error.strerror}") from error
    notes = [f"new        {len(fresh)} runs are added to the {len(there.runs)} of the folder"] if fresh else []
    if record.kind == "grid" and (other := len(set(joined.runs) - set(record.runs))):
        notes.append(f"others     {other} runs of the folder are not asked for now and stay as they are")
    return folder, notes


def distinguishing(record: SweepRecord) -> list[Any]:
    """What tells two sweeps of the same axes apart; a grid may get more values, a search keeps its space."""
    own = [] if record.kind == "grid" else [record.kind, record.axes, record.objectives]
    return [identity(record.base), *own]


def work(
    workshop: Workshop, folder: Path, settings: Sequence[Setting], notes: Sequence[str], console: Console
) -> dict[str, dict[str, Any]]:
    """Launch the runs that have not ended, and close the sweep."""
    shown = [str(text).partition(":")[2] for text in workshop.config.sweep.objectives]
    news = News(console, folder, len(settings), workshop.launcher_name == "basic", shown)
    standings = {setting.name: standing(folder / setting.name) for setting in settings}
    news.opening(f"{len(settings)} runs", standings, notes)
    missing = [setting for setting in settings if standings[setting.name] not in ENDED]
    results = {name: {"status": status, "error": None} for name, status in standings.items() if status in ENDED}
    if missing:
        launching = Launching(workshop, workshop.make_launcher(folder), folder, news)
        forget_failures(folder, missing)
        results |= attended(lambda launch: launch.run(missing), launching)
    close(workshop, folder, news, results, console)
    return results


def attended(work_off: Callable[[Launching], T], launching: Launching) -> T:
    """Do the work; Ctrl-C ends the sweep with a line on how it goes on."""
    try:
        return work_off(launching)
    except (KeyboardInterrupt, SystemExit):
        launching.news.stopped()
        sys.exit(130)


def forget_failures(folder: Path, settings: Sequence[Setting]) -> None:
    """A run that is tried again has no result until it ends."""
    for setting in settings:
        with contextlib.suppress(OSError):
            (folder / setting.name / RESULT).unlink(missing_ok=True)


def close(
    workshop: Workshop, folder: Path, news: News, results: dict[str, dict[str, Any]], console: Console
) -> None:  # fmt: skip
    """Summary and report; exit code 1 where a run failed."""
    good = news.closing(results)
    try:
        workshop.write_report(folder, console)
    except Exception as error:  # the runs are what counts, and they are on disk
        console.print(f"  no report: {error}; python -m fexgan_lit.report sweep={folder} tries again", markup=False)
    if not good:
        sys.exit(1)
