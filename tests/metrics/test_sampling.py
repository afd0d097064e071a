from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fexgan_lit.metrics.prior import cycling_affects, entropy_nats, frame_features, identity_shares, report_samples
from tests.metrics.faces import AFFECTS, IDENTITIES, make_frames


def test_entropy_of_known_shares():
    assert entropy_nats(torch.tensor([0.5, 0.5])) == pytest.approx(math.log(2))
    assert entropy_nats(torch.tensor([1.0, 0.0, 0.0])) == 0.0
    assert entropy_nats(torch.tensor([0.5, 0.25, 0.25])) == pytest.approx(1.5 * math.log(2))


def test_shares_count_identities_that_never_come():
    assert identity_shares(torch.tensor([0, 0, 2, 0]), 4).tolist() == [0.75, 0.0, 0.25, 0.0]


def test_affects_cycle():
    assert cycling_affects(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_report_on_real_frames_and_on_a_collapsed_prior(judge):
    frames = make_frames(4, seed=9)
    images, asked = frames.floats(np.arange(48), 32), torch.from_numpy(frames.affect)
    features = frame_features(judge, frames)
    report = report_samples(judge, images, asked, features)
    assert report.identities_seen == report.identities_total == 3
    assert report.entropy_relative > 0.98
    assert report.affect_accuracy > 0.9
    assert report.fd_judge == pytest.approx(0.0, abs=1e-5)
    assert sum(report.shares.values()) == pytest.approx(1.0)
    assert "only 48 images" in report.notes[0]

    one = images[frames.identity == 1]
    collapsed = report_samples(judge, one, asked[frames.identity == 1] * 0 + 2, features)
    assert collapsed.identities_seen == 1
    assert collapsed.shares[IDENTITIES[1]] == 1.0
    assert collapsed.entropy == 0.0
    assert collapsed.affect_accuracy == pytest.approx(0.25, abs=0.1)
    assert list(collapsed.affect_accuracies) == [AFFECTS[2]]
    assert collapsed.fd_judge > 10 * max(report.fd_judge, 0.01)
    assert collapsed.metrics()["prior_largest_identity_share"] == 1.0


def test_frame_features_spread_over_the_split(judge):
    frames = make_frames(4, seed=9)
    some = frame_features(judge, frames, max_frames=2)
    both_ends = judge.read(frames.floats(np.array([0, 47]), 32)).features
    torch.testing.assert_close(some, both_ends, rtol=1e-4, atol=1e-4)
