from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.data.pairs import FixedPairLoader, PairLoader, PairSampler, fixed_pairs
from fexgan_lit.utils.errors import UserError

COUNTS = np.array([[5, 1, 20, 3, 4], [7, 7, 0, 2, 4]])  # 53 frames; the second identity lacks one affect


def epoch_of(sampler, epoch=0):
    pairs = [sampler.indices(epoch, batch) for batch in range(len(sampler))]
    return tuple(np.concatenate(side) for side in zip(*pairs, strict=True))


def test_every_frame_is_a_source_once_an_epoch(frame_set):
    sampler = PairSampler(frame_set(COUNTS), batch_size=8, seed=0)
    assert len(sampler) == 6
    source, _ = epoch_of(sampler)
    assert len(source) == len(set(source.tolist())) == 48
    everything = set(itertools.chain.from_iterable(epoch_of(sampler, epoch)[0].tolist() for epoch in range(10)))
    assert everything == set(range(53))


def test_pairs_show_one_identity_and_reach_every_cell(frame_set):
    frames = frame_set(COUNTS)
    sampler = PairSampler(frames, batch_size=16, seed=0)
    sides = [epoch_of(sampler, epoch) for epoch in range(60)]
    source, target = (np.concatenate(side) for side in zip(*sides, strict=True))
    assert (frames.identity[source] == frames.identity[target]).all()
    assert set(target.tolist()) == set(range(53))
    pairs = set(
        zip(
            frames.identity[source].tolist(),
            frames.affect[source].tolist(),
            frames.affect[target].tolist(),
            strict=True,
        )
    )
    has = [[k for k in range(5) if COUNTS[i, k]] for i in (0, 1)]
    assert pairs == {(i, a, b) for i in (0, 1) for a in has[i] for b in has[i]}


def target_shares(frame_set, uniform):
    frames = frame_set(COUNTS)
    sampler = PairSampler(frames, batch_size=53, seed=0, uniform_affects=uniform)
    target = np.concatenate([sampler.indices(epoch, 0)[1] for epoch in range(400)])
    return [np.bincount(frames.affect[target[frames.identity[target] == i]], minlength=5) for i in (0, 1)]


def test_target_affects_are_uniform_or_in_proportion(frame_set):
    for counts, has in zip(target_shares(frame_set, True), COUNTS > 0, strict=True):
        np.testing.assert_allclose(counts / counts.sum(), has / has.sum(), atol=0.02)
    for counts, cell in zip(target_shares(frame_set, False), COUNTS, strict=True):
        np.testing.assert_allclose(counts / counts.sum(), cell / cell.sum(), atol=0.02)


def test_indices_depend_on_seed_epoch_and_batch_alone(frame_set):
    frames = frame_set(COUNTS)
    one, other = PairSampler(frames, 8, seed=3), PairSampler(frames, 8, seed=3)
    epoch_of(one, 7)
    np.random.default_rng(0)
    torch.manual_seed(1)
    for epoch, batch in ((2, 5), (0, 0), (2, 1)):
        for a, b in zip(one.indices(epoch, batch), other.indices(epoch, batch), strict=True):
            assert (a == b).all()
    assert (PairSampler(frames, 8, seed=4).indices(0, 0)[0] != one.indices(0, 0)[0]).any()
    assert (one.indices(0, 0)[0] != one.indices(1, 0)[0]).any()
    assert (one.indices(0, 0)[1] != one.indices(0, 1)[1]).any()
    with pytest.raises(IndexError):
        one.indices(0, len(one))


def test_sampling_leaves_global_random_states_alone(frame_set):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(iter(PairLoader(frames := frame_set(COUNTS), PairSampler(frames, 8, 0), 8)))
    assert (torch.get_rng_state() == before).all()


def test_batch_larger_than_the_data(frame_set):
    with pytest.raises(UserError, match=r"dataset\.batch_size=64 is more than the 53 training frames"):
        PairSampler(frame_set(COUNTS), 64, 0)


def intensities(frames):
    """0, 0.1, 0.2, ... within each cell; neutral (index 4) is 0 throughout."""
    strength = np.zeros(len(frames), np.float32)
    for i, k in np.ndindex(*COUNTS.shape):
        cell = (frames.identity == i) & (frames.affect == k)
        strength[cell] = np.arange(cell.sum()) * (0.1 if k != 4 else 0)
    return strength


def test_weak_frames_are_no_targets_but_neutral_ones_are(frame_set):
    strength = intensities(frame_set(COUNTS))
    frames = frame_set(COUNTS, intensity=strength)
    sampler = PairSampler(frames, 53, 0, min_target_intensity=0.35)
    target = np.unique(np.concatenate([sampler.indices(epoch, 0)[1] for epoch in range(200)]))
    neutral = frames.affect == 4
    relaxed = np.zeros(53, bool)
    for cell, best in (((0, 1), 0.0), ((0, 3), 0.2), ((1, 3), 0.1)):  # no frame is strong enough here
        relaxed |= (frames.identity == cell[0]) & (frames.affect == cell[1]) & (strength >= best - 1e-6)
    expected = np.flatnonzero(neutral | (strength >= 0.35) | relaxed)
    assert target.tolist() == expected.tolist()
    assert sampler.cells.relaxed == (
        "p0/disgust (strongest 0.00)",
        "p0/joy (strongest 0.20)",
        "p1/joy (strongest 0.10)",
    )


def test_frames_of_unknown_strength_are_no_targets(frame_set):
    strength = intensities(frame_set(COUNTS))
    strength[0:5] = [np.nan, np.nan, 0.9, 0.9, np.nan]
    frames = frame_set(COUNTS, intensity=strength)
    sampler = PairSampler(frames, 53, 0, min_target_intensity=0.35)
    target = np.unique(np.concatenate([sampler.indices(epoch, 0)[1] for epoch in range(200)]))
    assert {2, 3} <= set(target.tolist())
    assert not {0, 1, 4} & set(target.tolist())


def test_unknown_intensity_cannot_be_asked_for(frame_set):
    with pytest.raises(UserError, match=r"min_target_intensity=0\.5(?s:.*)dataset\.annotations"):
        PairSampler(frame_set(COUNTS), 8, 0, min_target_intensity=0.5)


def loader_of(frame_set, batch_size=8):
    frames = frame_set(COUNTS)
    return PairLoader(frames, PairSampler(frames, batch_size, seed=0), image_size=8)


def test_a_batch_is_what_the_indices_say(frame_set):
    loader = loader_of(frame_set)
    batch = next(iter(loader))
    source, target = loader.pair_sampler.indices(0, 0)
    assert len(batch) == 8
    assert batch.source.shape == batch.target.shape == (8, 3, 8, 8)
    assert batch.source_row.tolist() == source.tolist()
    assert batch.target_row.tolist() == target.tolist()
    assert to_uint8(batch.source)[:, 0, 0, 0].tolist() == source.tolist()  # a frame is filled with its number
    assert to_uint8(batch.target)[:, 7, 7, 2].tolist() == target.tolist()
    assert batch.identity.tolist() == loader.frames.identity[source].tolist()
    assert batch.source_affect.tolist() == loader.frames.affect[source].tolist()
    assert batch.target_affect.tolist() == loader.frames.affect[target].tolist()
    assert batch.target_affect.dtype == torch.int64
    moved = batch.to("meta")
    assert moved.source.device.type == moved.target_row.device.type == "meta"


def rows_of(batches):
    return [(batch.source_row.tolist(), batch.target_row.tolist()) for batch in batches]


def test_a_pass_is_an_epoch_from_the_iteration_that_is_due(frame_set):
    loader, due = loader_of(frame_set), [loader_of(frame_set).batch(*divmod(k, 6)) for k in range(24)]
    expected = rows_of(due)
    assert len(loader) == 6
    assert expected[:6] != expected[6:12]
    for start in (0, 1, 4, 5, 6, 9, 12, 17):
        loader.first = lambda start=start: start
        assert rows_of(loader) == expected[start : start + 6]


def test_fixed_pairs_are_fixed_and_of_another_affect(frame_set):
    frames = frame_set(COUNTS)
    pairs = fixed_pairs(frames, seed=1)
    assert pairs.source.tolist() == list(range(53))
    assert (frames.identity[pairs.source] == frames.identity[pairs.target]).all()
    assert (frames.affect[pairs.source] != frames.affect[pairs.target]).all()
    again, other = fixed_pairs(frames, seed=1), fixed_pairs(frames, seed=2)
    assert (again.target == pairs.target).all()
    assert (other.target != pairs.target).any()
    reached = {
        (int(frames.identity[t]), int(frames.affect[t])) for s in range(40) for t in fixed_pairs(frames, s).target
    }
    assert reached == {(i, k) for i, k in np.ndindex(*COUNTS.shape) if COUNTS[i, k]}


def test_fixed_pairs_keep_to_the_limit_and_the_apex(frame_set):
    frames = frame_set(COUNTS, intensity=intensities(frame_set(COUNTS)))
    assert len(fixed_pairs(frames, limit=10)) == 10
    pairs = fixed_pairs(frames, min_target_intensity=0.35)
    big = (frames.identity[pairs.target] == 0) & (frames.affect[pairs.target] == 2)
    assert frames.intensity[pairs.target[big]].min() >= 0.35


def test_frames_without_partner_are_counted(frame_set):
    frames = frame_set(np.array([[3, 0], [2, 2]]))
    pairs = fixed_pairs(frames)
    assert pairs.unpaired == 3
    assert pairs.source.tolist() == [3, 4, 5, 6]


def test_fixed_loader_keeps_the_last_batch_and_repeats_itself(frame_set):
    frames = frame_set(COUNTS)
    loader = FixedPairLoader(frames, fixed_pairs(frames), batch_size=10, image_size=4)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [10] * 5 + [3]
    assert len(loader) == 6
    assert batches[0].source.shape == (10, 3, 4, 4)
    assert rows_of(loader) == rows_of(batches)


def test_lightning_trains_and_resumes_in_the_middle_of_an_epoch(frame_set, tmp_path):
    from lightning.pytorch import LightningModule, Trainer

    class Recorder(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.seen = []

        def training_step(self, batch, _):
            self.seen.append(batch.source_row.tolist())
            return self.layer(batch.source.mean().reshape(1, 1)).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.0)

    def fit(steps, checkpoint=None, **options):
        module = Recorder()
        trainer = Trainer(
            max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, **options,
        )  # fmt: skip
        loader = loader_of(frame_set)
        loader.first = lambda: trainer.global_step
        trainer.fit(module, loader, ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return module.seen

    expected = fit(14)
    assert len({str(rows) for rows in expected}) == 14
    seen = fit(9)
    assert seen + fit(14, tmp_path / "last.ckpt") == expected
    reference = loader_of(frame_set)
    limited = fit(4, limit_train_batches=2)  # a broken-off epoch goes on where it was, it does not begin again
    assert limited == [reference.batch(0, k).source_row.tolist() for k in range(4)]
