"""What lies in a sweep folder: every run that was planned, in whatever state, and folders from before sweep.yaml."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from fexgan_lit.evaluation.sweep_report.read import axes_of_configs, read_sweep, shared_part
from fexgan_lit.utils.errors import UserError
from tests.evaluation.sweep_report.conftest import FD, write_run, write_sweep


def test_every_planned_run_has_a_status_and_its_error(tmp_path):
    names = ("done", "failed", "pruned", "stopped", "absent", "broken", "text")
    sweep = write_sweep(tmp_path / "s", {name: {"loss.alpha": i} for i, name in enumerate(names)})
    write_run(sweep / "done", {FD: 1.5})
    write_run(sweep / "failed", {}, status="failed", error="UserError: the loss is NaN")
    write_run(sweep / "pruned", {}, status="pruned", error="hopeless")
    (write_run(sweep / "stopped") / "checkpoints").mkdir()
    (sweep / "stopped" / "checkpoints" / "last.ckpt").touch()
    (write_run(sweep / "broken") / "result.json").write_text('{"status": "fin')
    (write_run(sweep / "text") / "result.json").write_text(json.dumps({"status": "finished", "metrics": {FD: "low"}}))
    found = {run.name: run for run in read_sweep(sweep).runs}
    expected = ("finished", "failed", "pruned", "half-done", "not begun", "unreadable", "unreadable")
    assert {name: run.status for name, run in found.items()} == dict(zip(names, expected, strict=True))
    assert found["failed"].error == "UserError: the loss is NaN"
    assert "broken/result.json" in str(found["broken"].error)
    assert FD in str(found["text"].error)
    assert read_sweep(sweep).metrics == [FD]


def test_folders_that_are_not_of_the_sweep_are_named(tmp_path):
    sweep = write_sweep(tmp_path, {"a": {"seed": 1}})
    write_run(sweep / "a", {FD: 1.0})
    write_run(sweep / "stray", {FD: 0.1})
    found = read_sweep(sweep)
    assert [run.name for run in found.runs] == ["a"]
    assert "stray" in found.notes[0]


def test_objectives_of_a_search_keep_their_directions(tmp_path):
    ways = {"final/val/ssim": "maximize", FD: "minimize"}
    sweep = write_sweep(tmp_path, {"a": {"loss.alpha": 1}}, objectives=ways, kind="optuna")
    assert read_sweep(sweep).objectives == {"final/val/ssim": True, FD: False}


def test_wrong_folders_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        read_sweep(tmp_path / "none")
    with pytest.raises(UserError, match="single run; use run="):
        read_sweep(write_run(tmp_path / "run", {FD: 1.0}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"neither sweep\.yaml nor run folders"):
        read_sweep(tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.yaml").write_text("axes: [\n")
    with pytest.raises(UserError, match=r"sweep\.yaml line 2: invalid YAML"):
        read_sweep(tmp_path / "broken")


def test_old_sweeps_give_axes_and_numbers(tmp_path):
    for number, (alpha, seed) in enumerate([(0.5, 1), (0.5, 2), (1.0, 1), (1.0, 2)] + [(2.0, 1)] * 7):
        run = tmp_path / str(number)
        (run / "checkpoints").mkdir(parents=True)
        config = {"seed": seed, "name": f"n{number}", "loss": {"alpha": alpha, "beta": 1.0}, "data": {"train": number}}
        OmegaConf.save(OmegaConf.create(config), run / "config.yaml")
        if number < 3:
            (run / "report.md").touch()
            final = "" if number == 2 else f"{number + 1}.5"  # the third ended before it was measured
            (run / "metrics.csv").write_text(f"iteration,loss,{FD}\n5,1.0,\n10,0.5,{final}\n")
        (run / "checkpoints" / "last.ckpt").touch()
    found = read_sweep(tmp_path)
    assert found.axes == {"loss.alpha": [0.5, 1.0, 2.0], "seed": [1, 2]}
    assert [run.name for run in found.runs] == [str(n) for n in range(11)], "10 stands behind 9, not behind 1"
    assert [run.status for run in found.runs[:4]] == ["finished", "finished", "half-done", "half-done"]
    assert found.runs[1].metrics == {FD: 2.5}
    assert found.runs[1].result is not None
    assert found.runs[1].result.iteration == 10
    assert found.base["loss"] == {"beta": 1.0}
    assert "there is no sweep.yaml" in found.notes[0]


def test_values_that_follow_from_another_are_no_axes():
    def config(model: str, size: int, seed: int) -> dict:
        rates = {"fexgan": 1, "stargan": 2}
        return {
            "seed": seed, "dataset": {"image_size": size, "root": f"/data/{seed}"},
            "model": {"_target_": model.upper(), "name": model, "image_size": size},
            "loss": {model: rates[model]}, "callbacks": {},
        }  # fmt: skip

    runs = [config(m, s, n) for m in ("fexgan", "stargan") for s in (32, 64) for n in (1, 2)]
    axes, values = axes_of_configs({str(i): run for i, run in enumerate(runs)})
    assert axes == {"model.name": ["fexgan", "stargan"], "dataset.image_size": [32, 64], "seed": [1, 2]}
    assert values["7"] == {"model.name": "stargan", "dataset.image_size": 64, "seed": 2}
    assert shared_part(runs[:2])["loss"] == {"fexgan": 1}
    assert shared_part(runs)["model"] == {}
