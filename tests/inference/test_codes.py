"""Random faces, blends with learnt shifts, and ways between codes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import AFFECTS, COMPLEX_PAIRS, Expression
from fexgan_lit.inference.faces import from_frames
from fexgan_lit.inference.modes.blend import read_blends
from fexgan_lit.inference.modes.interpolate import mixed
from fexgan_lit.runs.weights import load_system
from fexgan_lit.utils.errors import UserError
from tests.inference.conftest import SMALL_CODE, WHO
from tests.inference.opened import shown_frames


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


# ---------------------------------------------------------------------- random faces


def test_random_faces_are_dealt_in_turn_and_follow_the_seed(generate, runs):
    command = (f"run={runs('fexgan')}", "mode=random", "n=5", "affects=[joy,fear]")
    first = generate(*command, "seed=1", out="first")
    assert first.code == 0, first.err
    asked = [entry["asked"]["affect"] for entry in first.record["pictures"]]
    assert asked == [{"joy": 1.0}, {"fear": 1.0}, {"joy": 1.0}, {"fear": 1.0}, {"joy": 1.0}]
    assert first.record["sources"] == []
    again = generate(*command, "seed=1", "batch_size=2", out="again")
    other = generate(*command, "seed=2", out="other")
    normal = generate(*command, "seed=1", "prior=normal", out="normal")
    for entry in first.record["pictures"]:
        data = (first.folder / entry["file"]).read_bytes()
        assert (again.folder / entry["file"]).read_bytes() == data
        assert (other.folder / entry["file"]).read_bytes() != data
        assert (normal.folder / entry["file"]).read_bytes() != data


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        ("ganimation", ["mode=random"], "ganimation has no prior; it changes given faces"),
        ("fexgan", ["mode=random", "n=0"], "n=0: expected 1 to 100000 faces"),
        ("fexgan", ["mode=random", "prior=uniform"], "prior=uniform: expected one of fitted, normal"),
        ("ganimation", ["mode=interpolate", "between=identities"], "ganimation has no latent codes; it changes pixels"),
        ("fexgan", ["mode=interpolate", "between=identities", f"who={WHO[0]}"], "found one face (nora); expected two"),
        ("fexgan", ["mode=interpolate", "between=people"], "between=people: expected one of expressions, identities"),
        ("fexgan", ["mode=interpolate", "end=joy", "path=slerp"], "expected between=identities or latents"),
    ],
)
def test_what_a_run_cannot_do_is_said(model, overrides, message, generate, runs):
    done = generate(f"run={runs(model)}", *overrides)
    assert done.code == 2
    assert message in done.err


# ---------------------------------------------------------------------- ways between codes


def test_lerp_is_straight_and_slerp_an_arc():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    torch.testing.assert_close(mixed(a, b, 0.5, "lerp"), torch.tensor([[1.0, 2.0]]))
    # halfway between the axes, as long as the mean of the lengths
    side = 3 / math.sqrt(2)
    torch.testing.assert_close(mixed(a, b, 0.5, "slerp"), torch.tensor([[side, side]]))
    for path in ("lerp", "slerp"):
        torch.testing.assert_close(mixed(a, b, 0.0, path), a)
        torch.testing.assert_close(mixed(a, b, 1.0, path), b)
    # parallel codes have no arc, and no length no direction
    torch.testing.assert_close(mixed(a, 3 * a, 0.5, "slerp"), 2 * a)
    torch.testing.assert_close(mixed(a, 0 * a, 0.5, "slerp"), a / 2)


def test_a_third_of_an_arc():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    expected = torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])
    torch.testing.assert_close(mixed(a, b, 1 / 3, "slerp"), expected)


def test_the_ends_between_identities_are_the_faces_themselves(generate, runs):
    done = generate(
        f"run={runs('fexgan')}", "mode=interpolate", "between=identities", "start=joy", "end=fear", "steps=3"
    )
    assert done.code == 0, done.err
    system = load_system(runs("fexgan"))
    faces = from_frames(shown_frames(runs("fexgan")), 32, "").images
    folder = done.folder / f"faces/{WHO[0]}_to_{WHO[1]}"
    for step, face, affect in ((0, 0, "joy"), (2, 1, "fear")):
        wanted = Expression.blend({affect: 1}, AFFECTS)
        alone = to_uint8(system.synthesize(faces[face : face + 1], None, wanted))[0]
        np.testing.assert_allclose(pixels(folder / f"step_{step:02d}.png").astype(int), alone.astype(int), atol=1)
    assert done.asked("step_01")["affect"] == {"fear": 0.5, "joy": 0.5}


def test_ways_between_latents(generate, runs):
    command = (f"run={runs('fexgan')}", "mode=interpolate", "between=latents", "n=2", "steps=3", "prior=normal")
    done = generate(*command, "end=joy")
    assert done.code == 0, done.err
    assert "interpolated by slerp" in done.out
    system = load_system(runs("fexgan"))
    drawn = torch.randn(4, SMALL_CODE, generator=torch.Generator().manual_seed(0))
    last = system.paint_codes(drawn[2:], Expression.blend({"joy": 1}, AFFECTS, 2)).detach()
    for way in range(2):
        found = pixels(done.folder / f"faces/way_{way + 1}/step_02.png")
        np.testing.assert_allclose(found.astype(int), to_uint8(last[way : way + 1])[0].astype(int), atol=1)


# ---------------------------------------------------------------------- blends


def test_what_affects_can_be():
    pairs = [found.weights for found in read_blends("complex", AFFECTS)]
    assert pairs == [dict.fromkeys(pair, 1.0) for pair in COMPLEX_PAIRS]
    one, two = read_blends([{"angry": 0.6, "sadness": 0.8}, {"joy": 1}], AFFECTS)
    assert one.weights == {"anger": 0.6, "sadness": 0.8}
    assert two.times(0.5).weights == {"joy": 0.5}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("joy", "expected weights such as"),
        ({"joi": 1}, "Did you mean 'joy'"),
        ({"joy": -1}, "joy is -1, expected a number, 0 to 10"),
        ({"AU12": 1}, "expected affects, not action units"),
        ({"joy": 0}, "all weights are 0"),
        ([], "expected weights such as"),
        ("/no/such.json", "no such file"),
    ],
)
def test_what_affects_cannot_be(value, message):
    with pytest.raises(UserError, match=message):
        read_blends(value, AFFECTS)


def test_a_run_without_the_papers_affects_has_no_complex_pairs():
    with pytest.raises(UserError, match="none of the papers' pairs is in this run"):
        read_blends("complex", ("joy", "neutral"))


def test_blends_are_painted_with_their_weights_and_learnt_shift(generate, runs, tmp_path):
    system = load_system(runs("fexgan"))
    learnt = {"weights": {"joy": 0.5, "disgust": 1.25}, "shift": [0.7] * SMALL_CODE}
    (tmp_path / "generation.json").write_text(json.dumps({"measured": {"lambda": learnt}}))
    done = generate(f"run={runs('fexgan')}", "mode=blend", f"affects={tmp_path / 'generation.json'}", f"who={WHO[0]}")
    assert done.code == 0, done.err
    (made,) = [entry for entry in done.record["pictures"] if entry["asked"]]
    assert made["asked"]["affect"] == {"disgust": 1.25, "joy": 0.5}
    assert made["beyond_training"] is True
    face = from_frames(shown_frames(runs("fexgan")), 32, "").images[:1]
    wanted = Expression.blend(learnt["weights"], AFFECTS)
    with torch.no_grad():
        expected = system.paint_codes(system.codes(face, None, wanted) + 0.7, wanted)
    assert np.abs(pixels(done.folder / made["file"]).astype(int) - to_uint8(expected)[0]).max() <= 1
    assert np.abs(to_uint8(system.synthesize(face, None, wanted))[0].astype(int) - to_uint8(expected)[0]).max() > 1


def test_a_shift_of_another_length_is_refused(generate, runs, tmp_path):
    learnt = {"weights": {"joy": 1}, "shift": [0.0] * (SMALL_CODE + 1)}
    (tmp_path / "generation.json").write_text(json.dumps({"measured": {"lambda": learnt}}))
    done = generate(f"run={runs('fexgan')}", "mode=blend", f"affects={tmp_path / 'generation.json'}")
    assert done.code == 2
    assert f"learnt with a shift of {SMALL_CODE + 1} numbers" in done.err
