"""Names, axes, records and single jobs of a sweep."""

from __future__ import annotations

import errno
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fexgan_lit.runs.result import make_result, now, read_result, write_result
from fexgan_lit.runs.sweeps import job
from fexgan_lit.runs.sweeps.axes import (
    combine,
    make_axis,
    run_names,
    short_keys,
    split_overrides,
    sweep_name,
    values_of,
    written,
)
from fexgan_lit.runs.sweeps.compose import SweepContext, quoted
from fexgan_lit.runs.sweeps.record import SweepRecord, common_base, differences, join, read_record
from fexgan_lit.utils.errors import UserError

PARSER = OverridesParser.create()


def axes(*arguments: str):
    return [make_axis(override, PARSER) for override in split_overrides(arguments, PARSER)[1]]


def test_every_combination_once_in_the_order_of_the_command():
    settings, doubles = combine(axes("loss.beta=1,1.0,0.5", "seed=range(1,3)"), ["loss.alpha=2"])
    assert [s.name for s in settings] == ["beta-1_seed-1", "beta-1_seed-2", "beta-0.5_seed-1", "beta-0.5_seed-2"]
    assert doubles == 2
    assert settings[3].overrides == ("loss.alpha=2", "loss.beta=0.5", "seed=2")
    assert settings[3].values == {"loss.beta": 0.5, "seed": 2}
    assert values_of(axes("model=fexgan,stargan")) == {"model": ["fexgan", "stargan"]}
    assert combine([], ["seed=3"])[0][0].name == "run"


def test_names_are_short_unique_and_plain():
    assert short_keys(["loss.alpha", "optimizer.lr", "other.lr"]) == {
        "loss.alpha": "alpha", "optimizer.lr": "optimizer.lr", "other.lr": "other.lr",
    }  # fmt: skip
    # the order of the options on the command line does not matter
    assert run_names([{"seed": 1, "loss.alpha": 0.5}]) == run_names([{"loss.alpha": 0.5, "seed": 1}])
    paths = run_names([{"dataset.root": "/a/b"}, {"dataset.root": "/a-b"}, {"dataset.root": "/a/b "}])
    assert len(set(paths)) == 3
    long = run_names([{"dataset.root": "x" * 300}, {"dataset.root": "x" * 299}])
    assert len(set(long)) == 2
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._") and len(name) <= 100 for name in paths + long
    )
    assert [written(v) for v in (1, 1.0, True, None, 1e-5, "1e-5")] == ["1", "1", "true", "null", "1e-05", "1e-5"]


def test_the_name_of_a_sweep_follows_from_what_varies_and_what_does_not():
    name = sweep_name(["seed", "loss.alpha"], {"loss.beta": 1})
    assert name.startswith("alpha_seed_")
    assert name == sweep_name(["loss.alpha", "seed"], {"loss.beta": 1})
    assert name != sweep_name(["loss.alpha", "seed"], {"loss.beta": 2})


def record(**changes) -> SweepRecord:
    base = {"loss": {"beta": 1.0, "gamma": 2.0}, "trainer": {"threads": 1, "max_steps": 5}}
    return replace(SweepRecord("command", {"seed": [1]}, base, runs={"seed-1": {"seed": 1}}), **changes)


def test_the_base_is_what_all_runs_share():
    trees = [
        {"seed": seed, "run": None, "loss": {"alpha": alpha, "beta": 1}, "model": {"size": 2 * alpha}}
        for seed in (1, 2)
        for alpha in (3, 4)
    ]
    assert common_base(trees, ["seed", "loss.alpha"]) == {"loss": {"beta": 1}}
    assert common_base(trees[:1], ["seed", "loss"]) == {"model": {"size": 6}}


def test_a_record_is_read_back_and_joined(tmp_path):
    assert read_record(tmp_path) is None
    record().write(tmp_path)
    assert read_record(tmp_path) == record()
    threads = record().base | {"trainer": {"threads": 4, "max_steps": 5}}
    more = record(
        command="later", axes={"seed": [1, 2]}, base=threads, runs={"seed-1": {"seed": 1}, "seed-2": {"seed": 2}}
    )
    joined, fresh = join(more, record(), tmp_path)
    assert (joined.axes, fresh, joined.command) == ({"seed": [1, 2]}, ["seed-2"], "command")
    (tmp_path / "sweep.yaml").write_text("{")
    with pytest.raises(UserError, match=r"sweep\.yaml"):
        read_record(tmp_path)


def test_what_makes_another_sweep_is_named():
    steps = record(base={**record().base, "trainer": {"threads": 1, "max_steps": 6}})
    assert differences(steps, record()) == ["trainer.max_steps: the folder has 5, the command 6"]
    dropped = record(base={"loss": {"beta": 1.0}, "trainer": record().base["trainer"]})
    assert differences(dropped, record()) == ["loss.gamma: the folder has 2.0, the command nothing"]
    assert "kind" in differences(record(kind="optuna"), record())[0]
    searched = record(kind="optuna", axes={"loss.alpha": "interval(0,1)"}, objectives={"a": "minimize"})
    narrower = replace(searched, axes={"loss.alpha": "interval(0,2)"})
    assert differences(narrower, searched) == [
        "loss.alpha: the folder searches interval(0,1), the command interval(0,2)"
    ]


def test_paths_survive_hydras_grammar():
    for path in ("/data/a b", "/data/it's=1,2", "/data/{x}", "back\\slash"):
        assert PARSER.parse_override(f"hydra.sweep.dir={quoted(path)}").value() == path


@pytest.mark.parametrize(("workers", "threads"), [(-1, 1), (1, 8), (2, 4), (3, 2), (-2, 1), (16, 1)])
def test_runs_side_by_side_share_the_processor(workers, threads, monkeypatch):
    monkeypatch.setattr("fexgan_lit.utils.hardware.cores", lambda: 8)
    choices = {"hydra/launcher": "joblib"}
    config = {"hydra": {"runtime": {"choices": choices}, "launcher": {"n_jobs": workers}}, "trainer": {"threads": None}}
    sweep_context = SweepContext(None, None, OmegaConf.create(config))
    setting = combine(axes("seed=1,2"), [])[0][0]
    assert sweep_context.job(SimpleNamespace(__str__=str), setting)[-1] == f"trainer.threads={threads}"
    choices["hydra/launcher"] = "submitit_slurm"
    assert SweepContext(None, None, OmegaConf.create(config)).threads() is None


def run(folder, training):
    return job.bring_to_end(folder, OmegaConf.create({"seed": 1}), training)


@pytest.fixture(autouse=True)
def no_hydra(monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr(job, "job_console", lambda folder: nullcontext())


def test_a_finished_job_is_not_begun_again(tmp_path):
    write_result(tmp_path, make_result("finished", iteration=4, seconds=1, started=now()))
    assert run(tmp_path, None)["iteration"] == 4


def test_a_full_disk_fails_the_run_and_nothing_else(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert "No space left" in run(tmp_path, full)["error"]
    assert read_result(tmp_path).status == "failed"
    (tmp_path / "result.json").unlink()
    monkeypatch.setattr("fexgan_lit.runs.result.write_atomic", full)
    assert run(tmp_path, full)["status"] == "failed"  # not even the record fits
    assert read_result(tmp_path) is None


def test_ctrl_c_is_no_failure_of_a_run(tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted)
    assert read_result(tmp_path) is None


def test_a_run_without_a_checkpoint_starts_anew(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 9")
    (tmp_path / "metrics.csv").write_text("iteration\n1\n")
    (tmp_path / "figures").mkdir()
    config, place = job.standing(tmp_path, OmegaConf.create({"seed": 1}))
    assert (config.seed, place) == (1, None)
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_a_checkpoint_goes_on_with_its_own_configuration(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 9\ndata: {train_frames: 3}\ntrainer: {threads: 1, max_steps: 7}")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    now_given = OmegaConf.create({"seed": 9, "data": None, "trainer": {"threads": 4, "max_steps": 7}})
    config, place = job.standing(tmp_path, now_given)
    assert place[1] == tmp_path / "checkpoints" / "last.ckpt"
    assert config.data.train_frames == 3
    assert config.trainer == {"threads": 4, "max_steps": 7}
