"""`python -m fexgan_lit.train trainer=ddp` as a user runs it: equal to one process, one folder, signals and deaths."""

from __future__ import annotations

import csv
import json
import os
import signal
import time

import pytest

from fexgan_lit.runs.lock import in_work
from tests.conftest import run_train
from tests.training.distributed.helpers import (
    STARGAN,
    TWO,
    alive,
    checkpoint,
    children,
    start,
    wait_for,
)

pytestmark = pytest.mark.slow


def learnt(run):
    """The weights that have a gradient.

    Instance norm takes away what the first layer makes of the affects, planes of one value, but for the border;
    their gradient is rounding error, which Adam makes steps of.
    """
    weights = checkpoint(run)["state_dict"]
    return {name: value[:, :3] if name.endswith("trunk.0.0.weight") else value for name, value in weights.items()}


def losses(run):
    with (run / "metrics.csv").open() as file:
        return [(row["iteration"], float(row["loss/generator"]), float(row["loss/discriminator"]))
                for row in csv.DictReader(file)]  # fmt: skip


def test_two_processes_and_then_one_give_what_one_gives(tmp_path):
    """Half the run on two processes, measured by rank 0 alone in between, the other half on one."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    run_train(one, *STARGAN, "trainer.max_steps=8", "hydra.run.dir=run")
    watched = ("trainer.val_every=2", "trainer.figures_every=2", "trainer.data_on_device=true")
    half = run_train(two, *STARGAN, *TWO, "trainer.max_steps=4", *watched)
    (run,) = (two / "outputs").iterdir()  # one folder, not one a process
    assert (
        half.stdout.count("on 2 processes")
        == half.stdout.count("training 4/4")
        == half.stdout.count("data       on cpu")
        == 1
    )
    assert not in_work(run)
    run_train(two, f"run={run}", "trainer.devices=1", "trainer.max_steps=8", "trainer.val_every=0")

    assert checkpoint(run)["iteration"] == 8
    # On some processors convolutions round otherwise for half a batch, and Adam makes steps of what gradients are near
    # zero: a few weights differ by a step of 1e-4 or two. Other batches or unshared gradients change all by such steps.
    ours, theirs = learnt(one / "run"), learnt(run)
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name].double() - theirs[name].double()).abs().mean()) for name in ours) < 3e-5
    assert [row[0] for row in losses(run)] == ["2", "4", "6", "8"]
    for ours, theirs in zip(losses(run), losses(one / "run"), strict=True):
        assert ours[1:] == pytest.approx(theirs[1:], rel=1e-4)


@pytest.mark.fault
def test_a_signal_stops_the_run_in_order_the_same_command_goes_on_and_a_death_ends_all(tmp_path):
    command = (*STARGAN, *TWO, "trainer.max_steps=100000", "hydra.run.dir=night", "trainer.go_on=true")
    run = tmp_path / "night"
    last = run / "checkpoints" / "last.ckpt"

    first = start(tmp_path, *command)
    wait_for(last, first)
    first.send_signal(signal.SIGUSR1)
    said, _ = first.communicate(timeout=120)
    stopped_at = checkpoint(run)["iteration"]
    assert first.returncode == 75, said
    assert f"stopped by a signal at iteration {stopped_at}, its checkpoint is written" in said

    before = last.stat().st_mtime_ns
    second = start(tmp_path, *command)
    until = time.monotonic() + 200
    while last.stat().st_mtime_ns == before and second.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    (other,) = children(second)
    os.kill(other, signal.SIGKILL)
    said, _ = second.communicate(timeout=60)  # all end within a minute
    assert second.returncode == 2, said
    assert f"resuming at iteration {stopped_at}" in said
    assert "rank 1 was ended by signal 9" in said
    assert "run=" in said.split("error:")[1]
    assert not alive(other)
    assert checkpoint(run)["iteration"] > stopped_at
    assert not list(run.rglob("*.partial"))
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "failed"
    assert "rank 1 was ended by signal 9" in result["error"]
    assert not in_work(run)
