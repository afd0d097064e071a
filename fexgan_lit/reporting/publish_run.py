"""The record of a single run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from fexgan_lit.errors import UserError
from fexgan_lit.reporting.old_sweeps import flat, incidental
from fexgan_lit.reporting.overlay import UNPUBLISHED, Tree, choices, difference, disagreements, overlay_text
from fexgan_lit.reporting.portable_text import places_of
from fexgan_lit.reporting.publish import (
    Place,
    Publication,
    check_free,
    command_text,
    data_text,
    digest,
    given_by_hand,
    machine_text,
    pictures_text,
    place_of,
    report_of,
    write_record,
)
from fexgan_lit.reporting.run_view import report_facts, tables_of
from fexgan_lit.reporting.sweeps import SweepRun, read_run

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.reporting.settings import ReportSettings
    from fexgan_lit.runfolder import RunFolder


def publish_run(run: RunFolder, settings: ReportSettings, console: Console) -> None:
    """Write the record of a finished run and the overlay that makes it again.

    Raises:
        UserError: the run is not finished, other runs have the name, or no overlay gives the run's configuration.
    """
    state = read_run(run.path, {}, old=True)
    if not state.finished:
        raise UserError(f"run={run.path} is {state.status}; expected a finished one to publish.")
    config = plain_config(run)
    place, made = place_of(settings), made_of_config(config)
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
    """The configuration of a run as plain values.

    Raises:
        UserError: it does not say what the run was trained on.
    """
    config: Any = OmegaConf.to_container(run.read_config(), resolve=True)
    if not config.get("data"):
        raise UserError(f"{run.config} does not say what was trained on (data); it was not written by a training run")
    return config


def places_of_run(run: RunFolder, config: Tree) -> dict[str, str]:
    """What the folders of a run are called in public."""
    return places_of(run.path, config["dataset"].get("root"), config["dataset"].get("cache_dir"))


def made_of_config(config: Tree) -> str:
    """A short name for what decides what a run learns, its seed included."""
    return digest({key: value for key, value in flat(config).items() if not incidental(key, UNPUBLISHED)})


def run_overlay(config: Tree, place: Place) -> str:
    """The overlay that gives `config`.

    Raises:
        UserError: none does, since the run was made by another version.
    """
    affects = config["data"]["affects"]
    about = ["Made by python -m fexgan_lit.report; makes the run again:", f"  {again(config, place)}"]
    text = overlay_text(place.name, choices(config), difference(config, affects), about)
    if wrong := disagreements(text, config, affects):
        listed = "\n".join(f"  - {line}" for line in wrong[:8])
        raise UserError(f"publish={place.name}: no overlay of this version gives the run's configuration:\n{listed}")
    return text


def again(config: Tree, place: Place) -> str:
    """The command that makes the run again."""
    return " ".join([*place.start, f"experiment={place.name}", *given_by_hand(config)])


def _regenerates(place: Place, config: Tree) -> bool | None:
    """Whether the overlay that is there gives `config`; None where there is none."""
    if not place.overlay.is_file():
        return None
    try:
        return not disagreements(place.overlay.read_text(encoding="utf-8"), config, config["data"]["affects"])
    except Exception:  # whatever it is, it does not compose to this run
        return False


def run_sections(run: RunFolder, state: SweepRun, config: Tree, place: Place) -> dict[str, str]:
    """The generated sections of the README."""
    report, result = report_of(run), state.result
    facts = report_facts(report)
    tables = "\n".join(table.markdown() for table in tables_of(report))
    machines = [result.machine] if result is not None and result.machine else []
    return {
        "Command": f"{command_text(again(config, place).split(' '))}\n\nIts options stand in "
        f"`conf/experiment/{place.name}.yaml`.",
        "Data": data_text(facts),
        "Seed": f"{config['seed']}; split {config['dataset'].get('split_seed', 0)}",
        "Machine": machine_text(facts, machines, result.seconds / 60 if result is not None else 0),
        "Results": f"{tables}\nHow each number was made: [report.md](report.md). Every logged number: "
        "[metrics.csv](metrics.csv).",
        "Pictures": pictures_text(report) or "none",
    }
