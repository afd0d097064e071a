from __future__ import annotations

import numpy as np
import pytest
import torch

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.pairs import PairSampler, Share
from fexgan_lit.synthetic import CartoonStudio
from fexgan_lit.synthetic.prototypes import prototype
from fexgan_lit.utils.errors import UserError


def exact_data(**changes) -> FrameDataModule:
    settings = {"identities": 2, "takes": 3, "frames": 3, "image_size": 32, "batch_size": 8, "split": "take",
                "val_fraction": 0.34, "min_target_intensity": 0.6, "head_motion": 8.0, "targets": "exact",
                "workers": 1}  # fmt: skip
    data = FrameDataModule(DatasetConfig(name="studio_cartoon", **(settings | changes)))
    data.setup()
    return data


@pytest.fixture(scope="module")
def data() -> FrameDataModule:
    return exact_data()


def test_targets_differ_from_their_sources_in_the_expression_alone(data):
    table = data.table.frame.iloc[data.train.rows].reset_index(drop=True)
    for batch in range(len(data.train_dataloader())):
        source, target = data.train_dataloader().pair_sampler.indices(0, batch)
        for column in ("identity", "take", "frame", "yaw", "pitch", "roll"):
            assert (table[column].to_numpy()[source] == table[column].to_numpy()[target]).all()
        strong = (table["affect"].to_numpy()[target] == "neutral") | (table["intensity"].to_numpy()[target] >= 0.6)
        assert strong.all()


def test_validation_pairs_are_exact_too_and_of_another_affect(data):
    pairs = data.val_dataloader().pairs
    assert len(pairs) == len(data.val)
    assert (data.val.moment[pairs.source] == data.val.moment[pairs.target]).all()
    assert (data.val.affect[pairs.source] != data.val.affect[pairs.target]).all()


def test_the_target_is_what_the_studio_draws_for_that_moment():
    studio = CartoonStudio(1, 1, 5, 64, head_motion=8.0, exact=0.6)
    frame = studio.table()
    source = int(np.flatnonzero((frame["affect"] == "joy") & (frame["frame"] == 0))[0])
    target = int(np.flatnonzero((frame["affect"] == "fear") & (frame["frame"] == 0) & frame["counterfactual"])[0])
    assert frame["intensity"][source] == 0
    strength = frame["intensity"][target]
    assert 0.6 <= strength <= 1
    assert (studio.render(target) == studio.render_as(source, prototype("fear"), strength)).all()
    assert (studio.render(source) == studio.render_as(source, prototype("anger"), 0.0)).all()


def test_a_counterfactual_moves_the_face_and_leaves_the_rest():
    studio = CartoonStudio(1, 1, 3, 128, head_motion=10.0)
    row = 1  # the apex of anger
    other = studio.render_as(row, prototype("surprise")).astype(int)
    changed = np.abs(studio.render(row) - other).max(axis=-1) > 24
    assert changed[40:118, 30:98].mean() > 0.2
    assert not changed[:8].any()  # backdrop, hair and pose stay
    assert not changed[:, :8].any()
    assert not changed[:, -8:].any()


def test_batches_carry_units_and_landmarks_of_both_frames(data):
    batch = data.train_dataloader().batch(0, 0)
    train = data.train
    assert batch.source_aus.shape == (8, 17)
    assert batch.target_landmarks.shape == (8, 68, 2)
    assert torch.equal(batch.target_aus, torch.from_numpy(train.aus[batch.target_row.numpy()]))
    assert batch.target_landmarks.abs().max() < 1
    nose = batch.source_landmarks[:, 30]  # the tip lies near the middle
    assert nose.abs().max() < 0.4


def test_exact_targets_need_a_studio_and_whole_moments(frame_set):
    with pytest.raises(UserError, match="one of the studios"):
        FrameDataModule(DatasetConfig(name="ferg", targets="exact", split="take"))
    with pytest.raises(UserError, match=r"dataset\.split=take or identity"):
        FrameDataModule(DatasetConfig(name="studio_cartoon", targets="exact", split="frame"))
    with pytest.raises(UserError, match="no counterpart"):
        PairSampler(frame_set(np.full((2, 3), 4)), 4, 0, exact=True)


def test_random_targets_leave_the_script_alone():
    plain, exact = CartoonStudio(1, 2, 5, 32), CartoonStudio(1, 2, 5, 32, exact=0.6)
    n = len(plain)
    assert len(exact) > n
    assert (exact.render(n - 1) == plain.render(n - 1)).all()
    drop = ["counterfactual"]
    assert exact.table().iloc[:n].drop(columns=drop).equals(plain.table())


@pytest.mark.parametrize("exact", [False, True])
def test_processes_share_the_batches_of_one(data, exact):
    alone = PairSampler(data.train, 8, seed=4, exact=exact)
    parts = [PairSampler(data.train, 4, seed=4, exact=exact, share=Share(rank, 2)) for rank in (0, 1)]
    assert len(alone) == len(parts[0])
    for epoch, number in ((0, 0), (2, len(alone) - 1)):
        whole = alone.indices(epoch, number)
        shared = zip(*(part.indices(epoch, number) for part in parts), strict=True)
        for side, pieces in zip(whole, shared, strict=True):
            assert (side == np.concatenate(pieces)).all()
