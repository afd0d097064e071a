"""`python -m fexgan_lit.prepare`: index, check and pack a data set, and report its state.

Exit codes: 0 if training would start, with or without warnings; 1 if it would not, and the report says why (only one
affect, an affect without frames, fewer frames than a batch); 2 for an error that leaves nothing to report on.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.data.prepare import (
    check_chunks,
    check_files_option,
    dataset_settings,
    examine_dataset,
    streamed,
    train_command,
    write_files,
    write_pack,
)
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import leave_out, out_trouble, results_folder, run_command

NOT_TRAINABLE = 1


def prepare(cfg: DictConfig) -> None:
    """Prepare and check the data set in `cfg`, then print and write the report."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit.data.streaming.config import PackSettings
    from fexgan_lit.utils.options import checked_options
    from fexgan_lit.utils.version import __version__

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    folder = Path(HydraConfig.get().runtime.output_dir)
    overrides = list(HydraConfig.get().overrides.task)
    if cfg.out and (trouble := out_trouble(str(cfg.out))):
        raise UserError(trouble)
    leave_out(cfg, "trainer", "callbacks")
    settings = dataset_settings(cfg)
    chunks = checked_options(PackSettings, dict(cfg.pack), "pack")
    check_files_option(cfg.files, settings)
    check_chunks(chunks, settings)
    console.print(f"[bold]fexgan_lit {__version__}[/]  prepare {settings.name}\n")
    diagnosis = examine_dataset(settings, folder, overrides, console)
    if cfg.files:
        write_files(Path(cfg.files).expanduser(), settings, console)
    if chunks.format == "litdata":
        command = train_command(overrides, settings, streamed(diagnosis.config, chunks))
        write_pack(diagnosis, chunks, command, console)
    if not diagnosis.trainable:
        raise SystemExit(NOT_TRAINABLE)


def report_folder(out: str | None, name: str) -> str:
    """Return the folder of the report: `out`, or a new folder under outputs/ if `out` is not given or not usable."""
    return results_folder(out, "prepare", name)


def main() -> None:
    """Run the command."""
    OmegaConf.register_new_resolver("fexgan_report_folder", report_folder, use_cache=True, replace=True)
    run_command(prepare, "prepare")


if __name__ == "__main__":
    main()
