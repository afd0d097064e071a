"""`python -m fexgan_lit.evaluate`: measure trained systems on the same frames and write the tables."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.doors import run_door
from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.config import LoggerSettings
    from fexgan_lit.evaluation.contenders import Contender, Trained
    from fexgan_lit.evaluation.findings import Findings
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.evaluation.scorers import Instruments
    from fexgan_lit.evaluation.scores import Scores
    from fexgan_lit.evaluation.settings import EvaluationSettings
    from fexgan_lit.metrics.judges import JudgeBench
    from fexgan_lit.stages import Stages


def evaluate(cfg: DictConfig) -> None:
    """Measure the runs that `cfg` names, print the standings and write the files."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit import __version__

    settings, logger = evaluation_settings(cfg)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a log file has room for the tables
    console.print(f"[bold]fexgan_lit {__version__}[/]  evaluate {', '.join(settings.places)}\n", soft_wrap=True)

    from fexgan_lit.evaluation.findings import write_findings
    from fexgan_lit.evaluation.logs import log_findings

    folder = Path(HydraConfig.get().runtime.output_dir)
    command = shlex.join(["python", "-m", "fexgan_lit.evaluate", *HydraConfig.get().overrides.task])
    findings = find_by_protocol(settings, command, console)
    write_findings(findings, folder)
    log_findings(findings, settings, logger, folder)
    for table in findings.printed():
        console.print(table.rich())
    for subject, note in findings.notes.items():
        console.print(f"  {subject}: {note}", markup=False, soft_wrap=True)
    console.print(f"\n  report     {folder}/evaluation.md (.json, .csv, .tex)", markup=False, soft_wrap=True)
    console.print(f"  pictures   {folder}/figures", markup=False, soft_wrap=True)
    if logger.name == "wandb" and logger.mode == "offline":
        console.print(f"  W&B        wandb sync {folder}/wandb/offline-run-*", markup=False, soft_wrap=True)


def evaluation_settings(cfg: DictConfig) -> tuple[EvaluationSettings, LoggerSettings]:
    """The typed options.

    Raises:
        UserError: one message with every value that cannot be used.
    """
    from fexgan_lit.config import LoggerSettings, typed
    from fexgan_lit.evaluation.settings import (
        AugmentationSettings,
        ClipSettings,
        EvaluationSettings,
        MetricSettings,
        PlaceSettings,
    )
    from fexgan_lit.metrics.own_declaration import OwnJudgeSettings

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    problems: list[str] = []
    place = typed(PlaceSettings, tree.pop("dataset"), "dataset", problems)
    augmentation = typed(AugmentationSettings, tree.pop("augmentation"), "augmentation", problems)
    clips = typed(ClipSettings, tree.pop("clips"), "clips", problems)
    networks = tree.pop("metrics")
    own: dict[str, Any] = {
        name: typed(OwnJudgeSettings, networks.pop(name), f"metrics.{name}", problems)
        for name in ("affect_judge", "au_judge", "identity_judge")
    }
    logger = typed(LoggerSettings, tree.pop("logger"), "logger", problems)
    metrics = typed(MetricSettings, networks, "metrics", problems)
    settings = typed(EvaluationSettings, {k: v for k, v in tree.items() if k != "out"}, "evaluate", problems)
    settings.dataset, settings.metrics = place, replace(metrics, **own)
    settings.augmentation, settings.clips = augmentation, clips
    problems += [] if problems else [*settings.problems(), *logger.problems()]
    if problems:
        raise UserError("the configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return settings, logger


def find_by_protocol(settings: EvaluationSettings, command: str, console: Console) -> Findings:
    """What `protocol` asks for."""
    from fexgan_lit.evaluation.augmentation_report import find_augmentation
    from fexgan_lit.evaluation.classifier import require_network
    from fexgan_lit.evaluation.clips_report import find_clips
    from fexgan_lit.evaluation.ground import common_ground
    from fexgan_lit.stages import stages

    if settings.protocol == "quality":
        return find(settings, command, console)
    if settings.protocol == "augmentation":
        require_network(settings.augmentation.network)  # before minutes are spent on faces for it
    with stages(console) as stage:
        contenders = open_contenders(settings, stage("opening runs"))
        ground = common_ground(contenders, settings, stage("preparing frames"))
        measure = {"augmentation": find_augmentation, "clips": find_clips}[settings.protocol]
        return measure(contenders, ground, settings, command, stage)


def find(settings: EvaluationSettings, command: str, console: Console) -> Findings:
    """Open the runs, let everyone answer the same pairs, and put them side by side."""
    from fexgan_lit.evaluation.breakdown import breakdown_tables
    from fexgan_lit.evaluation.findings import Findings
    from fexgan_lit.evaluation.ground import common_ground
    from fexgan_lit.evaluation.instruments import make_instruments
    from fexgan_lit.evaluation.intervals import draw_resamples
    from fexgan_lit.evaluation.papers import reference_table
    from fexgan_lit.evaluation.standing import differences, standings
    from fexgan_lit.evaluation.table1 import discriminator_table
    from fexgan_lit.stages import stages

    with stages(console) as stage:
        contenders = open_contenders(settings, stage("opening runs"))
        ground = common_ground(contenders, settings, stage("preparing frames"))
        tools = make_instruments(ground, settings, stage)
        judges = tools.judges
        scores = score_all(contenders, ground, tools, stage)
        add_strengths(scores, contenders, ground, judges, stage("asking for rising strengths"))
        resamples = draw_resamples(len(ground.pairs), settings.bootstrap, settings.seed)
        rows = standings(scores, resamples)
        findings = Findings(
            title=f"Evaluation of {', '.join(dict.fromkeys(c.name for c in contenders))}",
            command=command,
            where=ground.where,
            rows=rows,
            differences=differences(rows, resamples),
            judges=judges.describe(),
            recipes={name: recipe for s in scores for name, recipe in s.recipes.items()},
            notes={name: note for s in scores for name, note in s.notes.items()},
            seed=settings.seed,
        )
        findings.warnings = judges.warnings()
        findings.tables += discriminator_table(
            contenders, scores, ground, judges.affect, stage("measuring the training split")
        )
        findings.breakdowns += [table for row in rows if row.runs for table in breakdown_tables(row, ground)]
        findings.breakdowns.append(reference_table())
        stage("drawing")
        draw(findings, scores, contenders, ground, tools, settings)
    return findings


def add_strengths(
    scores: Sequence[Scores], contenders: Sequence[Trained], ground: Ground, judges: JudgeBench,
    progress: Callable[[int, int], None],
) -> None:  # fmt: skip
    """Measure of every system whether the shown strength follows the asked one."""
    from fexgan_lit.evaluation.strength import ASKED, measure_strength

    there = {s.run: s for s in scores}
    for number, contender in enumerate(contenders):
        progress(number, len(contenders))
        found = measure_strength(contender, ground, judges)
        if found is None:
            continue
        mine = there[str(contender.run.path)]
        mine.numbers["strength_rho"] = found.rho
        mine.recipes["strength_rho"] = (
            f"Spearman's rho between the strengths {', '.join(map(str, ASKED))} asked for and those shown, mean over "
            f"{found.series} series (one identity, one affect); strength is {found.how}"
        )
        if found.flat:
            mine.notes[f"strength of {contender.name}"] = f"{found.flat} of {found.series} series did not change at all"


def open_contenders(settings: EvaluationSettings, progress: Callable[[int, int], None]) -> list[Trained]:
    """The systems of every run that was named."""
    from fexgan_lit.evaluation.contenders import open_contender, tell_apart

    names: list[str | None] = [*settings.names] or [None] * len(settings.places)
    opened = []
    for number, (place, name) in enumerate(zip(settings.places, names, strict=True)):
        progress(number, len(settings.places))
        opened.append(open_contender(place, name, settings.device))
    return opened if settings.names else tell_apart(opened)


def score_all(contenders: Sequence[Trained], ground: Ground, tools: Instruments, stage: Stages) -> list[Scores]:
    """Ceiling, floor, then every run."""
    from fexgan_lit.evaluation.contenders import Ceiling, Floor
    from fexgan_lit.evaluation.scorers import make_scorers
    from fexgan_lit.evaluation.scores import score

    found = []
    everyone: list[Contender] = [Ceiling(), Floor(), *contenders]
    for contender in everyone:
        count = Counted(stage(f"measuring {contender.name}"), len(ground.pairs))
        found.append(score(contender, ground.loader(), make_scorers(ground, tools), count))
    return found


class Counted:
    """Adds up what is done."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self.progress = progress
        self.total = total
        self.done = 0

    def __call__(self, more: int) -> None:
        """`more` are done."""
        self.done += more
        self.progress(self.done, self.total)


def draw(
    findings: Findings, scores: Sequence[Scores], contenders: Sequence[Trained], ground: Ground, tools: Instruments,
    settings: EvaluationSettings,
) -> None:  # fmt: skip
    """The same faces row by row, where everyone stands, and what the judge confuses."""
    from fexgan_lit import figures
    from fexgan_lit.evaluation.pictures import comparison_sheet, identity_sheet, standings_figure

    pictures, captions = findings.pictures, findings.captions
    pictures["comparison"] = comparison_sheet(ground, contenders, settings.shown, settings.seed)
    captions["comparison"] = "The same sources, their true targets, and what each system makes of them (first seed)."
    table = findings.headline_metrics()
    pictures["standings"] = standings_figure(findings.rows, table)
    captions["standings"] = (
        "A dot a seed, a bar the interval over the pairs; green the true frames, dotted the untouched sources."
    )
    if tools.sources is not None and (drawn := identity_sheet(scores, tools.sources, ground, settings.seed)):
        pictures["identity_map"], note = drawn
        captions["identity_map"] = (
            f"Identity features of generated faces over those of untouched frames (faint): {note}. Axes mean nothing."
        )
    for s in scores:
        if s.confusion is not None and s.run is not None and f"confusion_{s.name}" not in pictures:
            pictures[f"confusion_{s.name}"] = figures.confusion_figure(s.confusion, ground.data.affects)
            captions[f"confusion_{s.name}"] = f"What was asked of {s.name} against what the judge reads."


def evaluation_folder(out: str | None, run: str | None, runs: Sequence[str]) -> str:
    """Where the results go: `out`, or a new folder under outputs/ that sorts by time."""
    if out:
        return str(Path(out).expanduser())
    stamp = datetime.now(tz=timezone.utc).astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    places = [*([run] if run else []), *runs]
    name = Path(places[0]).resolve().name if len(places) == 1 else f"{len(places)}_runs"
    return f"outputs/evaluate_{name}_{stamp}"


def main() -> None:
    """The door."""
    OmegaConf.register_new_resolver("fexgan_evaluation_folder", evaluation_folder, use_cache=True, replace=True)
    run_door(evaluate, "evaluate")


if __name__ == "__main__":
    main()
