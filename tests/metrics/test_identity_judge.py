from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fexgan_lit.metrics.judges.identity import (
    IdentityRecipe,
    can_tell_people,
    gallery_and_probes,
    load_or_train_identity_judge,
    margin_loss,
    recognise,
    train_identity_judge,
)
from tests.metrics.faces import AFFECTS, make_frames

SMALL = IdentityRecipe(
    working_size=32, widths=(8, 16, 16, 32), min_images=960, max_images=960, batch_size=32, embedding_size=8
)
BRIEF = replace(SMALL, min_images=96, max_images=96)


def of_people(frames, *people: int):
    """The frames of these people only, with everybody's names."""
    kept = np.isin(frames.identity, people)
    return replace(frames, rows=frames.rows[kept], affect=frames.affect[kept], identity=frames.identity[kept])


@pytest.fixture(scope="module")
def identity():
    return train_identity_judge(make_frames(6), make_frames(3, seed=1), image_size=32, recipe=SMALL)


def test_embeds_people_apart_whatever_they_express(identity):
    frames = make_frames(2, seed=7)
    embeddings = identity.embed(frames.floats(np.arange(len(frames)), 32), batch_size=5)
    assert embeddings.shape == (24, 8)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(24))
    cosines = embeddings @ embeddings.mT
    who = torch.from_numpy(frames.identity)
    same = who[:, None] == who[None]
    assert cosines[same].min() > cosines[~same].max()


def test_says_how_well_it_recognises_true_frames(identity):
    assert identity.rank1 == 1.0
    assert identity.n_gallery == 3  # the first neutral frame of each person
    assert identity.n_held_out == 27  # three people, three other affects, three frames
    assert identity.impostors == 54
    assert identity.tar == {"0.01": None, "0.001": None}  # 54 pairs cannot show a hundredth
    assert "TAR at FAR 1.0% not measurable" in identity.describe()
    assert identity.people == ("ada", "ben", "cy")


def test_people_it_never_saw_are_counted():
    train, held_out = of_people(make_frames(4), 0, 1), make_frames(2, seed=1)
    judge = train_identity_judge(train, held_out, image_size=32, recipe=BRIEF)
    assert judge.people == ("ada", "ben")
    assert judge.strangers == 1
    assert "1 of their people outside its training" in judge.describe()


def test_one_person_cannot_be_told_from_nobody():
    alone = of_people(make_frames(2), 1)
    assert not can_tell_people(alone)
    with pytest.raises(ValueError, match="two people"):
        train_identity_judge(alone, None, image_size=32)
    judge = train_identity_judge(make_frames(1), alone, image_size=32, recipe=BRIEF)
    assert judge.rank1 is None
    assert "unknown" in judge.describe()


def test_margin_loss_by_hand():
    cosines, person = torch.tensor([[0.9, 0.1]], dtype=torch.float64), torch.tensor([0])
    plain = torch.log1p(torch.exp(torch.tensor(4 * (0.1 - 0.9), dtype=torch.float64)))
    margined = torch.log1p(torch.exp(torch.tensor(4 * (0.1 - 0.7), dtype=torch.float64)))
    assert margin_loss(cosines, person, scale=4, margin=0.0).item() == pytest.approx(plain.item())
    assert margin_loss(cosines, person, scale=4, margin=0.2).item() == pytest.approx(margined.item())


def test_gallery_is_neutral_probes_are_not():
    frames = make_frames(4)
    neutral = AFFECTS.index("neutral")
    takes = np.tile([0, 0, 1, 1], 12)
    gallery, probes = gallery_and_probes(replace(frames, take=takes))
    assert (frames.affect[gallery] == neutral).all()
    assert (frames.affect[probes] != neutral).all()
    assert len(gallery) == 6  # one of each take of each person
    assert len(probes) == 36
    assert len(gallery_and_probes(frames, most_probes=10)[1]) == 10


def test_who_has_no_neutral_frame_is_recognised_by_another():
    frames = make_frames(2)
    expressive = frames.affect != AFFECTS.index("neutral")
    kept = {name: getattr(frames, name)[expressive] for name in ("rows", "affect", "identity")}
    gallery, probes = gallery_and_probes(replace(frames, **kept))
    assert (kept["affect"][gallery] == 0).all()
    assert set(kept["affect"][probes].tolist()) == {2, 3}
    one_affect = frames.affect == 0
    only = replace(frames, **{name: getattr(frames, name)[one_affect] for name in ("rows", "affect", "identity")})
    assert [len(rows) for rows in gallery_and_probes(only)] == [0, 0]


def test_an_embedding_that_knows_nothing_recognises_at_chance():
    class Noise:
        generator = torch.Generator().manual_seed(0)

        def embed(self, images, batch_size=256):
            return torch.randn(len(images), 32, generator=self.generator)

    found = recognise(Noise(), make_frames(40), 32)
    assert found.rank1 == pytest.approx(1 / 3, abs=0.12)


def test_kept_and_found_with_its_evidence(tmp_path):
    def get(seed=0):
        steps: list[int] = []
        judge = load_or_train_identity_judge(
            make_frames(2), make_frames(1, seed=1), image_size=32, cache_dir=tmp_path, key="k", seed=seed, recipe=BRIEF,
            progress=lambda done, total: steps.append(done),
        )  # fmt: skip
        return judge, len(steps)

    first, steps = get()
    again, steps_again = get()
    assert (steps, steps_again, again.from_cache) == (4, 0, True)  # 96 images in batches of all 24 frames
    assert (again.rank1, again.tar, again.people, again.recipe) == (first.rank1, first.tar, first.people, first.recipe)
    images = make_frames(1).floats(np.arange(12), 32)
    assert torch.equal(first.embed(images), again.embed(images))
    assert get(seed=1)[1] > 0
    retrained = train_identity_judge(make_frames(2), None, image_size=32, recipe=BRIEF)
    assert torch.equal(first.embed(images), retrained.embed(images))  # the seed decides, not what was drawn before
