from __future__ import annotations

import pytest
import torch

from fexgan_lit.metrics.calibration import calibration


def sure_by(confidence: float, right: int, wrong: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three-class answers of one confidence, `right` of which are right."""
    row = [confidence, (1 - confidence) / 2, (1 - confidence) / 2]
    return torch.tensor([row] * (right + wrong), dtype=torch.float64), torch.tensor([0] * right + [1] * wrong)


def joined(*parts: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = zip(*parts, strict=True)
    return torch.cat(first), torch.cat(second)


def test_a_perfectly_calibrated_judge_has_no_error():
    found = calibration(*joined(sure_by(0.9, 9, 1), sure_by(0.7, 7, 3)))
    assert found.ece == pytest.approx(0.0, abs=1e-6)
    assert found.accuracy == pytest.approx(0.8)
    assert found.n == 20


def test_error_and_brier_score_by_hand():
    found = calibration(*joined(sure_by(0.9, 5, 5), sure_by(0.5, 10, 0)))
    assert found.ece == pytest.approx(0.5 * 0.4 + 0.5 * 0.5)
    right, wrong, unsure = 0.1**2 + 2 * 0.05**2, 0.9**2 + 0.95**2 + 0.05**2, 0.5**2 + 2 * 0.25**2
    assert found.brier == pytest.approx((5 * right + 5 * wrong + 10 * unsure) / 20)


def test_over_and_under_confidence_are_told_apart():
    assert "too sure" in calibration(*sure_by(0.9, 5, 5)).describe()
    assert "not sure enough" in calibration(*sure_by(0.6, 10, 0)).describe()


def test_sure_and_right_is_perfect_sure_and_wrong_the_worst():
    p = torch.eye(3)
    best, worst = calibration(p, torch.arange(3)), calibration(p, torch.tensor([1, 2, 0]))
    assert (best.ece, best.brier) == pytest.approx((0.0, 0.0))
    assert (worst.ece, worst.brier) == pytest.approx((1.0, 2.0))


@pytest.mark.parametrize("p", [torch.tensor([[2.0, -1.0]]), torch.tensor([[0.7, 0.7]]), torch.zeros(0, 2)])
def test_logits_are_refused(p):
    with pytest.raises(ValueError, match="probabilities"):
        calibration(p, torch.zeros(len(p), dtype=torch.long))
