"""`python -m fexgan_lit.explore` as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from fexgan_lit.explore import announce
from fexgan_lit.inference.app.config import ExploreSettings
from tests.commands import run_here

DOCS = Path(__file__).parents[3] / "docs" / "explore.md"


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "fexgan_lit.explore", *overrides],
        cwd=folder, env={**os.environ, "TMPDIR": str(folder / "tmp"), "COLUMNS": "200"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_command_serves_the_page_and_leaves_nothing(runs, tmp_path):
    (tmp_path / "mine.yaml").write_text("smile: {affects: {joy: 0.8}}\n")
    page = start(tmp_path, f"run={runs('fexgan')}", "port=0", "library=mine.yaml")
    try:
        said = ""
        while "Ctrl-C" not in said:
            line = page.stdout.readline()
            assert line, said
            said += line
        assert "fexgan trained on studio_cartoon at 32 px" in said
        assert "mine.yaml: smile" in said
        port = re.search(r"http://127\.0\.0\.1:(\d+)", said).group(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert b"fexgan_lit" in answer.read()
        assert len(list((tmp_path / "tmp").glob("fexgan_lit_explore_*"))) == 1
    finally:
        page.send_signal(signal.SIGTERM)
        rest = page.communicate(timeout=30)[0]
    assert page.returncode == 0
    assert "Traceback" not in rest
    assert "others can reach this page" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "tmp"]
    assert not list((tmp_path / "tmp").glob("fexgan_lit_explore_*"))


@pytest.mark.parametrize(
    ("settings", "is_warned"),
    [(ExploreSettings(), False), (ExploreSettings(host="192.168.0.2"), True), (ExploreSettings(share=True), True)],
)
def test_a_page_that_others_can_reach_is_said(settings, is_warned, capsys):
    server = SimpleNamespace(local_url="http://127.0.0.1:1/", share_url="https://x.example" if settings.share else None)
    announce(settings, server, Console(width=200))
    said = capsys.readouterr().out
    assert ("others can reach this page" in said) == is_warned
    assert ("https://x.example" in said) == settings.share


@pytest.fixture
def explore(tmp_path, monkeypatch):
    """The command until it ends by itself."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(os, "_exit", sys.exit)
    yield partial(run_here, "explore")
    assert not list((tmp_path / "tmp").glob("fexgan_lit_explore_*"))


def test_mistakes_end_with_exit_code_2_and_leave_nothing(tmp_path, explore):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for overrides, message in (([f"port={port}"], f"port={port} on host=127.0.0.1 cannot be used"),
                                   (["run=/no/such", "port=0"], "run=/no/such: there is no such folder")):  # fmt: skip
            done = explore(*overrides)
            assert done.returncode == 2
            assert message in " ".join(done.stderr.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp"]


def test_help_is_quick_and_writes_nothing(explore):
    done = explore("--help")
    assert done.returncode == 0
    assert "python -m fexgan_lit.explore run=RUN_DIR other=RUN_DIR_2" in done.stdout


def test_the_page_of_the_docs_names_every_option():
    text = DOCS.read_text()
    for option in ("run=", "other=", "port=", "host=", "share=", "device=", "library="):
        assert option in text
