"""What Hydra gives a sweep to work with: composing a setting, checking it, and a launcher for the runs."""

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

#: `hydra.sweep.dir=.../auto` stands for a name made from the sweep.
AUTO = "auto"
#: The runs named in a message of problems.
_NAMED = 3


@dataclass
class SweepContext:
    """Hydra's pieces for one sweep.

    Attributes:
        context: composes configurations.
        task: what every run calls.
        config: composed without the axes; `config.hydra` says where and how to launch.
        write_report: called with the folder of the sweep and the console once all runs have ended.
    """

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    write_report: Callable[[Path, Console], None] = lambda folder, console: None

    @property
    def parser(self) -> OverridesParser:
        """Of Hydra's grammar, which knows the groups."""
        return OverridesParser.create(config_loader=self.context.config_loader)

    @property
    def launcher_name(self) -> str:
        """`basic`, `joblib`, `submitit_slurm`, ..."""
        return str(self.config.hydra.runtime.choices["hydra/launcher"])

    @property
    def command(self) -> str:
        """What the user typed after `python -m fexgan_lit.train`."""
        given = [*self.config.hydra.overrides.hydra, *self.config.hydra.overrides.task]
        kept = [text for text in given if not text.startswith("hydra.mode=")]
        return " ".join(["python -m fexgan_lit.train -m", *(shlex.quote(text) for text in kept)])

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of one run, without Hydra's part.

        Raises:
            UserError: it names a tuning that is not there.
        """
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        check_optional_groups(config.hydra)
        with open_dict(config):
            config.pop("hydra")
        return config

    def place(self, name: str) -> Path:
        """The folder of the sweep: the one the user chose, or `name` under multirun/."""
        chosen = Path(str(self.config.hydra.sweep.dir)).expanduser()
        return chosen.with_name(name) if chosen.name == AUTO else chosen

    def make_launcher(self, folder: Path) -> Launcher:
        """Hydra's launcher, told where the sweep lies.

        Raises:
            UserError: it cannot be used here.
        """
        with open_dict(self.config):
            self.config.hydra.sweep.dir = str(folder)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use
        try:
            return Plugins.instance().instantiate_launcher(
                hydra_context=self.context, task_function=self.task, config=self.config
            )
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"hydra/launcher={self.launcher_name} cannot be used: {' '.join(str(error).split())}. "
                "pip install 'fexgan_lit[sweeps]' brings joblib and submitit, 'fexgan_lit[ray]' brings Ray."
            ) from error

    def job(self, folder: Path, setting: Setting) -> list[str]:
        """The overrides of one run: its setting, its folder, and its share of the processor."""
        job = [*setting.overrides, f"hydra.sweep.dir={quoted(str(folder))}", f"hydra.sweep.subdir={setting.name}"]
        threads = self.threads()
        if threads and self.config.trainer.threads is None and "trainer.threads" not in setting.values:
            job.append(f"trainer.threads={threads}")
        return job

    def threads(self) -> int | None:
        """CPU threads for each run where several share this machine; None leaves torch's choice."""
        if self.launcher_name != "joblib":
            return None
        from fexgan_lit.utils.hardware import cores

        workers = int(self.config.hydra.launcher.n_jobs)
        workers = max(1, cores() + 1 + workers) if workers < 0 else max(1, workers)
        return max(1, cores() // workers)


def check_settings(sweep_context: SweepContext, settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Compose every setting and check it as the run itself would, before the first one starts.

    Returns:
        The resolved configurations in the order of `settings`.

    Raises:
        UserError: one message with every problem and the runs that have it.
    """
    from fexgan_lit.runs.config import train_settings
    from fexgan_lit.utils.trust import foreign_packages, trust

    problems: dict[str, list[str]] = defaultdict(list)
    trees: list[dict[str, Any]] = []
    for setting in settings:
        try:
            config = sweep_context.compose(setting.overrides)
            tree: Any = OmegaConf.to_container(config, resolve=True)
            trust(foreign_packages(tree))  # of a command, which may name any class
            train_settings(config)
            trees.append(tree)
        except UserError as error:
            for line in problem_lines(str(error)):
                problems[line].append(setting.name)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error, settings)) from error
    if problems:
        lines = [f"  - {line} ({_which(names, len(settings))})" for line, names in problems.items()]
        raise UserError("\n".join(["the sweep cannot be used, nothing was started:", *lines]))
    return trees


def problem_lines(message: str) -> list[str]:
    """The problems in a message of `train_settings`, one a line; the whole message where it is no list."""
    listed = [line.removeprefix("  - ") for line in message.splitlines() if line.startswith("  - ")]
    return listed or [message]


def explain(error: Exception, settings: Iterable[Setting]) -> str:
    """Every override of the sweep that does not compose; a key that is wrong is named once for all its values."""
    from fexgan_lit.utils.hydra import explain_composition

    message = explain_composition(error, "train", list(dict.fromkeys(o for s in settings for o in s.overrides)))
    lines: dict[tuple[str, str], str] = {}
    for line in message.splitlines():
        given, _, reason = line.partition(": ")
        # a file that is not there is another one for every value
        lines.setdefault((given if "no such file" in reason else given.partition("=")[0], reason), line)
    return "\n".join(lines.values())


def _which(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return "every run" if total > 1 else "the only run"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} of {total} runs: {', '.join(names[:_NAMED])}{more}"


def quoted(text: str) -> str:
    """A string as a value in Hydra's grammar, whatever characters it has."""
    return QuotedString(text.replace("${", "\\${"), Quote.single).with_quotes()
