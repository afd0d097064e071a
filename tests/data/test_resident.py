"""Batches made on the device: those of the loader to the bit, one copy each, and nothing that waits."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fexgan_lit.data import device_cache as resident
from fexgan_lit.data.device_cache import ResidentPairs, one_copy, resident_bytes
from fexgan_lit.data.frames import FrameSet
from fexgan_lit.data.pairs import PairLoader, PairSampler, Share
from fexgan_lit.data.transforms import PairAugmentation
from fexgan_lit.utils.errors import UserError

CPU = torch.device("cpu")
SIZE = 16
AUGMENTATIONS = {
    "none": (SIZE, None),
    "flip": (SIZE, PairAugmentation()),
    "fexgan": (SIZE + 3, PairAugmentation(SIZE)),
    "jitter": (SIZE + 3, PairAugmentation(SIZE, jitter=0.4)),
}


@pytest.fixture
def loader(frame_set):
    """Makes a loader of 40 frames of noise with action units and landmarks."""

    def make(length, augmentation, guides=True, share=None, batch_size=6, **options):
        frames = frame_set(np.full((2, 4), 5), length)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (len(frames) + 7, length, length, 3), dtype=np.uint8)
        rows = rng.permutation(len(images))[: len(frames)]  # the split is neither all of the pack nor in order
        frames = replace(frames, images=images, rows=rows)
        if guides:
            units, points = rng.random((len(frames), 17)), rng.uniform(-1, 1, (len(frames), 68, 2))
            frames = replace(frames, aus=units.astype(np.float32), landmarks=points.astype(np.float32))
        sampler = PairSampler(frames, batch_size, seed=1, share=share, **options)
        return PairLoader(frames, sampler, SIZE, augmentation)

    return make


def assert_same(ours, theirs):
    for field in fields(theirs):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        if other is None:
            assert one is None, field.name
            continue
        assert torch.equal(one, other), field.name
        assert (one.dtype, one.stride()) == (other.dtype, other.stride()), field.name


@pytest.mark.parametrize("guides", [True, False])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_batches_are_those_of_the_loader_to_the_bit(loader, name, guides):
    pairs = loader(*AUGMENTATIONS[name], guides)
    ours = ResidentPairs(pairs, CPU)
    assert len(ours) == len(pairs) == 6
    for epoch, number in ((0, 0), (2, 5), (0, 1)):
        assert_same(ours.batch(epoch, number), pairs.batch(epoch, number))
    assert ours.batch(0, 0).source.is_contiguous(memory_format=torch.channels_last)
    assert (ours.batch(0, 0).source_landmarks is None) is not guides


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_batches_made_on_a_gpu_are_those_of_the_loader_to_the_bit(loader, name):
    pairs = loader(*AUGMENTATIONS[name])
    ours = ResidentPairs(pairs, torch.device("cuda", 0))
    for number in range(2):
        batch = ours.batch(0, number)
        assert batch.source.device.type == "cuda"
        assert_same(batch.to("cpu"), pairs.batch(0, number))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_part_of_a_process_is_that_of_the_whole_batch(loader, rank):
    length, augment = AUGMENTATIONS["jitter"]
    whole = ResidentPairs(loader(length, augment), CPU).batch(1, 2)
    part = ResidentPairs(loader(length, augment, share=Share(rank, 3), batch_size=2), CPU).batch(1, 2)
    assert_same(part, whole[2 * rank : 2 * rank + 2])


def test_unpaired_batches(loader):
    pairs = loader(*AUGMENTATIONS["flip"], unpaired=True)
    assert_same(ResidentPairs(pairs, CPU).batch(0, 3), pairs.batch(0, 3))


@pytest.mark.parametrize("length", [12, 24])
def test_frames_of_another_size_are_resized_once(loader, length):
    pairs = loader(length, None)
    ours = ResidentPairs(pairs, CPU)
    assert ours.pixels.shape == (40, SIZE, SIZE, 3)
    assert ours.pixels.nbytes == resident_bytes(pairs)
    assert_same(ours.batch(0, 0), pairs.batch(0, 0))


def test_frames_that_are_resized_after_a_flip_or_crop_are_refused(loader):
    for length, augment, made in ((24, PairAugmentation(), 24), (24, PairAugmentation(20), 20)):
        with pytest.raises(UserError, match=rf"gives {made} px, which are then resized to 16 px"):
            ResidentPairs(loader(length, augment), CPU)


def test_frames_are_moved_in_pieces(loader, monkeypatch):
    asked, pixels = [], FrameSet.pixels
    monkeypatch.setattr(resident, "_PIECE", 16)
    monkeypatch.setattr(FrameSet, "pixels", lambda self, rows: (asked.append(len(rows)), pixels(self, rows))[1])
    pairs = loader(SIZE, None)
    ours = ResidentPairs(pairs, CPU)
    assert asked == [16, 16, 8]
    assert (ours.pixels.numpy() == pairs.frames.images[pairs.frames.rows]).all()
    ours.batch(0, 0)
    assert asked == [16, 16, 8], "a batch reads nothing on the host"


class Watched(TorchDispatchMode):
    """Fails where an operation would make the host wait for a device, and counts the copies from one to another."""

    waiting = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "_unique2")

    def __init__(self):
        super().__init__()
        self.moves = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name == "index" and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in self.waiting or masked:
            raise AssertionError(f"{func} waits for the device")
        made = func(*args, **(kwargs or {}))
        read = {"_to_copy": 0, "copy_": 1}.get(name)
        if read is not None and made.device != args[read].device:
            self.moves.append(made.nbytes)
        return made


def test_the_guard_notices_what_waits():
    x = torch.arange(4)
    for wait in (lambda: x.sum().item(), lambda: bool(x[0]), lambda: x[x > 1], lambda: x.nonzero()):
        with pytest.raises(AssertionError, match="waits for the device"), Watched():
            wait()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_batch_waits_for_nothing_and_is_one_copy_away(loader, name):
    """On the device `meta`, whose tensors nothing can be read from or mixed with those of the host."""
    ours = ResidentPairs(loader(*AUGMENTATIONS[name]), torch.device("meta"))
    with Watched() as watched:
        batch = ours.batch(0, 1)
    assert len(watched.moves) == 1
    assert watched.moves[0] < 50_000 < batch.source.nbytes * len(ours)
    values = [getattr(batch, field.name) for field in fields(batch)]
    assert {value.device.type for value in values} == {"meta"}
    with Watched():
        ResidentPairs(loader(*AUGMENTATIONS[name]), CPU).batch(0, 1)


def test_a_batch_that_is_there_is_not_copied_again(loader):
    batch = ResidentPairs(loader(*AUGMENTATIONS["jitter"]), CPU).batch(0, 0)
    moved = batch.to(CPU, non_blocking=True)
    for field in fields(batch):
        assert getattr(moved, field.name) is getattr(batch, field.name)


def test_one_copy_keeps_names_values_shapes_and_types():
    rng = np.random.default_rng(0)
    arrays = {
        "bytes": rng.integers(0, 256, (3, 5), dtype=np.uint8),
        "odd": rng.random((3, 7), dtype=np.float32),
        "turned": rng.random((4, 3), dtype=np.float32).T,
        "rows": rng.integers(0, 9, 3),
        "wide": rng.random(3),
        "none": np.empty((0, 2), np.int64),
        "flags": np.array([True, False, True]),
    }
    there = one_copy(arrays, CPU)
    assert there.keys() == arrays.keys()
    for name, array in arrays.items():
        assert there[name].numpy().dtype == array.dtype
        assert there[name].shape == array.shape
        assert (there[name].numpy() == array).all(), name
