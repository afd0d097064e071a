"""One job of a sweep: skip, resume or start it. Errors are written to the run folder, never raised."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.lock import InWorkError, held
from fexgan_lit.runs.result import ERROR, RESULT, read_result, record_failure
from fexgan_lit.runs.sweeps.record import FREE

if TYPE_CHECKING:
    from rich.console import Console

#: Output of a run if there is no terminal or several runs train at once.
LOG = "log.txt"
#: The status of a run that another process trains; it is never written to a file.
ELSEWHERE = "in work elsewhere"
#: Seconds to wait for a process that is about to release a folder.
_PATIENCE_S = 3.0

#: Trains a run, given its configuration, the console, and the run folder and checkpoint to resume from.
Training = Callable[[DictConfig, "Console", "tuple[RunFolder, Path] | None"], None]


def is_sweep_job() -> bool:
    """Return whether this run belongs to a sweep of this package, not of Hydra's own sweeper."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    target = str(getattr(hydra.sweeper, "_target_", ""))
    return hydra.mode == RunMode.MULTIRUN and target.startswith("hydra_plugins.fexgan_lit_sweepers.")


def work_off(cfg: DictConfig, training: Training) -> dict[str, Any]:
    """Finish one run of a sweep, whatever its status, and return its result as plain values.

    An error is written to the run folder and does not stop the sweep; Ctrl-C does.
    """
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with held(folder, _PATIENCE_S):
            return bring_to_end(folder, cfg, training)
    except InWorkError:
        return {"status": ELSEWHERE}


def bring_to_end(folder: Path, cfg: DictConfig, training: Training) -> dict[str, Any]:
    """Start or resume the run in `folder`, unless it has ended; the caller holds the lock."""
    try:
        result = read_result(folder)
        if result is None or result.status == "failed":
            with job_console(folder) as console:
                config, place = standing(folder, cfg)
                training(config, console, place)
            result = read_result(folder)
    except Exception as error:
        result = read_failure(folder) or record_failure(folder, error)
    return asdict(result) if result is not None else {"status": "failed", "error": "the run left no result.json"}


def read_failure(folder: Path) -> Any:
    """Return the failure that the training itself recorded; None if it recorded none."""
    with contextlib.suppress(Exception):
        result = read_result(folder)
        return result if result is not None and result.status == "failed" else None
    return None


def standing(folder: Path, cfg: DictConfig) -> tuple[DictConfig, tuple[RunFolder, Path] | None]:
    """Return the configuration to train with, and the run and checkpoint to resume; None to start anew.

    A resumed run keeps its own configuration, which describes its data; the options in `FREE` are taken from `cfg`.
    """
    run = RunFolder(folder)
    if not (run.last.is_file() and run.config.is_file()):
        clear(run)
        return cfg, None
    (folder / RESULT).unlink(missing_ok=True)
    kept = run.read_config()
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    given = {key: OmegaConf.select(OmegaConf.create(plain), key) for key in FREE}
    for key in FREE:
        if key != "data":
            OmegaConf.update(kept, key, given.get(key), merge=False, force_add=True)
    return kept, (run, run.last)


def clear(run: RunFolder) -> None:
    """Delete the files of a run that has no checkpoint."""
    for file in (run.config, run.metrics, run.report, run.path / RESULT, run.path / ERROR):
        file.unlink(missing_ok=True)
    for folder in (run.last.parent, run.figures, run.weights):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def job_console(folder: Path) -> Iterator[Console]:
    """Yield the terminal if runs train one after the other on a terminal, or else a console to the run's `log.txt`."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit.utils.console import train_console

    terminal = train_console()
    if terminal.is_terminal and HydraConfig.get().runtime.choices["hydra/launcher"] == "basic":
        yield terminal
        return
    with (folder / LOG).open("a", encoding="utf-8") as file:
        yield Console(file=file, highlight=False, soft_wrap=True, width=120)
