"""The Hydra side of a sweep: compose and check settings, make the launcher."""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fexgan_lit.runs.sweeps.axes import Setting
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import check_optional_groups

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from rich.console import Console

#: `hydra.sweep.dir=.../auto` is replaced by a name made from the sweep.
AUTO = "auto"
#: The most runs named per problem in a message.
_NAMED = 3


@dataclass
class SweepContext:
    """Hydra's objects for one sweep.

    Attributes:
        context: Hydra's context, which composes configurations.
        task: the function that every run calls.
        config: configuration composed without the axes; `config.hydra` sets folder and launcher.
        write_report: called with the folder of the sweep and the console after all runs.
    """

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    write_report: Callable[[Path, Console], None] = lambda folder, console: None

    @property
    def parser(self) -> OverridesParser:
        """A parser of Hydra's override grammar that knows the config groups."""
        return OverridesParser.create(config_loader=self.context.config_loader)

    @property
    def launcher_name(self) -> str:
        """The value of hydra/launcher, such as `basic`, `joblib` or `submitit_slurm`."""
        return str(self.config.hydra.runtime.choices["hydra/launcher"])

    @property
    def command(self) -> str:
        """The command line of the sweep."""
        given = [*self.config.hydra.overrides.hydra, *self.config.hydra.overrides.task]
        kept = [text for text in given if not text.startswith("hydra.mode=")]
        return " ".join(["python -m fexgan_lit.train -m", *(shlex.quote(text) for text in kept)])

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose the configuration of one run, without the section `hydra`.

        Raises:
            UserError: a tuning in the overrides does not exist.
        """
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        check_optional_groups(config.hydra)
        with open_dict(config):
            config.pop("hydra")
        return config

    def place(self, name: str) -> Path:
        """Return the folder of the sweep: hydra.sweep.dir, or `name` under multirun/."""
        chosen = Path(str(self.config.hydra.sweep.dir)).expanduser()
        return chosen.with_name(name) if chosen.name == AUTO else chosen

    def make_launcher(self, folder: Path) -> Launcher:
        """Make Hydra's launcher for the sweep folder.

        Raises:
            UserError: the launcher cannot be used, such as when its package is missing.
        """
        with open_dict(self.config):
            self.config.hydra.sweep.dir = str(folder)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # opt out of Ray's usage reports
        try:
            return Plugins.instance().instantiate_launcher(
                hydra_context=self.context, task_function=self.task, config=self.config
            )
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"hydra/launcher={self.launcher_name} cannot be used: {' '.join(str(error).split())}. "
                "Install joblib and submitit with pip install 'fexgan_lit[sweeps]', or Ray with 'fexgan_lit[ray]'."
            ) from error

    def job(self, folder: Path, setting: Setting) -> list[str]:
        """Return the overrides of one run: its setting, its folder and its number of threads."""
        job = [*setting.overrides, f"hydra.sweep.dir={quoted(str(folder))}", f"hydra.sweep.subdir={setting.name}"]
        threads = self.threads()
        if threads and self.config.trainer.threads is None and "trainer.threads" not in setting.values:
            job.append(f"trainer.threads={threads}")
        return job

    def threads(self) -> int | None:
        """Return the CPU threads per run if several runs share this machine; None keeps torch's default."""
        if self.launcher_name != "joblib":
            return None
        from fexgan_lit.utils.hardware import cores

        workers = int(self.config.hydra.launcher.n_jobs)
        workers = max(1, cores() + 1 + workers) if workers < 0 else max(1, workers)
        return max(1, cores() // workers)


def check_settings(sweep_context: SweepContext, settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Compose and check every setting before the first run starts.

    Returns:
        The resolved configurations in the order of `settings`.

    Raises:
        UserError: some settings are invalid; the message lists every problem and the runs that have it.
    """
    from fexgan_lit.runs.config import train_settings
    from fexgan_lit.utils.trust import foreign_packages, trust

    problems: dict[str, list[str]] = defaultdict(list)
    trees: list[dict[str, Any]] = []
    for setting in settings:
        try:
            config = sweep_context.compose(setting.overrides)
            tree: Any = OmegaConf.to_container(config, resolve=True)
            trust(foreign_packages(tree))  # the classes come from the command line, which is trusted
            train_settings(config)
            trees.append(tree)
        except UserError as error:
            for line in problem_lines(str(error)):
                problems[line].append(setting.name)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error, settings)) from error
    if problems:
        lines = [f"  - {line} ({_which(names, len(settings))})" for line, names in problems.items()]
        raise UserError("\n".join(["the sweep has invalid settings, so nothing was started:", *lines]))
    return trees


def problem_lines(message: str) -> list[str]:
    """Return the list items of a message of `train_settings`, or the whole message if it has no list."""
    listed = [line.removeprefix("  - ") for line in message.splitlines() if line.startswith("  - ")]
    return listed or [message]


def explain(error: Exception, settings: Iterable[Setting]) -> str:
    """Explain every override of the sweep that does not compose; a wrong key is listed once for all its values."""
    from fexgan_lit.utils.hydra import explain_composition

    message = explain_composition(error, "train", list(dict.fromkeys(o for s in settings for o in s.overrides)))
    lines: dict[tuple[str, str], str] = {}
    for line in message.splitlines():
        given, _, reason = line.partition(": ")
        # a missing file is listed for every value, any other problem once per key
        lines.setdefault((given if "no such file" in reason else given.partition("=")[0], reason), line)
    return "\n".join(lines.values())


def _which(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return "every run" if total > 1 else "the only run"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} of {total} runs: {', '.join(names[:_NAMED])}{more}"


def quoted(text: str) -> str:
    """Quote a string as a value in Hydra's grammar."""
    return QuotedString(text.replace("${", "\\${"), Quote.single).with_quotes()
