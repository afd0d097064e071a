"""docs/adding_a_system.md: its system is complete, short, and trains through the ordinary command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fexgan_lit.systems.base import Exportable, ExpressionSystem, GraphCapturable
from fexgan_lit.systems.fexgan.system import FExGAN
from fexgan_lit.systems.gan import GANSystem
from tests.commands import run_command
from tests.conftest import UNLOGGED, run_train

PAGE = (Path(__file__).parents[2] / "docs" / "adding_a_system.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_is_one_short_file_and_one_configuration():
    (code,), (_,) = blocks("python"), blocks("yaml")
    assert len(code.splitlines()) <= 90


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """The run folder and the output of the page's command, with the page's files where it says they go."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "painter.py").write_text(blocks("python")[0])
    for text in blocks("yaml"):
        path = folder / re.search(r"^# (conf/\S+)", text, re.MULTILINE)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = blocks("bash")[0].splitlines()[0]
    overrides = [word for word in shlex.split(command) if "=" in word]
    tiny = [option for option in UNLOGGED if not option.startswith("model.latent_size")]
    done = run_train(folder, *overrides, *tiny, "trainer.max_steps=2")
    return next((folder / "outputs").iterdir()), done.stdout


def test_the_example_trains_and_leaves_a_run_folder(trained):
    run, printed = trained
    assert "model      painter, 32 px, width 0.05: network" in printed
    for name in ("report.md", "figures/affects.png", "figures/complex.png", "weights/network.safetensors"):
        assert (run / name).is_file(), name
    assert "Table 1" not in (run / "report.md").read_text(), "there is no discriminator to put into a table"


def test_the_next_command_opens_it(trained):
    run, _ = trained
    (line,) = [line for line in blocks("bash")[0].splitlines() if "generate" in line]
    options = [word for word in line.replace("outputs/RUN", str(run)).split() if "=" in word]
    done = run_command(run.parents[1], "generate", *options, "out=faces")
    assert done.returncode == 0, done.stderr
    assert (run.parents[1] / "faces" / "sheet.png").is_file()


def test_its_groups_follow_the_model(trained):
    config = OmegaConf.load(trained[0] / "config.yaml")
    assert (config.loss, config.optimizer) == ({"pixels": 1.0}, {"lr": 2e-4})


def test_what_the_tables_name_is_there():
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    names = [re.match(r"(?:self\.)?(\w+)", code)[1] for row in rows for code in re.findall(r"`([^`]+)`", row)]
    assert len(names) > 20
    known = (ExpressionSystem, GANSystem, FExGAN, Exportable, GraphCapturable)
    absent = [name for name in names if not any(hasattr(cls, name) for cls in known)]
    assert absent == ["Exportable", "GraphCapturable"], "the protocols themselves"
