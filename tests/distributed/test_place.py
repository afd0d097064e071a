"""Who is who: what torchrun, SLURM and our own launcher say, and what a configuration may ask for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fexgan_lit.config import TrainerSettings, train_settings
from fexgan_lit.distributed.leading import check_started
from fexgan_lit.distributed.place import Place, first_host, place_from_environment
from fexgan_lit.errors import UserError
from fexgan_lit.trainer import check_trainer
from tests.test_config import composed

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "host",
            "MASTER_PORT": "29500"}  # fmt: skip
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2",
        "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[07-08]"}  # fmt: skip


def test_torchrun_tells_every_process_its_place():
    assert place_from_environment(TORCHRUN) == Place(3, 4, 1, 2, "host", 29500, "torchrun", 0)


def test_srun_tells_every_task_its_place_and_all_the_same_port():
    place = place_from_environment(SRUN)
    assert (place.rank, place.world, place.local_rank, place.local_world) == (5, 8, 1, 4)
    assert (place.address, place.starter) == ("gpu07", "SLURM")
    assert place.port == place_from_environment(SRUN | {"SLURM_PROCID": "0"}).port
    assert place.port != place_from_environment(SRUN | {"SLURM_JOB_ID": "8"}).port


def test_a_single_process_is_alone_whoever_started_it():
    batch_script = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_NODELIST": "a"}
    for env in ({}, batch_script, SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}):
        assert place_from_environment(env) is None


def test_half_an_environment_is_refused():
    with pytest.raises(UserError, match="MASTER_ADDR"):
        place_from_environment({"RANK": "0", "WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("a", "a"), ("a,b", "a"), ("gpu[07-09,12]", "gpu07"), ("n[3,5]-ib", "n3-ib"), ("a,b[1-2]", "a")],
)
def test_the_first_machine_of_a_slurm_list(nodes, first):
    assert first_host(nodes) == first


def test_other_processes_than_asked_for_are_refused():
    place = Place(0, 4, 0, 2, "host", 1, "torchrun")
    check_started(place, TrainerSettings(devices=2, num_nodes=2))
    with pytest.raises(UserError, match=r"torchrun started 4 processes, 2 on this machine.*trainer\.num_nodes=2"):
        check_started(place, TrainerSettings())


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        train_settings(composed(*overrides))
    return str(caught.value)


def test_more_processes_than_pairs_and_uneven_shares_are_refused():
    many = refused("trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "dataset.batch_size=4")
    assert "dataset.batch_size=4 on 8 processes" in many
    assert "more processes than pairs; expected a multiple of 8" in many
    assert "cannot share its pairs evenly" in refused("trainer=ddp", "trainer.devices=3", "dataset.batch_size=4")
    assert "trainer.devices=0: expected 1 or more" in refused("trainer=ddp", "trainer.devices=0")
    assert "trainer.strategy=fsdp: expected one of auto, ddp" in refused("trainer.strategy=fsdp")


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
