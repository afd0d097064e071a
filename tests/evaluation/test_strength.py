"""Whether the shown strength follows the asked one, of systems where it is known beforehand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

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
    assert set(found.by_affect) == {"joy", "fear"}, "neutral has no strength"
