"""Publish the record of a sweep: the overlay holds the options its runs share, the command holds the axes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fexgan_lit.evaluation.publish.overlay import Tree, choices, difference, disagreements, overlay_text
from fexgan_lit.evaluation.publish.record import (
    Place,
    Publication,
    check_free,
    data_text,
    given_by_hand,
    machine_text,
    pictures_text,
    report_of,
    store_of,
    write_record,
)
from fexgan_lit.evaluation.publish.run import places_of_run, plain_config, report_facts
from fexgan_lit.evaluation.sweep_report.read import SEED, Sweep, SweepRun, shared_part
from fexgan_lit.evaluation.sweep_report.report import FILES
from fexgan_lit.evaluation.sweep_report.report import facts as sweep_facts
from fexgan_lit.evaluation.sweep_report.settings import value_text
from fexgan_lit.evaluation.sweep_report.summary import SweepFindings
from fexgan_lit.evaluation.sweep_report.tables import effects_table, settings_table
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.sweeps.record import flatten, unflatten
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import digest
from fexgan_lit.utils.tables import escaped

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.evaluation.sweep_report.report import ReportSettings

#: Number of runs on which the overlay is checked; one composition takes a third of a second.
_TRIED = 4
#: Axes read from config.yaml, and the options that set them.
_OPTIONS = {"model.name": "model", "dataset.name": "dataset"}


def publish_sweep(findings: SweepFindings, settings: ReportSettings, console: Console) -> None:
    """Write the record of a sweep and the overlay with the options its runs share.

    Raises:
        UserError: a record of other runs has the name.
    """
    sweep, place = findings.sweep, store_of(settings)
    configs = [plain_config(RunFolder(run.path)) for run in sweep.finished]
    groups, values = shared_options(configs, list(sweep.axes))
    made = digest([groups, flatten(values), {axis: str(value) for axis, value in sweep.axes.items()}], 12)
    about = [
        "Made by python -m fexgan_lit.report: the options that the runs of a sweep share. Run the sweep again with",
        f"  {again(sweep, configs[0], place)}",
    ]
    text = overlay_text(place.name, groups, values, about)
    there = place.overlay.read_text(encoding="utf-8") if place.overlay.is_file() else None
    same = None if there is None else not tried(there, sweep.finished, configs)
    check_free(place, made, same, settings.overwrite)
    wrong = [] if same else tried(text, sweep.finished, configs)
    for line in wrong[:8]:
        console.print(f"  no overlay reproduces the runs with these axes: {line}", markup=False, soft_wrap=True)
    command = sweep.command if wrong and sweep.command else again(sweep, configs[0], place)
    publication = Publication(
        made, command, None if wrong or same else text, sweep_sections(findings, configs[0], command, not wrong),
        {name: (sweep.folder / name).read_text(encoding="utf-8") for name in FILES},
        sweep.folder / "figures", _places(sweep, configs[0]),
    )  # fmt: skip
    write_record(publication, place, settings, console)


def _places(sweep: Sweep, config: Tree) -> dict[str, str]:
    """Map the local paths of a sweep to public names."""
    folders = {str(path) for path in (sweep.folder, sweep.folder.resolve())}
    names = {path: "SWEEP_DIR" for path in folders if path != "."}
    return places_of_run(RunFolder(sweep.finished[0].path), config) | names


def shared_options(configs: Sequence[Tree], axes: Sequence[str]) -> tuple[dict[str, str], Tree]:
    """Return the groups and values in which all configurations differ from the default, without the axes.

    Each configuration is compared with the default of its own groups, so the defaults of a model do not count as
    options.
    """
    groups = [choices(config) for config in configs]
    same = {group: name for group, name in groups[0].items() if all(other.get(group) == name for other in groups)}
    shared = flatten(shared_part([difference(config, config["data"]["affects"]) for config in configs]))
    options = {_OPTIONS.get(axis, axis) for axis in axes}
    kept = {key: value for key, value in shared.items() if key not in options and value != {}}
    return {group: name for group, name in same.items() if group not in options}, unflatten(kept)


def tried(text: str, runs: Sequence[SweepRun], configs: Sequence[Tree]) -> list[str]:
    """Check the overlay on some of the runs; return where overlay and axis values differ from the run's config."""
    step = max(1, len(runs) // _TRIED)
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    wrong: list[str] = []
    for run, config in list(zip(runs, configs, strict=True))[::step]:
        overrides = [f"{_OPTIONS.get(axis, axis)}={_word(value)}" for axis, value in run.values.items()]
        try:
            lines = disagreements(text, config, config["data"]["affects"], overrides)
        except (HydraException, OmegaConfBaseException, UserError) as error:
            lines = [str(error).splitlines()[0]]
        wrong += [f"{run.name}: {line}" for line in lines]
    return wrong


def _word(value: Any) -> str:
    """Format a value for Hydra's command line; numbers keep full precision."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return value_text(value) if isinstance(value, bool) or value is None else str(value).replace(" ", "")


def again(sweep: Sweep, config: Tree, place: Place) -> str:
    """Return the command that reproduces the sweep: with its axes, or for a search with its arguments."""
    arguments = (_kept_arguments(sweep) if sweep.kind != "grid" else []) or [
        f"{_OPTIONS.get(axis, axis)}={','.join(_word(value) for value in values)}"
        for axis, values in sweep.axes.items()
    ]
    return shlex.join([*place.start, "-m", f"experiment={place.name}", *given_by_hand(config), *arguments])


def _kept_arguments(sweep: Sweep) -> list[str]:
    """Return the arguments of the sweep's command that set its axes, sweeper and launcher."""
    words = shlex.split(sweep.command) if sweep.command else []
    ways = ("sweep=", "sweep.", "~sweep.", "hydra/sweeper", "hydra/launcher", "hydra.sweeper.", "hydra.launcher.")
    return [word for word in words if word.lstrip("+").partition("=")[0] in sweep.axes or word.startswith(ways)]


def sweep_sections(findings: SweepFindings, config: Tree, command: str, overlay: bool) -> Mapping[str, str]:
    """Return the generated sections of the README."""
    sweep = findings.sweep
    where = "\n\nThe overlay that `experiment=` names has the options that the runs share." if overlay else ""
    axes = effects_table(findings)
    tables = [settings_table(findings, [*findings.objectives, *findings.further]), *([axes] if axes else [])]
    sure = "\n".join(f"- {escaped(line)}" for line in findings.sure)
    counts = next(fact for fact in sweep_facts(findings) if " settings, " in fact)
    results = [run.result for run in sweep.runs if run.result is not None]
    facts = report_facts(report_of(RunFolder(sweep.finished[0].path)))
    machines = list(dict.fromkeys(result.machine for result in results if result.machine))
    return {
        "Command": f"```\n{command}\n```{where}",
        "Data": data_text(facts),
        "Seed": _seeds(sweep, config),
        "Machine": machine_text(facts, machines, sum(result.seconds for result in results) / 60),
        "Results": f"{counts}.\n\n" + "\n".join(table.markdown() for table in tables)
        + f"\n**How sure is the order?**\n\n{sure}\n\nThe whole report is in [report.md](report.md); "
        "[table.csv](table.csv) has a row per run, [settings.csv](settings.csv) a row per setting.",
        "Pictures": pictures_text((sweep.folder / "report.md").read_text(encoding="utf-8")) or "none",
    }  # fmt: skip


def _seeds(sweep: Sweep, config: Tree) -> str:
    seeds = sorted({str(run.values[SEED]) for run in sweep.runs if SEED in run.values}) or [str(config["seed"])]
    return f"{', '.join(seeds)}; split {config['dataset'].get('split_seed', 0)}"
