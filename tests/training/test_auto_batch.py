"""`trainer.auto_batch`: the search, its trials on a GPU without one and on a CPU in truth, and what it refuses."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from fexgan_lit.runs.config import TrainerSettings
from fexgan_lit.training import batch_size as auto_batch
from fexgan_lit.training.batch_size import Trial, largest_fitting, settle_micro_batch, trial_in_process
from fexgan_lit.utils.errors import UserError
from tests.benchmarks.test_plain_loops import tiny
from tests.conftest import UNLOGGED, run_train
from tests.systems.helpers import NoisePairs

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("whole", [2, 3, 16, 31, 32, 33])
def test_the_search_finds_the_largest_that_fits(whole):
    for largest in range(whole + 3):
        tried = []

        def fits(size, largest=largest, tried=tried):
            tried.append(size)
            return size <= largest

        expected = None if largest < 2 else min(largest, whole)
        assert largest_fitting(fits, 2, whole) == expected
        assert tried[0] == whole
        assert len(tried) == len(set(tried)) <= 2 + 2 * whole.bit_length()
        assert all(2 <= size <= whole for size in tried)


def settings(**options):
    return TrainerSettings(accelerator="cpu", precision="float32", threads=1, auto_batch=True, **options)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that holds so many pairs at once; says which trials it saw."""

    class Memory:
        pairs, seen, reserved = 0, [], 0

    memory = Memory()
    memory.seen = []

    def trial(trial: Trial, folder: Path) -> None:
        memory.seen.append((trial.size, len(trial.batch)))
        memory.reserved = trial.size * 10**9
        if trial.size > memory.pairs:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(auto_batch, "run_trial", trial)
    for name in ("reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda *_: memory.reserved)
    return memory


def test_running_out_of_memory_on_a_gpu_is_the_answer_no(gpu):
    gpu.pairs = 11
    assert settle_micro_batch(tiny("fexgan"), NoisePairs(batch=16).batch(0, 0), settings(), GPU) == 8  # 11: 8 + 8
    assert gpu.seen[:3] == [(16, 16), (2, 4), (4, 8)]  # two parts each, as far as there are pairs
    gpu.pairs = 16
    assert settle_micro_batch(tiny("fexgan"), NoisePairs(batch=16).batch(0, 0), settings(), GPU) == 16


def test_a_gpu_may_be_shared(gpu):
    gpu.pairs = 16
    limited = settings(memory_limit_gb=5.5)
    assert settle_micro_batch(tiny("fexgan"), NoisePairs(batch=16).batch(0, 0), limited, GPU) == 4  # 5: 4 parts of 4


def test_the_system_stays_as_it_is(gpu):
    gpu.pairs, system = 4, tiny("fexgan")
    before, random = copy.deepcopy(system.state_dict()), torch.get_rng_state()
    settle_micro_batch(system, NoisePairs(batch=16).batch(0, 0), settings(), GPU)
    assert system.micro_batch is None
    assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_what_the_search_refuses(gpu):
    batch = NoisePairs(batch=16).batch(0, 0)
    with pytest.raises(UserError, match=r"not even 2 pairs.*cuda:0.*image_size"):
        settle_micro_batch(tiny("fexgan"), batch, settings(), GPU)
    with pytest.raises(UserError, match=r"trainer\.memory_limit_gb=NUMBER"):
        settle_micro_batch(tiny("fexgan"), batch, settings(), CPU)
    gpu.pairs = 5
    with pytest.raises(UserError, match=r"5 pairs at once fit.*GANimation cannot.*dataset\.batch_size=5"):
        settle_micro_batch(tiny("ganimation"), batch, settings(), GPU)
    with pytest.raises(UserError, match=r"trainer\.devices=2.*trainer\.micro_batch"):
        settle_micro_batch(tiny("fexgan"), batch, settings(devices=2), GPU)


def test_a_trial_that_outgrows_its_limit_is_ended(tmp_path):
    trial = Trial(tiny("fexgan"), NoisePairs(batch=4).batch(0, 0), 2, settings(memory_limit_gb=0.02))
    assert trial_in_process(trial, tmp_path) is False
    assert not (tmp_path / "peak.txt").exists()


class Unreadable:
    """What a trial's process fails at."""

    def __reduce__(self):
        return int, ("no number",)


def test_a_trial_that_fails_for_another_reason_says_so(tmp_path):
    trial = Trial(Unreadable(), NoisePairs(batch=4).batch(0, 0), 2, settings(memory_limit_gb=20.0))
    with pytest.raises(RuntimeError, match=r"(?s)trial of trainer\.auto_batch failed.*no number"):
        trial_in_process(trial, tmp_path)


def test_a_run_keeps_what_was_found(tmp_path):
    done = run_train(
        tmp_path, *UNLOGGED, "trainer.max_steps=2", "trainer.auto_batch=true", "trainer.memory_limit_gb=20",
        "trainer.profile=true", "trainer.data_on_device=true",
    )  # fmt: skip
    config = OmegaConf.load(next(tmp_path.glob("outputs/*/config.yaml")))
    assert config.trainer.micro_batch == 4
    assert "fits into the memory as a whole" in done.stdout
    assert "  data       on cpu, 0." in done.stdout
    assert "profile    nothing: it needs 10 iterations or more, but only 2 are left" in done.stdout
