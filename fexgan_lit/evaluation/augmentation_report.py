"""What an evaluation of generated frames as training data says: standings, every seed, gains, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit import figures
from fexgan_lit.evaluation.augmentation import Accuracies, measure_accuracies, one_name_a_run
from fexgan_lit.evaluation.findings import Findings
from fexgan_lit.evaluation.papers import augmentation_reference
from fexgan_lit.evaluation.standing import Figure, Row
from fexgan_lit.metrics.judge_training import JudgeRecipe
from fexgan_lit.metrics.registry import augmented
from fexgan_lit.tables import ABSENT, TextTable

if TYPE_CHECKING:
    from fexgan_lit.evaluation.contenders import Trained
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.evaluation.settings import EvaluationSettings
    from fexgan_lit.stages import Stages


def find_augmentation(
    contenders: Sequence[Trained], ground: Ground, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Train the classifiers and put their accuracies side by side, a row a run."""
    runs = one_name_a_run(contenders)
    found = measure_accuracies(runs, ground, settings, stage)
    stage("drawing")
    data = ground.data.config
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
        reading="Share of held-out true frames named rightly by a classifier trained on the true frames (×0) and on so "
        "many times as many generated ones besides; ± is the deviation between its seeds. All took the same number of "
        "steps.",
    )
    findings.tables = [seeds_table(found, settings.seed), augmentation_reference()]
    findings.pictures["augmentation"] = figures.accuracy_curves(found.times, found.by_run)
    findings.captions["augmentation"] = (
        "A dot a seed, the line their mean, the band one deviation to either side; ×0 is the true frames alone."
    )
    return findings


def _row(run: Trained, found: Accuracies) -> Row:
    values = found.by_run[run.name]
    cells = {augmented(k): _figure(values[:, i]) for i, k in enumerate(found.times)}
    return Row(run.name, cells, (str(run.run.path),), (run.settings.seed,), {})


def _figure(values: np.ndarray) -> Figure:
    deviation = float(values.std(ddof=1)) if len(values) > 1 else None
    return Figure(float(values.mean()), deviation, None, tuple(values.tolist()))


def seeds_table(found: Accuracies, first_seed: int = 0) -> TextTable:
    """The accuracy of every seed, and what generated frames gain over the true ones alone, seed by seed."""
    count = len(next(iter(found.by_run.values())))
    header = ("", *(f"seed {first_seed + i}" for i in range(count)), "gain over ×0")
    rows = []
    for name, values in found.by_run.items():
        for i, k in enumerate(found.times):
            alone = values[:, found.times.index(0)] if 0 in found.times and k else None
            gain = ABSENT if alone is None else _signed(values[:, i] - alone)
            rows.append((f"{name}, ×{k}", *(f"{value:.3f}" for value in values[:, i]), gain))
    note = "A gain is the mean over the seeds of the difference to ×0 of the same seed, ± its deviation."
    return TextTable("Accuracy of every seed", header, tuple(rows), 0, (note,))


def _signed(differences: np.ndarray) -> str:
    deviation = f" ± {differences.std(ddof=1):.3f}" if len(differences) > 1 else ""
    return f"{differences.mean():+.3f}{deviation}"


def _recipes(found: Accuracies, settings: EvaluationSettings) -> dict[str, str]:
    asked, bounds, recipe = settings.augmentation, JudgeRecipe(), found.recipe
    network = {"judge": "the residual trunk of the judges", "resnet18": "torchvision's ResNet-18"}[asked.network]
    line = (
        f"share of {found.n_test} held-out true frames named rightly; classifier: {network}, from random weights, "
        f"{found.steps} steps of {recipe.batch_size} images by AdamW (one cycle up to {recipe.learning_rate:g}), label "
        f"smoothing {recipe.label_smoothing:g}, shifts, light, blur and noise as for the judges; trained on "
        f"{found.n_real} true frames (of {found.n_train}) and the generated ones, in shuffled passes; frames count "
        f"whose affect shows (intensity {bounds.min_intensity:g} in training, {bounds.held_out_intensity:g} in the "
        "test, or not known, or neutral)"
    )
    return {augmented(k): line if k else f"{line}; no generated frames" for k in found.times}


def _notes(found: Accuracies, settings: EvaluationSettings) -> dict[str, str]:
    asked, seen = settings.augmentation, found.steps * found.recipe.batch_size
    largest = max(found.times)
    alone, with_most = (_often(seen / (found.n_real * (1 + times))) for times in (0, largest))
    notes = {
        "seeds": "each draws the true frames (where real_share is below 1), sources, targets and weights anew; in one "
        "seed all runs are asked for the same faces",
        "labels": "the affect asked for, drawn uniformly over the affects of the true frames; the expression is that "
        "of a true frame of the source's person, or of another person moved onto it where that person never shows it; "
        "true frames the classifier does not have are neither sources nor targets",
        "steps": f"{found.steps} for every classifier, so {seen} images seen; with ×{largest} a frame is seen "
        f"{with_most} times, without generated frames {alone} times (augmentation.images)",
    }
    if asked.real_share < 1:
        notes["real share"] = (
            f"{asked.real_share:g} of the true training frames of every affect; the systems themselves were trained on "
            "all of them, so a gain may be what they remember of the others"
        )
    repeated = [k for k in found.times if k * found.n_real > found.n_pool]
    if repeated:
        notes["repeated faces"] = (
            f"{', '.join(f'×{k}' for k in repeated)}: {found.n_pool} different faces that come again and again "
            "(augmentation.most_generated)"
        )
    return notes


def _often(times: float) -> str:
    return f"{times:.2g}" if times < 10 else f"{times:.0f}"
