"""What generated frames are worth as training data (Li et al., Table 4): a fixed classifier with more and more."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.evaluation.classifier import (
    ClassifierRecipe,
    accuracy,
    classifier_size,
    make_network,
    recipe_for,
    steps_of,
    train_classifier,
)
from fexgan_lit.evaluation.enlarged import Enlarged, Pool, chosen_frames, draw_requests, draw_share, generate_pool
from fexgan_lit.metrics.judge_training import JudgeRecipe, telling_rows

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.evaluation.contenders import Trained
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.evaluation.settings import EvaluationSettings
    from fexgan_lit.stages import Stages

#: Streams of random numbers that must not repeat one another: the share of true frames, then what is asked for.
_SHARE, _REQUESTS = range(2)


@dataclass
class Accuracies:
    """What the classifiers name rightly.

    Attributes:
        times: how many generated frames for every true one, T of them, ascending.
        by_run: by the name of a run, (seeds, T).
        n_real: true frames a classifier learns from.
        n_train: true frames it could learn from.
        n_pool: different generated faces of a run and seed.
        n_test: held-out true frames behind every accuracy.
        recipe: of every classifier.
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
        """Of every classifier."""
        return steps_of(self.recipe)


def one_name_a_run(runs: Sequence[Trained]) -> list[Trained]:
    """A name of its own for every run: where several have one, the seed is added, then the folder, then a number."""
    names = [run.name for run in runs]
    for endings in (
        [f", seed {run.settings.seed}" for run in runs],
        [f" ({run.run.path.name})" for run in runs],
        [f" {number}" for number in range(len(runs))],
    ):
        names = [
            name + end if names.count(name) > 1 else name for name, end in zip(names, endings, strict=True)
        ]  # fmt: skip
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def measure_accuracies(
    runs: Sequence[Trained], ground: Ground, settings: EvaluationSettings, stage: Stages
) -> Accuracies:
    """A classifier for every run, multiple and seed.

    A seed draws the share of true frames, the sources, the targets and the weights anew. Within a seed all runs are
    asked for the same faces, and a larger multiple adds to the faces of the smaller ones.

    Args:
        runs: of names that differ.
        ground: whose held-out frames are the test.
        settings: with `augmentation`.
        stage: begins a bar on the terminal.

    Raises:
        UserError: a system gives values that are no numbers.
    """
    asked = settings.augmentation
    times = tuple(sorted(asked.times))
    made: dict[str, list[list[float]]] = {run.name: [] for run in runs}
    for seed in range(settings.seed, settings.seed + asked.seeds):
        bench = Bench.of(ground, settings, seed)
        alone = bench.accuracy_of(None, 0, stage) if 0 in times else 0.0  # the same for all runs
        for run in runs:
            with bench.faces_of(run, stage) as pool:
                made[run.name].append([bench.accuracy_of(pool, k, stage) if k else alone for k in times])
    return Accuracies(
        times=times,
        by_run={name: np.array(rows) for name, rows in made.items()},
        n_real=len(bench.real),
        n_train=bench.n_train,
        n_pool=bench.n_pool,
        n_test=len(bench.test),
        recipe=bench.recipe,
    )


@dataclass(frozen=True, eq=False)
class Bench:
    """All classifiers of one seed.

    Attributes:
        ground: whose held-out frames are the test.
        settings: with `augmentation`.
        seed: of everything drawn here.
        real: true frames that classifiers learn from.
        n_train: true frames there were to choose from.
        test: (n,) int64, held-out frames whose affect shows.
        size: side in pixels that the network works at.
        recipe: of every classifier.
    """

    ground: Ground
    settings: EvaluationSettings
    seed: int
    real: FrameSet
    n_train: int
    test: np.ndarray
    size: int
    recipe: ClassifierRecipe

    @classmethod
    def of(cls, ground: Ground, settings: EvaluationSettings, seed: int) -> Bench:
        """Draw the true frames of a seed; as with judges, frames too weak for their label to show are left out."""
        asked, train, bounds = settings.augmentation, ground.data.train, JudgeRecipe()
        telling = telling_rows(train, bounds.min_intensity)
        rows = draw_share(train, telling, asked.real_share, np.random.default_rng((seed, _SHARE)))
        return cls(
            ground, settings, seed,
            real=chosen_frames(train, rows),
            n_train=len(telling),
            test=telling_rows(ground.frames, bounds.held_out_intensity),
            size=classifier_size(asked.network, ground.image_size),
            recipe=recipe_for(len(rows), asked.images),
        )  # fmt: skip

    @property
    def n_pool(self) -> int:
        """Different faces that a run generates."""
        asked = self.settings.augmentation
        return min(max(asked.times) * len(self.real), asked.most_generated)

    @contextlib.contextmanager
    def faces_of(self, run: Trained, stage: Stages) -> Iterator[Pool | None]:
        """What a run generates for all multiples, in the cache folder as long as the context lasts."""
        from fexgan_lit.data.cache import cache_root

        if not self.n_pool:
            yield None
            return
        rng = np.random.default_rng((self.seed, _REQUESTS))
        requests = draw_requests(self.real, self.n_pool, self.ground.data.config.min_target_intensity, rng)
        folder = cache_root(self.ground.data.config.cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        progress = stage(f"{run.name}, seed {self.seed}: generating {self.n_pool} faces")
        with tempfile.TemporaryDirectory(prefix="augmentation-", dir=folder, ignore_cleanup_errors=True) as place:
            path, batch = Path(place) / "faces.uint8", self.settings.batch_size
            yield generate_pool(run, self.real, requests, self.size, batch, path, progress)

    def accuracy_of(self, pool: Pool | None, times: int, stage: Stages) -> float:
        """Of a classifier trained on `times` as many generated frames as true ones, on true frames it has not seen."""
        name, K = self.settings.augmentation.network, len(self.real.affects)
        frames = Enlarged(self.real, pool)
        net = make_network(name, K, self.size, self.seed).to(self.settings.device)
        progress = stage(f"seed {self.seed}: training a classifier with ×{times}")
        net = train_classifier(net, frames, frames.rows(times), self.size, self.seed, self.recipe, progress)
        return accuracy(net, self.ground.frames, self.test, self.size)
