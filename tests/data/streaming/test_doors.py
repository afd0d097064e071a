"""The two commands of docs/streaming.md, and what prepare refuses before the work begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.streaming.places import absolute_root, holds_chunks
from fexgan_lit.data.streaming.settings import PackSettings
from fexgan_lit.errors import UserError
from fexgan_lit.prepare import check_chunks
from tests.conftest import TINY, run_train

from .conftest import opened


def run_prepare(folder: Path, *overrides: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "fexgan_lit.prepare", *overrides],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_studio_written_to_a_store_and_streamed_from_it(bucket, tmp_path):
    to = f"{bucket}/studio"
    drawn = [option for option in TINY if option.startswith("dataset.")]
    done = run_prepare(tmp_path, *drawn, "pack.format=litdata", f"pack.to={to}", "pack.chunk_mb=0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"chunks   3 of 0.0986 MB written: {to}" in done.stdout
    assert f"dataset.root={to}" in done.stdout.splitlines()[-1]
    run_train(tmp_path, *TINY, f"dataset.root={to}", "trainer.max_steps=2", "hydra.run.dir=run")
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").dataset.root == to
    assert next(Path(os.environ["FEXGAN_LIT_CACHE"]).glob("streams/*/studio_cartoon-32px-*/chunk-0-0.bin")).is_file()


def test_prepare_refuses_before_it_works(tmp_path):
    done = run_prepare(tmp_path, "pack.format=litdata", "pack.chunk_mb=0")
    assert done.returncode == 2
    assert "pack.format=litdata needs pack.to=PLACE" in done.stderr
    assert "pack.chunk_mb=0.0: expected more than 0" in done.stderr
    assert not list(tmp_path.rglob("*.md"))


def test_prepare_refuses_a_pack_in_chunks(folder):
    with pytest.raises(UserError, match="is a pack in chunks, which is prepared already"):
        check_chunks(PackSettings(), DatasetConfig(name="mhfed", root=str(folder)))


def test_a_pack_in_chunks_is_told_from_a_data_set(config, folder, tmp_path):
    assert holds_chunks(str(folder))
    assert holds_chunks("s3://faces/set")
    assert not holds_chunks(None)
    assert not holds_chunks(config.root)
    assert not holds_chunks(str(opened(config).summary.pack))  # it has a pack.json of its own
    assert not holds_chunks(str(tmp_path / "nowhere"))


def test_a_url_stays_as_it_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute_root("s3://faces/set") == "s3://faces/set"
    assert absolute_root("set") == str(tmp_path / "set")
