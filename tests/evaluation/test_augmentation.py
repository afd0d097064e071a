"""Generated frames as training data: a perfect generator costs nothing, one that lies does, and every cell is fair."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fexgan_lit import figures
from fexgan_lit.data.frames import to_float
from fexgan_lit.evaluation.config import AugmentationSettings, EvaluationSettings
from fexgan_lit.evaluation.protocols import classifier
from fexgan_lit.evaluation.protocols.augmentation import (
    Bench,
    find_augmentation,
    measure_accuracies,
    one_name_a_run,
    seeds_table,
)
from fexgan_lit.evaluation.protocols.augmented_data import (
    NOBODY,
    Enlarged,
    Pool,
    chosen_frames,
    draw_requests,
    draw_share,
    generate_pool,
    wanted_expression,
)
from fexgan_lit.evaluation.protocols.classifier import accuracy, classifier_size, recipe_for, require_network, steps_of
from fexgan_lit.evaluation.report import write_findings
from fexgan_lit.evaluation.tables import LI_TABLE4, augmentation_reference
from fexgan_lit.metrics.registry import in_order, metric_info
from fexgan_lit.utils.errors import UserError
from tests.metrics.faces import AFFECTS, make_frames

PER_CELL = 6


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """Classifiers of a quarter of the operations tell these squares apart as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "ClassifierRecipe", partial(classifier.ClassifierRecipe, widths=(12, 24, 48, 64)))
        yield


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbered(frames):
    """Every frame carries its own row in AU1, so that whoever is asked for its expression can look it up."""
    aus = np.zeros((len(frames), 17), np.float32)
    aus[:, 0] = np.arange(len(frames)) / len(frames)
    return replace(frames, aus=aus)


class LookUp:
    """Gives the true frame that is asked for, or one of the next affect; must know everybody with every affect."""

    device, image_size, reads = torch.device("cpu"), 32, frozenset({"aus"})

    def __init__(self, frames, lies: bool = False) -> None:
        self.frames, self.lies = frames, lies

    def synthesize(self, source, shown, wanted):
        rows = (wanted.aus[:, 0] * len(self.frames)).round().long().numpy()
        assert np.array_equal(self.frames.affect[rows], wanted.affect.argmax(1).numpy())
        if self.lies:
            rows = (rows + len(self.frames) // len(AFFECTS)) % len(self.frames)  # frames lie affect by affect
        return self.frames.floats(rows, 32)


class Copies:
    """Gives the source back."""

    device, image_size, reads = torch.device("cpu"), 32, frozenset({"affect"})

    def synthesize(self, source, shown, wanted):
        return source


def run(name: str, system=None, seed: int = 0, folder: str = "outputs/a"):
    from fexgan_lit.evaluation.methods import Trained
    from fexgan_lit.inference.loaded_system import LoadedSystem

    return Trained(name, LoadedSystem(system, SimpleNamespace(seed=seed), Path(folder)))  # type: ignore[arg-type]


def make_ground(train, cache: Path):
    config = SimpleNamespace(
        cache_dir=str(cache), min_target_intensity=0.0, name="squares", split="frame", split_seed=0, image_size=32
    )
    return SimpleNamespace(data=SimpleNamespace(train=train, config=config), frames=make_frames(4, 9), image_size=32)


def options(**augmentation) -> EvaluationSettings:
    return EvaluationSettings(run="x", augmentation=AugmentationSettings(**{"images": 768, **augmentation}))


def stage(_: str):
    return lambda done, total: None


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    train, cache = numbered(make_frames(2)), tmp_path_factory.mktemp("pool")
    runs = [run("honest", LookUp(train)), run("liar", LookUp(train, lies=True))]
    test_set = make_ground(train, cache)
    findings = find_augmentation(runs, test_set, options(times=[3, 0], seeds=1, images=960), "python -m ...", stage)
    assert list(cache.iterdir()) == [], "the faces go when they are no longer needed"
    return findings


def test_perfect_frames_keep_the_accuracy_of_true_ones_and_wrong_labels_lower_it(found):
    honest, liar = (row.figures for row in found.rows)
    assert honest["accuracy_times_0"].mean > 0.95
    assert honest["accuracy_times_3"].mean > 0.95
    assert liar["accuracy_times_0"].seeds == honest["accuracy_times_0"].seeds, "true frames alone are the same for all"
    assert liar["accuracy_times_3"].mean < 0.5


def test_the_report_holds_every_seed_the_gain_the_paper_and_the_plot(found, tmp_path):
    write_findings(found, tmp_path)
    text = (tmp_path / "evaluation.md").read_text()
    assert "|  | ×0 ↑ | ×3 ↑ |" in text
    assert "| *Li et al., Oulu-CASIA* | *0.673* | *0.686* | *0.714* | *0.762* | *0.762* |" in text
    assert "steps: 40 for every classifier" in text
    assert "figures/augmentation.png" in text
    seeds = found.tables[0]
    assert seeds.header == ("", "seed 0", "gain over ×0")
    assert [row[0] for row in seeds.rows] == ["honest, ×0", "honest, ×3", "liar, ×0", "liar, ×3"]
    assert seeds.rows[0][-1] == "-"
    assert float(seeds.rows[3][-1]) < -0.4
    lines = (tmp_path / "evaluation.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:3]] == ["accuracy_times_0", "accuracy_times_3"]


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    train = numbered(make_frames(2))
    runs, test_set = [run("a", Copies())], make_ground(train, tmp_path)
    asked = options(times=[0, 1], seeds=1, real_share=0.5, images=240)
    first, second = (measure_accuracies(runs, test_set, asked, stage).by_run["a"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_every_classifier_takes_the_same_steps_however_few_true_frames(tmp_path):
    train = numbered(make_frames(1))  # 12 true frames: fewer than a batch
    taken: dict[str, int] = {}

    def counting(name: str):
        return lambda done, total: taken.__setitem__(name, done)

    measure_accuracies(
        [run("a", LookUp(train))], make_ground(train, tmp_path), options(times=[0, 1, 8], seeds=1, images=120), counting
    )
    steps = [done for name, done in taken.items() if "classifier" in name]
    assert steps == [steps_of(recipe_for(12, 120))] * 3 == [10] * 3


def test_seeds_draw_other_frames_and_runs_the_same_requests(tmp_path):
    train = numbered(make_frames(PER_CELL))
    test_set, asked = make_ground(train, tmp_path), options(times=[2], real_share=0.25)
    first, again, other = (Bench.of(test_set, asked, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.real.rows, again.real.rows)
    assert not np.array_equal(first.real.rows, other.real.rows)
    assert len(first.real) == round(0.25 * 18) * 4
    assert first.n_pool == 2 * len(first.real)
    with (
        first.faces_of(run("a", Copies()), stage) as one,
        again.faces_of(run("b", Copies()), stage) as two,
    ):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.affect, two.affect)


def test_few_faces_come_again_and_the_report_says_so(tmp_path):
    train = numbered(make_frames(1))
    asked = options(times=[0, 5], seeds=1, images=96, most_generated=20)
    findings = find_augmentation([run("a", LookUp(train))], make_ground(train, tmp_path), asked, "c", stage)
    assert findings.notes["repeated faces"].startswith("×5: the 20 generated faces")
    rows = Enlarged(train, Pool(np.zeros((20, 32, 32, 3), np.uint8), np.zeros(20, np.int64))).rows(5)
    assert len(rows) == 6 * 12
    assert np.bincount(rows)[12:].tolist() == [3] * 20, "60 times 20 faces, each three times"


def test_a_share_keeps_every_affect():
    frames = make_frames(PER_CELL)
    rows = draw_share(frames, np.arange(len(frames)), 0.01, np.random.default_rng(0))
    assert sorted(frames.affect[rows].tolist()) == [0, 1, 2, 3]
    assert np.array_equal(draw_share(frames, np.arange(5), 1.0, np.random.default_rng(0)), np.arange(5))


def test_requests_are_uniform_over_affects_and_ask_for_true_frames_of_the_same_person():
    frames = chosen_frames(make_frames(PER_CELL), np.r_[0:18, 18:20, 36:37, 54:60])  # affects are not equally frequent
    asked = draw_requests(frames, 4000, 0.0, np.random.default_rng(0))
    counts = np.bincount(asked.affect, minlength=4)
    assert counts.min() > 900
    assert np.ptp(np.bincount(asked.source, minlength=len(frames))) <= 1, "every frame is a source equally often"
    there = asked.target != NOBODY
    assert 0 < there.mean() < 1
    np.testing.assert_array_equal(frames.identity[asked.target[there]], frames.identity[asked.source[there]])
    np.testing.assert_array_equal(frames.affect[asked.target[there]], asked.affect[there])
    lacking = {
        (int(frames.identity[s]), int(a)) for s, a in zip(asked.source[~there], asked.affect[~there], strict=True)
    }
    assert lacking.isdisjoint(zip(frames.identity.tolist(), frames.affect.tolist(), strict=True))


def test_who_never_shows_an_affect_is_moved_as_another_person_moves():
    frames = make_frames(1)
    aus = np.zeros((len(frames), 17), np.float32)
    aus[:, 4] = frames.affect * 0.1 + frames.identity * 0.2
    cells = (frames.affect == 0) & (frames.identity == 0)  # ada never shows joy
    frames = chosen_frames(replace(frames, aus=aus), np.flatnonzero(~cells))
    source = int(np.flatnonzero((frames.identity == 0) & (frames.affect == 1))[0])
    asked = draw_requests(frames, 400, 0.0, np.random.default_rng(0))
    wanted = wanted_expression(frames, asked)
    assert torch.equal(wanted.affect.argmax(1), torch.from_numpy(asked.affect)), "labels stand in the order of requests"
    moved = (asked.source == source) & (asked.affect == 0)
    assert moved.any()
    assert (asked.target[moved] == NOBODY).all()
    # ada's neutral 0.1, less the 0.1 by which others' joy lies below their neutral
    np.testing.assert_allclose(wanted.aus[torch.from_numpy(moved), 4], 0.0, atol=1e-6)


def test_numbers_below_n_are_true_frames_and_the_rest_generated():
    frames = make_frames(1)
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    both = Enlarged(frames, Pool(images, np.array([3, 2, 1])))
    index = np.array([14, 0, 12, 5])
    floats = both.floats(index, 32)
    assert torch.equal(floats[[1, 3]], frames.floats(np.array([0, 5]), 32))
    assert torch.equal(floats[[0, 2]], to_float(images[[2, 0]]))
    assert both.affect_of(index).tolist() == [1, frames.affect[0], 3, frames.affect[5]]
    with pytest.raises(ValueError, match="no generated frames"):
        Enlarged(frames).rows(1)


def test_generated_faces_are_kept_to_the_nearest_byte(tmp_path):
    train = numbered(make_frames(1))
    requests = draw_requests(train, 7, 0.0, np.random.default_rng(0))
    pool = generate_pool(run("a", LookUp(train)), train, requests, 32, 3, tmp_path / "faces")
    np.testing.assert_array_equal(pool.images, train.pixels(requests.target))
    assert pool.affect.tolist() == requests.affect.tolist()


def test_accuracy_is_a_share():
    frames = make_frames(1)

    class Always(torch.nn.Linear):
        def forward(self, images):
            return torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(len(images), -1)

    assert accuracy(Always(1, 1), frames, np.arange(len(frames)), 32) == 0.25
    with pytest.raises(ValueError, match="rows is empty"):
        accuracy(Always(1, 1), frames, np.arange(0), 32)


def test_resnet_without_torchvision_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match=r"augmentation.network=resnet18 needs torchvision.*fexgan_lit\[fid\]"):
        require_network("resnet18")
    require_network("judge")


def test_networks_see_frames_at_their_own_size():
    assert classifier_size("judge", 128) == 64
    assert classifier_size("resnet18", 128) == 128


def test_every_run_has_a_name_of_its_own():
    runs = [run("a", seed=1), run("a", seed=2), run("b"), run("c", seed=3, folder="x/u"),
            run("c", seed=3, folder="x/v"), run("d", folder="x/w"), run("d", folder="y/w")]  # fmt: skip
    assert [r.name for r in one_name_a_run(runs)] == [
        "a, seed 1", "a, seed 2", "b", "c, seed 3 (u)", "c, seed 3 (v)", "d, seed 0 (w) 5", "d, seed 0 (w) 6",
    ]  # fmt: skip


def test_multiples_stand_in_the_order_of_their_numbers():
    names = ["accuracy_times_10", "zeta", "accuracy_times_5", "ssim"]
    assert in_order(names) == ["ssim", "accuracy_times_5", "accuracy_times_10", "zeta"]
    assert metric_info("accuracy_times_10").arrow == "×10 ↑"


def test_gains_are_paired_seed_by_seed():
    accuracies = SimpleNamespace(times=(0, 2), by_run={"a": np.array([[0.2, 0.3], [0.6, 0.8]])})
    rows = seeds_table(accuracies, 5).rows  # type: ignore[arg-type]
    assert rows[1] == ("a, ×2", "0.300", "0.800", "+0.150 ± 0.071")
    alone = SimpleNamespace(times=(2,), by_run={"a": np.array([[0.3], [0.8]])})
    assert seeds_table(alone).rows[0][-1] == "-"  # type: ignore[arg-type]


def test_the_papers_row_is_its_table():
    table = augmentation_reference()
    assert table.quoted == len(table.rows) == 1
    assert table.header[1:] == ("×0", "×1", "×5", "×10", "×100")
    assert [float(cell) for cell in table.rows[0][1:]] == pytest.approx([v / 100 for v in LI_TABLE4.values()])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"protocol": "augmentations"}, "protocol=augmentations: expected one of quality, augmentation, clips"),
        ({"protocol": "augmentation", "split": "train"}, "expected split=val"),
        ({"augmentation": AugmentationSettings(times=[])}, "augmentation.times=[]"),
        ({"augmentation": AugmentationSettings(times=[1, 1])}, "augmentation.times=[1, 1]"),
        ({"augmentation": AugmentationSettings(times=[-1])}, "augmentation.times=[-1]"),
        ({"augmentation": AugmentationSettings(real_share=0.0)}, "augmentation.real_share=0.0"),
        ({"augmentation": AugmentationSettings(network="vgg")}, "augmentation.network=vgg"),
        ({"augmentation": AugmentationSettings(seeds=0)}, "augmentation.seeds=0"),
    ],
)
def test_options_that_cannot_be_used(asked, words):
    assert any(words in problem for problem in EvaluationSettings(run="a", **asked).problems())


def test_the_plot_wants_a_value_for_every_multiple():
    picture = figures.accuracy_curves((0, 1), {"a": np.array([[0.5, 0.6]]), "b": np.array([[0.5, 0.4], [0.6, 0.7]])})
    assert picture.mode == "RGB"
    with pytest.raises(ValueError, match="at least one run"):
        figures.accuracy_curves((0, 1), {})
    with pytest.raises(ValueError, match="must be"):
        figures.accuracy_curves((0, 1), {"a": np.zeros((2, 3))})
