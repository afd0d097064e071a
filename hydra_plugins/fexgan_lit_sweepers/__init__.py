"""The sweepers of fexgan_lit, where Hydra looks for plugins; imported at every start, so all work is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from fexgan_lit.runs.sweeps.compose import SweepContext


def write_report(folder: Path, console: Console) -> None:
    """Write the report of the sweep in `folder`; its imports take a second that a start need not wait for."""
    from fexgan_lit.evaluation.sweep_report.report import write_sweep_report

    write_sweep_report(folder, console)


class _FexganSweeper(Sweeper):
    """Keeps what Hydra hands over until the sweep starts."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra calls it once."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep_context(self) -> SweepContext:
        """What a sweep works with."""
        from fexgan_lit.runs.sweeps.compose import SweepContext

        if self.hydra_context is None or self.config is None:
            raise RuntimeError("Hydra sets a sweeper up before it sweeps")
        return SweepContext(self.hydra_context, self.task_function, self.config, write_report)


class GridSweeper(_FexganSweeper):
    """`hydra/sweeper=grid`: every combination of the values of the axes."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is missing of the grid."""
        from fexgan_lit.runs.sweeps.grid import run_grid

        return run_grid(self.sweep_context(), arguments)


class OptunaSweeper(_FexganSweeper):
    """`hydra/sweeper=optuna`: settings that a sampler proposes from what the ones before them gave."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials that are still to come."""
        from fexgan_lit.runs.sweeps.search import run_search

        return run_search(self.sweep_context(), arguments)
