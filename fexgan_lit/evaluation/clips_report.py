"""What an evaluation of clips says: standings with intervals over clips, every clip, strips of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.evaluation.breakdown import class_table
from fexgan_lit.evaluation.clips import Clip, clip_scores, clips_of, film, identity_judge
from fexgan_lit.evaluation.clips_pictures import affect_of, clip_name, draw_clips
from fexgan_lit.evaluation.contenders import FLOOR, Ceiling, Contender, Floor, Trained
from fexgan_lit.evaluation.findings import Findings
from fexgan_lit.evaluation.instruments import judge_bench
from fexgan_lit.evaluation.intervals import CONFIDENCE, draw_resamples
from fexgan_lit.evaluation.papers import clips_reference
from fexgan_lit.evaluation.standing import Row, differences, standings
from fexgan_lit.metrics.judge_training import JudgeRecipe
from fexgan_lit.metrics.registry import metric_info
from fexgan_lit.tables import TextTable

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.evaluation.scores import Scores
    from fexgan_lit.evaluation.settings import EvaluationSettings
    from fexgan_lit.metrics.judges import JudgeBench
    from fexgan_lit.stages import Stages


def find_clips(
    contenders: Sequence[Trained], ground: Ground, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Let everyone make the clips of the split and put them side by side."""
    clips, single = clips_of(ground.frames, settings.clips.most, settings.seed)
    judges = judge_bench(ground, settings.metrics, stage).to(settings.device)
    scores = score_clips(contenders, clips, ground, judges, settings, stage)
    resamples = draw_resamples(len(clips), settings.bootstrap, settings.seed)
    rows = standings(scores, resamples)
    data = ground.data.config
    findings = Findings(
        title=f"Clips of {', '.join(dict.fromkeys(c.name for c in contenders))}",
        command=command,
        where=f"{len(clips)} clips ({sum(len(c.rows) for c in clips)} frames) of {data.name}'s {ground.split} split "
        f"(split={data.split}, split_seed={data.split_seed}) at {data.image_size} px",
        rows=rows,
        differences=differences(rows, resamples),
        judges=judges.describe(),
        recipes=_recipes(judges),
        notes=_notes(contenders, ground, settings, single),
        seed=settings.seed,
        reading=f"{CONFIDENCE:.0%} intervals over the clips in brackets; ± is the deviation between seeds.",
    )
    findings.warnings = [*judges.warnings(), *torn_takes(ground)]
    findings.tables.append(clips_reference())
    moving = [row for row in rows if row.name != FLOOR]  # its distances are 0 everywhere
    findings.breakdowns += [_by_affect(row, clips, ground.frames) for row in moving]
    findings.breakdowns.append(every_clip(moving, clips, ground.frames))
    stage("drawing")
    draw_clips(findings, contenders, clips, ground, settings)
    return findings


def score_clips(
    contenders: Sequence[Trained], clips: Sequence[Clip], ground: Ground, judges: JudgeBench,
    settings: EvaluationSettings, stage: Stages,
) -> list[Scores]:  # fmt: skip
    """Ceiling, floor, then every run."""
    from fexgan_lit.metrics.identity_training import embed_rows

    frames, size = ground.frames, ground.image_size
    sources = embed_rows(identity_judge(judges), frames, np.array([clip.source for clip in clips]), size)
    everyone: list[Contender] = [Ceiling(), Floor(), *contenders]
    found = []
    for contender in everyone:
        progress = stage(f"filming {contender.name}")
        filmed = film(
            contender, clips, frames, judges, size, settings.batch_size, settings.clips.strength, progress
        )  # fmt: skip
        found.append(clip_scores(contender, filmed, clips, frames, sources))
    return found


def every_clip(rows: Sequence[Row], clips: Sequence[Clip], frames: FrameSet) -> TextTable:
    """ACD and ACD-I of every clip for everyone, a line a clip."""
    shown = ("acd", "acd_i")
    header = ("clip", "frames", *(f"{row.name}, {metric_info(metric).arrow}" for row in rows for metric in shown))
    lines = [
        (clip_name(clip, frames), str(len(clip.rows)), *(f"{row.columns[m][i]:.3f}" for row in rows for m in shown))
        for i, clip in enumerate(clips)
    ]
    return TextTable("Every clip", header, tuple(lines))


def _by_affect(row: Row, clips: Sequence[Clip], frames: FrameSet) -> TextTable:
    index = np.array([affect_of(clip, frames) for clip in clips])
    return class_table(row, "affect of the take", frames.affects, index, "clips")


def _recipes(judges: JudgeBench) -> dict[str, str]:
    who = identity_judge(judges).describe()
    bound = JudgeRecipe().held_out_intensity
    return {
        "acd": f"mean Euclidean distance between the identity features (length 1, so 0 to 2) of all pairs of frames of "
        f"a clip, mean over the clips; {who}",
        "acd_i": f"mean Euclidean distance of a clip's frames to the picture it was made from, mean over the clips; "
        f"{who}",
        "judge_affect_accuracy": "share of a clip's frames whose affect the judge reads as the true frame's label, "
        f"frames counting where the true one shows it (intensity {bound:g}, not known, or neutral), mean over the "
        "clips; "
        f"{judges.affect.describe()}",
    }


def _notes(
    contenders: Sequence[Trained], ground: Ground, settings: EvaluationSettings, single: int
) -> dict[str, str]:  # fmt: skip
    notes = {
        "source": "the first neutral frame of the person in the split, else the first frame of the take; every frame "
        "of a clip is made from it alone",
        "floor": "the source as a still picture: it keeps its person perfectly, so its ACD and ACD-I are 0. A low ACD "
        "says nothing of a clip that does not move; read it beside the affect, and hold it against the true clips', "
        "which is what a moving face costs by this judge",
        "intervals": "clips of one person are alike, so the intervals hold for other takes of these people",
    }
    labels = [c.name for c in contenders if c.system.reads == {"affect"}]
    if labels and settings.clips.strength == "full":
        notes["strength"] = f"{', '.join(dict.fromkeys(labels))}: told the label alone, so such a clip stands still"
    elif labels:
        known = ground.frames.intensity is not None
        how = "the label times the true frame's intensity" if known else "the label alone, as intensities are not known"
        notes["strength"] = f"{', '.join(dict.fromkeys(labels))}: told {how} (clips.strength)"
    if single:
        notes["left out"] = f"{single} takes with a single frame in this split"
    return notes


def torn_takes(ground: Ground) -> list[str]:
    """A warning where the split holds parts of takes."""
    if ground.data.config.split != "frame" or ground.data.val is None:
        return []
    return [
        "dataset.split=frame tore the takes apart: a clip here holds the frames of a take that fell into this split, "
        "and the systems have seen its neighbours. Train with dataset.split=take for whole clips nobody has seen."
    ]
