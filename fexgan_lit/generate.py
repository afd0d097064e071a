"""`python -m fexgan_lit.generate`: ask a trained run for faces; each mode is one way of asking."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.doors import no_stray_folder, out_trouble, results_folder, run_door
from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.generation.settings import GenerateSettings
    from fexgan_lit.generation.workbench import Workbench
    from fexgan_lit.systems.base import ExpressionSystem


def generate(cfg: DictConfig) -> None:
    """Do what the mode in `cfg` stands for, and leave a folder with its results and their record."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    folder = Path(HydraConfig.get().runtime.output_dir)
    with no_stray_folder(folder):
        check_out(cfg.out, folder)
        settings, options = checked(cfg)
        bench = open_run(settings, folder, console)

        from fexgan_lit.generation.modes import MODES

        MODES[settings.mode].make(bench, options)
        bench.album.close(about(bench, options))
    console.print(f"\n  {len(bench.album.pictures)} pictures", markup=False)
    for name, shows in bench.album.files.items():
        console.print(f"  {name:<16} {shows}", markup=False)
    console.print(f"  written to {folder}", markup=False)


def check_out(out: str | None, folder: Path) -> None:
    """Refuse a folder that cannot be written or holds something.

    Raises:
        UserError: with what is there and what to do.
    """
    if out and (trouble := out_trouble(str(out))):
        raise UserError(trouble)
    if any(folder.iterdir()):
        raise UserError(f"out={folder} holds other things, such as {next(folder.iterdir()).name}; name a new folder.")


def checked(cfg: DictConfig) -> tuple[GenerateSettings, Any]:
    """The typed options: those of every mode, and those of the mode asked for.

    Raises:
        UserError: an unknown mode, or one message with every value that cannot be used.
    """
    from fexgan_lit.generation.modes import MODES
    from fexgan_lit.generation.settings import general_settings, mode_options

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    problems: list[str] = []
    settings = general_settings(tree, problems)
    options = mode_options(tree, settings.mode, {name: mode.options for name, mode in MODES.items()}, problems)
    if problems:
        raise UserError("the options cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return settings, options


def open_run(settings: GenerateSettings, folder: Path, console: Console) -> Workbench:
    """The run at work, and in a line what it is.

    Raises:
        UserError: no run there, weights that are missing or do not fit, or a device that is not there.
    """
    from fexgan_lit import __version__
    from fexgan_lit.config import train_settings
    from fexgan_lit.generation.album import Album
    from fexgan_lit.generation.workbench import Workbench
    from fexgan_lit.hub import load_system
    from fexgan_lit.runfolder import RunFolder

    run = RunFolder.at(str(settings.run)) if settings.run else RunFolder.shipped()
    settings = replace(settings, run=str(settings.run or run.path))
    console.print(f"[bold]fexgan_lit {__version__}[/]  generate {settings.mode}\n")
    trained = train_settings(run.read_config())
    system = load_system(str(settings.run), pick_device(settings.device))
    console.print(
        f"  run: {run.path}, {trained.model.name} trained on {trained.dataset.name} at {system.image_size} px; device: "
        f"{system.device}",
        markup=False,
    )
    return Workbench(system, trained, settings, Album(folder, system.affects, trained_strength(system)), console)


def trained_strength(system: ExpressionSystem) -> float:
    """The largest weight of an affect in training: 1, or with lambda drawn from N(0, 1) three deviations."""
    return 1.0 if getattr(system.settings, "lambda_mode", "one") == "one" else 3.0


def pick_device(name: str) -> str:
    """The device `name` means; `auto` takes the graphics processor where there is one.

    Raises:
        UserError: it is not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if not there[name]:
        raise UserError(f"device={name}: this machine has none that torch can use; expected device=cpu or auto")
    return name


def about(bench: Workbench, options: Any) -> dict[str, Any]:
    """What was run, for the record."""
    import torch

    from fexgan_lit import __version__
    from fexgan_lit.generation.album import described

    settings = bench.settings
    # random faces come from no face, and the data need not be opened to say so
    sources = bench.__dict__.get("sources")
    return {
        "command": ["python", "-m", "fexgan_lit.generate", *sys.argv[1:]],
        "run": {"path": str(settings.run), "model": bench.system.settings.name, "dataset": bench.run.dataset.name,
                "image_size": bench.system.image_size, "affects": list(bench.system.affects)},
        "mode": settings.mode,
        "options": {**asdict(options), **({"paste": True, "which": settings.which} if settings.paste else {})},
        "seed": settings.seed,
        "device": str(bench.system.device),
        "versions": {"fexgan_lit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "sources": [{"name": name, "origin": sources.origin, "shows": described(sources.shown, i, bench.system.affects)}
                    for i, name in enumerate(sources.names)] if sources is not None else [],
        "notes": bench.notes,
    }  # fmt: skip


def generation_folder(out: str | None, mode: str, run: str | None) -> str:
    """Where results go: `out`, or a new folder under outputs/."""
    return results_folder(out, f"generate_{mode}", run)


def main() -> None:
    """The door."""
    OmegaConf.register_new_resolver("fexgan_generation_folder", generation_folder, use_cache=True, replace=True)
    run_door(generate, "generate")


if __name__ == "__main__":
    main()
