from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.metrics.expression import (
    affect_margin,
    affect_prototypes,
    au_error,
    au_intensity,
    confusion_partners,
    control_linearity,
    decompose,
    f1_per_affect,
    landmark_distances,
    landmark_error,
    mixture_scores,
    strength_follows,
)
from fexgan_lit.utils.errors import UserError
from tests.metrics.faces import AFFECTS, make_frames


def test_f1_by_hand_and_nan_where_never_asked():
    confusion = torch.tensor([[8, 2, 0], [4, 6, 0], [0, 0, 0]])
    first, second, third = f1_per_affect(confusion).tolist()
    assert first == pytest.approx(2 * 8 / (2 * 8 + 4 + 2))
    assert second == pytest.approx(2 * 6 / (2 * 6 + 2 + 4))
    assert np.isnan(third)


def test_f1_of_an_affect_that_is_never_named_is_zero():
    assert f1_per_affect(torch.tensor([[0, 5], [0, 5]])).tolist() == pytest.approx([0.0, 2 / 3])


def test_f1_agrees_with_scikit_learn():
    from sklearn.metrics import confusion_matrix, f1_score

    rng = np.random.default_rng(0)
    asked, named = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    ours = f1_per_affect(torch.from_numpy(confusion_matrix(asked, named)))
    assert ours.numpy() == pytest.approx(f1_score(asked, named, average=None))


def test_action_unit_error_each_and_mean_without_unknown_targets():
    wanted = torch.zeros(3, 17)
    wanted[2, 5] = float("nan")
    measured = torch.zeros(3, 17)
    measured[0, 0], measured[1, 0], measured[2] = 0.5, 0.1, 1.0
    found = au_error(measured, wanted)
    assert list(found.per_unit) == list(ACTION_UNITS)
    assert found.per_unit[1] == pytest.approx(0.3)
    assert found.per_unit[45] == 0.0
    assert found.mean == pytest.approx(0.3 / 17)
    assert (found.n, found.unknown) == (2, 1)
    with pytest.raises(ValueError, match="expected"):
        au_error(measured[:, :16], wanted[:, :16])


def test_no_known_target_gives_nan_not_zero():
    found = au_error(torch.zeros(2, 17), torch.full((2, 17), float("nan")))
    assert np.isnan(found.mean)
    assert (found.n, found.unknown) == (0, 2)


def face_points(eye_distance: float) -> torch.Tensor:
    points = torch.zeros(68, 2)
    points[36, 0], points[45, 0] = -eye_distance / 2, eye_distance / 2
    return points


def test_landmark_error_is_in_eye_distances_of_the_wanted_face():
    wanted = torch.stack([face_points(0.5), face_points(1.0)])
    moved = wanted + torch.tensor([0.03, 0.04])  # every point by 0.05
    assert landmark_distances(moved, wanted).tolist() == pytest.approx([0.1, 0.05])
    assert landmark_error(moved, wanted) == pytest.approx(0.075)
    assert landmark_error(100 * moved, 100 * wanted) == pytest.approx(0.075)  # whatever the unit
    one = wanted.clone()
    one[:, 8, 1] += 0.5
    assert landmark_distances(one, wanted).tolist() == pytest.approx([1 / 68, 0.5 / 68])


def test_faces_without_eye_distance_are_counted():
    with pytest.raises(UserError, match="in 1 of 2 faces"):
        landmark_error(torch.zeros(2, 68, 2), torch.stack([face_points(0.5), face_points(0.0)]))


def test_strength_of_rising_falling_and_crooked_series():
    asked = torch.tensor([[0.0, 0.5, 1.0, 1.5]] * 3)
    measured = torch.tensor([[0.1, 0.2, 5.0, 9.0], [9.0, 5.0, 0.2, 0.1], [1.0, 3.0, 2.0, 4.0]])
    found = strength_follows(asked, measured)
    assert found.per_series.tolist() == pytest.approx([1.0, -1.0, 0.8])  # 1 - 6 * 2 / (4 * 15)
    assert found.rho == pytest.approx(0.8 / 3)
    assert found.flat == 0
    assert strength_follows(asked[0], measured[1]).rho == pytest.approx(-1.0)


def test_strength_agrees_with_scipy_where_ranks_tie():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    asked, measured = rng.integers(0, 4, 30).astype(float), rng.integers(0, 5, 30).astype(float)
    ours = strength_follows(torch.from_numpy(asked), torch.from_numpy(measured)).rho
    assert ours == pytest.approx(spearmanr(asked, measured).statistic)


def test_a_face_that_never_changes_does_not_follow():
    asked = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    found = strength_follows(asked, torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]))
    assert (found.rho, found.flat) == (0.5, 1)
    with pytest.raises(ValueError, match="single target strength"):
        strength_follows(torch.ones(3), torch.arange(3.0))
    with pytest.raises(ValueError, match="L >= 3"):
        strength_follows(torch.arange(2.0), torch.arange(2.0))


def frames_with_units(intensity: np.ndarray | None = None):
    """Neutral rests at 0.1 in the first unit; each other affect adds its own unit."""
    frames = make_frames(2, intensity=intensity)
    aus = np.zeros((len(frames), 17), np.float32)
    aus[:, 0] = 0.1
    for k in (0, 2, 3):
        aus[frames.affect == k, k + 3] = 0.8
    return replace(frames, aus=aus)


def test_prototypes_are_what_an_affect_adds_to_neutral():
    rest, directions = affect_prototypes(frames_with_units())
    assert rest[0].item() == pytest.approx(0.1)
    assert rest[1:].abs().max() == 0
    assert directions[0, 3].item() == pytest.approx(0.8)
    assert directions[0].abs().sum().item() == pytest.approx(0.8)
    assert (directions[AFFECTS.index("neutral")] == 0).all()


def test_prototypes_leave_out_frames_whose_affect_does_not_show():
    intensity = np.ones(24, np.float32)
    frames = frames_with_units(intensity)
    weak = np.flatnonzero(frames.affect == 2)[:3]
    intensity[weak] = 0.1
    frames.aus[weak] = 0.0
    assert affect_prototypes(frames)[1][2, 5].item() == pytest.approx(0.8)
    with pytest.raises(ValueError, match="action units"):
        affect_prototypes(make_frames(1))


def test_intensity_is_zero_at_rest_one_at_the_prototype_and_linear_between():
    rest, direction = torch.zeros(17), torch.zeros(17)
    rest[0], direction[3], direction[4] = 0.1, 0.6, 0.8
    levels = torch.tensor([0.0, 0.25, 1.0, 1.2])
    aus = rest + levels[:, None] * direction
    assert au_intensity(aus, rest, direction).tolist() == pytest.approx(levels.tolist())
    across = rest.clone()
    across[7] = 1.0  # another unit adds nothing
    assert au_intensity(across[None], rest, direction).item() == pytest.approx(0.0)
    assert au_intensity(aus, rest, torch.zeros(17)).isnan().all()


def test_margin_is_the_lead_over_the_best_other_affect():
    logits = torch.tensor([[2.0, 5.0, 1.0], [40.0, 3.0, 3.5], [41.0, 3.0, 3.5]])
    margins = affect_margin(logits, torch.tensor([0, 0, 0]))
    assert margins.tolist() == pytest.approx([-3.0, 36.5, 37.5])  # where probabilities are both 1


def test_linearity_by_hand_a_line_its_mirror_and_no_change():
    levels = torch.tensor([0.0, 0.5, 1.0])
    ramps = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.5, 0.1], [0.4, 0.4, 0.4], [0.0, 0.0, 1.0]])
    found = control_linearity(levels, ramps).tolist()
    assert found[:3] == pytest.approx([1.0, -1.0, 0.0])
    assert found[3] == pytest.approx(3**0.5 / 2), "a jump at the end keeps the order but is no line"
    noise = 0.4 + torch.tensor([[0.0, 1e-8, 2e-8]])
    assert control_linearity(levels, noise).item() == 0.0, "the noise of float32 is no change"


@pytest.mark.parametrize(
    ("levels", "ramps", "words"),
    [
        (torch.tensor([0.0, 1.0]), torch.zeros(2, 2), "L >= 3"),
        (torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[0.0, torch.nan, 1.0]]), "finite"),
        (torch.tensor([0.0, 0.5, 1.0]), torch.zeros(3), "L >= 3"),
    ],
)
def test_ramps_that_cannot_be_compared(levels, ramps, words):
    with pytest.raises(ValueError, match=words):
        control_linearity(levels, ramps)


def test_a_face_is_taken_apart_into_affects_that_are_never_negative():
    prototypes = torch.zeros(2, 17)
    prototypes[0, 0], prototypes[1, 1], prototypes[1, 2] = 1.0, 0.6, 0.8
    mixed = 0.25 * prototypes[0] + 0.5 * prototypes[1]
    against = -0.5 * prototypes[0] + 1.0 * prototypes[1]
    unknown = mixed.clone()
    unknown[2] = torch.nan
    found = decompose(torch.stack([mixed, against, unknown]), prototypes)
    assert found[0].tolist() == pytest.approx([0.25, 0.5])
    assert found[1].tolist() == pytest.approx([0.0, 1.0])
    assert found[2].tolist() == pytest.approx([0.25, 0.5]), "a unit that the judge does not read is left out"


def test_mixtures_by_hand():
    true = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).double().repeat(4, 1)
    measured = torch.tensor([
        [0.4, 0.4, 0.1, 0.0],  # both, as asked
        [0.9, 0.3, 0.1, 0.0],  # both, at 3 : 1
        [0.9, 0.1, 0.3, 0.0],  # another affect is stronger than the second
        [0.9, 0.05, 0.0, 0.0],  # the second is hardly there
    ]).double()  # fmt: skip
    seen, error = mixture_scores(measured, true, true > 0)
    assert seen.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert error.tolist() == pytest.approx([0.0, 0.25, 0.4, 0.9 / 0.95 - 0.5])
    three = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).double()
    seen, error = mixture_scores(torch.tensor([[0.6, 0.0, 0.6, 0.0]]).double(), three, three > 0)
    assert (seen.item(), error.item()) == (0.0, pytest.approx((1 / 6 + 1 / 3 + 1 / 6) / 3))


def test_affects_are_mistaken_for_the_partners_that_the_data_have():
    assert confusion_partners(("anger", "disgust", "fear", "joy", "surprise")).tolist() == [1, 0, 4, -1, 2]
    assert confusion_partners(("anger", "fear", "joy")).tolist() == [-1, -1, -1]
