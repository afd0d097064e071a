"""Precision and device: what is asked for, what the machine has, and what is said where they differ."""

from __future__ import annotations

import os

import pytest
import torch

from fexgan_lit.runs.config import TrainerSettings, train_settings
from fexgan_lit.training.trainer import build_trainer, check_trainer
from fexgan_lit.utils import hardware
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import precision_note, resolve_precision, root_device
from tests.runs.test_config import composed


@pytest.fixture(params=[True, False], ids=["native", "emulated"])
def native(request, monkeypatch):
    monkeypatch.setattr(hardware, "native_cpu_bf16", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return request.param


def test_bf16_is_used_where_the_processor_has_it_and_its_absence_is_said(native):
    assert resolve_precision("float32", "cpu") == "32-true"
    for wanted in ("auto", "bf16"):
        assert resolve_precision(wanted, "cpu") == ("bf16-mixed" if native else "32-true")
    assert precision_note("auto", "cpu") is None
    assert precision_note("float32", "cpu") is None
    note = precision_note("bf16", "cpu")
    assert note is None if native else "trainer.precision=bf16" in note and "using float32" in note


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_without_bf16_computes_in_float32(has, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation)
    assert root_device("auto") == root_device("gpu") == torch.device("cuda", 0)
    assert root_device("cpu") == torch.device("cpu")
    for wanted in ("auto", "bf16"):
        assert resolve_precision(wanted, "gpu") == ("bf16-mixed" if has else "32-true")
    assert (precision_note("bf16", "gpu") is None) == has


def test_the_trainer_takes_the_precision_that_was_chosen(native, tmp_path):
    made = build_trainer(TrainerSettings(accelerator="cpu", precision="bf16", threads=1), [], [], str(tmp_path))
    assert made.precision == ("bf16-mixed" if native else "32-true")


@pytest.mark.parametrize("precision", ["fp16", "float16", "float8"])
def test_an_unsupported_precision_is_refused(precision):
    with pytest.raises(UserError, match=rf"trainer\.precision={precision}: expected one of auto, float32, bf16"):
        train_settings(composed(f"trainer.precision={precision}"))


@pytest.mark.parametrize("accelerator", ["gpu", "mps"])
def test_a_device_that_is_not_there_is_refused(accelerator, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        UserError, match=rf"trainer\.accelerator={accelerator}.*torch finds no.*accelerator=cpu or auto"
    ):
        check_trainer(TrainerSettings(accelerator=accelerator))
    check_trainer(TrainerSettings(accelerator="auto"))
    check_trainer(TrainerSettings(accelerator="cpu"))


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_threads_follow_the_quota_of_a_container(files, count, tmp_path, monkeypatch, threads):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (hardware.cpu_quota(), hardware.cores(), hardware.cores(5)) == (count, count or 64, 5)
    hardware.keep_to_quota()
    assert torch.get_num_threads() == min(threads, count or threads)
    assert os.environ.get("OMP_NUM_THREADS") == (None if count is None else str(count))
