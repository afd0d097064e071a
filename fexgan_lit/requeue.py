"""The same command goes on: for jobs that a cluster ends and queues again (`trainer.go_on=true`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.errors import UserError
from fexgan_lit.runfolder import RunFolder
from fexgan_lit.sweeps.job import clear
from fexgan_lit.sweeps.lock import InWorkError, in_work

#: What says what is trained; the rest may differ from one start to the next.
_TRAINED = ("seed", "dataset", "model", "loss", "optimizer", "callbacks")
#: Parts of `dataset` that say where and how fast, not what.
_PLACES = ("root", "cache_dir", "workers")
#: What a run that goes on takes from the command.
_TAKEN = ("trainer", "metrics", "logger")


def standing_run(folder: Path, cfg: DictConfig) -> tuple[DictConfig, tuple[RunFolder, Path] | None]:
    """The configuration to train with, and the run and checkpoint to go on from; None where there is none yet.

    Raises:
        UserError: `folder` holds a run of another configuration, or one that is in work.
    """
    run = RunFolder(folder)
    if not run.config.is_file():
        return cfg, None
    if in_work(folder):
        raise InWorkError(f"{folder} is in work: another process trains in it. Wait for it, or end it.")
    kept = run.read_config()
    given: Any = OmegaConf.to_container(cfg, resolve=True)
    if differing := differences(given, OmegaConf.to_container(kept, resolve=True)):
        raise UserError(
            f"trainer.go_on=true: {folder} holds a run with other values of {', '.join(differing)}; expected the same "
            "command as then, or another hydra.run.dir"
        )
    if not run.last.is_file():
        clear(run)  # it was ended before its first checkpoint
        return cfg, None
    for key in _TAKEN:
        OmegaConf.update(kept, key, given[key], merge=False)
    return kept, (run, run.last)


def differences(given: Mapping[str, Any], kept: Any) -> list[str]:
    """Names of what is trained in which `given` says another value than a run kept; null is filled in by the run."""
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
