"""Resume a run: the one that `run=` names, or the one that the same command started (`trainer.go_on=true`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.lock import InWorkError, in_work
from fexgan_lit.runs.sweeps.job import clear
from fexgan_lit.utils.errors import UserError

#: Options that may change when a run is resumed: its length, logging and paths, but not what it learns.
RESUMABLE = (
    "trainer.", "metrics.", "logger", "run=", "trust=", "hydra",
    "dataset.root=", "dataset.cache_dir=", "dataset.workers=",
)  # fmt: skip
#: Sections that determine what a run learns; the others may differ from one start to the next.
_TRAINED = ("seed", "start", "dataset", "model", "loss", "optimizer", "callbacks")
#: Options of `dataset` that do not change what a run learns.
_PLACES = ("root", "cache_dir", "workers")
#: Sections that a resumed run takes from the command.
_TAKEN = ("trainer", "metrics", "logger")


def named_run(cfg: DictConfig) -> tuple[DictConfig, tuple[RunFolder, Path]]:
    """Return the configuration of the run that `run=` names, with allowed overrides applied, its folder and checkpoint.

    Raises:
        UserError: there is no such run, or an override would change what the run learns.
    """
    from hydra.core.hydra_config import HydraConfig

    run, checkpoint = RunFolder.open(cfg.run)
    overrides = list(HydraConfig.get().overrides.task)
    foreign = [o for o in overrides if not o.lstrip("+").startswith(RESUMABLE)]
    if foreign:
        raise UserError(
            f"run={cfg.run} is resumed with its own configuration; {', '.join(foreign)} would change what it learns. "
            "Only trainer.*, metrics.*, logger and the folders of the data may change; start a new run to change the "
            "rest."
        )
    kept = run.read_config()
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key != "run" and not key.startswith("hydra"):
            # another choice of loggers replaces the one before
            OmegaConf.update(kept, key, OmegaConf.select(cfg, key), merge=key != "logger", force_add=True)
    return kept, (run, checkpoint)


def find_resumable_run(cfg: DictConfig, folder: Path | None = None) -> tuple[DictConfig, tuple[RunFolder, Path] | None]:
    """Return the configuration to train with, and the run and checkpoint to resume; None if there is no checkpoint.

    Args:
        cfg: configuration of the command.
        folder: folder of the run; None takes Hydra's output folder.

    Raises:
        UserError: `folder` holds a run with another configuration, or another process trains in it.
    """
    from hydra.core.hydra_config import HydraConfig

    folder = folder or Path(HydraConfig.get().runtime.output_dir)
    run = RunFolder(folder)
    if not run.config.is_file():
        return cfg, None
    if in_work(folder):
        raise InWorkError(f"another process trains in {folder}. Wait for it to end, or stop it.")
    kept = run.read_config()
    given: Any = OmegaConf.to_container(cfg, resolve=True)
    if differing := differences(given, OmegaConf.to_container(kept, resolve=True)):
        raise UserError(
            f"trainer.go_on=true: {folder} holds a run with other values of {', '.join(differing)}; expected the "
            "command that started it, or another hydra.run.dir"
        )
    if not run.last.is_file():
        clear(run)  # the run ended before its first checkpoint
        return cfg, None
    for key in _TAKEN:
        OmegaConf.update(kept, key, given[key], merge=False)
    return kept, (run, run.last)


def differences(given: Mapping[str, Any], kept: Any) -> list[str]:
    """Return the options that determine learning and differ between `given` and `kept`; null in `given` is ignored."""
    found = []
    for section in _TRAINED:
        ours, theirs = given.get(section), kept.get(section)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            free = _PLACES if section == "dataset" else ()
            found += [
                f"{section}.{key}"
                for key, value in ours.items()
                if key not in free and value is not None and theirs.get(key) != value
            ]
        elif ours != theirs:
            found.append(section)
    return found
