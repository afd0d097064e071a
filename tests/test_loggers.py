"""What the loggers keep: metrics.csv across a resume, and an offline Weights & Biases run read back from its file."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path

import pytest

from fexgan_lit.trackers.csv import RunCsvLogger
from tests.conftest import TINY, run_train


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_takes_new_columns_and_merges_rows(tmp_path):
    logger = RunCsvLogger(tmp_path / "metrics.csv")
    logger.log_metrics({"a": 1.0}, 10)
    logger.log_metrics({"a": 2.0}, 20)
    logger.log_metrics({"b": 3.0}, 20)
    assert rows(logger.path) == [
        {"iteration": "10", "a": "1", "b": ""},
        {"iteration": "20", "a": "2", "b": "3"},
    ]


def test_csv_goes_on_after_a_resume_without_what_is_computed_again(tmp_path):
    first = RunCsvLogger(tmp_path / "metrics.csv")
    for step in (10, 20, 30):
        first.log_metrics({"a": float(step)}, step)
    second = RunCsvLogger(first.path, resume_at=20)
    second.log_metrics({"a": 31.0}, 30)
    assert [(row["iteration"], row["a"]) for row in rows(first.path)] == [("10", "10"), ("20", "20"), ("30", "31")]
    assert second.history() == {"a": ([10, 20, 30], [10.0, 20.0, 31.0])}


def wandb_records(path: Path):
    """Records of an offline run: 7 bytes of header, then 32 KiB blocks of (crc, length, kind) and payload."""
    from wandb.proto import wandb_internal_pb2

    data, place, payload = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if kind == 0:  # padding
            place += left
            continue
        payload += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(payload)
            yield record
            payload = b""


def history_row(record) -> dict:
    """One row by name; a picture or table, stored field by field, under its own name."""
    row: dict = {}
    for item in record.history.item:
        name = "/".join(item.nested_key) or item.key
        head, _, field = name.rpartition("/")
        if head.startswith(("figures/", "progress/", "tables/")):
            row.setdefault(head, {})[field] = json.loads(item.value_json)
        else:
            row[name] = json.loads(item.value_json)
    return row


def test_wandb_offline_run_read_back(tmp_path):
    pytest.importorskip("wandb")
    done = run_train(
        tmp_path, *TINY, "logger=wandb", "trainer.max_steps=4", "metrics.judge=true", "trainer.figures_every=2"
    )
    assert "wandb sync" in done.stdout
    (file,) = tmp_path.glob("outputs/*/wandb/offline-run-*/*.wandb")
    config, history = {}, []
    for record in wandb_records(file):
        kind = record.WhichOneof("record_type")
        if kind == "config":
            config |= {item.key: json.loads(item.value_json) for item in record.config.update}
        if kind == "run":
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if kind == "history":
            history.append(history_row(record))
    assert config["loss"]["gamma"] == 100.0
    assert config["dataset"]["image_size"] == 32
    losses = {row["iteration"]: row["loss/generator"] for row in history if "loss/generator" in row}
    assert sorted(losses) == [2, 4]
    keys = {key for row in history for key in row}
    wanted = ("figures/affects", "figures/complex", "figures/samples_normal", "progress/affects",
              "tables/discriminator", "tables/confusion", "final/train/ssim", "final/val/d_real_binary")  # fmt: skip
    assert [name for name in wanted if name not in keys] == []
    grids = {row["iteration"] for row in history if "progress/affects" in row}
    assert grids == {2, 4}, "pictures carry the iteration, so that their slider runs over it"
    media = [path.name for path in file.parent.rglob("*.png")]
    assert any("affects" in name for name in media)
    assert list(file.parent.rglob("*.table.json"))


def test_every_run_of_a_sweep_is_a_wandb_run_of_its_own(tmp_path):
    pytest.importorskip("wandb")
    run_train(tmp_path, "-m", "seed=0,1", *TINY, "logger=wandb", "trainer.max_steps=2")
    files = sorted(tmp_path.glob("multirun/*/*/wandb/offline-run-*/*.wandb"))
    assert [file.parents[2].name for file in files] == ["0", "1"]
    for file in files:
        rows_of_run = [history_row(r) for r in wandb_records(file) if r.WhichOneof("record_type") == "history"]
        assert [row["iteration"] for row in rows_of_run if "loss/generator" in row] == [2]


def test_tensorboard_holds_scalars_and_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_train(tmp_path, *TINY, "logger=tensorboard", "trainer.max_steps=2")
    (folder,) = tmp_path.glob("outputs/*/tensorboard")
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/generator")] == [2]
    assert "figures/affects" in events.Tags()["images"]
