"""`trainer.data_on_device`: when frames go to the device, what is said, and training that cannot tell."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from fexgan_lit.data import device_cache as placement
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.device_cache import ResidentPairs, free_bytes, placed
from fexgan_lit.data.pairs import PairLoader, PairSampler
from fexgan_lit.data.transforms import PairAugmentation
from fexgan_lit.runs.build import build_system
from fexgan_lit.runs.config import TrainerSettings, train_settings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.training.fit import fit, prepare_trainer
from fexgan_lit.training.trainer import build_trainer
from fexgan_lit.utils.errors import UserError
from tests.runs.test_config import composed

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
#: 40 frames of 16 px
NEEDED = 40 * 16 * 16 * 3


@pytest.fixture
def pairs(frame_set):
    frames = frame_set(np.full((2, 4), 5), 16)
    return PairLoader(frames, PairSampler(frames, 4, seed=0), 16)


@pytest.fixture
def free(monkeypatch):
    """Sets the free bytes of every device; a GPU's loader is only named."""

    class Named:
        def __init__(self, loader, device):
            self.loader, self.device = loader, device

    def set_free(count):
        monkeypatch.setattr(placement, "free_bytes", lambda device: count)

    monkeypatch.setattr(placement, "ResidentPairs", Named)
    return set_free


def test_frames_stay_in_the_pack_unless_asked_for_where_there_is_no_gpu(pairs):
    for wanted in ("auto", "false"):
        assert placed(pairs, wanted, CPU) == (pairs, None)
    assert placed(pairs, "false", GPU) == (pairs, None)
    assert placed(pairs, "auto", torch.device("mps")) == (pairs, None)
    feed = placed(pairs, "true", CPU)
    assert isinstance(feed.loader, ResidentPairs)
    assert feed.line == "data       on cpu, 0.03 MB"


def test_a_gpu_takes_frames_unasked_if_half_of_its_free_memory_holds_them(pairs, free):
    free(2 * NEEDED)
    feed = placed(pairs, "auto", GPU)
    assert (feed.loader.loader, feed.loader.device) == (pairs, GPU)
    assert feed.line == "data       on cuda:0, 0.03 MB"
    free(2 * NEEDED - 2)
    feed = placed(pairs, "auto", GPU)
    assert feed.loader is pairs
    assert "read from the pack: the training frames take 0.03 MB, cuda:0 has 0.06 MB free" in feed.line
    assert placed(pairs, "true", GPU).loader.device == GPU


def test_frames_that_do_not_fit_are_a_mistake_where_they_are_asked_for(pairs, free):
    free(NEEDED)
    assert placed(pairs, "true", GPU).line
    free(NEEDED // 2)
    with pytest.raises(UserError) as error:
        placed(pairs, "true", GPU)
    for words in ("trainer.data_on_device=true", "take 0.03 MB", "cuda:0 has 0.02 MB free", "=false or auto"):
        assert words in str(error.value)
    free(None)  # a device that does not tell
    assert placed(pairs, "true", GPU).line


def test_frames_that_cannot_be_held_say_why(pairs, free):
    pairs.image_size, pairs.augmentation = 8, PairAugmentation()
    free(10**12)
    assert "then resized to 8 px" in placed(pairs, "auto", GPU).line
    with pytest.raises(UserError, match="then resized to 8 px"):
        placed(pairs, "true", CPU)


def test_this_machine_tells_its_free_memory():
    count = free_bytes(CPU)
    assert count is None or 10**6 < count < 10**14


@pytest.mark.parametrize(("given", "kept"), [("true", "true"), ("True", "true"), ("false", "false"), ("auto", "auto")])
def test_the_option_is_one_of_three_words(given, kept):
    assert train_settings(composed(f"trainer.data_on_device={given}")).trainer.data_on_device == kept


def test_other_words_are_refused():
    with pytest.raises(UserError, match=r"trainer\.data_on_device=gpu: expected one of auto, true, false"):
        train_settings(composed("trainer.data_on_device=gpu"))


CONFIG = DatasetConfig(
    image_size=32, augmentation="fexgan", jitter=0.2, identities=2, takes=2, frames=3, batch_size=4, val_fraction=0.0
)
SIZES = ("dataset.image_size=32", "model.width=0.07", "model.latent_size=8")


def tiny_system(data):
    return build_system(train_settings(composed(*SIZES)), data.affects)


def trained(tmp_path, wanted, steps, start=None):
    """The system after `steps` iterations, from the checkpoint `start`, and the loader it saw."""
    data = FrameDataModule(CONFIG, seed=3)
    system = tiny_system(data)
    settings = TrainerSettings(accelerator="cpu", precision="float32", threads=1, max_steps=steps, val_every=0)
    data.place_on(CPU, wanted)
    trainer = build_trainer(settings, [], [], str(tmp_path))
    trainer.fit(system, data, ckpt_path=start, weights_only=True)
    trainer.save_checkpoint(tmp_path / f"{wanted}.ckpt")
    return system, data.train_dataloader()


def test_training_and_resuming_give_the_same_weights_wherever_the_frames_lie(tmp_path):
    whole, loader = trained(tmp_path, "false", 5)
    assert type(loader) is PairLoader
    trained(tmp_path, "true", 3)
    system, loader = trained(tmp_path, "true", 5, tmp_path / "true.ckpt")
    assert isinstance(loader, ResidentPairs)
    assert system.iteration == whole.iteration == 5
    for name, value in whole.state_dict().items():
        assert torch.equal(system.state_dict()[name], value), name


def test_nothing_is_moved_for_a_finished_run(tmp_path):
    data, console = FrameDataModule(CONFIG, seed=3), Console(file=io.StringIO())
    system = tiny_system(data)
    system.iteration = 5
    options = ("trainer.max_steps=5", "trainer.data_on_device=true", "trainer.accelerator=cpu")
    settings = train_settings(composed(*SIZES, *options))
    prepare_trainer(system, data, settings, RunFolder(tmp_path), console, [], [])
    assert type(data.train_dataloader()) is PairLoader
    assert "data       on cpu" not in console.file.getvalue()


def test_a_full_device_names_what_the_frames_take(tmp_path):
    class Full:
        def fit(self, *_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory")

    data, settings = FrameDataModule(CONFIG), train_settings(composed(*SIZES))
    for wanted, named in (("false", False), ("true", True)):
        data.place_on(CPU, wanted)
        with pytest.raises(UserError, match=r"does not fit into the memory.*auto_batch=true") as error:
            fit(Full(), tiny_system(data), data, settings, RunFolder(tmp_path), None, Console(quiet=True))
        assert ("trainer.data_on_device=false, which frees 0." in str(error.value)) == named
