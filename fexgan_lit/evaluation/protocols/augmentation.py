"""`protocol=augmentation`: train classifiers on real and generated images (Li et al., Table 4) and report."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit import figures
from fexgan_lit.data.reference import telling_rows
from fexgan_lit.evaluation.protocols.augmented_data import (
    Enlarged,
    Pool,
    chosen_frames,
    draw_requests,
    draw_share,
    generate_pool,
)
from fexgan_lit.evaluation.protocols.classifier import (
    ClassifierRecipe,
    accuracy,
    classifier_size,
    make_network,
    recipe_for,
    steps_of,
    train_classifier,
)
from fexgan_lit.evaluation.report import Findings
from fexgan_lit.evaluation.summary import Figure, Row
from fexgan_lit.evaluation.tables import augmentation_reference
from fexgan_lit.metrics.judges.affect import JudgeRecipe
from fexgan_lit.metrics.registry import augmented
from fexgan_lit.metrics.tables import ABSENT
from fexgan_lit.utils.tables import TextTable

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.evaluation.methods import Trained
    from fexgan_lit.evaluation.test_set import TestSet
    from fexgan_lit.utils.console import Stages


#: Independent random streams: one for the share of real frames, one for the requests.
_SHARE, _REQUESTS = range(2)


@dataclass
class Accuracies:
    """Accuracies of the classifiers.

    Attributes:
        times: T ratios of generated to real images, ascending.
        by_run: accuracies (seeds, T), by name of the run.
        n_real: real frames that a classifier trains on.
        n_train: real frames available for training.
        n_pool: distinct generated images per run and seed.
        n_test: held-out real frames on which accuracy is measured.
        recipe: training recipe of the classifiers.
    """

    times: tuple[int, ...]
    by_run: dict[str, np.ndarray]
    n_real: int
    n_train: int
    n_pool: int
    n_test: int
    recipe: ClassifierRecipe

    @property
    def steps(self) -> int:
        """Training steps of every classifier."""
        return steps_of(self.recipe)


def one_name_a_run(runs: Sequence[Trained]) -> list[Trained]:
    """Give every run a unique name by adding the seed, then the folder, then a number where names are equal."""
    names = [run.name for run in runs]
    for endings in (
        [f", seed {run.loaded.run.seed}" for run in runs],
        [f" ({run.loaded.folder.name})" for run in runs],
        [f" {number}" for number in range(len(runs))],
    ):
        names = [
            name + end if names.count(name) > 1 else name for name, end in zip(names, endings, strict=True)
        ]  # fmt: skip
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def measure_accuracies(
    runs: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, stage: Stages
) -> Accuracies:
    """Train one classifier for every run, ratio and seed.

    Every seed samples the share of real frames, the sources, the targets and the weights. Within a seed all runs get
    the same requests, and the images of a larger ratio include those of the smaller ones.

    Args:
        runs: runs with unique names.
        test_set: the test set, whose held-out frames measure the accuracy.
        settings: the settings with `augmentation`.
        stage: starts a progress bar on the terminal.

    Raises:
        UserError: a generated image has values that are not finite.
    """
    asked = settings.augmentation
    times = tuple(sorted(asked.times))
    made: dict[str, list[list[float]]] = {run.name: [] for run in runs}
    for seed in range(settings.seed, settings.seed + asked.seeds):
        panel = Bench.of(test_set, settings, seed)
        alone = panel.accuracy_of(None, 0, stage) if 0 in times else 0.0  # the same for all runs
        for run in runs:
            with panel.faces_of(run, stage) as pool:
                made[run.name].append([panel.accuracy_of(pool, k, stage) if k else alone for k in times])
    return Accuracies(
        times=times,
        by_run={name: np.array(rows) for name, rows in made.items()},
        n_real=len(panel.real),
        n_train=panel.n_train,
        n_pool=panel.n_pool,
        n_test=len(panel.test),
        recipe=panel.recipe,
    )


@dataclass(frozen=True, eq=False)
class Bench:
    """The data and the recipe of the classifiers of one seed.

    Attributes:
        test_set: the test set, whose held-out frames measure the accuracy.
        settings: the settings with `augmentation`.
        seed: seed of all random choices.
        real: real frames that classifiers train on.
        n_train: real frames available for training.
        test: (n,) int64, rows of the held-out frames that are intense enough for their label.
        size: input side of the network in pixels.
        recipe: training recipe of the classifiers.
    """

    test_set: TestSet
    settings: EvaluationSettings
    seed: int
    real: FrameSet
    n_train: int
    test: np.ndarray
    size: int
    recipe: ClassifierRecipe

    @classmethod
    def of(cls, test_set: TestSet, settings: EvaluationSettings, seed: int) -> Bench:
        """Sample the real frames of a seed; as for judges, frames too weak for their label are left out."""
        asked, train, bounds = settings.augmentation, test_set.data.train, JudgeRecipe()
        telling = telling_rows(train, bounds.min_intensity)
        rows = draw_share(train, telling, asked.real_share, np.random.default_rng((seed, _SHARE)))
        return cls(
            test_set, settings, seed,
            real=chosen_frames(train, rows),
            n_train=len(telling),
            test=telling_rows(test_set.frames, bounds.held_out_intensity),
            size=classifier_size(asked.network, test_set.image_size),
            recipe=recipe_for(len(rows), asked.images),
        )  # fmt: skip

    @property
    def n_pool(self) -> int:
        """Distinct images that a run generates."""
        asked = self.settings.augmentation
        return min(max(asked.times) * len(self.real), asked.most_generated)

    @contextlib.contextmanager
    def faces_of(self, run: Trained, stage: Stages) -> Iterator[Pool | None]:
        """Generate the images of a run for all ratios; they lie in the cache folder until the context exits."""
        from fexgan_lit.utils.cache import cache_root

        if not self.n_pool:
            yield None
            return
        rng = np.random.default_rng((self.seed, _REQUESTS))
        requests = draw_requests(self.real, self.n_pool, self.test_set.data.config.min_target_intensity, rng)
        folder = cache_root(self.test_set.data.config.cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        progress = stage(f"{run.name}, seed {self.seed}: generating {self.n_pool} faces")
        with tempfile.TemporaryDirectory(prefix="augmentation-", dir=folder, ignore_cleanup_errors=True) as place:
            path, batch = Path(place) / "faces.uint8", self.settings.batch_size
            yield generate_pool(run, self.real, requests, self.size, batch, path, progress)

    def accuracy_of(self, pool: Pool | None, times: int, stage: Stages) -> float:
        """Train a classifier with `times` generated images per real one; return its accuracy on held-out frames."""
        name, K = self.settings.augmentation.network, len(self.real.affects)
        frames = Enlarged(self.real, pool)
        net = make_network(name, K, self.size, self.seed).to(self.settings.device)
        progress = stage(f"seed {self.seed}: training a classifier with ×{times}")
        net = train_classifier(net, frames, frames.rows(times), self.size, self.seed, self.recipe, progress)
        return accuracy(net, self.test_set.frames, self.test, self.size)


def find_augmentation(
    methods: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Train the classifiers and compare their accuracies, one row per run."""
    runs = one_name_a_run(methods)
    found = measure_accuracies(runs, test_set, settings, stage)
    stage("drawing")
    data = test_set.data.config
    findings = Findings(
        title=f"Generated frames as training data: {', '.join(found.by_run)}",
        command=command,
        where=f"{found.n_test} held-out true frames of {data.name} (split={data.split}, split_seed={data.split_seed}) "
        f"at {data.image_size} px",
        rows=[_row(run, found) for run in runs],
        differences=[],
        judges=[],
        recipes=_recipes(found, settings),
        notes=_notes(found, settings),
        seed=settings.seed,
        reading="Accuracy on held-out true frames of a classifier trained on the true frames alone (×0) or with k "
        "generated frames for each true one (×k); ± is the standard deviation between its seeds. All classifiers take "
        "the same number of steps.",
    )
    findings.tables = [seeds_table(found, settings.seed), augmentation_reference()]
    findings.add(
        "augmentation", figures.accuracy_curves(found.times, found.by_run),
        "One dot per seed; the line is their mean, the band one standard deviation to either side. ×0 is training on "
        "the true frames alone.",
    )  # fmt: skip
    return findings


def _row(run: Trained, found: Accuracies) -> Row:
    values = found.by_run[run.name]
    cells = {augmented(k): _figure(values[:, i]) for i, k in enumerate(found.times)}
    return Row(run.name, cells, (str(run.loaded.folder),), (run.loaded.run.seed,), {})


def _figure(values: np.ndarray) -> Figure:
    deviation = float(values.std(ddof=1)) if len(values) > 1 else None
    return Figure(float(values.mean()), deviation, None, tuple(values.tolist()))


def seeds_table(found: Accuracies, first_seed: int = 0) -> TextTable:
    """Build the table of accuracies per seed, with the gain over training on real frames only."""
    count = len(next(iter(found.by_run.values())))
    header = ("", *(f"seed {first_seed + i}" for i in range(count)), "gain over ×0")
    rows = []
    for name, values in found.by_run.items():
        for i, k in enumerate(found.times):
            alone = values[:, found.times.index(0)] if 0 in found.times and k else None
            gain = ABSENT if alone is None else _signed(values[:, i] - alone)
            rows.append((f"{name}, ×{k}", *(f"{value:.3f}" for value in values[:, i]), gain))
    note = "The gain is the difference from ×0 of the same seed: mean over the seeds ± standard deviation."
    return TextTable("Accuracy of every seed", header, tuple(rows), 0, (note,))


def _signed(differences: np.ndarray) -> str:
    deviation = f" ± {differences.std(ddof=1):.3f}" if len(differences) > 1 else ""
    return f"{differences.mean():+.3f}{deviation}"


def _recipes(found: Accuracies, settings: EvaluationSettings) -> dict[str, str]:
    asked, bounds, recipe = settings.augmentation, JudgeRecipe(), found.recipe
    network = {"judge": "the residual trunk of the judges", "resnet18": "torchvision's ResNet-18"}[asked.network]
    line = (
        f"accuracy on {found.n_test} held-out true frames; classifier: {network}, from random weights, {found.steps} "
        f"steps of {recipe.batch_size} images with AdamW (one cycle up to {recipe.learning_rate:g}), label smoothing "
        f"{recipe.label_smoothing:g}, and the judges' augmentation (shifts, light, blur, noise); trained on "
        f"{found.n_real} true frames (of {found.n_train}) and the generated ones, in shuffled passes; only frames with "
        f"intensity {bounds.min_intensity:g} or more in training and {bounds.held_out_intensity:g} or more in the "
        "test, with unknown intensity or neutral"
    )
    return {augmented(k): line if k else f"{line}; no generated frames" for k in found.times}


def _notes(found: Accuracies, settings: EvaluationSettings) -> dict[str, str]:
    asked, seen = settings.augmentation, found.steps * found.recipe.batch_size
    largest = max(found.times)
    alone, with_most = (_often(seen / (found.n_real * (1 + times))) for times in (0, largest))
    notes = {
        "seeds": "each seed samples the true frames (if real_share is below 1), sources, targets and weights; within a "
        "seed all runs generate the same pairs of source and target",
        "labels": "target affects, drawn uniformly over the affects of the true frames; the target expression is that "
        "of a true frame of the same person, or is transferred from another person if the person never shows the "
        "affect; true frames that the classifier does not have are neither sources nor targets",
        "steps": f"{found.steps} for every classifier, which sees {seen} images (augmentation.images); with "
        f"×{largest} it sees each frame {with_most} times, without generated frames {alone} times",
    }
    if asked.real_share < 1:
        notes["real share"] = (
            f"the classifiers have {asked.real_share:g} of the true training frames of every affect; the systems were "
            "trained on all of them, so a gain may come from frames that the systems remember"
        )
    repeated = [k for k in found.times if k * found.n_real > found.n_pool]
    if repeated:
        notes["repeated faces"] = (
            f"{', '.join(f'×{k}' for k in repeated)}: the {found.n_pool} generated faces are repeated "
            "(augmentation.most_generated)"
        )
    return notes


def _often(times: float) -> str:
    return f"{times:.2g}" if times < 10 else f"{times:.0f}"
