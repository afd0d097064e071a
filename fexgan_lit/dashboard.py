"""`python -m fexgan_lit.dashboard`: create a W&B workspace for a project or for one sweep."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import read_mapping
from fexgan_lit.utils.hydra import name_sweep_folder, run_command


def dashboard(cfg: DictConfig) -> None:
    """Build the workspace for `cfg` and save it on the W&B server."""
    from rich.console import Console

    from fexgan_lit.training.loggers.dashboard import LOSS_WEIGHTS, build_workspace, sections

    axes, group = swept(cfg.sweep_dir) if cfg.sweep_dir else (LOSS_WEIGHTS, None)
    require_packages()
    entity = require_entity(cfg.entity)

    name = cfg.name or (f"fexgan_lit: {group}" if group else "fexgan_lit")
    workspace = build_workspace(sections(axes), name=name, entity=entity, project=cfg.project, group=group)
    try:
        workspace.save()
    except Exception as error:  # any answer of the server
        raise UserError(
            f"W&B did not accept the dashboard of {entity}/{cfg.project}: {error}. Upload a run of the project first, "
            "and check project= and entity=."
        ) from error
    Console(highlight=False, soft_wrap=True).print(f"  dashboard  {workspace.url}", markup=False)


def swept(place: str) -> tuple[tuple[str, ...], str]:
    """Return the options that a sweep varied, except the seed, and the W&B group of its runs.

    Raises:
        UserError: `place` is not a sweep folder.
    """
    file = Path(place).expanduser() / "sweep.yaml"
    if not file.is_file():
        raise UserError(f"sweep={place}: expected the folder of a sweep, but it has no sweep.yaml")
    plan: Any = read_mapping(file)
    axes = tuple(name for name in plan.get("axes", {}) if name != "seed")
    return axes, file.parent.resolve().name


def require_packages() -> None:
    """Raise a UserError if wandb or wandb-workspaces is not installed."""
    missing = [name for name in ("wandb", "wandb_workspaces") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"the dashboard needs the package {' and '.join(missing)}: pip install 'fexgan_lit[dashboard]'")


def require_entity(entity: str | None) -> str:
    """Return the user or team that owns the dashboard: `entity`, or the owner of the API key.

    Raises:
        UserError: there is no key, or the server does not answer.
    """
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            "a dashboard needs the W&B server, but no API key was found: run `wandb login`, or set WANDB_API_KEY"
        )
    if entity:
        return entity
    try:
        found = wandb.Api(timeout=20).default_entity
    except Exception as error:
        raise UserError(f"W&B did not say who owns the API key: {error}. Set entity=NAME, or try later.") from error
    if not found:
        raise UserError("the API key has no user or team; set entity=NAME")
    return str(found)


def main() -> None:
    """Run the command."""
    sys.argv[1:] = name_sweep_folder(sys.argv[1:])
    run_command(dashboard, "dashboard")


if __name__ == "__main__":
    main()
