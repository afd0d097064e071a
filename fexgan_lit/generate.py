"""`python -m fexgan_lit.generate`: generate faces with a trained run, in one of several modes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.inference.output import check_out
from fexgan_lit.inference.session import about, open_run
from fexgan_lit.runs.folder import run_name
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import results_folder, run_command

if TYPE_CHECKING:
    from fexgan_lit.inference.config import GenerateSettings


def generate(cfg: DictConfig) -> None:
    """Run the mode in `cfg`, and write its results and a record of the call to a folder."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    folder = Path(HydraConfig.get().runtime.output_dir)
    check_out(cfg.out, folder)
    settings, options = checked(cfg)
    session = open_run(settings, folder, console)

    from fexgan_lit.inference.modes import MODES

    MODES[settings.mode].make(session, options)
    session.output.close(about(session, options))
    console.print(f"\n  {len(session.output.pictures)} pictures", markup=False)
    for name, shows in session.output.files.items():
        console.print(f"  {name:<16} {shows}", markup=False)
    console.print(f"  written to {folder}", markup=False)


def checked(cfg: DictConfig) -> tuple[GenerateSettings, Any]:
    """Return the common options and those of the selected mode.

    Raises:
        UserError: the mode is unknown, or values are invalid; one message lists them all.
    """
    from fexgan_lit.inference.config import general_settings, mode_options
    from fexgan_lit.inference.modes import MODES

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    problems: list[str] = []
    settings = general_settings(tree, problems)
    options = mode_options(tree, settings.mode, {name: mode.options for name, mode in MODES.items()}, problems)
    if problems:
        raise UserError("the options cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return settings, options


def generation_folder(out: str | None, mode: str, run: str | None) -> str:
    """Return the output folder: `out`, or a new folder under outputs/."""
    return results_folder(out, "generate", mode, run_name(run))


def main() -> None:
    """Run the command."""
    OmegaConf.register_new_resolver("fexgan_generation_folder", generation_folder, use_cache=True, replace=True)
    run_command(generate, "generate")


if __name__ == "__main__":
    main()
