"""A command that goes on: with the same configuration only, from its checkpoint, or anew where there is none."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.resume import find_resumable_run
from fexgan_lit.utils.errors import UserError
from tests.runs.test_config import composed


@pytest.fixture
def standing(tmp_path):
    """A run of the default command with a checkpoint, its presets filled in."""
    config = composed("hydra.run.dir=x")
    plain = OmegaConf.to_container(config, resolve=True)
    plain["model"]["sigma"] = "log_sigma"
    plain["data"] = {"affects": ["joy"]}
    run = RunFolder.create(tmp_path / "run", OmegaConf.create(plain))
    run.last.touch()
    return run


def test_an_empty_folder_starts_a_run(tmp_path):
    cfg = composed()
    assert find_resumable_run(cfg, tmp_path) == (cfg, None)


def test_the_same_command_goes_on_and_may_change_how_long(standing):
    kept, place = find_resumable_run(composed("trainer.max_steps=7", "dataset.cache_dir=elsewhere"), standing.path)
    assert place == (standing, standing.last)
    assert kept.trainer.max_steps == 7
    assert kept.model.sigma == "log_sigma"
    assert kept.data.affects == ["joy"]


def test_another_command_is_refused_by_name(standing):
    with pytest.raises(UserError, match=r"other values of seed, dataset\.batch_size, loss\.gamma"):
        find_resumable_run(composed("seed=3", "loss.gamma=5", "dataset.batch_size=6"), standing.path)
    with pytest.raises(UserError, match="start"):
        find_resumable_run(composed("start=cartoon"), standing.path)


def test_a_run_without_a_checkpoint_starts_anew(standing):
    standing.last.unlink()
    cfg = composed()
    assert find_resumable_run(cfg, standing.path) == (cfg, None)
    assert not standing.config.exists()
