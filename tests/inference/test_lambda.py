"""Learnt lambda: the search on systems whose answer is known, and the command with its record."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from fexgan_lit.expression import Expression
from fexgan_lit.inference import weight_search as balance
from fexgan_lit.inference.conditions import Direction, combine
from fexgan_lit.inference.weight_search import Aim, Faces, divergence, read, search, with_shift
from tests.inference.conftest import SMALL_CODE, WHO

K = 3


class Toy:
    """Paints the weights of three affects as the brightness of three channels."""

    device = torch.device("cpu")
    settings = SimpleNamespace(latent_size=K)

    def codes(self, source, shown, asked):
        return torch.zeros(len(source), K)

    def paint_codes(self, codes, asked):
        return (asked.affect + codes)[:, :, None, None].expand(-1, -1, 2, 2)

    def __call__(self, source, shown, asked):
        return self.paint_codes(self.codes(source, shown, asked), asked)


def judge(images):
    """Sees the first affect four times as well as the second, and the third hardly."""
    seen = images.mean((2, 3)) * torch.tensor([4.0, 1.0, 0.0]) - torch.tensor([0.0, 0.0, 9.0])
    return SimpleNamespace(affect_logits=seen, identity_logits=torch.tensor([[0.0, 1.0]]).expand(len(images), -1))


def faces(count: int = 5) -> Faces:
    directions = tuple(Direction(torch.eye(K)[[k] * count]) for k in (0, 1))
    identity = torch.tensor([1] * count)
    return Faces(torch.zeros(count, 3, 2, 2), Expression(), directions, None, None, identity)


def aim(*shares: float) -> Aim:
    return Aim(Toy(), judge, None, torch.tensor(shares))


def test_divergence_is_that_of_kullback_and_leibler():
    uniform = torch.zeros(2, 4)
    assert float(divergence(uniform, torch.tensor([0.5, 0.5, 0, 0]))) == pytest.approx(math.log(2))
    shares = torch.tensor([0.2, 0.3, 0.5])
    assert float(divergence(shares.log().expand(3, -1), shares)) == pytest.approx(0, abs=1e-6)


def test_weights_are_found_for_the_asked_shares():
    torch.manual_seed(0)
    asked = aim(0.25, 0.75, 0.0)
    before = read(asked, faces(), [0, 1], torch.ones(2))
    found = search(asked, faces(), [1.0, 1.0], steps=150, restarts=2, seed=0)
    after = read(asked, faces(), [0, 1], found.weights)
    # 4 a - b = log(1 / 3) is all that the shares ask for
    a, b = found.weights.tolist()
    assert 4 * a - b == pytest.approx(math.log(1 / 3), abs=0.05)
    assert before.shares[0] > 0.9
    assert after.shares == pytest.approx((0.25, 0.75), abs=0.02)
    assert (before.both, after.both) == (0.0, 1.0)
    assert after.divergence < 0.01 < before.divergence
    assert after.kept == 1.0
    assert after.likeness is None


def test_the_same_seed_finds_the_same_weights():
    found = [search(aim(0.5, 0.5, 0.0), faces(), [1.0, 1.0], 10, 2, seed=3).weights for _ in range(2)]
    assert torch.equal(*found)


def test_a_shift_reaches_what_weights_cannot_and_never_makes_it_worse():
    # the third affect has no weight: only a shift of the codes shows it
    asked = aim(0.4, 0.4, 0.2)

    def third_visible(images):
        return SimpleNamespace(affect_logits=images.mean((2, 3)) - torch.tensor([0.0, 0.0, 3.0]))

    asked = Aim(asked.system, third_visible, None, asked.shares, keep_codes=0.0)
    found = search(asked, faces(), [1.0, 1.0], 100, 1, seed=0)
    shifted = with_shift(asked, faces(), found, 200, seed=0)
    assert shifted.loss < 0.2 * found.loss
    assert shifted.shift[2] > 0.3
    kept = with_shift(asked, faces(), found, 0, seed=0)
    assert torch.equal(kept.shift, torch.zeros(K))


def test_likeness_is_part_of_the_loss():
    embed = torch.nn.Module()
    embed.forward = lambda images: torch.nn.functional.normalize(images.mean((2, 3))[:, :2] + 1e-6, dim=1)
    some = faces(2)
    some = Faces(some.images, some.shown, some.directions, None, torch.tensor([[1.0, 0.0]] * 2), some.identity)
    plain = Aim(Toy(), judge, embed, torch.tensor([0.5, 0.5, 0.0]), keep_identity=0.0)
    strict = Aim(Toy(), judge, embed, torch.tensor([0.5, 0.5, 0.0]), keep_identity=2.0)
    weights = torch.tensor([1.0, 1.0])
    cosine = 1 / math.sqrt(2)
    difference = float(strict.loss(some, weights, None) - plain.loss(some, weights, None))
    assert difference == pytest.approx(2 * (1 - cosine), abs=1e-4)


def test_ways_add_up_and_give_gradients():
    directions = [
        Direction(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.0]]), torch.tensor([[[1.0, 0.0]]])),
        Direction(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.6, 0.2]]), torch.tensor([[[0.0, 2.0]]])),
    ]
    weights = torch.tensor([0.5, 1.5], requires_grad=True)
    found = combine(directions, weights, torch.tensor([[[3.0, 3.0]]]))
    assert found.affect.tolist() == [[0.5, 1.5]]
    assert found.aus[0].tolist() == pytest.approx([1.0, 0.3])  # at most 1
    assert found.landmarks.tolist() == [[[3.5, 6.0]]]
    found.landmarks.sum().backward()
    assert weights.grad.tolist() == [1.0, 2.0]


def test_the_door_compares_with_the_papers_and_its_record_makes_blends(generate, runs, quick_judge):
    command = (f"run={runs('fexgan')}", "mode=lambda", "affects=[joy,disgust]", "shares=[1,3]")
    done = generate(*command, "shift=true", "steps=3", "restarts=1", "faces=4")
    assert done.code == 0, done.err
    found = done.record["measured"]["lambda"]
    assert set(found["weights"]) == {"joy", "disgust"}
    assert found["shares"] == {"joy": 0.25, "disgust": 0.75}
    assert "shares sum to 4; they are divided by it" in done.out
    assert len(found["shift"]) == SMALL_CODE
    assert list(found["trials"]) == ["papers", "learnt", "learnt, with shift"]
    assert found["trials"]["papers"]["weights"] == {"joy": 1.0, "disgust": 1.0}
    assert found["trials"]["learnt"]["divergence"] <= found["trials"]["papers"]["divergence"] + 1e-3
    table = (done.folder / "before_and_after.md").read_text()
    assert "faces not used for the search" in table
    assert table.count("| learnt") == 2
    names = {entry["file"].split("/")[-1] for entry in done.record["pictures"]}
    assert names == {"input.png", "joy.png", "disgust.png", "papers.png", "learnt.png", "learnt_with_shift.png"}
    again = generate(
        f"run={runs('fexgan')}",
        "mode=blend",
        f"affects={done.folder / 'generation.json'}",
        f"who={WHO[0]}",
        out="blend",
    )
    assert again.code == 0, again.err
    (made,) = [entry for entry in again.record["pictures"] if entry["asked"]]
    assert made["asked"]["affect"] == pytest.approx(found["weights"])
    one, other = again.folder / made["file"], done.folder / f"faces/{WHO[0]}/learnt_with_shift.png"
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("model", ["ganimation", "landmark_label"])
def test_systems_of_other_kinds_learn_too(generate, runs, quick_judge, model):
    command = (f"run={runs(model)}", "mode=lambda", "affects=[joy,fear]", "steps=2", "restarts=1", "faces=2")
    done = generate(*command)
    assert done.code == 0, done.err
    weights = done.record["measured"]["lambda"]["weights"].values()
    assert any(weight != 1 for weight in weights)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["affects=joy"], "affects=joy: expected two or more"),
        (["affects=[joy,happy]"], "these names mean one affect; expected two or more"),
        (["affects=[joy,fear]", "shares=[1]"], "shares=[1.0]: expected one for each of"),
        (["affects=[joy,fear]", "shares=[1,0]"], "expected numbers above 0"),
        (["affects=[joy,fera]"], "Did you mean 'fear'"),
        (["affects=[joy,fear]", "steps=0"], "steps=0: expected 1 to 100000"),
    ],
)
def test_refused(overrides, message, generate, runs):
    done = generate(f"run={runs('fexgan')}", "mode=lambda", *overrides)
    assert done.code == 2
    assert message in done.err


def test_faces_are_taken_in_batches(monkeypatch):
    monkeypatch.setattr(balance, "_BATCH", 2)
    assert read(aim(0.5, 0.5, 0.0), faces(5), [0, 1], torch.ones(2)).kept == 1.0
