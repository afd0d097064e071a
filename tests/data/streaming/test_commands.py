"""The two commands of docs/streaming.md, and what prepare refuses before the work begins."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.prepare import check_chunks, examine_dataset, streamed, train_command, write_pack
from fexgan_lit.data.streaming.config import PackSettings
from fexgan_lit.data.streaming.storage import absolute_root, holds_chunks
from fexgan_lit.utils.errors import UserError
from tests.commands import run_here
from tests.conftest import TINY

from .conftest import opened, write

#: The tiny studio, as it is drawn and as it is streamed.
STUDIO = {
    "image_size": 32, "identities": 2, "takes": 2, "frames": 3, "batch_size": 4, "val_fraction": 0.5, "split": "take",
}  # fmt: skip


def test_prepare_writes_the_chunks_and_says_how_to_stream_them(bucket, tmp_path):
    to = f"{bucket}/{tmp_path.name}"
    overrides = [f"dataset.{name}={value}" for name, value in STUDIO.items()]
    settings, chunks = DatasetConfig(**STUDIO), PackSettings("litdata", to, 0.1)
    console = Console(file=io.StringIO(), width=120)
    diagnosis = examine_dataset(settings, tmp_path, overrides, console)
    for words in ("written", "were there already"):
        write_pack(diagnosis, chunks, train_command(overrides, settings, streamed(settings, chunks)), console)
        assert f"3 of 0.0986 MB {words}: {to}" in console.file.getvalue()
    command = console.file.getvalue().splitlines()[-1]
    assert command.split()[:4] == ["stream", "python", "-m", "fexgan_lit.train"]
    assert command.split()[4:] == [*overrides, f"dataset.root={to}"]
    assert len(opened(DatasetConfig(**STUDIO, root=to)).table) == 84
    refused = replace(diagnosis, refusal="two few frames")
    write_pack(refused, PackSettings("litdata", str(tmp_path / "chunks")), "", console)
    assert "training would not start with them" in console.file.getvalue()
    assert not (tmp_path / "chunks").exists()


def test_training_streams_from_a_store(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    to = f"{bucket}/{tmp_path.name}"
    write(DatasetConfig(**STUDIO), to, chunk_mb=0.1)
    few = ("trainer.max_steps=2", "metrics.samples=2", "trainer.log_every=1000")  # and no curves to draw
    done = run_here("train", *TINY, f"dataset.root={to}", *few, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").dataset.root == to
    assert next(Path(os.environ["FEXGAN_LIT_CACHE"]).glob("streams/*/studio_cartoon-32px-*/chunk-0-0.bin")).is_file()


def test_prepare_refuses_before_it_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("prepare", "pack.format=litdata", "pack.chunk_mb=0")
    assert done.returncode == 2
    assert "pack.format=litdata needs pack.to=PLACE" in done.stderr
    assert "pack.chunk_mb=0.0: expected more than 0" in done.stderr
    assert not list(tmp_path.rglob("*.md"))


def test_prepare_refuses_a_pack_in_chunks(folder):
    with pytest.raises(UserError, match="is a chunked pack, which needs no preparation"):
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
