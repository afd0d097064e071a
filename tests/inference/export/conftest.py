"""Tiny untrained systems, each loaded once."""

from __future__ import annotations

import pytest

from fexgan_lit import load
from tests.inference.conftest import make_run


@pytest.fixture(scope="session")
def loaded(tmp_path_factory, cache):
    """The system of a tiny run, by model."""
    home, made = tmp_path_factory.mktemp("exported"), {}

    def get(model: str = "fexgan"):
        if model not in made:
            made[model] = load(make_run(home / model, model))
        return made[model]

    return get
