"""Whether the shown strength follows the asked one, of systems where it is known beforehand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fexgan_lit.evaluation.measure import Scores
from fexgan_lit.evaluation.protocols import quality as strength
from fexgan_lit.expression import Expression
from fexgan_lit.systems.grids import AffectGrid


class Brightness:
    """A system whose faces are as bright as the strength that is asked for, to a power."""

    device = torch.device("cpu")

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def synthesize(self, source: torch.Tensor, shown: Expression, wanted: Expression) -> torch.Tensor:
        return source + self.sign * wanted.affect.sum(1).view(-1, 1, 1, 1) ** 2


@pytest.mark.parametrize(("sign", "rho", "flat"), [(1.0, 1.0, 0), (-1.0, -1.0, 0), (0.0, 0.0, 4)])
def test_strength_follows_or_does_not(monkeypatch, sign, rho, flat):
    affects = ("joy", "fear", "neutral")
    references = torch.zeros(2, 3, 4, 4)
    shown = Expression.of_affects([2, 2], 3)
    wanted = tuple(Expression.of_affects([k, k], 3) for k in range(3))
    grid = AffectGrid(
        ("a", "b"), references, torch.tensor([2, 2]), references[:, None], references[:, None], shown, wanted
    )
    monkeypatch.setattr("fexgan_lit.systems.grids.affect_grid", lambda system, frames: grid)
    test_set = SimpleNamespace(data=SimpleNamespace(affects=affects, train=SimpleNamespace(aus=None)), frames=None)

    judges = SimpleNamespace(aus=lambda _: None, affect_logits=lambda faces: faces.mean((1, 2, 3)))
    monkeypatch.setattr(strength, "affect_margin", lambda brightness, affect: brightness)
    found = strength.measure_strength(SimpleNamespace(system=Brightness(sign)), test_set, judges)
    assert found is not None
    assert found.rho == pytest.approx(rho)
    assert found.flat == flat
    squares = torch.tensor(strength.ASKED) ** 2
    line = sign * float(torch.corrcoef(torch.stack([torch.tensor(strength.ASKED), squares]))[0, 1])
    assert found.linearity == pytest.approx(line), "a square keeps the order but is no line"
    assert set(found.by_affect) == {"joy", "fear"}, "neutral has no strength"


def test_harmonic_mean_by_hand_of_the_terms_that_every_system_has():
    def scores(name: str, run: str | None, **numbers: float) -> Scores:
        return Scores(name, numbers=numbers, run=run)

    both = {"judge_affect_accuracy": 0.5, "identity_cosine": 1.0}
    ceiling = scores("ceiling", None, **both, sharpness=1.0)
    a = scores("a", "x", **both, control_linearity=0.5, sharpness=2.0)
    b = scores("b", "y", **both, control_linearity=-0.2, sharpness=0.5)
    strength.add_harmonic_means([ceiling, a, b])
    assert a.numbers["harmonic_mean"] == pytest.approx(4 / (2 + 1 + 2 + 2)), "twice as sharp is as far as half"
    assert b.numbers["harmonic_mean"] == 0.0, "a strength that goes the wrong way counts as 0"
    assert ceiling.numbers["harmonic_mean"] == pytest.approx(3 / (2 + 1 + 1)), "nobody asks it for a strength"
    c = scores("c", "z", **both, control_linearity=0.5)
    strength.add_harmonic_means([a, c])
    assert a.numbers["harmonic_mean"] == c.numbers["harmonic_mean"] == pytest.approx(3 / (2 + 1 + 2))
