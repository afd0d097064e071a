"""How runs are grouped, and which way their numbers are better."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from fexgan_lit.metrics.registry import direction
from fexgan_lit.runs.config import LoggerSettings
from fexgan_lit.training.loggers.artifacts import run_labels, setting_digest, swept_setting


def config(seed=0, **changes):
    parts = {"model": {"name": "fexgan", "width": 0.5}, "dataset": {"name": "ferg", "root": "/a", "image_size": 64},
             "loss": {"alpha": 1.0}, "trainer": {"max_steps": 9, "threads": 1}, "logger": {"name": "csv"}}  # fmt: skip
    for name, values in changes.items():
        parts[name] = parts[name] | values
    return {"seed": seed, **parts}


def sweep(folder, runs):
    folder.mkdir()
    OmegaConf.save({"version": 1, "axes": {"loss.alpha": [1, 2], "seed": [1, 2]}, "runs": runs}, folder / "sweep.yaml")
    return folder


def test_a_setting_is_the_same_for_every_seed_and_place_of_its_data():
    one = setting_digest(config(seed=1))
    same = config(seed=2, dataset={"root": "/b"}, trainer={"threads": 8}, logger={"name": "wandb"})
    assert setting_digest(same) == one
    others = [config(loss={"alpha": 2.0}), config(trainer={"max_steps": 8}), config(dataset={"image_size": 32})]
    assert one not in {setting_digest(other) for other in others}
    assert len({setting_digest(other) for other in others}) == 3


def test_a_run_alone_is_named_by_system_data_and_setting(tmp_path):
    found = run_labels(tmp_path / "outputs" / "r1", config(seed=3), LoggerSettings(tags=["mine"], group="paper"))
    assert (found["name"], found["group"]) == ("r1", "paper")
    assert found["job_type"] == f"fexgan_ferg_{setting_digest(config())}"
    assert found["tags"] == ("fexgan", "ferg", "seed-3", "mine")


def test_seeds_of_a_sweep_share_group_and_setting_but_not_the_run(tmp_path):
    runs = {f"alpha-{a}_seed-{s}": {"loss.alpha": a, "seed": s} for a in (1, 2) for s in (1, 2)}
    folder = sweep(tmp_path / "alphas", runs)
    found = {name: run_labels(folder / name, config(seed=run["seed"]), LoggerSettings()) for name, run in runs.items()}
    assert {label["group"] for label in found.values()} == {"alphas"}
    assert {name: label["job_type"] for name, label in found.items()} == {
        name: f"alpha={run['loss.alpha']}" for name, run in runs.items()
    }
    assert len({label["name"] for label in found.values()}) == 4


def test_a_sweep_over_seeds_alone_has_the_setting_of_a_single_run(tmp_path):
    folder = sweep(tmp_path / "seeds", {"seed-1": {"seed": 1}})
    found = run_labels(folder / "seed-1", config(seed=1), LoggerSettings())
    assert found["job_type"] == f"fexgan_ferg_{setting_digest(config())}"


def test_labels_fit_what_the_server_takes(tmp_path):
    values = {f"dataset.option_number_{i}": i for i in range(9)}
    folder = sweep(tmp_path / "wide", {"a": {**values, "seed": 1}, "b": {**values, "dataset.option_number_8": 1}})
    first, second = swept_setting(folder, "a"), swept_setting(folder, "b")
    assert len(first) == 64
    assert first != second, "a cut setting still differs from its neighbour"
    assert max(map(len, run_labels(tmp_path / "x", config(), LoggerSettings(tags=["t" * 90]))["tags"])) == 64


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("final/val/fd_judge", "minimize"),
        ("val/judge_affect_accuracy", "maximize"),
        ("val/psnr", "maximize"),
        ("final/fitted/prior_fd_judge", "minimize"),
        ("final/normal/prior_largest_identity_share", "minimize"),
        ("evaluation/fexgan/lpips", "minimize"),
        ("val/real_judge_affect_accuracy", None),  # a ceiling, not a merit
        ("val/d_fake_binary", None),
        ("loss/generator", None),  # of an adversarial game
        ("loss/kl", None),
    ],
)
def test_direction_of_a_number(name, way):
    assert direction(name) == way
