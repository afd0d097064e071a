"""`python -m fexgan_lit.report`: tables and figures of runs and sweeps, and published records of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from fexgan_lit.utils.hydra import name_sweep_folder, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.evaluation.sweep_report.report import ReportSettings


def report(cfg: DictConfig) -> None:
    """Report the sweep or run in `cfg`, and publish it if a name is given."""
    from rich.console import Console

    from fexgan_lit.evaluation.sweep_report.report import report_settings
    from fexgan_lit.utils.version import __version__

    settings = report_settings(cfg)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a log file has room for the tables
    console.print(f"[bold]fexgan_lit {__version__}[/]  report {settings.sweep_dir or settings.run}\n", soft_wrap=True)
    if settings.sweep_dir is not None:
        _sweep(settings, console)
    else:
        _run(settings, console)


def _sweep(settings: ReportSettings, console: Console) -> None:
    from fexgan_lit.evaluation.sweep_report.read import read_sweep

    read_sweep(str(settings.sweep_dir))  # report user errors before the slow import of torch
    from fexgan_lit.evaluation.sweep_report.report import write_sweep_report

    findings = write_sweep_report(Path(str(settings.sweep_dir)), console, settings.by)
    if settings.publish is not None:
        from fexgan_lit.evaluation.publish.sweep import publish_sweep

        publish_sweep(findings, settings, console)


def _run(settings: ReportSettings, console: Console) -> None:
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.utils.errors import UserError

    if (Path(str(settings.run)) / "sweep.yaml").is_file():
        raise UserError(f"run={settings.run} is the folder of a sweep; use sweep={settings.run}.")
    run = RunFolder.at(str(settings.run))
    from fexgan_lit.evaluation.publish.run import print_run

    print_run(run, console)
    if settings.publish is not None:
        from fexgan_lit.evaluation.publish.run import publish_run

        publish_run(run, settings, console)


def main() -> None:
    """Run the command."""
    sys.argv[1:] = name_sweep_folder(sys.argv[1:])
    run_command(report, "report")


if __name__ == "__main__":
    main()
