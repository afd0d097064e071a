"""`python -m fexgan_lit.explore`: a trained run as a page in the browser."""

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
    """Serve the page until Ctrl-C, and leave nothing behind."""
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        serve(cfg, folder)
    except KeyboardInterrupt:
        return
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(cfg: DictConfig, folder: Path) -> None:
    """Open the runs that `cfg` names and serve their page.

    Args:
        cfg: composed from conf/explore.yaml.
        folder: of this session, for everything that has to be written.

    Raises:
        UserError: an option, a run or the port cannot be used.
    """
    from rich.console import Console

    from fexgan_lit.inference.app.config import explore_settings
    from fexgan_lit.inference.app.server import free_port, start
    from fexgan_lit.utils.version import __version__

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = explore_settings(tree)
    port = free_port(settings)  # before seconds are spent on the weights
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]fexgan_lit {__version__}[/]  explore\n")

    from fexgan_lit.inference.app.session import Session

    easels = open_easels(settings, console)
    server = start(Session(easels, folder), settings, port)
    try:
        announce(settings, server, console)
        threading.Thread(target=find_judges, args=(easels,), daemon=True).start()
        threading.Event().wait()
    finally:
        server.close(verbose=False)


def open_easels(settings: ExploreSettings, console: Console) -> list[AppModel]:
    """The systems of `run` and `other`, and in a line each what they are.

    Raises:
        UserError: no run there, weights that are missing or do not fit, or a device that is not there.
    """
    from fexgan_lit.inference.app.model import AppModel
    from fexgan_lit.inference.loaded_system import load

    places = [settings.run, *([settings.other] if settings.other else [])]
    easels = []
    for place in places:
        loaded = load(place, settings.device)
        easels.append(AppModel(loaded, loaded.folder.resolve().name))
        console.print(
            f"  {loaded.folder}: {loaded.name} trained on {loaded.run.dataset.name} at {loaded.image_size} px",
            markup=False,
        )
    return easels


def announce(settings: ExploreSettings, server: Any, console: Console) -> None:
    """Say where the page is, and who can reach it."""
    console.print(f"\n  open [bold]{server.local_url}[/]    Ctrl-C ends it")
    if server.share_url:
        console.print(f"  shared as [bold]{server.share_url}[/]")
    if not settings.is_private:
        console.print(
            "  [bold yellow]warning:[/] others can reach this page and use this machine's processor through it; it "
            "asks for no password"
        )


def find_judges(easels: list[AppModel]) -> None:
    """Give every system the judge of its data, where training or evaluation left one in the cache."""
    from fexgan_lit.inference.app.model import cached_judge

    for easel in easels:
        easel.judge = cached_judge(easel.loaded)


def session_folder() -> str:
    """A new folder for what one session has to write, which it removes at its end."""
    return tempfile.mkdtemp(prefix="fexgan_lit_explore_")


def main() -> None:
    """The command."""
    OmegaConf.register_new_resolver("fexgan_session_folder", session_folder, use_cache=True, replace=True)
    run_command(explore, "explore")
    sys.stdout.flush()
    # a thread that still looks for a judge, in the middle of torch's code, would abort an orderly end of Python
    os._exit(0)


if __name__ == "__main__":
    main()
