"""The options of `python -m fexgan_lit.report`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.config import checked_options

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
