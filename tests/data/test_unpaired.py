"""Training without pairs: any frame as a target, data sets without affects, and what stays as it was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.datasets.labels import NothingToPairError
from fexgan_lit.data.pairs import PairLoader, PairSampler, Share, fixed_strangers
from fexgan_lit.utils.errors import UserError
from tests.data.standins import write_emotionet

COUNTS = np.array([[5, 1, 20, 3, 4], [7, 7, 0, 2, 4]])  # 53 frames


def drawn(sampler, epochs):
    pairs = [sampler.indices(epoch, b) for epoch in range(epochs) for b in range(len(sampler))]
    return tuple(np.concatenate(side) for side in zip(*pairs, strict=True))


def test_any_frame_is_a_target_and_all_are_equally_likely(frame_set):
    frames = frame_set(COUNTS)
    source, target = drawn(PairSampler(frames, 53, 0, unpaired=True), 400)
    assert set(source[:53].tolist()) == set(range(53)), "every frame is a source once an epoch"
    np.testing.assert_allclose(np.bincount(target, minlength=53) / len(target), 1 / 53, atol=0.005)
    other = (frames.identity[source] != frames.identity[target]).mean()
    assert other == pytest.approx(2 * 33 * 20 / 53**2, abs=0.02), "independent of whom the source shows"
    assert abs(np.corrcoef(source, target)[0, 1]) < 0.03


def test_unpaired_batches_are_reproducible_and_shared(frame_set):
    frames = frame_set(COUNTS)
    one, other = (PairSampler(frames, 8, seed=3, unpaired=True) for _ in range(2))
    drawn(one, 2)
    parts = [PairSampler(frames, 4, 3, share=Share(rank, 2), unpaired=True).indices(1, 2) for rank in (0, 1)]
    for whole, again, *halves in zip(one.indices(1, 2), other.indices(1, 2), *parts, strict=True):
        assert (whole == again).all()
        assert (whole == np.concatenate(halves)).all()
    assert (one.indices(1, 2)[1] != one.indices(1, 3)[1]).any()


def test_unpaired_batches_go_on_where_they_stopped(frame_set):
    frames = frame_set(COUNTS)
    whole, rest = (PairLoader(frames, PairSampler(frames, 8, 0, unpaired=True), 8) for _ in range(2))
    expected = [whole.batch(*divmod(k, 6)).target_row.tolist() for k in range(10)]
    seen = [batch.target_row.tolist() for batch in itertools.islice(whole, 4)]
    rest.first = lambda: 4
    assert seen + [batch.target_row.tolist() for batch in rest] == expected


def test_weak_frames_are_no_targets_here_either(frame_set):
    strength = np.linspace(0, 1, 53).astype(np.float32)
    frames = frame_set(COUNTS, intensity=strength)
    sampler = PairSampler(frames, 53, 0, min_target_intensity=0.5, unpaired=True)
    _, target = drawn(sampler, 50)
    # rows 0 to 25 are weaker, in cells where nothing is strong enough; the strongest of each stand in
    assert set(target.tolist()) == {4, 5, 24, 25, *range(26, 53)}
    assert sampler.cells.relaxed


def test_measured_strangers_are_fixed_and_never_the_source_itself(frame_set):
    frames = frame_set(COUNTS)
    pairs = fixed_strangers(frames, seed=1)
    assert pairs.source.tolist() == list(range(53))
    assert (pairs.source != pairs.target).all()
    assert (fixed_strangers(frames, 1).target == pairs.target).all()
    assert (fixed_strangers(frames, 2).target != pairs.target).any()
    assert len(set(fixed_strangers(frames, 1, limit=9).source.tolist())) == 9
    assert len(fixed_strangers(frame_set(np.array([[1]])))) == 0


def opened(root, cache, name="emotionet", pairing="none", **options):
    options = {"image_size": 32, "batch_size": 2, "cache_dir": str(cache)} | options
    data = FrameDataModule(DatasetConfig(name=name, root=str(root), **options), 0, pairing)
    data.setup()
    return data


def test_frames_without_affects_train_unpaired(tmp_path):
    root = write_emotionet(tmp_path / "set", 12)
    data = opened(root, tmp_path / "cache", split="identity", val_fraction=0.25)
    assert (len(data.train), len(data.val)) == (9, 3)
    assert (data.unpaired, data.has_truth, data.labelled) == (True, False, False)
    batch = next(iter(data.train_dataloader()))
    assert batch.target_aus.shape == (2, 17)
    assert not set(data.train.rows) & set(data.val.rows)
    validation = list(data.val_dataloader())
    assert sum(map(len, validation)) == 3
    assert all((b.source_row != b.target_row).all() for b in validation)
    text = "\n".join(data.summary.lines())
    assert "no affects" in text
    assert "random frames of any identity" in text
    assert "cannot be compared with real frames" in text
    assert "unlabelled" not in text


@pytest.mark.parametrize(("pairing", "unpaired"), [("identity", None), ("none", False)])
def test_a_system_of_pairs_is_refused_frames_without_affects(tmp_path, pairing, unpaired):
    root = write_emotionet(tmp_path / "set", 12)
    with pytest.raises(NothingToPairError, match=r"no affects(?s:.*)model=ganimation(?s:.*)dataset\.manifest"):
        opened(root, tmp_path / "cache", pairing=pairing, unpaired=unpaired)


def test_labelled_frames_stay_paired_unless_asked(write_cast, tmp_path):
    root = write_cast(count=4)
    paired, same = (opened(root, tmp_path, "mhfed", pairing, batch_size=8) for pairing in ("identity", "none"))
    for batch in range(3):
        one, other = (data.train_dataloader().batch(0, batch) for data in (paired, same))
        assert one.target_row.tolist() == other.target_row.tolist()
    data = opened(root, tmp_path, "mhfed", batch_size=8, unpaired=True)
    assert data.has_truth
    batches = [data.train_dataloader().batch(e, b) for e in range(3) for b in range(3)]
    assert any((data.train.identity[b.source_row] != data.train.identity[b.target_row]).any() for b in batches)
    for measured in data.val_dataloader():
        source, target = (data.val.identity[rows.numpy()] for rows in (measured.source_row, measured.target_row))
        assert (source == target).all(), "measuring needs the true target"


def test_unpaired_keeps_who_cannot_be_paired(write_cast, tmp_path):
    root = write_cast(identities=["anna"], affects=["joy"], count=4)
    write_cast(identities=["bob"], affects=["anger"], count=4)
    with pytest.raises(UserError, match=r"nothing to pair(?s:.*)dataset\.unpaired=true"):
        opened(root, tmp_path, "mhfed", affects=["joy", "anger"])
    data = opened(root, tmp_path, "mhfed", unpaired=True)
    assert len(data.train) + len(data.val) == 8
    assert data.affects == ("anger", "joy")
    assert data.labelled
    assert not data.has_truth
    assert any("no frame shows disgust" in note for note in data.table.notes)


def test_unpaired_is_refused_where_pairs_are_needed(write_cast, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.unpaired=true: this system learns from two frames of one identity"):
        opened(write_cast(), tmp_path, "mhfed", "identity", unpaired=True)
    problems = DatasetConfig(targets="exact", split="take", unpaired=True).problems()
    assert len(problems) == 1
    assert "dataset.unpaired=true" in problems[0]


def test_a_system_that_reads_affects_is_refused_frames_without_any(tmp_path):
    from fexgan_lit.runs.build import check_reads
    from fexgan_lit.runs.config import train_settings
    from tests.runs.test_config import composed

    data = opened(write_emotionet(tmp_path / "set", 12), tmp_path / "cache")
    settings = train_settings(composed("model=stargan", "dataset=emotionet", "dataset.image_size=32"))
    with pytest.raises(UserError, match=r"model=stargan reads affects, but .* only action units.*dataset\.manifest"):
        check_reads(settings, data.train)
    check_reads(train_settings(composed("model=ganimation", "dataset=emotionet", "dataset.image_size=32")), data.train)
    assert data.affects == ("unlabelled",)
