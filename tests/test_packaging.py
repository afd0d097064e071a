"""The wheel: it carries conf/, and the commands work from it in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import UNLOGGED

REPO = Path(__file__).parents[1]


def python(folder: Path, site: Path, *arguments: str) -> str:
    """Run Python in `folder` with the installed wheel before everything else."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel of this checkout installed, and nothing else."""
    dist, site = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(dist), str(REPO)]
    subprocess.run(build, check=True, capture_output=True, timeout=200)
    (wheel,) = dist.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    return site


def test_configuration_comes_from_the_wheel(installed, tmp_path):
    where = python(tmp_path, installed, "-c", "from fexgan_lit.utils.hydra import conf_folder; print(conf_folder())")
    assert Path(where.strip()) == installed / "fexgan_lit" / "conf"
    shipped = {path.relative_to(REPO / "conf") for path in (REPO / "conf").rglob("*.yaml")}
    carried = {path.relative_to(where.strip()) for path in Path(where.strip()).rglob("*.yaml")}
    assert carried == shipped
    # Hydra finds the sweepers by the place of their package
    assert (installed / "hydra_plugins" / "fexgan_lit_sweepers" / "__init__.py").is_file()
    assert not (installed / "hydra_plugins" / "__init__.py").exists()


def test_train_works_from_the_wheel_in_an_empty_folder(installed, tmp_path):
    options = ("trainer.max_steps=1", "trainer.kernels=false")  # compiling them takes longer than all the rest
    printed = python(tmp_path, installed, "-m", "fexgan_lit.train", *UNLOGGED, *options)
    assert "Table 1" in printed
    assert list(tmp_path.glob("outputs/*/weights/encoder.safetensors"))


def test_version_is_said_once():
    from fexgan_lit import __version__

    assert f"version: {__version__}" in (REPO / "CITATION.cff").read_text()
