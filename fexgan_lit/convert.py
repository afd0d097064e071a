"""`python -m fexgan_lit.convert`: convert the authors' Keras weights to a run folder for every other command."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.utils.hydra import leave_out, out_trouble, run_command, stamp

if TYPE_CHECKING:
    from fexgan_lit.runs.keras.convert import ConvertSettings


def convert(cfg: DictConfig) -> None:
    """Read the three weight files in `cfg` and write a run folder with their weights."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit.inference.output import check_out
    from fexgan_lit.utils.version import __version__

    console = Console(highlight=False, soft_wrap=True)
    folder = Path(HydraConfig.get().runtime.output_dir)
    check_out(cfg.out, folder)
    leave_out(cfg, "optimizer", "dataset", "callbacks")
    settings = convert_settings(cfg)
    console.print(f"[bold]fexgan_lit {__version__}[/]  convert {settings.name}\n")
    write_run(settings, folder)
    console.print(f"  affects  {', '.join(settings.classes)}", markup=False)
    console.print(f"  written to {folder}; use it as run={folder}", markup=False)


def convert_settings(cfg: DictConfig) -> ConvertSettings:
    """Return the validated options.

    Raises:
        UserError: one message that lists every invalid value.
    """
    from fexgan_lit.runs.keras.convert import ConvertSettings
    from fexgan_lit.utils.options import checked_options

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    return checked_options(ConvertSettings, tree, "convert")


def write_run(settings: ConvertSettings, folder: Path) -> None:
    """Write configuration, weights and a report to `folder`, or nothing if a weight file is unusable.

    Raises:
        UserError: a file is missing, damaged or of other networks, or the folder cannot be written.
    """
    import torch

    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.runs.keras.convert import converted, run_config
    from fexgan_lit.runs.weights import save_weights
    from fexgan_lit.utils.files import write_atomic

    config = run_config(settings)
    system = converted(config, settings.files)
    run = RunFolder(folder)
    save_weights(system, run.weights, torch.float16 if settings.half else torch.float32)
    write_atomic(run.report, report(settings))
    write_atomic(run.config, OmegaConf.to_yaml(config, resolve=True))


def report(settings: ConvertSettings) -> str:
    """Return a Markdown report on the origin of the weights, and on what is unknown about them."""
    rows = [
        f"| {name} | {path.name} | {path.stat().st_size / 1e6:.2f} MB | `{_digest(path)[:16]}` |"
        for name, path in settings.files.items()
    ]
    return "\n".join([
        f"# {settings.name} from Keras weights", "",
        "| network | file | size | SHA-256 begins |", "|---|---|---|---|", *rows, "",
        f"Classes in index order: {', '.join(settings.classes)}.", "",
        "The networks were trained elsewhere. Which frames they were trained on is not recorded in the files, so a "
        "test split may contain frames from their training. The mixture of `prior=fitted` is not part of the files; "
        "`prior=normal` works.", "",
    ])  # fmt: skip


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def convert_folder(out: str | None, model: str) -> str:
    """Return the run folder to write: `out`, or a new folder under outputs/."""
    if out and out_trouble(out) is None:
        return str(Path(out).expanduser())
    return f"outputs/{stamp()}_{model}_official"


def main() -> None:
    """Run the command."""
    OmegaConf.register_new_resolver("fexgan_convert_folder", convert_folder, use_cache=True, replace=True)
    run_command(convert, "convert")


if __name__ == "__main__":
    main()
