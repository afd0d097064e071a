"""Write the report of a sweep: report.md with figures, table.csv and settings.csv; print its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.evaluation.sweep_report.figures import CAPTIONS, draw_sweep
from fexgan_lit.evaluation.sweep_report.read import SweepRun
from fexgan_lit.evaluation.sweep_report.summary import SweepFindings, counts, find_sweep, unfinished_line
from fexgan_lit.evaluation.sweep_report.tables import effects_table, runs_csv, settings_csv, settings_table
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.options import Options, checked_options
from fexgan_lit.utils.tables import escaped
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console


#: Names that are valid as folder, file and config group option on every operating system.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


_NEEDS_PUBLISH = ("title", "question", "learnt")


@dataclass
class ReportSettings(Options):
    """The options of `report`; `conf/report.yaml` explains each field."""

    sweep_dir: str | None = None
    run: str | None = None
    by: str | None = None
    publish: str | None = None
    to: str = "experiments"
    conf: str | None = None
    title: str | None = None
    question: str | None = None
    learnt: str | None = None
    overwrite: bool = False

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        found = []
        if (self.sweep_dir is None) == (self.run is None):
            which = "neither is given" if self.run is None else f"sweep={self.sweep_dir} and run={self.run}"
            found.append(f"{which}: expected one of sweep=SWEEP_DIR and run=RUN_DIR.")
        if self.run is not None and self.by is not None:
            found.append(f"by={self.by}: by ranks the settings of a sweep; give it with sweep=SWEEP_DIR only.")
        if self.publish is not None and not _NAME.fullmatch(self.publish):
            found.append(
                f"publish={self.publish}: expected a name of at most 64 lower-case letters, digits, _ and - that "
                "begins with a letter or digit."
            )
        if self.publish is None:
            found += [
                f"{name}=...: this option is for records; give publish=NAME, too."
                for name in _NEEDS_PUBLISH
                if getattr(self, name) is not None
            ]
        return found


def report_settings(cfg: DictConfig) -> ReportSettings:
    """Convert the configuration to typed options.

    Raises:
        UserError: some values are invalid; the message lists them all.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    return checked_options(ReportSettings, tree, "report")


#: Files of the report, besides figures/.
FILES = ("report.md", "table.csv", "settings.csv")


#: The most unfinished runs listed on the terminal; report.md lists all.
_PRINTED = 12


def write_sweep_report(folder: Path, console: Console, by: str | None = None) -> SweepFindings:
    """Write report.md, table.csv, settings.csv and figures/ into a sweep folder, and print the tables.

    Args:
        folder: folder of the sweep.
        console: the terminal.
        by: final metric that ranks the settings; None takes the default.

    Raises:
        UserError: `folder` is not a sweep, no run is finished, or no finished run has the metric `by`.
    """
    findings = find_sweep(folder, by)
    folder = findings.sweep.folder
    with console.status("  drawing the pictures"):
        pictures, missing = draw_sweep(findings)
    (folder / "figures").mkdir(exist_ok=True)
    for name in CAPTIONS:
        (folder / "figures" / f"{name}.png").unlink(missing_ok=True)  # of an earlier report
    for name, picture in pictures.items():
        picture.save(folder / "figures" / f"{name}.png")
    write_atomic(folder / "table.csv", runs_csv(findings))
    write_atomic(folder / "settings.csv", settings_csv(findings))
    write_atomic(folder / "report.md", report_text(findings, pictures, missing))
    print_report(findings, missing, console)
    return findings


def report_text(findings: SweepFindings, pictures: Mapping[str, Image.Image], missing: Sequence[str]) -> str:
    """Return the text of report.md."""
    axes = effects_table(findings)
    every_run = (
        "The `report.md` of every run says how each number was made. [table.csv](table.csv) has all numbers of every "
    )
    return "\n".join([
        f"# Sweep {escaped(findings.sweep.folder.resolve().name)}\n",
        _listed(facts(findings)),
        settings_table(findings, [*findings.objectives, *findings.further]).markdown(),
        "## How sure is the order?\n",
        _listed(findings.sure),
        *([axes.markdown()] if axes is not None else []),
        *not_finished(findings),
        *([_listed([*findings.notes(), *missing])] if findings.notes() or missing else []),
        *(f"## {name.replace('_', ' ')}\n\n{CAPTIONS[name]}\n\n![{name}](figures/{name}.png)\n" for name in pictures),
        f"## Numbers\n\n{every_run}run, [settings.csv](settings.csv) those of every setting.\n",
    ])  # fmt: skip


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines) + "\n"


def facts(findings: SweepFindings) -> list[str]:
    """Return command, counts, duration, machines and versions of a sweep, one line each."""
    sweep = findings.sweep
    results = [run.result for run in sweep.runs if run.result is not None]
    machines = list(dict.fromkeys(result.machine for result in results if result.machine))
    minutes = sum(result.seconds for result in results) / 60
    known = [f"torch {version}" for version in dict.fromkeys(result.torch for result in results if result.torch)]
    return [
        *([f"command: {sweep.command}"] if sweep.command else []),
        f"{len(findings.settings)} settings, {len(sweep.runs)} runs: {counts(sweep.runs)}",
        *([f"{minutes:.1f} minutes, the sum of all runs"] if minutes else []),
        *([f"machine: {'; '.join(machines)}"] if machines else []),
        ", ".join([f"fexgan_lit {__version__}", *known]),
    ]


def not_finished(findings: SweepFindings) -> list[str]:
    """Return the section of report.md that lists every unfinished run; empty if there is none."""
    if not findings.unfinished:
        return []
    lines = [unfinished_line(run) for run in findings.unfinished]
    return ["## Not finished\n", _listed(lines)]


def print_report(findings: SweepFindings, missing: Sequence[str], console: Console) -> None:
    """Print the tables, the significance of the order, the unfinished runs and the file paths."""
    folder = findings.sweep.folder
    for fact in facts(findings):
        console.print(f"  {fact}", markup=False, soft_wrap=True)
    console.print()
    console.print(settings_table(findings, findings.objectives).rich())
    axes = effects_table(findings)
    if axes is not None:
        console.print(axes.rich())
    for line in [*findings.sure, *_printed(findings.unfinished), *findings.notes(), *missing]:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print(f"\n  report     {folder / 'report.md'}", markup=False, soft_wrap=True)
    console.print(f"  tables     {folder / 'table.csv'} (runs), settings.csv", markup=False, soft_wrap=True)
    console.print(f"  pictures   {folder / 'figures'}", markup=False, soft_wrap=True)
    best = findings.settings[0].finished
    if best:
        console.print(f"  best run   {RunFolder(best[0].path).path}", markup=False, soft_wrap=True)


def _printed(runs: Sequence[SweepRun]) -> list[str]:
    lines = [f"not finished: {unfinished_line(run)}" for run in runs[:_PRINTED]]
    return [*lines, f"not finished: {len(runs) - _PRINTED} more, all in report.md"] if len(runs) > _PRINTED else lines
