"""The commands of README and docs are real: each composes, each make target exists, each file they show is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from fexgan_lit.utils.hydra import conf_folder, name_sweep_folder
from tests.runs.test_config import composed

REPO = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(REPO)): path.read_text()
    for path in [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").rglob("*.md"))]
}
README = PAGES["README.md"]
#: Begins a command of ours, whoever starts it.
OURS = re.compile(r"(?:python|torchrun .*|srun .*) -m fexgan_lit\.(\w+)(?: |$)")
#: What `train` would ask other packages for, and what no grid can be made of: searches have intervals.
LEFT_OUT = ("hydra.searchpath=", "dataset.layout=jaffe", "interval(", "--help", " ... ")


def shell_lines(text: str) -> list[str]:
    """The commands in the code blocks of a page, continued lines joined."""
    blocks = re.findall(r"^ *```(?:bash)?\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def commands() -> list[tuple[str, str]]:
    """Command and arguments of every line that starts one of ours, each once."""
    found = {}
    for text in PAGES.values():
        for line in shell_lines(text):
            match = OURS.match(line)
            if match and not any(word in line for word in LEFT_OUT):
                found[match[1], line[match.end() :]] = None
    return list(found)


def train_commands() -> list[str]:
    return [arguments for command, arguments in commands() if command == "train"]


def test_there_are_commands():
    assert len([line for line in shell_lines(README) if "fexgan_lit.train" in line]) >= 4
    assert len(train_commands()) >= 35
    assert len(other_commands()) >= 55
    assert {command for command, _ in commands()} >= {
        "evaluate",
        "generate",
        "prepare",
        "export",
        "convert",
        "dashboard",
    }


@pytest.mark.parametrize("line", train_commands())
def test_train_commands_compose(line):
    for overrides in runs_of(shlex.split(line, comments=True)):
        composed(*overrides)


def runs_of(arguments: list[str]) -> list[list[str]]:
    """The overrides of runs that a command means: with `-m`, as many combinations as show every value of every axis."""
    if "-m" not in arguments:
        return [arguments]
    parsed = OverridesParser.create().parse_overrides([a for a in arguments if a != "-m"])
    kept, seen = [], set()
    for overrides in BasicSweeper.split_arguments(parsed, None)[0]:
        if not seen.issuperset(overrides):
            kept.append(overrides)
            seen.update(overrides)
    return kept


def other_commands() -> list[tuple[str, str]]:
    return [(command, line) for command, line in commands() if command != "train"]


@pytest.mark.parametrize(("command", "line"), other_commands())
def test_commands_of_the_other_doors_compose(command, line):
    overrides = shlex.split(line, comments=True)
    if command in ("report", "dashboard"):
        overrides = name_sweep_folder(overrides)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        compose(command, overrides)


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    makefile = (REPO / "Makefile").read_text()
    for line in shell_lines(PAGES[page]):
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_files_exist(page):
    folder = (REPO / page).parent
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", PAGES[page]):
        assert (folder / target).exists(), target


def test_the_readme_is_a_screen_of_pictures_commands_and_links():
    assert len(README.splitlines()) < 150
    for page in ("docs/index.md", "docs/training.md", "docs/evaluation.md", "docs/generate.md", "docs/design.md"):
        assert f"]({page}" in README


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_is_left_to_fill_in(page):
    assert "@@" not in PAGES[page]
