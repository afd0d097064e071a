"""Turns with a trainer: who runs when, what is timed, and what the trainer is given."""

from __future__ import annotations

import pytest
import torch

from fexgan_lit.benchmarks.train import noise_batch
from fexgan_lit.benchmarks.turns import TurnStream
from fexgan_lit.config import TrainerSettings
from fexgan_lit.trainer import build_trainer
from tests.benchmarks.test_twins import tiny


class Watched:
    """A stream whose batches and tasks are written down in the order in which they come."""

    def __init__(self, rounds=2, cycle=2, stances=None):
        self.seen = []
        others = {"twin": lambda: self.seen.append("twin"), "product": lambda: self.seen.append("product")}
        self.system = tiny("fexgan")
        self.stream = TurnStream(noise_batch(2, 32, 4), self.system, cycle, stances or {"ours": None}, others, rounds)

    def run(self):
        for _ in self.stream:
            self.seen.append("batch")
        return self


def test_the_tasks_run_between_the_turns_of_the_trainer():
    watched = Watched().run()
    assert watched.seen == 3 * ["twin", "product", "batch", "batch"] + ["batch"]  # the last stops the clock
    assert len(watched.stream) == watched.seen.count("batch")


def test_the_first_round_is_kept_apart():
    stream = Watched(rounds=3).run().stream
    assert set(stream.first) == set(stream.timings) == {"ours", "twin", "product"}
    assert [len(timing.seconds) for timing in stream.timings.values()] == [3, 3, 3]
    assert stream.compile_s == 0


def test_a_trainer_runs_every_turn_and_all_of_them_are_timed(tmp_path):
    watched = Watched(rounds=1, cycle=3)
    settings = TrainerSettings(accelerator="cpu", threads=1, max_steps=len(watched.stream), val_every=0)
    build_trainer(settings, [], [], str(tmp_path)).fit(watched.system, watched.stream)
    assert watched.system.iteration == len(watched.stream) == 2 * 3 + 1
    assert len(watched.stream.timings["ours"].seconds) == 1


def test_rounds_of_warm_up_are_not_timed():
    system = tiny("fexgan")
    stream = TurnStream(noise_batch(2, 32, 4), system, 1, {"ours": None}, {"twin": lambda: None}, 2, warm_up=3)
    assert len(list(stream)) == len(stream) == 6
    assert [len(timing.seconds) for timing in stream.timings.values()] == [2, 2]


def test_turns_of_both_stances(monkeypatch):
    stances = []
    monkeypatch.setattr(torch.compiler, "set_stance", stances.append)
    stream = Watched(rounds=1, cycle=1, stances={"ours": "force_eager", "compiled": "default"}).run().stream
    assert stances == ["force_eager", "default"] * 2
    assert {"ours", "compiled"} <= set(stream.timings)


def test_noise_has_all_that_a_system_may_read():
    batch = noise_batch(3, 32)
    assert batch.source.shape == (3, 3, 32, 32)
    assert batch.source.is_contiguous(memory_format=torch.channels_last)  # as the feed gives them
    assert -1 <= batch.source.min() < -0.9 < 0.9 < batch.target.max() <= 1
    assert batch.target_aus.shape == (3, 17)
    assert batch.target_landmarks.shape == (3, 68, 2)
    assert torch.equal(batch.source, noise_batch(3, 32).source)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(batch.source, batch.target)
