"""A grid: run every combination of the axes once; the same command resumes it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from fexgan_lit.runs.result import RESULT
from fexgan_lit.runs.sweeps.axes import Setting, combine, make_axis, split_overrides, sweep_name, values_of
from fexgan_lit.runs.sweeps.compose import SweepContext, check_settings
from fexgan_lit.runs.sweeps.launcher import Launching
from fexgan_lit.runs.sweeps.progress import ENDED, SweepProgress, standing
from fexgan_lit.runs.sweeps.record import SweepRecord, common_base, identity, join, read_record, runs_of
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

#: Lock file for sweep.yaml, for commands that start in the same folder.
RECORD_LOCK = ".sweep.lock"


def run_grid(sweep_context: SweepContext, arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Run the missing runs of the grid, report on all runs, and exit with 1 if a run failed.

    Raises:
        UserError: the grid or the folder is invalid; nothing was started.
    """
    from fexgan_lit.utils.console import train_console

    console = train_console()
    constant, varying = split_overrides(arguments, sweep_context.parser)
    axes = [make_axis(override, sweep_context.parser) for override in varying]
    settings, doubles = combine(axes, constant)
    base = common_base(check_settings(sweep_context, settings), [axis.key for axis in axes])
    record = SweepRecord(sweep_context.command, values_of(axes), base, "grid", runs_of(settings))
    folder, notes = open_folder(sweep_context, record)
    if doubles:
        notes.append(f"doubles    {doubles} of the {len(settings) + doubles} combinations are duplicates and run once")
    return work(sweep_context, folder, settings, notes, console)


def open_folder(sweep_context: SweepContext, record: SweepRecord) -> tuple[Path, list[str]]:
    """Create or open the folder of the sweep and write its record; return the folder and notes.

    Raises:
        UserError: the folder holds another sweep or cannot be written.
    """
    name = sweep_context.config.name or sweep_name(record.axes, distinguishing(record))
    folder = sweep_context.place(str(name)).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        read_record(folder)  # a folder that holds something else gets no lock file
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
        notes.append(f"others     {other} runs of the folder are not in this command and stay as they are")
    return folder, notes


def distinguishing(record: SweepRecord) -> list[Any]:
    """Return what identifies a sweep besides its axes; a grid may get more values, a search keeps its space."""
    own = [] if record.kind == "grid" else [record.kind, record.axes, record.objectives]
    return [identity(record.base), *own]


def work(
    sweep_context: SweepContext, folder: Path, settings: Sequence[Setting], notes: Sequence[str], console: Console
) -> dict[str, dict[str, Any]]:
    """Launch the runs that have not ended, then print and report the results."""
    shown = [str(text).partition(":")[2] for text in sweep_context.config.sweep.objectives]
    sweep_progress = SweepProgress(console, folder, len(settings), sweep_context.launcher_name == "basic", shown)
    standings = {setting.name: standing(folder / setting.name) for setting in settings}
    sweep_progress.opening(f"{len(settings)} runs", standings, notes)
    missing = [setting for setting in settings if standings[setting.name] not in ENDED]
    results = {name: {"status": status, "error": None} for name, status in standings.items() if status in ENDED}
    if missing:
        launching = Launching(sweep_context, sweep_context.make_launcher(folder), folder, sweep_progress)
        forget_failures(folder, missing)
        results |= attended(lambda launch: launch.run(missing), launching)
    close(sweep_context, folder, sweep_progress, results, console)
    return results


def attended(work_off: Callable[[Launching], T], launching: Launching) -> T:
    """Call `work_off`; on Ctrl-C, print how to resume the sweep and exit."""
    try:
        return work_off(launching)
    except (KeyboardInterrupt, SystemExit):
        launching.sweep_progress.stopped()
        sys.exit(130)


def forget_failures(folder: Path, settings: Sequence[Setting]) -> None:
    """Delete the results of runs that are tried again."""
    for setting in settings:
        with contextlib.suppress(OSError):
            (folder / setting.name / RESULT).unlink(missing_ok=True)


def close(
    sweep_context: SweepContext, folder: Path, sweep_progress: SweepProgress, results: dict[str, dict[str, Any]],
    console: Console,
) -> None:  # fmt: skip
    """Print the summary and write the report; exit with 1 if a run failed."""
    good = sweep_progress.closing(results)
    try:
        sweep_context.write_report(folder, console)
    except Exception as error:  # a failed report must not hide the runs, which are on disk
        console.print(
            f"  cannot write the report: {error}. Try again with python -m fexgan_lit.report sweep={folder}",
            markup=False,
        )
    if not good:
        sys.exit(1)
