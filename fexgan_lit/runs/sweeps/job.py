"""One run of a sweep: finished before, gone on with, or begun; its end is a record and never an exception."""

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

#: What a run says where nobody watches it, or several run at once.
LOG = "log.txt"
#: The status of a run that another process has; nothing is written for it.
ELSEWHERE = "in work elsewhere"
#: Seconds to wait for a process that is about to let go of a folder.
_PATIENCE_S = 3.0

#: Trains a run: its configuration, the console, and the run folder and checkpoint to go on from.
Training = Callable[[DictConfig, "Console", "tuple[RunFolder, Path] | None"], None]


def is_sweep_job() -> bool:
    """Whether this run belongs to one of our sweeps (Hydra's own sweeper has none of what follows)."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    target = str(getattr(hydra.sweeper, "_target_", ""))
    return hydra.mode == RunMode.MULTIRUN and target.startswith("hydra_plugins.fexgan_lit_sweepers.")


def work_off(cfg: DictConfig, training: Training) -> dict[str, Any]:
    """Bring one run of a sweep to its end, however it stands, and give its result as plain values.

    An error is kept in the run's folder and does not stop the sweep; Ctrl-C does.
    """
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with held(folder, _PATIENCE_S):
            return bring_to_end(folder, cfg, training)
    except InWorkError:
        return {"status": ELSEWHERE}


def bring_to_end(folder: Path, cfg: DictConfig, training: Training) -> dict[str, Any]:
    """Train the run in `folder` from where it stands; the folder is held."""
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
    """The failure that the training itself recorded; None where it did not come so far."""
    with contextlib.suppress(Exception):
        result = read_result(folder)
        return result if result is not None and result.status == "failed" else None
    return None


def standing(folder: Path, cfg: DictConfig) -> tuple[DictConfig, tuple[RunFolder, Path] | None]:
    """The configuration to train with, and where to go on; a run without a checkpoint starts anew.

    A run that goes on keeps its own configuration, in which the data is named; what may differ is taken from `cfg`.
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
    """Take away what a run left that never reached a checkpoint."""
    for file in (run.config, run.metrics, run.report, run.path / RESULT, run.path / ERROR):
        file.unlink(missing_ok=True)
    for folder in (run.last.parent, run.figures, run.weights):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def job_console(folder: Path) -> Iterator[Console]:
    """The terminal where somebody watches runs that come one after the other; else `log.txt` in the run's folder."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit.utils.console import train_console

    terminal = train_console()
    if terminal.is_terminal and HydraConfig.get().runtime.choices["hydra/launcher"] == "basic":
        yield terminal
        return
    with (folder / LOG).open("a", encoding="utf-8") as file:
        yield Console(file=file, highlight=False, soft_wrap=True, width=120)
