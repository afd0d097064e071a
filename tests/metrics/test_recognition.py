from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fexgan_lit.metrics.identity import acd, acd_i, cosine_scores, cosine_to_source, identity_map, rank1, tar_at_far
from fexgan_lit.utils.errors import UserError


def at_angles(*degrees: float) -> torch.Tensor:
    """Unit vectors in the plane, (n, 2)."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def ids(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


def test_rank1_counts_probes_whose_nearest_gallery_face_is_theirs():
    gallery = at_angles(0, 90, 180)
    probes = 3.0 * at_angles(10, 80, 170, 100)  # lengths do not matter
    assert rank1(gallery, ids(0, 1, 2), probes, ids(0, 1, 2, 1)) == 1.0
    assert rank1(gallery, ids(0, 1, 2), probes, ids(0, 1, 2, 2)) == 0.75
    assert rank1(gallery, ids(1, 2, 0), probes, ids(0, 1, 2, 1)) == 0.0


def test_rank1_with_a_shuffled_gallery_is_at_chance():
    people, per_person = 10, 40
    generator = torch.Generator().manual_seed(0)
    who = torch.arange(people).repeat_interleave(per_person)
    centres = torch.randn(people, 16, generator=generator)
    probes = centres[who] + 0.1 * torch.randn(len(who), 16, generator=generator)
    assert rank1(centres, torch.arange(people), probes, who) == 1.0
    chances = [
        rank1(centres, torch.randperm(people, generator=generator), probes, who)
        for _ in range(200)
    ]  # fmt: skip
    assert np.mean(chances) == pytest.approx(1 / people, abs=0.02)


def test_faces_that_are_all_alike_recognise_nobody():
    same = torch.ones(3, 4)
    assert rank1(same, ids(0, 1, 2), same, ids(0, 1, 2)) == 0.0


def test_a_probe_without_gallery_is_refused_by_number():
    with pytest.raises(UserError, match="numbers 7"):
        rank1(at_angles(0), ids(0), at_angles(0, 90), ids(0, 7))


def test_blocks_of_probes_do_not_matter():
    generator = torch.Generator().manual_seed(1)
    gallery, probes = torch.randn(5, 8, generator=generator), torch.randn(2500, 8, generator=generator)
    who = torch.randint(0, 5, (2500,), generator=generator)
    nearest = cosine_scores(gallery, probes).argmax(dim=1)
    assert rank1(gallery, torch.arange(5), probes, who) == pytest.approx(float((nearest == who).double().mean()))


def test_tar_at_far_by_hand():
    # one gallery face of person 0 at 0 degrees: scores are the cosines of the probes' angles
    genuine, impostors = (10, 35, 50, 80), (20, 40, 60, 70, 75, 85, 90, 95, 100, 110)
    probes, who = at_angles(*genuine, *impostors), ids(*[0] * 4, *[1] * 10)
    tenth, third, half = tar_at_far(at_angles(0), ids(0), probes, who, fars=(0.1, 0.3, 0.5))
    # one false accept (20 degrees) is allowed, so the threshold is the second impostor, at 40 degrees
    assert tenth.threshold == pytest.approx(math.cos(math.radians(40)))
    assert (tenth.tar, tenth.far_reached) == (0.5, 0.1)
    assert (third.tar, third.far_reached) == (0.75, 0.3)  # 50 is nearer than 70, 80 is not
    assert (half.tar, half.far_reached) == (1.0, 0.5)  # 80 is nearer than 85
    assert (tenth.genuine, tenth.impostors) == (4, 10)
    assert "decided by 1 of 10" in tenth.note


def test_impostors_with_one_score_are_never_accepted_in_part():
    # four impostors at 30 degrees: accepting two of ten would mean accepting four
    probes, who = at_angles(20, 30, 40, *[30] * 4, *[90] * 6), ids(0, 0, 0, *[1] * 10)
    (point,) = tar_at_far(at_angles(0), ids(0), probes, who, fars=(0.2,))
    assert point.far_reached == 0.0
    assert point.tar == pytest.approx(1 / 3)  # the genuine pair that ties with them is not accepted either


def test_a_rate_below_one_impostor_pair_is_not_measurable():
    probes, who = at_angles(5, *range(20, 120)), ids(0, *[1] * 100)
    percent, permille = tar_at_far(at_angles(0), ids(0), probes, who)
    assert percent.tar == 1.0
    assert permille.tar is None
    assert "at least 1000 impostor pairs, there are 100" in permille.note


def test_rates_that_floating_point_would_round_down():
    probes, who = at_angles(5, *np.linspace(20, 119, 100)), ids(0, *[1] * 100)
    (point,) = tar_at_far(at_angles(0), ids(0), probes, who, fars=(0.29,))
    assert point.far_reached == pytest.approx(0.29)


def test_one_person_alone_cannot_be_verified():
    with pytest.raises(UserError, match="found 2 and 0"):
        tar_at_far(at_angles(0), ids(0), at_angles(1, 2), ids(0, 0))
    with pytest.raises(ValueError, match="false accept rates"):
        tar_at_far(at_angles(0), ids(0), at_angles(1), ids(1), fars=(0.0,))


def test_broken_embeddings_are_refused():
    with pytest.raises(ValueError, match="finite"):
        cosine_scores(torch.tensor([[float("nan"), 1.0]]), torch.ones(1, 2))
    with pytest.raises(ValueError, match="expected"):
        cosine_scores(torch.ones(1, 3), torch.ones(1, 2))


def test_similarity_to_the_source_is_row_by_row():
    found = cosine_to_source(2 * at_angles(0, 90, 180), at_angles(60, 90, 0))
    assert found.tolist() == pytest.approx([0.5, 1.0, -1.0])


def test_content_distances_by_hand():
    clip = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert acd(clip) == pytest.approx(10 / 3)  # pairs 5, 0, 5
    assert acd(torch.ones(4, 2)) == 0.0
    assert acd_i(clip, torch.zeros(2)) == pytest.approx(5 / 3)
    with pytest.raises(ValueError, match="1 frames"):
        acd(clip[:1])
    with pytest.raises(ValueError, match="expected"):
        acd_i(clip, torch.zeros(3))


def clusters(per_person: int, people: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    who = torch.arange(people).repeat_interleave(per_person)
    centres = torch.nn.functional.normalize(torch.randn(people, 12, generator=generator), dim=1)
    return centres[who] + 0.02 * torch.randn(len(who), 12, generator=generator), who


@pytest.mark.parametrize("method", ["mds", "pca"])
def test_maps_keep_people_together_and_repeat_with_their_seed(method):
    features, who = clusters(12)
    found = identity_map(features, who, method, seed=3)
    assert found.points.shape == (36, 2)
    distances = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)
    same = who.numpy()[:, None] == who.numpy()[None]
    assert distances[same].max() < distances[~same].min()
    assert np.array_equal(found.points, identity_map(features, who, method, seed=3).points)
    assert "36 faces, seed 3" in found.note


def test_faces_that_differ_by_rounding_alone_have_a_map():
    noise = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    features = torch.nn.functional.normalize(torch.ones(1, 64) + 1e-7 * noise, dim=1)
    assert np.isfinite(identity_map(features, torch.arange(20)).points).all()


def test_mds_reproduces_a_plane_up_to_turning():
    plane = torch.randn(15, 2, generator=torch.Generator().manual_seed(2)).double()
    features = torch.cat([plane, torch.zeros(15, 6)], dim=1)
    points = torch.from_numpy(identity_map(features, torch.arange(15)).points)
    torch.testing.assert_close(torch.pdist(points), torch.pdist(plane), atol=0.02, rtol=0.02)


def test_a_map_of_many_faces_keeps_everybody_and_says_how_many():
    features, who = clusters(60)
    who[:2] = 3  # somebody with two faces only
    found = identity_map(features, who, most=30)
    assert len(found.rows) <= 30
    assert set(found.labels.tolist()) == {0, 1, 2, 3}
    assert np.array_equal(found.labels, who.numpy()[found.rows])
    assert "out of 180" in found.note
    with pytest.raises(ValueError, match="method='umap'"):
        identity_map(features, who, "umap")
