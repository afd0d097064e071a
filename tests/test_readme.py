"""The README's commands are real: each composes, each make target exists, each file it shows is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from fexgan_lit.utils.hydra import conf_folder
from tests.runs.test_config import composed

REPO = Path(__file__).parents[1]
README = (REPO / "README.md").read_text()


def shell_lines() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip() and not line.startswith("#")]


def train_commands() -> list[str]:
    return [line for line in shell_lines() if "fexgan_lit.train" in line and "--help" not in line]


def test_there_are_commands():
    assert len(train_commands()) >= 4


@pytest.mark.parametrize("line", train_commands())
def test_train_commands_compose(line):
    arguments = shlex.split(line, comments=True)
    assert arguments[:3] == ["python", "-m", "fexgan_lit.train"]
    for overrides in runs_of(arguments[3:]):
        composed(*overrides)


def runs_of(arguments: list[str]) -> list[list[str]]:
    """The overrides of every run that a command means: with `-m`, all combinations."""
    if "-m" not in arguments:
        return [arguments]
    parsed = OverridesParser.create().parse_overrides([a for a in arguments if a != "-m"])
    return BasicSweeper.split_arguments(parsed, None)[0]


def other_commands() -> list[str]:
    return [
        line
        for line in shell_lines()
        if re.search(r"fexgan_lit\.(evaluate|generate|prepare|benchmark|explore|report)\b", line)
    ]


@pytest.mark.parametrize("line", other_commands())
def test_commands_of_the_other_doors_compose(line):
    command, *overrides = shlex.split(line, comments=True)[2:]
    # the command itself reads sweep=DIR so, since `sweep` is a group of conf/
    overrides = [re.sub("^sweep=", "sweep_dir=", override) for override in overrides]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        compose(command.removeprefix("fexgan_lit."), overrides)


def test_make_targets_exist():
    makefile = (REPO / "Makefile").read_text()
    for line in shell_lines():
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line


def test_pictures_and_files_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (REPO / target).exists(), target


def test_no_figure_is_left_to_fill_in():
    assert "@@" not in README
