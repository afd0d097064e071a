"""The report of a sweep: report.md with figures, table.csv, settings.csv, and the same on the terminal."""

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
from fexgan_lit.utils.options import checked_options
from fexgan_lit.utils.tables import escaped
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console


#: A folder, a file and an option of a group at once, on every system.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


_NEEDS_PUBLISH = ("title", "question", "learnt")


@dataclass
class ReportSettings:
    """What is reported, and where a record goes; `conf/report.yaml` explains each field."""

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

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = []
        if (self.sweep_dir is None) == (self.run is None):
            which = "neither is given" if self.run is None else f"sweep={self.sweep_dir} and run={self.run}"
            found.append(f"{which}: expected one of sweep=SWEEP_DIR and run=RUN_DIR.")
        if self.run is not None and self.by is not None:
            found.append(f"by={self.by}: a single run has nothing to be put in order; it goes with sweep=SWEEP_DIR.")
        if self.publish is not None and not _NAME.fullmatch(self.publish):
            found.append(
                f"publish={self.publish}: expected a name of small letters, digits, _ and -, 64 at most, that begins "
                "with a letter or digit."
            )
        if self.publish is None:
            found += [
                f"{name}=...: belongs to a record; say publish=NAME, too."
                for name in _NEEDS_PUBLISH
                if getattr(self, name) is not None
            ]
        return found


def report_settings(cfg: DictConfig) -> ReportSettings:
    """The typed options.

    Raises:
        UserError: one message with every value that cannot be used.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    return checked_options(ReportSettings, tree, "report")


#: What the report leaves beside figures/.
FILES = ("report.md", "table.csv", "settings.csv")


#: Runs that are not finished and named on the terminal; report.md names all.
_PRINTED = 12


def write_sweep_report(folder: Path, console: Console, by: str | None = None) -> SweepFindings:
    """Write report.md, table.csv, settings.csv and figures/ into a sweep folder, and print the tables.

    Args:
        folder: of the sweep.
        console: the terminal.
        by: final number the settings are put in order of; None for the usual.

    Raises:
        UserError: it is no sweep, none of its runs is finished, or they have no number `by`.
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
    """report.md."""
    axes = effects_table(findings)
    every_run = (
        "How each number was made stands in `report.md` of every run; all numbers in [table.csv](table.csv), a row a "
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
        f"## Numbers\n\n{every_run}run, and in [settings.csv](settings.csv), a row a setting.\n",
    ])  # fmt: skip


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines) + "\n"


def facts(findings: SweepFindings) -> list[str]:
    """What was run, where and for how long."""
    sweep = findings.sweep
    results = [run.result for run in sweep.runs if run.result is not None]
    machines = list(dict.fromkeys(result.machine for result in results if result.machine))
    minutes = sum(result.seconds for result in results) / 60
    known = [f"torch {version}" for version in dict.fromkeys(result.torch for result in results if result.torch)]
    return [
        *([f"command: {sweep.command}"] if sweep.command else []),
        f"{len(findings.settings)} settings, {len(sweep.runs)} runs: {counts(sweep.runs)}",
        *([f"{minutes:.1f} minutes of runs, added up"] if minutes else []),
        *([f"machine: {'; '.join(machines)}"] if machines else []),
        ", ".join([f"fexgan_lit {__version__}", *known]),
    ]


def not_finished(findings: SweepFindings) -> list[str]:
    """The section of report.md that names every run that does not count; nothing where there is none."""
    if not findings.unfinished:
        return []
    lines = [unfinished_line(run) for run in findings.unfinished]
    return ["## Not finished\n", _listed(lines)]


def print_report(findings: SweepFindings, missing: Sequence[str], console: Console) -> None:
    """The tables, how sure they are, what is not finished, and where the files lie."""
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
