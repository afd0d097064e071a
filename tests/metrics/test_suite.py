"""The metric suite on answers whose figures are known beforehand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.metrics.distributions import frechet_distance, real_features
from fexgan_lit.metrics.extractors import JudgeExtractor
from fexgan_lit.metrics.groups import (
    DiscriminatorMetrics,
    DistributionMetrics,
    GeometryMetrics,
    IdentityMetrics,
    JudgeMetrics,
    PixelMetrics,
    SourceEmbeddings,
    UnpairedMetrics,
)
from fexgan_lit.metrics.judges.files import Unavailable
from fexgan_lit.metrics.lpips import Lpips
from fexgan_lit.metrics.pixels import psnr, ssim
from fexgan_lit.metrics.suite import MetricSuite, ValidationOutput
from fexgan_lit.utils.errors import UserError
from tests.metrics.faces import make_frames

K = 4


@pytest.fixture(scope="module")
def frames():
    return make_frames(4, seed=7)


@pytest.fixture(scope="module")
def extractor(judge):
    return JudgeExtractor(judge.net)


@pytest.fixture(scope="module")
def real(extractor, frames):
    images = frames.floats(np.arange(len(frames)), 32)
    return {"judge": extractor(images).features}


def batch_of(frames, rows, **known) -> PairBatch:
    """The frames `rows`, each its own source and target."""
    images, indices = frames.floats(rows, 32), torch.from_numpy(rows)
    affect, identity = torch.from_numpy(frames.affect[rows]), torch.from_numpy(frames.identity[rows])
    return PairBatch(images, images, affect, affect, identity, indices, indices, **known)


def blank(target: list[int], identity: list[int] | None = None, **known) -> PairBatch:
    """Grey frames with the affects `target`."""
    B = len(target)
    images, rows = torch.zeros(B, 3, 32, 32), torch.arange(B)
    identity = identity or [0] * B
    return PairBatch(
        images, images, torch.zeros(B).long(), torch.tensor(target), torch.tensor(identity), rows, rows, **known
    )


def feed(suite: MetricSuite, frames, change=lambda images: images, rows=None) -> MetricSuite:
    rows = np.arange(len(frames)) if rows is None else rows
    for chunk in np.array_split(rows, max(1, len(rows) // 10)):
        batch = batch_of(frames, chunk)
        suite.update(batch, change(batch.target))
    return suite


def whole_suite(judge, extractor, real, **options) -> MetricSuite:
    groups = [
        PixelMetrics(multiscale=True, lpips=Lpips()), JudgeMetrics(judge, ceiling=True, f1=True),
        DistributionMetrics({"judge": extractor}, real, full=True), DiscriminatorMetrics(),
    ]  # fmt: skip
    return MetricSuite(groups, **options)


def test_identity_transform(judge, extractor, real, frames):
    suite = feed(whole_suite(judge, extractor, real, where="split=val, seed=11"), frames)
    values = suite.compute()
    assert (values["ssim"], values["ms_ssim"], values["lpips"]) == pytest.approx((1.0, 1.0, 0.0), abs=1e-6)
    assert values["psnr"] == 100.0
    assert values["fd_judge"] == pytest.approx(0.0, abs=1e-3)
    assert (values["precision_judge"], values["recall_judge"], values["coverage_judge"]) == (1.0, 1.0, 1.0)
    assert values["is_judge"] > 2.0  # four affects, told apart, but never with certainty
    assert values["kid_judge"] <= 0, "unbiased: below zero on itself"
    assert values["judge_affect_accuracy"] == values["real_judge_affect_accuracy"] > 0.9
    assert values["judge_identity_accuracy"] == values["real_judge_identity_accuracy"] > 0.9
    assert values["macro_f1"] > 0.9
    assert "d_real_binary" not in values, "no discriminator was shown"
    explained = {name for name in values if not name.endswith("_std") and not name.startswith("f1_")}
    assert explained == set(suite.recipes())
    assert all(line.endswith("; n=48, split=val, seed=11") for line in suite.recipes().values())
    assert "not FID" in suite.recipes()["fd_judge"]


def test_batches_add_up_to_the_direct_figures_and_reset_forgets(judge, extractor, real, frames):
    def darker(images):
        return images * 0.5 - 0.3

    images = frames.floats(np.arange(len(frames)), 32)
    suite = whole_suite(judge, extractor, real)
    feed(suite, frames, rows=np.arange(7))
    suite.reset()
    values = feed(suite, frames, darker).compute()
    assert suite.n == len(frames)
    assert values["ssim"] == pytest.approx(float(ssim(darker(images), images).mean()), abs=1e-6)
    assert values["psnr"] == pytest.approx(float(psnr(darker(images), images).mean()), abs=1e-4)
    expected = frechet_distance(judge.read(images).features, judge.read(darker(images)).features)
    assert values["fd_judge"] == pytest.approx(expected, rel=1e-4)
    columns = suite.per_pair()
    assert columns["ssim"].shape == columns["judge_affect_accuracy"].shape == (len(frames),)
    torch.testing.assert_close(columns["psnr"], psnr(darker(images), images))
    means = {name: float(column.mean()) for name, column in columns.items()}
    assert means == pytest.approx({name: values[name] for name in columns})


def test_features_that_the_judge_has_read_are_taken(judge, extractor, real, frames, monkeypatch):
    seen = []
    monkeypatch.setattr(extractor, "read", lambda prepared: seen.append(len(prepared)))
    feed(whole_suite(judge, extractor, real), frames, rows=np.arange(12)).compute()
    assert seen == []


def test_confusion_counts_asked_by_judged(judge, frames):
    suite = MetricSuite([JudgeMetrics(judge)])
    assert suite.confusion() is None
    batch = batch_of(frames, np.arange(24))
    verdict = judge.read(batch.target).affect
    batch.target_affect = (batch.target_affect + (torch.arange(24) % 2)) % 4
    suite.update(batch, batch.target)
    expected = torch.zeros(4, 4, dtype=torch.long)
    for row, column in zip(batch.target_affect.tolist(), verdict.tolist(), strict=True):
        expected[row, column] += 1
    assert torch.equal(suite.confusion(), expected)
    assert suite.compute()["judge_affect_accuracy"] == pytest.approx(float(expected.trace()) / 24)


def test_f1_of_a_judge_of_the_users_own_that_knows_no_identities():
    reading = SimpleNamespace(affect=torch.tensor([0, 0, 2, 2]))
    judge = SimpleNamespace(affects=("a", "b", "c"), read=lambda _: reading, describe=lambda: "a stub")
    suite = MetricSuite([JudgeMetrics(judge, f1=True)])
    assert suite.compute() == {}, "nothing was asked for"
    suite.update(blank([0, 1, 2, 2]), torch.zeros(4, 3, 32, 32))
    assert suite.confusion().tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 2]]
    assert suite.per_pair()["judge_affect_accuracy"].tolist() == [1, 0, 1, 1]
    expected = {"macro_f1": (2 / 3 + 0 + 1) / 3, "f1_a": 2 / 3, "f1_b": 0, "f1_c": 1, "judge_affect_accuracy": 0.75}
    assert suite.compute() == pytest.approx(expected)


def test_table_1_on_hand_made_logits():
    def logits(classes):
        return torch.nn.functional.one_hot(torch.tensor(classes), K).float() * 3

    batch = blank([0, 1, 2, 3])
    batch.source_affect = torch.tensor([3, 2, 1, 0])
    outcome = ValidationOutput(
        batch.target, torch.tensor([0.2, 0.4, 0.9, -0.1]), logits([3, 2, 1, 1]), torch.tensor([0.1, 0.2, 0.3, -5.0]),
        logits([0, 1, 1, 1]),
    )  # fmt: skip
    suite = MetricSuite([DiscriminatorMetrics()])
    suite.update(batch, outcome.generated, outcome)
    expected = {"d_real_binary": 0.75, "d_real_affect": 0.75, "d_fake_binary": 0.25, "d_fake_affect": 0.5}
    assert suite.compute() == pytest.approx(expected)
    assert list(suite.compute()) == list(expected), "in the order of the papers"


def test_a_critic_has_no_binary_columns_and_says_why():
    made = ValidationOutput(
        torch.zeros(2, 3, 32, 32), torch.ones(2), torch.eye(K)[:2], torch.ones(2), torch.eye(K)[:2], False
    )
    suite = MetricSuite([DiscriminatorMetrics()])
    suite.update(blank([0, 1]), made.generated, made)
    assert set(suite.compute()) == {"d_real_affect", "d_fake_affect"}
    assert "no threshold" in suite.notes()["discriminator"]


def test_what_is_absent_has_a_reason_and_no_number(extractor, real, frames):
    given = {"judge": extractor, "inception": Unavailable("there are no weights")}
    groups = [PixelMetrics(True, Unavailable("no backbone")), DistributionMetrics(given, real, full=True)]
    suite = feed(MetricSuite(groups), frames, rows=np.arange(3))
    values, notes = suite.compute(), suite.notes()
    assert notes["lpips"] == "absent: no backbone"
    assert notes["fid"].startswith("absent, and with it kid, inception_score, precision")
    assert notes["fid"].endswith("there are no weights")
    assert not {"lpips", "fid", "kid", "precision", "precision_judge"} & set(values)
    assert notes["precision_judge"] == "absent: neighbourhoods of 5 need 6 images per side; found 3"
    assert notes["fd_judge"].startswith("only 3 images for 128 feature dimensions")
    assert "kid_judge has no such bias" in notes["fd_judge"]
    assert "subsets of 3" in notes["kid_judge"]


def test_one_image_gives_no_distance(extractor, real, frames):
    suite = feed(MetricSuite([DistributionMetrics({"judge": extractor}, real)]), frames, rows=np.arange(1))
    assert suite.compute() == {}
    assert "two images per side; found 48 real and 1 generated" in suite.notes()["fd_judge"]


def test_names_are_those_of_the_literature_on_inception_only(extractor, real):
    group = DistributionMetrics({"judge": extractor}, real)
    assert list(group.called("inception").values())[:3] == ["fid", "kid", "inception_score"]
    assert list(group.called("judge").values())[:3] == ["fd_judge", "kid_judge", "is_judge"]


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
    suite = MetricSuite([GeometryMetrics(judges)])
    suite.update(blank([0, 1], target_aus=aus, target_landmarks=points), torch.zeros(2, 3, 32, 32))
    assert suite.per_pair()["au_error"].tolist() == pytest.approx([0.1, 0.3])
    assert suite.per_pair()["landmark_error"].tolist() == pytest.approx([0.1, 0.1])
    assert suite.numbers()["au_error_au01"] == pytest.approx(0.2)
    assert suite.numbers()["au_error_au05"] == pytest.approx(0.3), "the fourth unit is known of the second face alone"


def test_people_are_recognised_from_untouched_frames():
    frames = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
    made = torch.tensor([[1.0, 0.1], [1.0, 0.2]])  # the second person now looks like the first
    judge = SimpleNamespace(embed=lambda images: made, describe=lambda: "a stub")
    sources = SourceEmbeddings(judge, frames, np.array([0, 1]), torch.tensor([0, 1, 0, 1]))
    suite = MetricSuite([IdentityMetrics(sources)])
    pairs = blank([0, 0], [0, 1])
    pairs.source_row = torch.tensor([2, 3])
    suite.update(pairs, torch.zeros(2, 3, 32, 32))
    assert suite.per_pair()["rank1"].tolist() == [1, 0]
    cosines = torch.nn.functional.cosine_similarity(made, frames[[2, 3]])
    assert suite.per_pair()["identity_cosine"].tolist() == pytest.approx(cosines.tolist())
    assert "tar_far01" not in suite.numbers()
    assert "impostor pairs" in suite.notes()["tar_far01"]


class Shift:
    """A system that adds a tenth of the first action unit to the picture, and reads it off the mean of one."""

    image_size = 32
    affects = ("unlabelled",)
    device = torch.device("cpu")

    def synthesize(self, source, shown, wanted):
        return source + 0.1 * (wanted.aus - shown.aus)[:, :1, None, None]

    def read_units(self, images):
        return images.mean((1, 2, 3))[:, None].expand(-1, 17)

    def validation_step(self, batch):
        made = self.synthesize(batch.source, batch.source_expression(1), batch.target_expression(1))
        nobody = torch.zeros(len(made))
        return ValidationOutput(made, nobody, None, nobody, None, calibrated=False)


def strangers(shown=0.25, wanted=0.75):
    pictures = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    nobody = torch.zeros(3, dtype=torch.long)
    units = [torch.full((3, 17), value) for value in (shown, wanted)]
    return PairBatch(*pictures, *[nobody] * 5, *units)


def unpaired(system, *groups) -> MetricSuite:
    suite = MetricSuite([UnpairedMetrics(), *groups], "split=train, seed=4", paired=False)
    suite.add(system, strangers())
    return suite


def test_the_way_back_the_own_expression_and_the_change():
    numbers = unpaired(Shift()).compute()
    assert numbers["own_ssim"] == pytest.approx(1)
    assert numbers["back_ssim"] == pytest.approx(1)
    assert numbers["change"] == pytest.approx(0.05)
    means = strangers().source.mean((1, 2, 3))
    assert numbers["units_error"] == pytest.approx(float((means + 0.05 - 0.75).abs().mean()))
    assert numbers["real_units_error"] == pytest.approx(float((means - 0.25).abs().mean()))


def test_what_does_not_come_back_is_seen():
    class Forgetful(Shift):
        def synthesize(self, source, shown, wanted):
            return torch.where((wanted.aus == shown.aus)[:, :1, None, None], source, torch.zeros_like(source))

    numbers = unpaired(Forgetful()).compute()
    assert numbers["own_ssim"] == pytest.approx(1)
    assert numbers["back_ssim"] < 0.1


def test_a_system_without_a_reader_of_units_has_no_such_figure(extractor):
    class Mute(Shift):
        read_units = None

    suite = unpaired(Mute(), DistributionMetrics({"inception": Unavailable("no weights here")}, {}))
    assert set(suite.compute()) == {"back_ssim", "own_ssim", "change"} == set(suite.recipes())
    assert "n=3, split=train, seed=4" in suite.recipes()["change"]
    assert "no real target frames" in suite.notes()["absent"]
    assert suite.notes()["fid"] == "absent: no weights here"


def test_distances_need_no_pairs(extractor, real):
    suite = unpaired(Shift(), DistributionMetrics({"judge": extractor}, real))
    made = Shift().synthesize(strangers().source, strangers().source_expression(1), strangers().target_expression(1))
    expected = frechet_distance(real["judge"], extractor(made).features)
    assert suite.compute()["fd_judge"] == pytest.approx(expected, rel=1e-4)


def test_real_images_are_read_once(extractor, frames, tmp_path):
    told, everything = [], np.arange(48)

    def look(key="pack-a/train", rows=everything, size=32, most=1000):
        return real_features(
            extractor, frames, rows, size, tmp_path, key, lambda done, n: told.append((done, n)), most
        )  # fmt: skip

    first = look()
    assert told[-1] == (48, 48)
    told.clear()
    assert torch.equal(look(), first)
    assert not told
    for other in ({"key": "pack-b/train"}, {"rows": np.arange(10)}, {"size": 64}):
        told.clear()
        look(**other)
        assert told, other
    # spread over the split; on some processors a batch of five images rounds in another way than one of 48
    torch.testing.assert_close(look(most=5), first[[0, 12, 24, 35, 47]])
    assert len(list((tmp_path / "statistics").iterdir())) == 5


@pytest.mark.parametrize("damage", ["cut", "foreign", "shape"])
def test_broken_and_foreign_files_are_read_again(extractor, frames, tmp_path, damage):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    rows = np.arange(48)
    first = real_features(extractor, frames, rows, 32, tmp_path, "pack")
    (path,) = (tmp_path / "statistics").iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "foreign":
        save_file(load_file(path), path, metadata={"key": "another"})
    else:
        with safe_open(path, "pt") as file:
            about = file.metadata()
        save_file({"features": torch.zeros(3, 3)}, path, metadata=about)
    told = []
    for times_read in (1, 0):
        told.clear()
        again = real_features(extractor, frames, rows, 32, tmp_path, "pack", lambda done, n: told.append(done))
        assert told.count(48) == times_read
        assert torch.equal(again, first)


def test_no_frames_and_no_place_are_the_users(extractor, frames, tmp_path):
    with pytest.raises(UserError, match="no real frames"):
        real_features(extractor, frames, np.zeros(0, np.int64), 32, tmp_path, "pack")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be stored"):
        real_features(extractor, frames, np.arange(48), 32, tmp_path / "file", "pack")


class OneMore(PixelMetrics):
    def update(self, answer):
        self.keep("grey_levels", (answer.generated - answer.batch.target).abs().mean(dim=(1, 2, 3)) * 127.5)
        super().update(answer)


def test_a_group_of_pixels_keeps_further_values(frames):
    suite = MetricSuite([OneMore()])
    feed(feed(suite, frames), frames, lambda images: images - 2 / 255)
    values = suite.per_pair()["grey_levels"].reshape(2, -1)
    torch.testing.assert_close(values, torch.tensor([0.0, 1.0]).unsqueeze(1).expand_as(values), atol=1e-4, rtol=0)
    assert len(suite.per_pair()["ssim"]) == values.numel()


def test_structural_confusion_is_the_mass_of_the_named_cells():
    affects = ("anger", "disgust", "fear", "joy", "surprise")
    # rows are the targets: 4 anger, 2 disgust, 2 fear, 2 joy
    target = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    named = torch.tensor([0, 1, 1, 3, 1, 0, 4, 2, 1, 3])
    judge = SimpleNamespace(affects=affects, read=lambda _: SimpleNamespace(affect=named), describe=lambda: "a stub")
    suite = MetricSuite([JudgeMetrics(judge, f1=True)])
    batch = blank(target)
    suite.update(batch, batch.target)
    assert suite.compute()["structural_confusion"] == pytest.approx((2 + 1 + 1) / 8), "joy is no part of a pair"
    assert suite.confusion()[0, 1] == 2
    other = SimpleNamespace(affects=("anger", "joy"), read=lambda _: SimpleNamespace(affect=torch.zeros(1).long()),
                            describe=lambda: "a stub")  # fmt: skip
    suite = MetricSuite([JudgeMetrics(other, f1=True)])
    suite.update(blank([0]), blank([0]).target)
    assert "structural_confusion" not in suite.compute()
