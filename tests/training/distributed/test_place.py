"""Who is who: what torchrun, SLURM and our own launcher say, and what a configuration may ask for."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from fexgan_lit.runs.config import TrainerSettings, train_settings
from fexgan_lit.training.distributed import check_started, find_environment
from fexgan_lit.training.trainer import check_trainer
from fexgan_lit.utils.errors import UserError
from tests.runs.test_config import composed

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "host",
            "MASTER_PORT": "29500"}  # fmt: skip
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2",
        "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODELIST": "gpu[07-08]",
        "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NODEID": "0"}  # fmt: skip


@pytest.fixture
def environment(monkeypatch):
    """Finds the environment that variables describe."""

    def find(variables: dict[str, str]):
        for name in [name for name in os.environ if name.startswith(("SLURM_", "RANK", "WORLD_", "LOCAL_", "MASTER_"))]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return find_environment()

    return find


def test_torchrun_tells_every_process_its_rank(environment):
    found = environment(TORCHRUN)
    assert (found.global_rank(), found.world_size(), found.local_rank()) == (3, 4, 1)
    assert (found.main_address, found.main_port) == ("host", 29500)


def test_srun_tells_every_task_its_rank_and_all_the_same_port(environment):
    found = environment(SRUN)
    assert (found.global_rank(), found.world_size(), found.local_rank()) == (5, 8, 1)
    assert found.main_address == "gpu07"
    port = found.main_port
    assert environment(SRUN | {"SLURM_PROCID": "0"}).main_port == port


def test_a_single_process_is_alone_whoever_started_it(environment):
    batch_script = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_NODELIST": "a"}
    for variables in (
        {},
        batch_script,
        SRUN | {"SLURM_STEP_NUM_TASKS": "1"},
        TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"},
    ):
        assert environment(variables) is None


def test_half_an_environment_is_refused(environment):
    with pytest.raises(UserError, match="MASTER_ADDR"):
        environment({"RANK": "0", "WORLD_SIZE": "2"})


def test_other_processes_than_asked_for_are_refused(environment):
    found = environment(TORCHRUN)
    check_started(found, TrainerSettings(devices=2, num_nodes=2), sweep=False)
    with pytest.raises(UserError, match=r"torchrun started 4 processes.*trainer\.num_nodes=1 ask for 1"):
        check_started(found, TrainerSettings(), sweep=False)
    with pytest.raises(UserError, match=r"a sweep \(-m\) must be started without torchrun"):
        check_started(found, TrainerSettings(devices=2, num_nodes=2), sweep=True)


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        train_settings(composed(*overrides))
    return str(caught.value)


def test_more_processes_than_pairs_and_uneven_shares_are_refused():
    many = refused("trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "dataset.batch_size=4")
    assert "dataset.batch_size=4 on 8 processes" in many
    assert "more processes than pairs; expected a multiple of 8" in many
    assert "cannot share its pairs evenly" in refused("trainer=ddp", "trainer.devices=3", "dataset.batch_size=4")
    assert "trainer.devices=0: expected 1 to 4096" in refused("trainer=ddp", "trainer.devices=0")
    assert "trainer.strategy=fsdp: this option was removed" in refused("+trainer.strategy=fsdp")


def test_the_part_of_each_process_must_be_large_enough_for_batch_norm():
    assert "dataset.batch_size=2, 1 for each of 2 processes: BatchNorm" in refused(
        "trainer=ddp", "dataset.batch_size=2"
    )


def test_synchronised_batch_norm_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="between GPUs only"):
        check_trainer(TrainerSettings(devices=2, sync_batchnorm=True))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: True, device_count=lambda: 1))
    with pytest.raises(UserError, match=r"trainer\.devices=2, but torch finds 1 GPU here"):
        check_trainer(TrainerSettings(devices=2))
    check_trainer(TrainerSettings(devices=2, accelerator="cpu"))
