"""`python -m fexgan_lit.benchmark`: time one part of the library on this machine and write the table."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.benchmarks.settings import SUITES, BenchmarkSettings
from fexgan_lit.doors import run_door
from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.benchmarks.report import Result, Table

    #: Options, folder of the results, progress -> every result, and the table to show them in (None: a row a result).
    Suite = Callable[[BenchmarkSettings, Path, Callable[[str, int, int], None]], tuple[list[Result], Table | None]]


def benchmark(cfg: DictConfig) -> None:
    """Run the suite that `cfg` names, print its table and write benchmark.json and benchmark.md."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit import __version__

    settings = benchmark_settings(cfg)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(f"[bold]fexgan_lit {__version__}[/]  benchmark suite={settings.suite}\n")

    from fexgan_lit.benchmarks.report import listed, print_table, write_results
    from fexgan_lit.stages import stage_bar

    folder = Path(HydraConfig.get().runtime.output_dir)
    with stage_bar(console) as bar:
        task = bar.add_task("starting", total=None)
        results, table = load_suite(settings.suite)(
            settings, folder, lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
        )
    table = table or listed(results)
    print_table(console, settings, table)
    write_results(folder, settings, results, table)
    console.print(f"\n  written to {folder}/benchmark.md and benchmark.json", markup=False, soft_wrap=True)


def load_suite(name: str) -> Suite:
    """The function of a suite, whose module is only now imported."""
    module = importlib.import_module(f"fexgan_lit.benchmarks.{name}")
    suite: Suite = getattr(module, f"{name}_suite")
    return suite


def benchmark_settings(cfg: DictConfig) -> BenchmarkSettings:
    """The typed options.

    Raises:
        UserError: one message with every value that cannot be used.
    """
    from fexgan_lit.config import typed

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    if tree["suite"] not in SUITES:
        raise UserError(f"suite={tree['suite']}: expected one of {', '.join(SUITES)}.")
    problems: list[str] = []
    settings = typed(BenchmarkSettings, tree, "benchmark", problems)
    problems += [] if problems else settings.problems()
    if problems:
        raise UserError("the configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return settings.reduced() if settings.quick else settings


def main() -> None:
    """The door."""
    run_door(benchmark, "benchmark")


if __name__ == "__main__":
    main()
