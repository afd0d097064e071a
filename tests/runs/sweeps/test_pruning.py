"""Hopeless runs: the rule on numbers worked out by hand, and a run that stops."""

from __future__ import annotations

import yaml

from fexgan_lit.runs.config import PruningSettings
from fexgan_lit.runs.result import read_result
from fexgan_lit.training.pruning import behind, row_at

WAYS = {"val/fd_judge": "minimize", "val/accuracy": "maximize"}
OTHERS = [{"val/fd_judge": fd, "val/accuracy": a} for fd, a in ((1.0, 0.9), (2.0, 0.8), (3.0, 0.7), (4.0, 0.6))]


def hopeless(fd: float, accuracy: float, others=OTHERS, **options) -> bool:
    return behind({"val/fd_judge": fd, "val/accuracy": accuracy}, others, WAYS, PruningSettings(**options))


def test_a_run_behind_in_every_objective_is_hopeless():
    assert hopeless(3.5, 0.65)  # three of four are better in both
    assert not hopeless(2.5, 0.65)  # two of four, not more than half, are better in quality
    assert not hopeless(3.5, 0.95)  # the best in accuracy
    assert hopeless(2.5, 0.65, quantile=0.4)
    assert not hopeless(3.5, 0.65, quantile=0.75)


def test_too_few_others_or_a_missing_number_stop_nothing():
    assert not hopeless(9.0, 0.0, OTHERS[:3])
    assert hopeless(9.0, 0.0, OTHERS[:3], min_runs=3)
    assert not behind({"val/fd_judge": 9.0}, OTHERS, WAYS, PruningSettings())
    assert not behind({}, OTHERS, {}, PruningSettings())
    without = [*OTHERS[:3], {"val/fd_judge": 1.0}]
    assert not hopeless(9.0, 0.0, without)


def test_the_row_of_an_iteration_is_read_while_others_write(tmp_path):
    (tmp_path / "metrics.csv").write_text("iteration,val/ssim,loss/kl\n2,,0.5\n4,0.25,\n6,0.3")
    assert row_at(tmp_path, 4) == {"iteration": 4.0, "val/ssim": 0.25}
    assert row_at(tmp_path, 6) == {"iteration": 6.0, "val/ssim": 0.3}
    assert row_at(tmp_path, 8) == {}
    assert row_at(tmp_path / "none", 4) == {}


def test_a_grid_stops_the_run_that_is_left_behind(train, the_sweep):
    # so small a rate leaves the faces as they were drawn; the runs before it learnt
    options = (
        "optimizer.lr=0.01,1e-9",
        "trainer.max_steps=31",
        "trainer.val_every=30",
        "trainer.checkpoint_every=20",
    )
    pruning = ("sweep.objectives=[maximize:ssim]", "sweep.pruning={warmup:5,min_runs:1,quantile:0.5}")
    ended = train(*options, *pruning, trained=True)
    assert ended.code == 0, ended.err
    assert "1 finished, 1 pruned" in ended.out
    stopped = read_result(the_sweep() / "lr-1e-09")
    assert (stopped.status, stopped.iteration) == ("pruned", 30)
    assert "behind the other runs in val/ssim" in stopped.error
    assert "val/ssim" in stopped.metrics
    assert not (the_sweep() / "lr-1e-09" / "report.md").exists()
    again = train(*options, *pruning, trained=True)
    assert "1 finished before, 1 stopped early before" in again.out
    assert yaml.safe_load((the_sweep() / "sweep.yaml").read_text())["base"]["sweep"]["pruning"]["warmup"] == 5
