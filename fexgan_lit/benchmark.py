"""`python -m fexgan_lit.benchmark`: time one part of the library on this machine and write the table."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.utils.hydra import run_command


def benchmark(cfg: DictConfig) -> None:
    """Run the suite that `cfg` names, print its table and write benchmark.json and benchmark.md."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit.utils.options import checked_options
    from fexgan_lit.utils.version import __version__

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = checked_options(BenchmarkSettings, tree, "benchmark")
    if settings.quick:
        settings = settings.reduced()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(f"[bold]fexgan_lit {__version__}[/]  benchmark suite={settings.suite}\n")

    from fexgan_lit.benchmarks.report import print_table, write_results
    from fexgan_lit.utils.console import stage_bar

    folder = Path(HydraConfig.get().runtime.output_dir)
    with stage_bar(console) as bar:
        task = bar.add_task("starting", total=None)
        suite = importlib.import_module(f"fexgan_lit.benchmarks.{settings.suite}")
        results, table = suite.run(
            settings, folder, lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
        )
    print_table(console, settings, table)
    write_results(folder, settings, results, table)
    console.print(f"\n  written to {folder}/benchmark.md and benchmark.json", markup=False, soft_wrap=True)


def main() -> None:
    """Run the command."""
    run_command(benchmark, "benchmark")


if __name__ == "__main__":
    main()
