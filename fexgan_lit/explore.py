"""`python -m fexgan_lit.explore`: serve a page to try a trained run in the browser."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.utils.hydra import run_command

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.inference.app.config import ExploreSettings
    from fexgan_lit.inference.app.model import AppModel


def explore(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C, then remove its temporary folder."""
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        serve(cfg, folder)
    except KeyboardInterrupt:
        return
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(cfg: DictConfig, folder: Path) -> None:
    """Open the runs in `cfg` and serve the page.

    Args:
        cfg: composed from conf/explore.yaml.
        folder: the temporary folder of this session.

    Raises:
        UserError: an option, a run or the port cannot be used.
    """
    from rich.console import Console

    from fexgan_lit.inference.app.config import explore_settings
    from fexgan_lit.inference.app.server import free_port, start
    from fexgan_lit.utils.version import __version__

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = explore_settings(tree)
    port = free_port(settings)  # fails before the weights are loaded, which takes seconds
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]fexgan_lit {__version__}[/]  explore\n")

    from fexgan_lit.inference.app.session import Session

    models = open_models(settings, console)
    session = Session(models, folder, Path(settings.library).expanduser(), settings.is_private)
    for named in session.expressions():
        console.print(f"  {settings.library}: {named['name']}", markup=False)
    server = start(session, settings, port)
    try:
        announce(settings, server, console)
        threading.Thread(target=find_judges, args=(models,), daemon=True).start()
        threading.Event().wait()
    finally:
        server.close(verbose=False)
        session.close()


def open_models(settings: ExploreSettings, console: Console) -> list[AppModel]:
    """Load the systems of `run` and `other`, and print a line about each.

    Raises:
        UserError: a run or the device does not exist, or weights are missing or do not match.
    """
    from fexgan_lit.inference.app.model import AppModel
    from fexgan_lit.inference.loaded_system import load

    places = [settings.run, *([settings.other] if settings.other else [])]
    models = []
    for place in places:
        loaded = load(place, settings.device)
        models.append(AppModel(loaded, loaded.folder.resolve().name))
        console.print(
            f"  {loaded.folder}: {loaded.name} trained on {loaded.run.dataset.name} at {loaded.image_size} px",
            markup=False,
        )
    return models


def announce(settings: ExploreSettings, server: Any, console: Console) -> None:
    """Print the address of the page, and a warning if others can reach it."""
    console.print(f"\n  open [bold]{server.local_url}[/]    Ctrl-C ends it")
    if server.share_url:
        console.print(f"  shared as [bold]{server.share_url}[/]")
    if not settings.is_private:
        console.print(
            "  [bold yellow]warning:[/] others can reach this page and use this machine's processor through it; it "
            "has no password"
        )


def find_judges(models: list[AppModel]) -> None:
    """Set the judge of every system, if training or evaluation stored it in the cache."""
    from fexgan_lit.inference.app.model import cached_judge

    for model in models:
        model.judge = cached_judge(model.loaded)


def session_folder() -> str:
    """Create the temporary folder of a session, which `explore` removes."""
    return tempfile.mkdtemp(prefix="fexgan_lit_explore_")


def main() -> None:
    """Run the command."""
    OmegaConf.register_new_resolver("fexgan_session_folder", session_folder, use_cache=True, replace=True)
    run_command(explore, "explore")
    sys.stdout.flush()
    # a normal exit would crash if the thread of `find_judges` is still inside torch
    os._exit(0)


if __name__ == "__main__":
    main()
