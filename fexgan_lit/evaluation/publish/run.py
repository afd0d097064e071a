"""Print a single run (`report run=`) and publish its record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from fexgan_lit.evaluation.publish.overlay import UNPUBLISHED, Tree, choices, difference, disagreements, overlay_text
from fexgan_lit.evaluation.publish.record import (
    Place,
    Publication,
    check_free,
    command_text,
    data_text,
    given_by_hand,
    machine_text,
    pictures_text,
    places_of,
    report_of,
    store_of,
    write_record,
)
from fexgan_lit.evaluation.sweep_report.read import SweepRun, read_run
from fexgan_lit.runs.sweeps.record import flatten, is_under
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import digest
from fexgan_lit.utils.tables import TextTable, unescaped

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from fexgan_lit.evaluation.sweep_report.report import ReportSettings
    from fexgan_lit.runs.folder import RunFolder


def print_run(run: RunFolder, console: Console) -> None:
    """Print the status, the tables and the file paths of a run."""
    state = read_run(run.path, {}, old=True)
    text = run.report.read_text(encoding="utf-8") if run.report.is_file() else ""
    for line in status_lines(run, state):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for fact in report_facts(text):
        console.print(f"  {unescaped(fact)}", markup=False, soft_wrap=True)
    for table in tables_of(text):
        console.print()
        console.print(table.rich())
    console.print()
    for name, place in places(run).items():
        console.print(f"  {name:<12} {place}", markup=False, soft_wrap=True)


def status_lines(run: RunFolder, state: SweepRun) -> list[str]:
    """Return the status of the run, and how to resume it if it is not finished."""
    result = state.result
    lines = [f"status: {state.status}" + (f" at iteration {result.iteration}" if result and result.iteration else "")]
    if result is not None and result.seconds:
        lines[0] += f", {result.seconds / 60:.1f} minutes"
    if result is not None and result.machine:
        lines.append(f"machine: {result.machine}; torch {result.torch}; fexgan_lit {result.version}")
    if state.error:
        lines.append(f"error: {state.error}")
    if (run.path / "error.txt").is_file():
        lines.append(f"traceback: {run.path / 'error.txt'}")
    if not state.finished and run.last.is_file():
        lines.append(f"resume with: python -m fexgan_lit.train run={run.path}")
    return lines


def report_facts(text: str) -> list[str]:
    """Return the list of facts at the top of a report.md."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("- ")), len(lines))
    stop = next((i for i in range(start, len(lines)) if not lines[i].startswith("- ")), len(lines))
    return [line[2:].replace("`", "") for line in lines[start:stop]]


def places(run: RunFolder) -> dict[str, Path]:
    """Return the existing files and folders of a run, by label."""
    known = {
        "report": run.report, "config": run.config, "numbers": run.metrics, "weights": run.weights,
        "checkpoint": run.last, "best": run.best, "pictures": run.figures,
    }  # fmt: skip
    return {name: path for name, path in known.items() if path.exists()}


def tables_of(text: str) -> list[TextTable]:
    """Parse the tables of a Markdown text that `TextTable.markdown` wrote, in order."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("|---|")]
    return [_table(lines, start) for start in starts if start >= 1]


def _table(lines: list[str], rule: int) -> TextTable:
    """Parse the table whose header rule is the line `rule`."""
    body = list(_while(lines, rule + 1, "| "))
    above = lines[rule - 3] if rule >= 3 else ""
    title = unescaped(above.strip("*")) if above.startswith("**") else ""
    notes = list(_while(lines, rule + len(body) + 2, "- "))
    rows = [_cells(line) for line in body]
    quoted = sum(all(cell.startswith("*") and not cell.startswith("**") for cell in row) for row in rows)
    plain = [row if i < len(rows) - quoted else tuple(cell.strip("*") for cell in row) for i, row in enumerate(rows)]
    return TextTable(title, _cells(lines[rule - 1]), tuple(plain), quoted, tuple(unescaped(note[2:]) for note in notes))


def _while(lines: list[str], start: int, prefix: str) -> Iterator[str]:
    """Yield the lines from `start` on while they begin with `prefix`."""
    for line in lines[start:]:
        if not line.startswith(prefix):
            return
        yield line


def _cells(line: str) -> tuple[str, ...]:
    inner = line.strip().removeprefix("|").removesuffix("|").replace("\\|", "\0")
    return tuple(unescaped(cell.strip().replace("\0", "|")) for cell in inner.split("|"))


def publish_run(run: RunFolder, settings: ReportSettings, console: Console) -> None:
    """Write the record of a finished run and the overlay that reproduces it.

    Raises:
        UserError: the run is not finished, a record of other runs has the name, or no overlay reproduces the
            configuration of the run.
    """
    state = read_run(run.path, {}, old=True)
    if not state.finished:
        raise UserError(f"run={run.path} is {state.status}; only a finished run can be published.")
    config = plain_config(run)
    place, made = store_of(settings), made_of_config(config)
    overlay = run_overlay(config, place)
    regenerates = _regenerates(place, config)
    check_free(place, made, regenerates, settings.overwrite)
    sections = run_sections(run, state, config, place)
    texts = {"report.md": report_of(run)}
    if run.metrics.is_file():
        texts["metrics.csv"] = run.metrics.read_text(encoding="utf-8")
    publication = Publication(
        made,
        again(config, place),
        None if regenerates else overlay,
        sections,
        texts,
        run.figures,
        places_of_run(run, config),
    )
    write_record(publication, place, settings, console)


def plain_config(run: RunFolder) -> Tree:
    """Return the configuration of a run as plain values.

    Raises:
        UserError: the section `data` is missing.
    """
    config: Any = OmegaConf.to_container(run.read_config(), resolve=True)
    if not config.get("data"):
        raise UserError(f"{run.config} has no section data; expected a config.yaml that a training run wrote.")
    return config


def places_of_run(run: RunFolder, config: Tree) -> dict[str, str]:
    """Map the local paths of a run to public names."""
    return places_of(run.path, config["dataset"].get("root"), config["dataset"].get("cache_dir"))


def made_of_config(config: Tree) -> str:
    """Return a digest of the options that determine what a run learns, including the seed."""
    return digest({key: value for key, value in flatten(config).items() if not is_under(key, UNPUBLISHED)}, 12)


def run_overlay(config: Tree, place: Place) -> str:
    """Return the overlay that composes to `config`.

    Raises:
        UserError: there is none, because the run was made by another version.
    """
    affects = config["data"]["affects"]
    about = ["Made by python -m fexgan_lit.report; makes the run again:", f"  {again(config, place)}"]
    text = overlay_text(place.name, choices(config), difference(config, affects), about)
    if wrong := disagreements(text, config, affects):
        listed = "\n".join(f"  - {line}" for line in wrong[:8])
        raise UserError(f"publish={place.name}: no overlay of this version composes to the run's config:\n{listed}")
    return text


def again(config: Tree, place: Place) -> str:
    """Return the command that reproduces the run."""
    return " ".join([*place.start, f"experiment={place.name}", *given_by_hand(config)])


def _regenerates(place: Place, config: Tree) -> bool | None:
    """Return whether the existing overlay composes to `config`; None if there is no overlay."""
    if not place.overlay.is_file():
        return None
    try:
        return not disagreements(place.overlay.read_text(encoding="utf-8"), config, config["data"]["affects"])
    except Exception:  # any error means that it does not compose to this run
        return False


def run_sections(run: RunFolder, state: SweepRun, config: Tree, place: Place) -> dict[str, str]:
    """Return the generated sections of the README."""
    report, result = report_of(run), state.result
    facts = report_facts(report)
    tables = "\n".join(table.markdown() for table in tables_of(report))
    machines = [result.machine] if result is not None and result.machine else []
    return {
        "Command": f"{command_text(again(config, place).split(' '))}\n\nIts options are in "
        f"`conf/experiment/{place.name}.yaml`.",
        "Data": data_text(facts),
        "Seed": f"{config['seed']}; split {config['dataset'].get('split_seed', 0)}",
        "Machine": machine_text(facts, machines, result.seconds / 60 if result is not None else 0),
        "Results": f"{tables}\n[report.md](report.md) says how each metric was computed. [metrics.csv](metrics.csv) "
        "has all logged values.",
        "Pictures": pictures_text(report) or "none",
    }
