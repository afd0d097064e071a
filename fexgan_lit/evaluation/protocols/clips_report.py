"""The report of `protocol=clips`: metrics with intervals over clips, a table of all clips, frame strips and films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.data.clips import affect_of_take
from fexgan_lit.data.pairs import FixedPairLoader
from fexgan_lit.evaluation.figures import identity_sheet
from fexgan_lit.evaluation.measure import judge_bench
from fexgan_lit.evaluation.methods import FLOOR, Method, RealImages, SourceCopy, Trained
from fexgan_lit.evaluation.protocols.clips import Clip, answer, clip_scores, clips_of, film, identity_judge, pairs_of
from fexgan_lit.evaluation.protocols.motions import generators, motions_table, redirections
from fexgan_lit.evaluation.report import Findings
from fexgan_lit.evaluation.tables import class_table, clips_reference
from fexgan_lit.metrics.distributions import SPLITS
from fexgan_lit.metrics.judges.affect import JudgeRecipe
from fexgan_lit.metrics.registry import metric_info
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.tables import TextTable

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.evaluation.measure import Scores
    from fexgan_lit.evaluation.summary import Row
    from fexgan_lit.evaluation.test_set import TestSet
    from fexgan_lit.metrics.judges.panel import JudgePanel
    from fexgan_lit.utils.console import Stages


#: The most frames of a strip and of a film.
_MOMENTS, _FILMED = 8, 60


#: Frames per second if the data have no times.
_UNKNOWN_RATE = Fraction(10)


def clip_name(clip: Clip, frames: FrameSet) -> str:
    """Return identity, affect and take of a clip, such as ``nora, joy, take 3``."""
    take = "" if frames.take is None else f", take {int(frames.take[clip.rows[0]])}"
    affect = frames.affects[affect_of_take(frames, clip.rows)]
    return f"{frames.identities[frames.identity[clip.rows[0]]]}, {affect}{take}"


def draw_clips(
    findings: Findings, methods: Sequence[Trained], scores: Sequence[Scores], clips: Sequence[Clip],
    test_set: TestSet, settings: EvaluationSettings,
) -> None:  # fmt: skip
    """Add the strips, the film, the standings figure and the identity map to `findings`."""
    firsts = list({method.name: method for method in reversed(methods)}.values())[::-1]
    count = max(1, settings.shown // (1 + len(firsts)))
    shown = shown_clips(clips, test_set.frames, count, settings.seed)
    length, strength = max(len(clip.rows) for clip in shown), settings.clips.strength
    findings.add(
        "clips", strip_sheet(Strips.of(firsts, shown, test_set, strength, min(_MOMENTS, length))),
        "True clips, and the clips that each system (first seed) generates from their source, at the same moments.",
    )  # fmt: skip
    moments = min(_FILMED, length)
    film = strip_film(Strips.of(firsts, shown, test_set, strength, moments))
    findings.films["clips_moving"] = film, film_rate(shown, test_set.frames, moments)
    findings.captions["clips_moving"] = "The same clips as a film, each over its whole take."
    findings.draw_standings("clips", "the true clips", "the source as still image")
    true, names = scores[0].embeddings, test_set.frames.identities
    if true is not None and (drawn := identity_sheet(scores, true, names, settings.seed, "pca")):
        picture, note = drawn
        findings.add("identity_map", picture, f"Identity features of the frames of clips, true ones faint: {note}.")


def shown_clips(clips: Sequence[Clip], frames: FrameSet, count: int, seed: int) -> list[Clip]:
    """Choose `count` random clips that cover many affects and identities; neutral takes come last."""
    affect = [affect_of_take(frames, clip.rows) for clip in clips]
    person = [int(frames.identity[clip.rows[0]]) for clip in clips]
    dull = [frames.affects[k] == "neutral" for k in affect]
    chosen: list[int] = []
    left = np.random.default_rng(seed).permutation(len(clips)).tolist()
    while left and len(chosen) < count:
        affects, people = ([kinds[i] for i in chosen] for kinds in (affect, person))
        costs = [(affects.count(affect[i]) + dull[i], people.count(person[i])) for i in left]
        chosen.append(left.pop(min(range(len(left)), key=costs.__getitem__)))
    return [clips[i] for i in chosen]


class Strips(NamedTuple):
    """Evenly spaced frames of some clips, real and generated.

    Attributes:
        sources: (C, 3, S, S) in [-1, 1].
        frames: (C, M, T, 3, S, S) in [-1, 1]; the first of the M methods is the real clip.
        clips: names of the C clips.
        makers: names of the M methods.
    """

    sources: Tensor
    frames: Tensor
    clips: list[str]
    makers: list[str]

    @classmethod
    def of(
        cls, systems: Sequence[Trained], clips: Sequence[Clip], test_set: TestSet, strength: str, moments: int
    ) -> Strips:  # fmt: skip
        """Generate `moments` frames of every clip with every system; shorter takes repeat frames."""
        frames = test_set.frames
        chosen = [Clip(c.source, c.rows[np.rint(np.linspace(0, len(c.rows) - 1, moments)).astype(int)]) for c in clips]
        batches = list(FixedPairLoader(frames, pairs_of(chosen), test_set.batch_size, test_set.image_size))
        makers: list[Method] = [RealImages("true clip"), *systems]
        made = torch.stack(
            [torch.cat([answer(maker, batch, frames, strength).cpu() for batch in batches]) for maker in makers]
        )
        by_clip = made.unflatten(1, (len(chosen), moments)).transpose(0, 1)  # (M, C*T, ...) -> (C, M, T, ...)
        sources = torch.cat([batch.source for batch in batches])[::moments]
        return cls(sources, by_clip, [clip_name(clip, frames) for clip in chosen], [maker.name for maker in makers])


def strip_sheet(strips: Strips) -> Image.Image:
    """Draw the real frames above those of each system, time from left to right."""
    moments = strips.frames.shape[2]
    labels = [f"{100 * i / (moments - 1):.0f}%" for i in range(moments)]
    return figures.clip_strips(strips.sources, strips.frames, strips.clips, strips.makers, labels)


def strip_film(strips: Strips) -> np.ndarray:
    """Return the strips as a film, (T, H, W, 3) uint8 RGB, with a row per clip and a column per method."""
    pages = [
        figures.complex_grid(
            strips.sources, strips.frames[:, :, t], strips.clips, strips.makers, reference_label="source"
        )
        for t in range(strips.frames.shape[2])
    ]
    return np.stack([np.asarray(page) for page in pages])


def film_rate(clips: Sequence[Clip], frames: FrameSet, moments: int) -> Fraction:
    """Return the frame rate at which `moments` frames last as long as the real takes on average; 10 without times."""
    if frames.time_s is None:
        return _UNKNOWN_RATE
    seconds = float(np.mean([frames.time_s[clip.rows[-1]] - frames.time_s[clip.rows[0]] for clip in clips]))
    return Fraction((moments - 1) / seconds).limit_denominator(100) if seconds > 0 else _UNKNOWN_RATE


def find_clips(
    methods: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Generate the clips of the split with every system, score and compare them."""
    clips, single = clips_of(test_set.frames, settings.clips.most, settings.seed)
    judges = judge_bench(test_set, settings.metrics, stage).to(settings.device)
    scores = score_clips(methods, clips, test_set, judges, settings, stage)
    findings = Findings.of(
        scores, methods, judges, settings, title="Clips of", command=command, over="clips",
        where=test_set.describe(f"{len(clips)} clips ({sum(len(c.rows) for c in clips)} frames)"),
        notes=_notes(methods, test_set, settings, single),
    )  # fmt: skip
    findings.recipes = _recipes(judges)
    findings.warnings += torn_takes(test_set)
    stage("measuring motions of landmarks")
    try:
        findings.tables.append(motions_table(methods, scores, clips, test_set, settings.seed))
    except UserError as error:
        findings.notes["motions of landmarks"] = f"not measured: {error}"
    findings.tables.append(clips_reference())
    moving = [row for row in findings.rows if row.name != FLOOR]  # all its distances are 0
    frames = test_set.frames
    affect = np.array([affect_of_take(frames, clip.rows) for clip in clips])
    findings.breakdowns += [class_table(row, "affect of the take", frames.affects, affect, "clips") for row in moving]
    findings.breakdowns.append(every_clip(moving, clips, frames))
    stage("drawing")
    draw_clips(findings, methods, scores, clips, test_set, settings)
    return findings


def score_clips(
    methods: Sequence[Trained], clips: Sequence[Clip], test_set: TestSet, judges: JudgePanel,
    settings: EvaluationSettings, stage: Stages,
) -> list[Scores]:  # fmt: skip
    """Score the real images, the unchanged sources, every run, and then other motions of systems that draw motions."""
    from fexgan_lit.metrics.judges.identity import embed_rows

    frames, size = test_set.frames, test_set.image_size
    sources = embed_rows(identity_judge(judges), frames, np.array([clip.source for clip in clips]), size)
    usual: list[Method] = [RealImages(), SourceCopy(), *methods]
    everyone = [(method, frames) for method in usual]
    for drawing in generators(methods):
        moved = redirections(drawing, clips, test_set, settings.seed)
        everyone += [(replace(drawing, name=name), other) for name, other in moved.items()]
    found = []
    for method, shown in everyone:
        progress = stage(f"generating clips: {method.name}")
        filmed = film(
            method, clips, shown, judges, size, settings.batch_size, settings.clips.strength, progress
        )  # fmt: skip
        found.append(clip_scores(method, filmed, clips, frames, sources, settings.seed))
    return found


def every_clip(rows: Sequence[Row], clips: Sequence[Clip], frames: FrameSet) -> TextTable:
    """Build a table of ACD and ACD-I for every clip and method."""
    shown = ("acd", "acd_i")
    header = ("clip", "frames", *(f"{row.name}, {metric_info(metric).arrow}" for row in rows for metric in shown))
    lines = [
        (clip_name(clip, frames), str(len(clip.rows)), *(f"{row.columns[m][i]:.3f}" for row in rows for m in shown))
        for i, clip in enumerate(clips)
    ]
    return TextTable("Every clip", header, tuple(lines))


def _recipes(judges: JudgePanel) -> dict[str, str]:
    who = identity_judge(judges).describe()
    bound = JudgeRecipe().held_out_intensity
    return {
        "acd": f"mean Euclidean distance between the identity features (length 1, so 0 to 2) of all pairs of frames of "
        f"a clip, mean over the clips; {who}",
        "acd_i": f"mean Euclidean distance between the identity features of a clip's frames and of its source, mean "
        f"over the clips; {who}",
        "judge_affect_accuracy": "share of a clip's frames that the judge classifies as the true frame's label, over "
        f"frames with a true intensity of {bound:g} or more, unknown intensity or neutral, mean over the clips; "
        f"{judges.affect.describe()}",
        "is_judge": "inception score of all frames of the clips: exponential of the mean KL divergence of the judge's "
        f"affect probabilities from their mean, {SPLITS} shuffled splits, mean; {judges.affect.describe()}",
    }


def _notes(
    methods: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, single: int
) -> dict[str, str]:  # fmt: skip
    notes = {
        "source": "the first neutral frame of the person in the split, or else the first frame of the take; every "
        "frame of a clip is generated from it",
        "floor": "the source as a still image: it preserves identity perfectly, so its ACD and ACD-I are 0. A low ACD "
        "means little for a clip that does not move: read it together with the affect, and compare it with the ACD of "
        "the true clips, which is that of a moving face by this judge",
        "intervals": "clips of one person are similar, so the intervals hold for other takes of these people only",
    }
    labels = [c.name for c in methods if c.system.reads == {"affect"}]
    if labels and settings.clips.strength == "full":
        notes["strength"] = f"{', '.join(dict.fromkeys(labels))}: gets only the label, so its clips do not move"
    elif labels:
        known = test_set.frames.intensity is not None
        how = "the label times the true frame's intensity" if known else "only the label, as intensities are not known"
        notes["strength"] = f"{', '.join(dict.fromkeys(labels))}: gets {how} (clips.strength)"
    if generators(methods):
        notes["motion"] = (
            "a system that draws motions has three rows: it follows the landmarks of the true frames; a straight way "
            "to the mean apex of the affect; and a motion that it draws from the label. The last two know of the true "
            "clip only its first landmarks, its affect, and when its apex is"
        )
    if single:
        notes["left out"] = f"{single} takes that have a single frame in this split"
    return notes


def torn_takes(test_set: TestSet) -> list[str]:
    """Return a warning if the split holds parts of takes."""
    if test_set.data.config.split != "frame" or test_set.data.val is None:
        return []
    return [
        "dataset.split=frame divides takes between the splits: a clip has only the frames of its take in this split, "
        "and the systems were trained on the others. Train with dataset.split=take to hold out whole clips."
    ]
