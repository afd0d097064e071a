"""Scorers on hand-made answers: what they say of errors, verdicts, people and strength is known beforehand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.evaluation import strength
from fexgan_lit.evaluation.people import People, SourceEmbeddings
from fexgan_lit.evaluation.verdicts import Discriminator, Geometry, Verdicts
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.measure import AffectGrid
from fexgan_lit.systems.base import Outcome

K = 3


def batch(target: list[int], identity: list[int], **known) -> PairBatch:
    B = len(target)
    rows = torch.arange(B)
    images = torch.zeros(B, 3, 8, 8)
    return PairBatch(
        images, images, torch.zeros(B).long(), torch.tensor(target), torch.tensor(identity), rows, rows, **known
    )


def outcome(real: list[float], fake: list[float], affect: torch.Tensor | None, calibrated: bool = True) -> Outcome:
    B = len(real)
    return Outcome(torch.zeros(B, 3, 8, 8), torch.tensor(real), affect, torch.tensor(fake), affect, calibrated)


def test_the_discriminators_columns_are_the_papers():
    scorer = Discriminator("here")
    says = torch.eye(K)[[0, 0, 2]]  # sources show 0; asked are 0, 1, 2
    made = outcome([1.0, -1.0, 2.0], [-1.0, 0.0, 3.0], says)
    scorer.update(batch([0, 1, 2], [0, 0, 0]), made.generated, made)
    means = {name: column.mean() for name, column in scorer.columns().items()}
    assert means == pytest.approx(
        {"d_real_binary": 2 / 3, "d_fake_binary": 2 / 3, "d_real_affect": 2 / 3, "d_fake_affect": 2 / 3}
    )
    assert set(scorer.recipes()) == set(means)


def test_a_critic_has_no_binary_columns_and_says_why():
    scorer = Discriminator("here")
    made = outcome([1.0, 1.0], [1.0, 1.0], torch.eye(K)[[0, 1]], calibrated=False)
    scorer.update(batch([0, 1], [0, 0]), made.generated, made)
    assert set(scorer.columns()) == {"d_real_affect", "d_fake_affect"}
    assert "no threshold" in scorer.notes()["discriminator"]
    untouched = Discriminator("here")
    untouched.update(batch([0], [0]), torch.zeros(1, 3, 8, 8), None)
    assert untouched.columns() == {}


def test_verdicts_count_confusions_by_what_was_asked():
    reading = SimpleNamespace(affect=torch.tensor([0, 0, 2, 2]))
    judge = SimpleNamespace(affects=("a", "b", "c"), read=lambda _: reading, describe=lambda: "a stub")
    scorer = Verdicts(judge, "here")
    scorer.update(batch([0, 1, 2, 2], [0, 0, 1, 1]), torch.zeros(4, 3, 8, 8), None)
    assert scorer.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 2]]
    assert scorer.columns()["affect_as_asked"].tolist() == [1, 0, 1, 1]
    assert "identity_kept" not in scorer.columns(), "this judge knows no identities"
    assert scorer.numbers() == pytest.approx({"macro_f1": (2 / 3 + 0 + 1) / 3, "f1_a": 2 / 3, "f1_b": 0, "f1_c": 1})
    silent = Verdicts(judge, "here")
    assert silent.numbers() == {}, "nothing was asked for"


def test_geometry_measures_in_units_and_eye_distances():
    aus = torch.full((2, 17), 0.5)
    points = torch.zeros(2, 68, 2)
    points[:, 36, 0], points[:, 45, 0] = -0.25, 0.25  # half a unit between the outer eye corners
    read = aus + 0.1
    read[0, 3] = torch.nan  # a unit the judge does not know
    read[1] = aus[1] - 0.3
    judges = SimpleNamespace(
        aus=lambda _: read, landmarks=lambda _: points + torch.tensor([0.05, 0.0]), units=None,
        geometry=SimpleNamespace(describe=lambda: "a stub"),
    )  # fmt: skip
    scorer = Geometry(judges, "here")
    scorer.update(batch([0, 1], [0, 0], target_aus=aus, target_landmarks=points), torch.zeros(2, 3, 8, 8), None)
    columns = scorer.columns()
    assert columns["au_error"] == pytest.approx([0.1, 0.3])
    assert columns["landmark_error"] == pytest.approx([0.1, 0.1])
    assert scorer.unit_errors[1] == pytest.approx(0.2)
    assert scorer.unit_errors[5] == pytest.approx(0.3), "the fourth unit is known of the second face alone"


def test_people_are_recognised_from_untouched_frames():
    frames = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
    made = torch.tensor([[1.0, 0.1], [1.0, 0.2]])  # the second person now looks like the first
    judge = SimpleNamespace(embed=lambda images: made, describe=lambda: "a stub")
    sources = SourceEmbeddings(judge, frames, np.array([0, 1]), torch.tensor([0, 1, 0, 1]))
    scorer = People(sources, "here")
    pairs = batch([0, 0], [0, 1])
    pairs.source_row = torch.tensor([2, 3])
    scorer.update(pairs, torch.zeros(2, 3, 8, 8), None)
    assert scorer.columns()["rank1"].tolist() == [1, 0]
    cosines = torch.nn.functional.cosine_similarity(made, frames[[2, 3]])
    assert scorer.columns()["identity_cosine"] == pytest.approx(cosines.tolist())
    assert "tar_far01" not in scorer.numbers()
    assert "impostor pairs" in scorer.notes()["tar_far01"]


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
    monkeypatch.setattr("fexgan_lit.metrics.measure.affect_grid", lambda system, frames: grid)
    ground = SimpleNamespace(data=SimpleNamespace(affects=affects, train=SimpleNamespace(aus=None)), frames=None)

    judges = SimpleNamespace(aus=lambda _: None, affect_logits=lambda faces: faces.mean((1, 2, 3)))
    monkeypatch.setattr(strength, "affect_margin", lambda brightness, affect: brightness)
    found = strength.measure_strength(SimpleNamespace(system=Brightness(sign)), ground, judges)
    assert found is not None
    assert found.rho == pytest.approx(rho)
    assert found.flat == flat
    assert set(found.by_affect) == {"joy", "fear"}, "neutral has no strength"
