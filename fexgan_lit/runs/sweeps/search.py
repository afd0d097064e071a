"""A search: Optuna proposes trials, each with its own run folder; the same command resumes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from fexgan_lit.runs.config import SweepSettings
from fexgan_lit.runs.result import RunResult, read_result
from fexgan_lit.runs.sweeps.axes import Setting, short_keys, written
from fexgan_lit.runs.sweeps.compose import SweepContext, check_settings
from fexgan_lit.runs.sweeps.grid import RECORD_LOCK, attended, close, forget_failures, open_folder
from fexgan_lit.runs.sweeps.launcher import Launching
from fexgan_lit.runs.sweeps.progress import SweepProgress, standing
from fexgan_lit.runs.sweeps.record import SweepRecord, common_base, read_record, runs_of
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import optuna

    from fexgan_lit.runs.sweeps.space import Dimension

DATABASE = "study.db"
_STUDY = "fexgan_lit"


@dataclass
class Search:
    """One search.

    Attributes:
        sweep_context: Hydra's objects.
        folder: folder of the sweep.
        settings: settings of the search.
        constant: overrides that are the same in every trial.
        space: the search space.
        study: Optuna's study.
        sweep_progress: terminal output.
    """

    sweep_context: SweepContext
    folder: Path
    settings: SweepSettings
    constant: list[str]
    space: list[Dimension]
    study: optuna.Study
    sweep_progress: SweepProgress

    def setting(self, number: int, params: Mapping[str, Any]) -> Setting:
        """Return the setting of a trial; the trial number makes its name unique."""
        overrides = [dimension.override(params[dimension.option]) for dimension in self.space]
        parsed = self.sweep_context.parser.parse_overrides(overrides)
        values = {d.option: override.value() for d, override in zip(self.space, parsed, strict=True)}
        return Setting(trial_name(number, values), values, (*self.constant, *overrides))

    def open_trials(self) -> dict[str, tuple[int, Setting]]:
        """Return the trials without a value in the study: half-done, failed, or ended but not yet recorded."""
        running = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name == "RUNNING"]
        settings = {trial.number: self.setting(trial.number, trial.params) for trial in running}
        return {setting.name: (number, setting) for number, setting in settings.items()}

    def ask(self) -> tuple[int, Setting]:
        """Ask for a new trial; its values depend only on the seed and the trials before it, not on interruptions."""
        self.study.sampler = make_sampler(self.settings, len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask({dimension.option: dimension.distribution for dimension in self.space})
        return trial.number, self.setting(trial.number, trial.params)

    def next_batch(self, tried: set[str]) -> dict[str, tuple[int, Setting]]:
        """Return the next trials: open ones first, each once per command, then new ones up to the planned number."""
        batch = {name: pair for name, pair in self.open_trials().items() if name not in tried}
        batch = dict(list(batch.items())[: self.settings.jobs])
        while len(batch) < self.settings.jobs and len(self.study.get_trials(deepcopy=False)) < self.settings.trials:
            number, setting = self.ask()
            batch[setting.name] = (number, setting)
        return batch

    def tell(self, number: int, setting: Setting) -> None:
        """Record the result of an ended trial in the study; a failed trial stays open and is tried again.

        Raises:
            UserError: the run did not measure an objective.
        """
        from optuna.trial import TrialState

        result = read_result(self.folder / setting.name)
        if result is None or result.status == "failed":
            return
        if result.status == "pruned":
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, objective_values(result, self.settings.directions, setting.name))

    def run(self, launching: Launching) -> None:
        """Run all trials batch by batch."""
        for number, setting in self.open_trials().values():
            if standing(self.folder / setting.name) in ("finished", "pruned"):
                self.tell(number, setting)
        tried: set[str] = set()
        while batch := self.next_batch(tried):
            settings = [setting for _, setting in batch.values()]
            add_runs(self.folder, settings)
            forget_failures(self.folder, settings)
            launching.run(settings)
            for number, setting in batch.values():
                self.tell(number, setting)
            tried |= set(batch)


def run_search(sweep_context: SweepContext, arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Run the remaining trials, report on all trials, and exit with 1 if a run failed.

    Raises:
        UserError: the search or the folder is invalid; nothing was started.
    """
    require_optuna()
    from fexgan_lit.runs.sweeps.space import make_space
    from fexgan_lit.utils.console import train_console

    console = train_console()
    constant, space = make_space(sweep_context.config, arguments, sweep_context.parser)
    trees = check_settings(sweep_context, probe_settings(space, constant))
    settings = search_settings(trees[0], sweep_context.launcher_name)
    base = common_base(trees, [dimension.option for dimension in space])
    axes = {dimension.option: dimension.text for dimension in space}
    folder, notes = open_folder(
        sweep_context, SweepRecord(sweep_context.command, axes, base, "optuna", {}, settings.directions)
    )
    study = open_study(folder, settings)
    sweep_progress = SweepProgress(
        console, folder, settings.trials, sweep_context.launcher_name == "basic", list(settings.directions)
    )
    search = Search(sweep_context, folder, settings, constant, space, study, sweep_progress)
    known = {name: standing(folder / name) for name in recorded(folder)}
    fresh = max(0, settings.trials - len(known))
    sweep_progress.opening(
        f"{settings.trials} trials",
        {**known, **{f"new {i}": "not begun" for i in range(fresh)}},
        [*search_notes(settings), *notes],
    )
    attended(search.run, Launching(sweep_context, sweep_context.make_launcher(folder), folder, sweep_progress))
    results = {name: as_values(folder / name) for name in recorded(folder)}
    show_front(search, console)
    close(sweep_context, folder, sweep_progress, results, console)
    return results


def require_optuna() -> None:
    """Raise a UserError if Optuna is not installed."""
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise UserError("sweep=optuna needs the package optuna: pip install 'fexgan_lit[sweeps]'")


def probe_settings(space: Sequence[Dimension], constant: Sequence[str]) -> list[Setting]:
    """Return settings that check the whole space before the first trial: both ends and every choice."""
    probes = [dimension.probes() for dimension in space]
    found = []
    for i in range(max(len(values) for values in probes)):
        drawn = [d.override(values[min(i, len(values) - 1)]) for d, values in zip(space, probes, strict=True)]
        found.append(Setting(" ".join(drawn), {}, (*constant, *drawn)))
    return found


def search_settings(tree: Mapping[str, Any], launcher: str) -> SweepSettings:
    """Return the options of the search and check them.

    Raises:
        UserError: there is no objective, the launcher cannot run `sweep.jobs` trials at once, or an objective needs the
            judge and there is none.
    """
    from fexgan_lit.utils.options import typed

    settings = typed(SweepSettings, tree["sweep"], "sweep", [])
    if not settings.objectives:
        raise UserError("sweep.objectives is empty; expected one or more objectives, such as [minimize:fd_judge]")
    if settings.jobs > 1 and launcher == "basic":
        raise UserError(
            f"sweep.jobs={settings.jobs}: hydra/launcher=basic runs one trial at a time. Add hydra/launcher=joblib (or "
            "submitit_slurm, ray), or use sweep.jobs=1."
        )
    if not tree["metrics"]["judge"] and (judged := [name for name in settings.directions if "judge" in name]):
        raise UserError(
            f"sweep.objectives: {', '.join(judged)} need the judge, but metrics.judge=false; "
            "choose others, such as sweep.objectives=[maximize:ssim]"
        )
    return settings


def search_notes(settings: SweepSettings) -> list[str]:
    """Describe objectives and pruning, one line each."""
    goals = ", ".join(f"{way} {name}" for name, way in settings.directions.items())
    pruning = settings.pruning
    stops = "off, no trial is stopped early"
    if pruning is not None:
        stops = (
            f"after {pruning.warmup} iterations, a trial stops if more than {pruning.quantile:.0%} of at least "
            f"{pruning.min_runs} other trials are better in every objective"
        )
    return [f"objectives {goals}", f"pruning    {stops}"]


def open_study(folder: Path, settings: SweepSettings) -> optuna.Study:
    """Create or load Optuna's study in the sweep folder."""
    import optuna
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            storage=f"sqlite:///{folder / DATABASE}", study_name=_STUDY, load_if_exists=True,
            directions=[StudyDirection[way.upper()] for way in settings.directions.values()],
        )  # fmt: skip
    except optuna.exceptions.StorageInternalError as error:
        raise UserError(f"{folder / DATABASE}: {' '.join(str(error).split())}") from error


def make_sampler(settings: SweepSettings, number: int) -> optuna.samplers.BaseSampler:
    """Make the sampler of trial `number`, seeded by that number so that a resumed search proposes the same values."""
    from optuna import samplers

    seed = settings.seed * 1_000_003 + number
    if settings.sampler == "random" or number < settings.startup:
        return samplers.RandomSampler(seed=seed)
    if settings.sampler == "nsgaii":
        return samplers.NSGAIISampler(seed=seed, population_size=settings.startup)
    return samplers.TPESampler(seed=seed, n_startup_trials=settings.startup)


def trial_name(number: int, values: Mapping[str, Any]) -> str:
    """Return the folder name of a trial, such as `trial-0003_alpha-0.513_lr-0.0002`, with three significant digits."""
    short = short_keys(values)
    words = [f"{short[k]}-{f'{v:.3g}' if isinstance(v, float) else written(v)}" for k, v in sorted(values.items())]
    text = "".join(c if c.isalnum() or c in "._-" else "-" for c in "_".join(words))
    return f"trial-{number:04d}_{text}"[:100]


def objective_values(result: RunResult, directions: Mapping[str, str], name: str) -> list[float]:
    """Return the objectives of a finished run in order.

    Raises:
        UserError: the run did not measure one of them.
    """
    if absent := [metric for metric in directions if metric not in result.metrics]:
        raise UserError(
            f"sweep.objectives: {', '.join(absent)} not among the metrics of {name}: "
            f"{', '.join(sorted(result.metrics))}. "
            "Choose among these with sweep.objectives=[minimize:METRIC,maximize:METRIC]; the search then starts anew."
        )
    return [result.metrics[metric] for metric in directions]


def add_runs(folder: Path, settings: Sequence[Setting]) -> None:
    """Add new trials to sweep.yaml before they start."""
    with FileLock(folder / RECORD_LOCK):
        record = read_record(folder)
        if record is not None and (fresh := {n: v for n, v in runs_of(settings).items() if n not in record.runs}):
            record.runs |= fresh
            record.write(folder)


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the runs in sweep.yaml."""
    record = read_record(folder)
    return record.runs if record is not None else {}


def as_values(folder: Path) -> dict[str, Any]:
    """Return the result of a run as plain values; a run without a result is in work elsewhere."""
    result = read_result(folder)
    return vars(result) if result is not None else {"status": "in work elsewhere", "error": None}


def show_front(search: Search, console: Any) -> None:
    """Print up to ten trials of the Pareto front."""
    from rich.table import Table

    names = list(search.settings.directions)
    best = [trial for trial in search.study.best_trials if trial.values]
    if not best:
        return
    best.sort(key=lambda trial: trial.values[0] * (1 if search.settings.directions[names[0]] == "minimize" else -1))
    table = Table("trial", *names, *(d.option for d in search.space), box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for trial in best[:10]:
        shown = [f"{value:.4g}" for value in trial.values]
        drawn = [trial.params[d.option] for d in search.space]
        table.add_row(str(trial.number), *shown, *(f"{v:.3g}" if isinstance(v, float) else str(v) for v in drawn))
    console.print("\n[bold]best trials[/] (no other is better in every objective)")
    console.print(table)
