"""`protocol=unseen`: people that no run has seen, zero-shot and after tuning on a few frames of each of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.data.config import STUDIOS
from fexgan_lit.data.pairs import PairBatch, fixed_pairs, pair_batch, pair_labels
from fexgan_lit.data.reference import telling_rows
from fexgan_lit.data.rendered import render_new_people
from fexgan_lit.evaluation.figures import comparison_sheet, shown_pairs
from fexgan_lit.evaluation.measure import Scores, judge_bench, score
from fexgan_lit.evaluation.methods import Method, RealImages, SourceCopy, Trained
from fexgan_lit.evaluation.protocols.augmented_data import chosen_frames
from fexgan_lit.evaluation.protocols.quality import Counted
from fexgan_lit.evaluation.report import Findings
from fexgan_lit.evaluation.summary import Row
from fexgan_lit.metrics.groups import GeometryMetrics, IdentityMetrics, JudgeMetrics, PixelMetrics, SourceEmbeddings
from fexgan_lit.metrics.judges.affect import Judge
from fexgan_lit.metrics.judges.identity import embed_rows, gallery_and_probes
from fexgan_lit.metrics.registry import metric_info
from fexgan_lit.metrics.suite import MetricGroup, MetricSuite
from fexgan_lit.systems.base import EditsSeveral
from fexgan_lit.systems.gan import MovingAverageSystem
from fexgan_lit.training.trainer import quiet_lightning
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.evaluation.config import EvaluationSettings, UnseenSettings
    from fexgan_lit.evaluation.test_set import TestSet
    from fexgan_lit.metrics.judges.external import OwnIdentityJudge
    from fexgan_lit.metrics.judges.identity import IdentityJudge
    from fexgan_lit.metrics.judges.panel import JudgePanel
    from fexgan_lit.systems.base import ExpressionSystem
    from fexgan_lit.utils.console import Stages

#: Pairs in a batch of a tuning.
BATCH = 16

#: Metrics that are drawn against the number of frames.
_CURVES = ("ssim", "judge_affect_accuracy", "rank1", "identity_cosine", "au_error", "landmark_error")


def unseen_people(data: FrameDataModule, people: int, stage: Stages) -> tuple[FrameSet, str]:
    """Return frames of at most `people` people that the run has not seen, and a description of them.

    They are the validation people of a run with `dataset.split=identity`, else new characters of the run's studio.

    Raises:
        UserError: the run has seen all people of its data, and they are not a studio's.
    """
    config = data.config
    if config.split == "identity" and data.val is not None:
        known = np.unique(data.val.identity)[:people]
        frames = chosen_frames(data.val, np.flatnonzero(np.isin(data.val.identity, known)))
        return frames, f"people of {config.name}'s validation split (split=identity)"
    if config.layout_name in STUDIOS:
        frames = render_new_people(data, people, stage("rendering new people"))
        return frames, f"new characters of {config.name}, after the {config.identities} of the run"
    raise UserError(
        f"protocol=unseen: this run has seen every person of {config.name} (dataset.split={config.split}). Expected a "
        "run that holds out whole people (dataset.split=identity), or a run on a studio, which can render new ones."
    )


def tuning_and_test_rows(frames: FrameSet, most: int, seed: int) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Divide the frames of every person into those a system may be tuned on and those it is measured on.

    With takes, the first half of the takes of each affect (at least one of two) is for tuning; without, or with one
    take, half of the frames of each affect, drawn at random.

    Args:
        frames: the frames of the people.
        most: number of tuning frames of each person.
        seed: seed of the division and of the order.

    Returns:
        By person, `most` tuning rows that clearly show their affects, the affects in turn and neutral first, so that
        the first n are what a user with n frames would have; and the rows (m,) for the measurement.

    Raises:
        UserError: a person has fewer tuning frames than `most`.
    """
    rng = np.random.default_rng(seed)
    telling = np.isin(np.arange(len(frames)), telling_rows(frames, 0.5))
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else 0
    order = sorted(range(len(frames.affects)), key=lambda k: k != neutral)
    tuning: dict[int, np.ndarray] = {}
    held: list[np.ndarray] = []
    for who in np.unique(frames.identity).tolist():
        by_affect = []
        for k in order:
            mine = np.flatnonzero((frames.identity == who) & (frames.affect == k))
            takes = np.unique(mine if frames.take is None else frames.take[mine])
            if frames.take is not None and len(takes) > 1:
                first = np.isin(frames.take[mine], takes[: max(1, len(takes) // 2)])
            else:
                first = rng.permutation(len(mine)) < len(mine) // 2
            held.append(mine[~first])
            by_affect.append(rng.permutation(mine[first & telling[mine]]).tolist())
        longest = max(map(len, by_affect), default=0)
        turns = [rows[turn] for turn in range(longest) for rows in by_affect if turn < len(rows)]
        tuning[who] = np.array(turns[:most], np.int64)
    fewest = min(tuning, key=lambda who: len(tuning[who]))
    if (count := len(tuning[fewest])) < most:
        raise UserError(
            f"unseen.frames: {frames.identities[fewest]} has {count} frames to tune on (half of the takes or "
            f"frames, where the affect shows); expected at least {most}. Ask for fewer, such as "
            f"'unseen.frames=[1,{max(1, count)}]'."
        )
    return tuning, np.sort(np.concatenate(held))


@dataclass(frozen=True, eq=False)
class WithFrames(Trained):
    """A system that knows some frames of each person: copies that were tuned on them, or one that combines them.

    Attributes:
        synthesize: a function like `ExpressionSystem.synthesize` by index of the person.
    """

    synthesize: dict[int, Callable[..., Tensor]]

    def answer(self, batch: PairBatch) -> Tensor:  # type: ignore[override]
        """Return images (B, 3, S, S) in [-1, 1], each by the function of its person."""
        made, K = torch.empty_like(batch.source), len(self.system.affects)
        for who, synthesize in self.synthesize.items():
            mine = batch.identity == who
            if mine.any():
                part = batch[mine]  # type: ignore[index]
                made[mine] = synthesize(part.source, part.source_expression(K), part.target_expression(K)).to(
                    made.dtype
                )
        return made


class TuningBatches:
    """Batches of pairs among a few frames of one person, and of pairs of the run's training frames.

    Args:
        frames: the frames of the people.
        rows: (n,) the frames of the person; with one frame, a pair is the frame with itself.
        data: the run's data.
        options: steps and the share of the run's own pairs, which keep the system from forgetting and batch
            normalisation from statistics over copies of one frame.
        seed: seed of the pairs.
    """

    def __init__(
        self, frames: FrameSet, rows: np.ndarray, data: FrameDataModule, options: UnseenSettings, seed: int
    ) -> None:
        self.frames, self.rows, self.data, self.options, self.seed = frames, rows, data, options, seed

    def __len__(self) -> int:
        return self.options.steps

    def __iter__(self) -> Iterator[PairBatch]:
        rng = np.random.default_rng(self.seed)
        loader, size = self.data.train_dataloader(), self.data.config.image_size
        kept = min(round(self.options.keep * BATCH), self.data.config.batch_size)
        for step in range(self.options.steps):
            rows = rng.choice(self.rows, 2 * (BATCH - kept))
            points = None if self.frames.landmarks is None else self.frames.landmarks[rows]
            new = pair_batch(self.frames.floats(rows, size), pair_labels(self.frames, rows, points))
            yield joined(new, loader.batch(*divmod(step, len(loader)))[:kept]) if kept else new


def joined(first: PairBatch, second: PairBatch) -> PairBatch:
    """Return the pairs of two batches; annotations that one of them lacks are left out."""
    both = {f.name: (getattr(first, f.name), getattr(second, f.name)) for f in fields(first)}
    values: dict[str, Any] = {
        name: None if a is None or b is None else torch.cat([a, b]) for name, (a, b) in both.items()
    }
    return PairBatch(**values)


def tune(system: ExpressionSystem, batches: TuningBatches, judges: JudgePanel) -> ExpressionSystem:
    """Continue the training of a copy of `system` with its own `training_step`, and return the copy.

    Run folders keep the moving average of the generator alone, so the copy's generator starts from it. No system
    classifies identities in training, so a new person needs nothing else.

    Raises:
        UserError: the system lacks something that it needs in training, such as the network of a perceptual loss.
    """
    from lightning.fabric.plugins.environments import LightningEnvironment
    from lightning.pytorch import Trainer

    quiet_lightning()
    tuned = copy.deepcopy(system).requires_grad_(True)
    if isinstance(tuned, MovingAverageSystem):
        tuned.average.requires_grad_(False)
        tuned.generator.load_state_dict(tuned.average.state_dict())
    judge = judges.affect if isinstance(judges.affect, Judge) else None
    tuned.prepare(batches.data.train, lambda: judge)
    trainer = Trainer(
        accelerator="cpu" if system.device.type == "cpu" else "auto", devices=1, max_steps=batches.options.steps,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=0, plugins=[LightningEnvironment()],
    )  # fmt: skip
    trainer.fit(tuned.train(), train_dataloaders=batches)
    tuned.trainer = None
    return tuned.to(system.device).eval().requires_grad_(False)


def row_name(method: str, frames: int) -> str:
    """Return the name of the row of a system that was tuned on a number of frames of each person; 0 is zero-shot."""
    return f"{method}, {frames} frame{'' if frames == 1 else 's'}"


def find_unseen(
    methods: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Score all methods on people that no run has seen, before and after tuning on some of their frames."""
    options, data = settings.unseen, test_set.data
    shots = sorted(set(options.frames))
    everyone, who = unseen_people(data, options.people, stage)
    tuning, measured = tuning_and_test_rows(everyone, max([1, *shots]), settings.seed)
    frames = chosen_frames(everyone, measured)
    pairs = fixed_pairs(
        frames, data.config.split_seed, options.pairs * len(tuning), data.config.min_target_intensity
    )  # fmt: skip
    there = replace(test_set, frames=frames, pairs=pairs)
    judges = judge_bench(test_set, settings.metrics, stage).to(settings.device)
    names = ", ".join(frames.identities[k] for k in tuning)
    where = f"{len(pairs)} pairs of {len(tuning)} unseen people ({names}): {who}, at {data.config.image_size} px"
    scores, shown, notes = score_unseen(methods, there, everyone, tuning, judges, where, settings, stage)
    findings = Findings.of(
        scores, methods, judges, settings, title="Unseen people of", command=command, where=where,
        notes={
            "judges": "those of the run, trained on its people; the row of the true frames shows what they see here. A "
            "system that draws one of its own people may be read better than the true frames: see SSIM and Rank-1, "
            "whose gallery holds the people of the run, too",
            **({"tuning": _tuning_note(options)} if shots and options.steps else {}),
            **notes,
        },
    )  # fmt: skip
    zero_shot = {row_name(m.name, 0): f"{m.name}, " for m in methods}
    findings.differences = [
        d for d in findings.differences if d.first in zero_shot and d.second.startswith(zero_shot[d.first])
    ]
    stage("drawing")
    draw_unseen(findings, methods, findings.rows, shots)
    findings.add(
        "comparison", comparison_sheet(there, shown, shown_pairs(there, settings.shown, settings.seed)),
        "Sources of unseen people, their true targets, and the image of each system (first seed), zero-shot and after "
        "tuning on the most frames.",
    )  # fmt: skip
    return findings


def score_unseen(
    methods: Sequence[Trained], test_set: TestSet, everyone: FrameSet, tuning: dict[int, np.ndarray],
    judges: JudgePanel, where: str, settings: EvaluationSettings, stage: Stages,
) -> tuple[list[Scores], list[Trained], dict[str, str]]:  # fmt: skip
    """Score the real images, the unchanged sources, then every run, zero-shot and tuned.

    Args:
        methods: the systems.
        test_set: the pairs of the unseen people.
        everyone: all their frames.
        tuning: rows of `everyone` for tuning, by person.
        judges: the judges.
        where: description of the pairs.
        settings: the settings of the evaluation.
        stage: opens progress bars.

    Returns:
        The scores, also of systems that edit the source and a person's frames at once; the systems to draw, zero-shot
        and after the most frames; and notes on systems that cannot be tuned.
    """
    options, suite = settings.unseen, unseen_suite(judges, test_set, where)
    shown: list[Trained] = []
    notes: dict[str, str] = {}

    def measured(method: Method) -> Scores:
        progress = Counted(stage(f"measuring {method.name}"), len(test_set.pairs))
        return score(method, test_set.loader(), suite(), progress)

    scores = [measured(RealImages()), measured(SourceCopy())]
    for method in methods:
        shown.append(replace(method, name=row_name(method.name, 0)))
        scores.append(measured(shown[-1]))
        tuned: dict[int, Callable[..., Tensor]] = {}
        try:
            for n in sorted(set(options.frames)) if options.steps else ():
                progress = stage(f"tuning {row_name(method.name, n)}")
                for number, (person, own) in enumerate(tuning.items()):
                    progress(number, len(tuning))
                    batches = TuningBatches(everyone, own[:n], test_set.data, options, settings.seed)
                    tuned[person] = tune(method.system, batches, judges).synthesize
                scores.append(measured(WithFrames(row_name(method.name, n), method.loaded, tuned)))
        except UserError as error:
            name = f"{method.name}, cannot be tuned"
            notes[name] = str(error)
            scores.append(Scores(name, run=str(method.loaded.folder), seed=method.loaded.run.seed))
        if tuned and f"{method.name}, cannot be tuned" not in notes:
            shown.append(WithFrames(row_name(method.name, max(options.frames)), method.loaded, tuned))
        system = method.system
        if not isinstance(system, EditsSeveral):
            continue
        for n in sorted(set(options.frames)):
            together: dict[int, Callable[..., Tensor]] = {}
            for person, own in tuning.items():
                others = everyone.floats(own[:n], test_set.image_size).to(method.system.device)
                together[person] = partial(system.synthesize_among, others=others)
            scores.append(measured(WithFrames(f"{row_name(method.name, n)} at once", method.loaded, together)))
    return scores, shown, notes


def unseen_suite(judges: JudgePanel, test_set: TestSet, where: str) -> Callable[[], MetricSuite]:
    """Return a function that makes suites: pixels, affect, geometry, and identity among the unseen people."""
    sources = None if judges.identity is None else embeddings_among_known(judges.identity, test_set)

    def make() -> MetricSuite:
        groups: list[MetricGroup] = [PixelMetrics(), JudgeMetrics(judges.affect, f1=True, people=False)]
        if judges.geometry is not None or judges.units is not None:
            groups.append(GeometryMetrics(judges))
        return MetricSuite([*groups, *([] if sources is None else [IdentityMetrics(sources, rates=False)])], where)

    return make


def embeddings_among_known(judge: IdentityJudge | OwnIdentityJudge, test_set: TestSet) -> SourceEmbeddings | None:
    """Embed the frames of the unseen people, with the people of the run in the gallery beside them.

    A system that draws one of its own people in place of a new one then has a low Rank-1. None if there is no gallery.
    """
    found = SourceEmbeddings.of(judge, test_set.frames, test_set.image_size)
    if found is None:
        return None
    train = test_set.data.train
    known, _ = gallery_and_probes(train)
    embeddings = [found.frames, embed_rows(judge, train, known, test_set.image_size)] if len(known) else [found.frames]
    identity = torch.from_numpy(train.identity[known]) + len(test_set.frames.identities)
    gallery = np.concatenate([found.gallery, len(found.frames) + np.arange(len(known))])
    return replace(
        found, frames=torch.cat(embeddings), gallery=gallery, identity=torch.cat([found.identity, identity])
    )  # fmt: skip


def _tuning_note(options: UnseenSettings) -> str:
    return (
        f"{options.steps} training steps of a copy of the system for every person, with its own losses and optimizers, "
        f"on batches of {BATCH} pairs: {1 - options.keep:.0%} among the person's frames, {options.keep:.0%} of the "
        "run's training frames; frames for tuning are never measured"
    )


def draw_unseen(findings: Findings, methods: Sequence[Trained], rows: Sequence[Row], shots: Sequence[int]) -> None:
    """Add the curves over the number of frames to `findings`."""
    by_name = {row.name: row for row in rows}
    panels: dict[str, dict[str, np.ndarray]] = {}
    for metric in _CURVES:
        for name in dict.fromkeys(method.name for method in methods):
            places = [row_name(name, n) for n in (0, *shots)]
            known = [by_name[place].figures.get(metric) for place in places if place in by_name]
            if len(known) == len(places) and all(figure is not None for figure in known):
                line = np.array([figure.mean for figure in known if figure is not None])
                panels.setdefault(metric_info(metric).arrow, {})[name] = line
    for row in rows[:2]:  # the ceiling and the floor
        for metric in _CURVES:
            title = metric_info(metric).arrow
            if title in panels and metric in row.figures:
                panels[title][row.name] = np.full(len(shots) + 1, row.figures[metric].mean)
    if shots and panels:
        picture = figures.line_panels([0, *shots], panels, "frames of the person", equal_steps=True)
        findings.add("unseen", picture, "Every metric against the number of frames that the systems were tuned on.")
