"""Tiny untrained runs, and sessions on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fexgan_lit.inference.app.model import AppModel
from fexgan_lit.inference.app.session import Session
from fexgan_lit.inference.loaded_system import load
from fexgan_lit.runs.weights import load_system, save_weights
from tests.inference.conftest import detector as detector
from tests.inference.conftest import make_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Callable[[str], Path]:
    """The run folder of a system, made when first asked for."""
    home, made = tmp_path_factory.mktemp("explored"), {}

    def run(model: str) -> Path:
        if model not in made:
            made[model] = make_run(home / f"run_{model}", model)
            liven(made[model])
        return made[model]

    return run


def liven(folder: Path) -> None:
    """Larger weights: the initial ones of some systems paint the same grey whatever they are asked for."""
    system = load_system(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for part in system.saved_modules().values():
            for weights in (each for each in part.parameters() if each.ndim > 1):
                torch.nn.init.kaiming_normal_(weights).mul_(1.7)
    save_weights(system, folder / "weights")


@pytest.fixture(scope="session")
def app_model(runs) -> Callable[[str], AppModel]:
    """A system behind a page, loaded once."""
    made: dict[str, AppModel] = {}

    def of(model: str) -> AppModel:
        if model not in made:
            made[model] = AppModel(load(runs(model)), f"run_{model}")
        return made[model]

    return of


@pytest.fixture
def session(app_model, tmp_path) -> Callable[..., Session]:
    """A session of some systems."""
    return lambda *models: Session([app_model(model) for model in models], tmp_path)
