"""Tuning on a handful of images: what is learnt, what is kept, and the run folder that comes of it."""

from __future__ import annotations

import copy
from itertools import repeat

import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.data.pairs import FixedPairLoader, fixed_pairs
from fexgan_lit.expression import AFFECTS, Expression
from fexgan_lit.inference.finetuning import NEW, FinetuneSet, TuningRecipe, _split, reconstruction, tunable, tune
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.weights import load_system
from fexgan_lit.utils.errors import UserError
from tests.inference.conftest import WHO
from tests.inference.opened import shown_frames


def handful() -> FinetuneSet:
    """Four red faces of somebody new, of which three are learnt from."""
    images = torch.tensor([0.8, -0.6, -0.6])[:, None, None].expand(4, 3, 32, 32).clone()
    shown = Expression.blend({"joy": 1}, AFFECTS, 4)
    names = tuple("abcd")
    pools = {NEW: (images[:3], Expression(affect=shown.affect[:3]))}
    return FinetuneSet(names, images, shown, (NEW,) * 4, torch.tensor([0, 1, 2]), torch.tensor([3]), pools)


def old_batch(run):
    frames = shown_frames(run)
    return next(iter(FixedPairLoader(frames, fixed_pairs(frames, 0, 8), 8, 32)))


def losses(system, batch, some):
    K = len(AFFECTS)
    with torch.no_grad():
        new = reconstruction(system, *some.pairs(some.held_out))
        kept = reconstruction(
            system, batch.source, batch.source_expression(K), batch.target, batch.target_expression(K)
        )
    return float(new), float(kept)


def test_the_handful_is_learnt_and_the_old_faces_are_kept(runs):
    run = runs("fexgan")
    batch, some, start = old_batch(run), handful(), load_system(run)
    before = losses(start, batch, some)
    after = {}
    for keep in (0.0, 1.0):
        system = load_system(run)
        parts = tunable(system, None)
        assert list(parts) == ["decoder"]
        history = tune(system, list(parts.values()), some, repeat(batch), TuningRecipe(40, 5e-3, keep), seed=0)
        assert len(history) == 40
        after[keep] = losses(system, batch, some)
        moved = {
            name: any(not torch.equal(a, b) for a, b in zip(p.parameters(), q.parameters(), strict=True))
            for (name, p), q in zip(
                system.saved_modules().items(), start.saved_modules().values(), strict=True
            ) if name != "prior"
        }  # fmt: skip
        assert moved == {"encoder": False, "decoder": True, "discriminator": False}
        assert not any(weight.requires_grad for weight in system.average.parameters())
    assert after[0.0][0] < 0.5 * before[0]
    assert after[1.0][0] < 0.8 * before[0]
    assert after[1.0][1] < after[0.0][1]  # what was kept in view is painted better


def test_only_networks_that_make_faces_can_be_tuned(runs):
    system = load_system(runs("fexgan"))
    assert list(tunable(system, ["encoder", "decoder"])) == ["encoder", "decoder"]
    assert list(tunable(load_system(runs("ganimation")), None)) == ["generator"]
    with pytest.raises(UserError, match=r"networks=\['discriminator'\]: expected some of encoder, decoder"):
        tunable(system, ["discriminator"])


def test_norms_keep_their_statistics(runs):
    system = load_system(runs("fexgan"))
    before = copy.deepcopy(dict(system.average.named_buffers()))
    tune(system, [system.average.decoder], handful(), repeat(old_batch(runs("fexgan"))), TuningRecipe(3, 1e-2), seed=0)
    for name, value in system.average.named_buffers():
        assert torch.equal(value, before[name]), name


def test_every_person_with_three_images_gives_some_up():
    learnt, held = _split(["a"] * 8 + ["b"] * 2 + ["c"] * 3, 0.25, seed=0)
    assert sorted([*learnt.tolist(), *held.tolist()]) == list(range(13))
    assert len([i for i in held if i < 8]) == 2
    assert len([i for i in held if 8 <= i < 10]) == 0
    assert len([i for i in held if i >= 10]) == 1


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    words = ["joy", "joy", "neutral", "neutral", "fear"]
    for i, _ in enumerate(words):
        Image.fromarray(np.full((40, 40, 3), (200, 30 * i, 60), np.uint8)).save(folder / f"{i}.png")
    rows = [f"{i}.png,{word},{WHO[0] if i < 3 else 'ida'}" for i, word in enumerate(words)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,affect,identity", *rows]) + "\n")
    return folder


def test_the_tuned_run_is_one_that_doors_take(generate, runs, images, tmp_path):
    command = (f"run={runs('fexgan')}", "mode=tune", f"images={images}", f"annotations={tmp_path / 'labels.csv'}")
    done = generate(*command, "steps=4", "networks=[encoder,decoder]")
    assert done.code == 0, done.err
    assert f"4 images of {WHO[0]}, ida for training, 1 for metrics; tuned networks: encoder and decoder" in done.out
    numbers = done.record["measured"]["tuning"]
    assert set(numbers["held-out_images_of_the_handful"]) == {"before", "after"}
    assert numbers["the_run's_own_data"]["before"]["ssim"] <= 1
    assert {"handful.png", "old.png", "affects.png", "before_and_after.md", "run"} <= set(done.record["files"])
    run = RunFolder.at(done.folder / "run")
    config = run.read_config()
    assert config.tuned["from"] == str(runs("fexgan"))
    assert config.tuned.networks == ["encoder", "decoder"]
    tuned, before = load_system(run.path), load_system(runs("fexgan"))
    face = torch.zeros(1, 3, 32, 32)
    asked = Expression.blend({"joy": 1}, AFFECTS)
    assert not torch.equal(tuned.synthesize(face, None, asked), before.synthesize(face, None, asked))
    assert torch.equal(tuned.prior.means, before.prior.means)
    again = generate(f"run={run.path}", "affects=joy", out="again")
    assert again.code == 0, again.err


def test_a_complex_expression_is_said_for_all_images(generate, runs, images):
    command = (f"run={runs('fexgan')}", "mode=tune", f"images={images}", "steps=2", f"person={WHO[1]}", "held_out=0")
    done = generate(*command, "affect={anger: 1, sadness: 0.5}")
    assert done.code == 0, done.err
    assert "too few for a held-out set" in done.out
    assert "5 images of tariq for training" in done.out
    assert "cast.png" in done.record["files"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "mode=tune: images=DIR is missing"),
        (["images=IMAGES"], "the affects of the images are unknown. Give affect=joy"),
        (["images=IMAGES", "affect=joi"], "Did you mean 'joy'"),
        (["images=IMAGES", "affect={AU12: 1}"], "affect={'AU12': 1}: expected an affect, or weights"),
        (["images=IMAGES", "affect=joy", "held_out=1"], "held_out=1.0: expected a share in 0..1"),
        (["images=IMAGES", "affect=joy", "networks=[prior]"], "expected some of encoder, decoder"),
    ],
)
def test_refused(overrides, message, generate, runs, images):
    done = generate(f"run={runs('fexgan')}", "mode=tune", *(o.replace("IMAGES", str(images)) for o in overrides))
    assert done.code == 2
    assert message in done.err
