"""Run settings with Hydra's launcher and restart runs whose worker died."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobStatus

from fexgan_lit.runs.lock import in_work, last_taken
from fexgan_lit.runs.result import read_result, record_failure
from fexgan_lit.runs.sweeps.axes import Setting
from fexgan_lit.runs.sweeps.job import ELSEWHERE
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.plugins.launcher import Launcher

    from fexgan_lit.runs.sweeps.compose import SweepContext
    from fexgan_lit.runs.sweeps.progress import SweepProgress

#: Errors of submitit and Ray for a dead worker; joblib raises a BrokenExecutor.
_DEATHS = ("UncompletedJobError", "FailedJobError", "WorkerCrashedError", "RayActorError", "OutOfMemoryError")
#: Starts of a run together with others; after so many deaths it is started alone, and given up if it dies alone.
_STARTS_TOGETHER = 2
#: Seconds between two checks of runs that survive the death of another worker.
_LOOK_S = 2.0


class WorkerDiedError(UserError):
    """Raised if the process that trained a run died without an error."""


@dataclass
class Launching:
    """Runs the settings of one sweep.

    Attributes:
        sweep_context: Hydra's objects.
        launcher: Hydra's launcher.
        folder: folder of the sweep.
        sweep_progress: terminal output.
        deaths: dead workers by name of the run.
        started: number of jobs launched so far.
    """

    sweep_context: SweepContext
    launcher: Launcher
    folder: Path
    sweep_progress: SweepProgress
    deaths: Counter[str] = field(default_factory=Counter)
    started: int = 0

    def run(self, settings: Sequence[Setting]) -> dict[str, dict[str, Any]]:
        """Run every setting and return the results by name, as plain values.

        A run without a result whose worker died is started again with the others, then alone. A run whose worker dies
        alone has failed.
        """
        results: dict[str, dict[str, Any]] = {}
        for batch in self.batches(settings, results):
            taken = {setting.name: last_taken(self.folder / setting.name) for setting in batch}
            try:
                ended = self.launch(batch)
            except Exception as error:
                if not is_death(error):
                    raise
                self.mourn(batch, taken, error)
                continue
            # after a death, a run "elsewhere" belongs to a surviving worker of that launch; `batches` waits for it
            results |= {n: r for n, r in ended.items() if not (self.deaths and elsewhere(r))}
        return results

    def batches(self, settings: Sequence[Setting], results: dict[str, dict[str, Any]]) -> Iterator[list[Setting]]:
        """Yield batches until every setting has a result: all together, but runs that died too often alone."""
        while waiting := [s for s in settings if s.name not in results]:
            if self.deaths:
                for setting in waiting:
                    self.await_siblings(setting)
                    if (ended := read_result(self.folder / setting.name)) is not None:
                        results[setting.name] = vars(ended)
                        self.sweep_progress.look([setting.name])
                waiting = [s for s in waiting if s.name not in results]
            together = [s for s in waiting if self.deaths[s.name] < _STARTS_TOGETHER]
            if self.sweep_context.launcher_name == "basic":
                together = together[:1]
            if waiting:
                yield together or waiting[:1]

    def launch(self, batch: Sequence[Setting]) -> dict[str, dict[str, Any]]:
        """Launch the runs and wait for them."""
        overrides = [self.sweep_context.job(self.folder, setting) for setting in batch]
        first, self.started = self.started, self.started + len(batch)
        with self.sweep_progress.during(batch):
            returns = self.launcher.launch(overrides, initial_job_idx=first)
        pairs = zip(batch, returns, strict=True)
        return {setting.name: self.result(setting, returned) for setting, returned in pairs}

    def result(self, setting: Setting, returned: JobReturn) -> dict[str, Any]:
        """Return the result of a job; an error that the job itself did not record is recorded here."""
        if returned.status == JobStatus.COMPLETED:
            value: dict[str, Any] = returned.return_value
            return value
        return vars(record_failure(self.folder / setting.name, returned._return_value))

    def mourn(self, batch: Sequence[Setting], taken: dict[str, int | None], error: Exception) -> None:
        """Count the death for the runs that were training, and record a run that died alone as failed."""
        unended = [s for s in batch if read_result(self.folder / s.name) is None]
        begun = [s for s in unended if last_taken(self.folder / s.name) != taken[s.name]] or unended
        for setting in begun:
            self.deaths[setting.name] += 1
        alone = len(batch) == 1 and self.deaths[batch[0].name] > 1
        if alone and begun:
            died = WorkerDiedError(f"the worker died: killed, or out of memory ({' '.join(str(error).split())[:300]})")
            record_failure(self.folder / batch[0].name, died)
        else:
            self.sweep_progress.death(begun)

    def await_siblings(self, setting: Setting) -> None:
        """Wait while a surviving worker still trains the run."""
        while in_work(self.folder / setting.name):
            time.sleep(_LOOK_S)


def is_death(error: BaseException) -> bool:
    """Return whether a launcher's error means that a worker died."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return isinstance(error, BrokenExecutor) or not names.isdisjoint(_DEATHS)


def elsewhere(result: dict[str, Any]) -> bool:
    """Return whether another process has the run."""
    return result["status"] == ELSEWHERE
