"""The commands of README, docs and --help are real: each composes and is what the command takes, make targets exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from fexgan_lit import convert, export, generate
from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.data.prepare import dataset_settings
from fexgan_lit.data.streaming.config import PackSettings
from fexgan_lit.evaluation.config import evaluation_settings
from fexgan_lit.evaluation.sweep_report.report import report_settings
from fexgan_lit.inference.app.config import explore_settings
from fexgan_lit.runs.config import train_settings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import conf_folder, name_sweep_folder
from fexgan_lit.utils.options import checked_options
from tests.runs.test_config import composed, is_group

REPO = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(REPO)): path.read_text()
    for path in [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").rglob("*.md"))]
}
README = PAGES["README.md"]
#: The examples that `--help` of a command shows; what they are for stands behind two blanks.
HELP = {path.stem: path.read_text() for path in conf_folder().glob("*.yaml")}
#: Begins a command of ours, whoever starts it.
OURS = re.compile(r"(?:python|torchrun .*|srun .*) -m fexgan_lit\.(\w+)(?: |$)")
#: What `train` would ask other packages for, and what no grid can be made of: searches have intervals.
#: What a command makes of its options before any work.
OPTIONS = {
    "train": train_settings, "generate": generate.checked, "evaluate": evaluation_settings,
    "prepare": lambda cfg: (dataset_settings(cfg), checked_options(PackSettings, dict(cfg.pack), "pack")),
    "export": export.export_settings, "convert": convert.convert_settings, "report": report_settings,
    "explore": lambda cfg: explore_settings(OmegaConf.to_container(cfg)), "dashboard": dict,
    "benchmark": lambda cfg: checked_options(BenchmarkSettings, OmegaConf.to_container(cfg), "benchmark"),
}  # fmt: skip
NOT_HERE = re.compile("no such (file|folder)|not installed|no run folder matches the pattern|torch can use|has no run")
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
        for match in re.finditer(r"`python -m fexgan_lit\.(\w+)(?: ([^`]*))?`", text):
            if not any(word in match[0] for word in (*LEFT_OUT, "...")):
                found[match[1], match[2] or ""] = None
    for text in HELP.values():
        for match in re.finditer(r"^ +python -m fexgan_lit\.(\w+)(?: (\S.*?))?(?:  .*)?$", text, re.MULTILINE):
            if not any(word in match[0] for word in LEFT_OUT):
                found[match[1], match[2] or ""] = None
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
        accept("train", composed(*overrides))


def accept(command: str, cfg: DictConfig) -> None:
    """Check the options as the command does; that a file of an example is not here is no mistake."""
    if command != "train":  # as `run_command` does
        OmegaConf.set_struct(cfg, False)
        for section in ("trust", *(("optimizer", "dataset", "callbacks") if command == "convert" else ())):
            cfg.pop(section, None)
    try:
        OPTIONS[command](cfg)
        said = ""
    except UserError as error:
        said = str(error)
    mistakes = [line for line in said.splitlines() if line.startswith("  - ")] or [said]
    assert not [line for line in mistakes if line and not NOT_HERE.search(line)], said


def runs_of(arguments: list[str]) -> list[list[str]]:
    """The overrides of runs that a command means: with `-m`, as many as show every file of a group and every option."""
    if "-m" not in arguments:
        return [arguments]
    parsed = OverridesParser.create().parse_overrides([a for a in arguments if a != "-m"])
    kept, seen = [], set()
    for overrides in BasicSweeper.split_arguments(parsed, None)[0]:
        names = {o if is_group(name := o.partition("=")[0]) else name for o in overrides}
        if not seen.issuperset(names):
            kept.append(overrides)
            seen |= names
    return kept


def other_commands() -> list[tuple[str, str]]:
    return [(command, line) for command, line in commands() if command != "train"]


@pytest.mark.parametrize(("command", "line"), other_commands())
def test_commands_of_the_other_doors_compose(command, line):
    overrides = shlex.split(line, comments=True)
    if command in ("report", "dashboard"):
        overrides = name_sweep_folder(overrides)
    accept(command, composed(*overrides, command=command))


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
