"""A streamed pack gives what the memory-mapped pack gives."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.device_cache import ResidentPairs
from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.data.streaming.format import chunk_name
from fexgan_lit.utils.errors import UserError

from .conftest import CHUNK_MB, opened, write


def assert_same(one: PairBatch, other: PairBatch) -> None:
    for field in fields(PairBatch):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None), field.name
        assert a is None or torch.equal(a, b), field.name


@pytest.mark.parametrize("place", ["folder", "store"])
def test_one_window_gives_the_batches_of_the_memory_map_bit_for_bit(config, folder, request, place):
    to = folder if place == "folder" else request.getfixturevalue("streamed").root
    mapped, streamed = opened(config), opened(replace(config, root=str(to)))
    assert len(mapped.train_dataloader()) == len(streamed.train_dataloader()) == 14
    for epoch, batch in ((0, 0), (0, 7), (0, 13), (1, 0), (4, 5)):
        assert_same(*(data.train_dataloader().batch(epoch, batch) for data in (mapped, streamed)))
    for one, other in zip(mapped.val_dataloader(), streamed.val_dataloader(), strict=True):
        assert_same(one, other)
    assert (mapped.everything().pixels(np.arange(140)) == streamed.everything().pixels(np.arange(140))).all()
    assert mapped.key == streamed.key  # judges and statistics of the one serve the other
    assert mapped.table.paths == streamed.table.paths


@pytest.mark.parametrize(
    "options",
    [
        {"augmentation": "fexgan", "jitter": 0.1},
        {"uniform_affects": False, "split": "identity", "val_fraction": 0.5},
        {"affects": ["joy", "anger", "neutral"]},
    ],
)
def test_other_options_give_the_same_batches_too(config, tmp_path, options):
    config = replace(config, **options)
    write(config, tmp_path / "chunks")
    mapped, streamed = opened(config, 3), opened(replace(config, root=str(tmp_path / "chunks")), 3)
    assert_same(*(data.train_dataloader().batch(1, 2) for data in (mapped, streamed)))


def test_frames_are_held_on_a_device_from_one_window_only(config, folder, streamed):
    whole = opened(replace(config, root=str(folder))).train_dataloader()
    mapped = opened(config).train_dataloader()
    assert_same(ResidentPairs(whole, torch.device("cpu")).batch(0, 3), mapped.batch(0, 3))
    with pytest.raises(UserError, match="streamed in windows"):
        ResidentPairs(opened(streamed).train_dataloader(), torch.device("cpu"))


def test_affects_may_be_chosen_while_streaming(config, folder):
    few = replace(config, affects=["happy", "neutral"])
    mapped, streamed = opened(few), opened(replace(few, root=str(folder)))
    assert streamed.affects == ("joy", "neutral")
    assert_same(*(data.train_dataloader().batch(0, 1) for data in (mapped, streamed)))


def test_a_studio_with_exact_targets(tmp_path):
    config = DatasetConfig(
        image_size=32, identities=2, takes=2, frames=3, batch_size=4, cache_dir=str(tmp_path), split="take",
        val_fraction=0.5, min_target_intensity=0.2, targets="exact",
    )  # fmt: skip
    write(config, tmp_path / "chunks")
    mapped, streamed = opened(config), opened(replace(config, root=str(tmp_path / "chunks")))
    assert_same(*(data.train_dataloader().batch(0, 3) for data in (mapped, streamed)))
    assert streamed.train.intensity is not None


def test_litdata_reads_the_same_frames(config, folder):
    litdata = pytest.importorskip("litdata")
    data = opened(replace(config, root=str(folder)))
    items = litdata.StreamingDataset(str(folder), shuffle=False)
    assert len(items) == 140
    everything = data.everything()
    images = everything.images
    for row in (0, 9, 77, 139):
        item = np.frombuffer(items[int(images._stored[row])], np.uint8).reshape(32, 32, 3)
        assert (everything.pixels(np.array([row]))[0] == item).all()
    sizes = [(folder / chunk_name(chunk)).stat().st_size for chunk in range(14)]
    assert sizes == [images.geometry.chunk_bytes(chunk) for chunk in range(14)]
    assert sizes[0] == pytest.approx(CHUNK_MB * 1e6, rel=0.05)


def test_every_chunk_is_a_fair_sample(config, folder):
    data = opened(replace(config, root=str(folder)))
    chunk = data.everything().images.chunk_of(np.arange(140))
    assert all(len(set(data.table.affect_index[chunk == number])) >= 4 for number in range(14))
