"""`protocol=clips`: generate clips frame by frame after real takes and measure how well identity is preserved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.clips import rows_of_takes
from fexgan_lit.data.pairs import FixedPairLoader, FixedPairs
from fexgan_lit.data.reference import telling_rows
from fexgan_lit.evaluation.measure import Scores, check_finite
from fexgan_lit.evaluation.methods import Method, Trained
from fexgan_lit.metrics.distributions import SeededInceptionScore
from fexgan_lit.metrics.identity import acd, acd_i
from fexgan_lit.metrics.judges.affect import JudgeRecipe
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.expression import Expression
    from fexgan_lit.metrics.judges.external import OwnIdentityJudge
    from fexgan_lit.metrics.judges.identity import IdentityJudge
    from fexgan_lit.metrics.judges.panel import JudgePanel


class Clip(NamedTuple):
    """A real take and the source frame of the generated clip.

    Attributes:
        source: row of the source frame in the FrameSet.
        rows: (T,) int64, rows of the take in order of time.
    """

    source: int
    rows: np.ndarray


class Clips(NamedTuple):
    """The clips of a split, and the number of takes left out because they have a single frame."""

    clips: list[Clip]
    single: int


def clips_of(frames: FrameSet, most: int | None = None, seed: int = 0) -> Clips:
    """Return a clip for every take of `frames` with two or more frames.

    Args:
        frames: a split.
        most: the most clips, sampled with `seed`; None takes all.
        seed: seed of the sampling.

    Raises:
        UserError: the data have no takes, or fewer than two takes have two frames.
    """
    takes = rows_of_takes(frames, "take")
    long = [rows for rows in takes if len(rows) > 1]
    if len(long) < 2:
        raise UserError(
            f"protocol=clips: {len(long)} of {len(takes)} takes in this split have two frames or more; expected at "
            "least two such takes. Hold out more takes with dataset.split=take and a larger dataset.val_fraction, or "
            "evaluate on split=train."
        )
    if most is not None and most < len(long):
        chosen = np.sort(np.random.default_rng(seed).choice(len(long), most, replace=False))
        long = [long[i] for i in chosen]
    single = sum(len(rows) < 2 for rows in takes)
    return Clips([Clip(source_of(frames, rows), rows) for rows in long], single)


def source_of(frames: FrameSet, rows: np.ndarray) -> int:
    """Return the first neutral frame of the identity in the take `rows` (T,), or else the first frame of the take."""
    if "neutral" in frames.affects:
        same = frames.identity == frames.identity[rows[0]]
        neutral = np.flatnonzero(same & (frames.affect == frames.affects.index("neutral")))
        if len(neutral):
            return int(neutral[0])
    return int(rows[0])


def wanted_of(batch: PairBatch, frames: FrameSet, reads: frozenset[str], strength: str) -> Expression:
    """Return the target expression of each frame of a clip: all annotations of the real frame.

    A system that reads labels only gets the label; with `strength` = ``follow`` the label is scaled by the intensity of
    the real frame, if that is known.
    """
    wanted = batch.target_expression(len(frames.affects))
    if strength == "full" or reads != {"affect"} or frames.intensity is None or wanted.affect is None:
        return wanted
    known = torch.from_numpy(np.nan_to_num(frames.intensity[batch.target_row.cpu().numpy()], nan=1.0))
    if "neutral" in frames.affects:  # neutral frames have full strength
        known = torch.where(batch.target_affect.cpu() == frames.affects.index("neutral"), 1.0, known)
    return replace(wanted, affect=wanted.affect * known.to(wanted.affect).unsqueeze(1))  # (B, K) * (B, 1)


@torch.no_grad()
def answer(method: Method, batch: PairBatch, frames: FrameSet, strength: str) -> Tensor:
    """Generate frames (B, 3, S, S) in [-1, 1] with a method for the sources and targets of `batch`.

    Raises:
        UserError: a frame has values that are not finite.
    """
    if isinstance(method, Trained):
        system = method.system
        moved = batch.to(system.device)
        wanted = wanted_of(moved, frames, system.reads, strength)
        made = system.synthesize(moved.source, moved.source_expression(len(frames.affects)), wanted)
    else:
        given = method.answer(batch)
        made = given.generated if isinstance(given, ValidationOutput) else given
    check_finite(made, method.name)
    return made


class Filmed(NamedTuple):
    """Outputs of the judges for all frames of a method's clips, one clip after the other.

    Attributes:
        embeddings: (N, E), identity embeddings.
        affect_logits: (N, K).
        landmarks: (N, 68, 2); None without a judge of landmarks.
    """

    embeddings: Tensor
    affect_logits: Tensor
    landmarks: Tensor | None


def film(
    method: Method, clips: Sequence[Clip], frames: FrameSet, judges: JudgePanel, size: int, batch_size: int,
    strength: str, progress: Callable[[int, int], None] | None = None,
) -> Filmed:  # fmt: skip
    """Generate all clips with a method and apply the judges, without keeping the frames."""
    pairs = pairs_of(clips)
    seen, done = [], 0
    for batch in FixedPairLoader(frames, pairs, batch_size, size):
        made = answer(method, batch, frames, strength)
        seen.append((identity_judge(judges).embed(made), judges.affect_logits(made), judges.landmarks(made)))
        done += len(batch)
        if progress is not None:
            progress(done, len(pairs))
    embeddings, logits, landmarks = zip(*seen, strict=True)
    return Filmed(torch.cat(embeddings), torch.cat(logits), None if landmarks[0] is None else torch.cat(landmarks))


def pairs_of(clips: Sequence[Clip]) -> FixedPairs:
    """Return source and target rows of every frame, one clip after the other."""
    source = np.repeat([clip.source for clip in clips], [len(clip.rows) for clip in clips])
    return FixedPairs(source.astype(np.int64), np.concatenate([clip.rows for clip in clips]))


def identity_judge(judges: JudgePanel) -> IdentityJudge | OwnIdentityJudge:
    """Return the identity judge.

    Raises:
        UserError: there is none, since the training split has a single identity.
    """
    if judges.identity is None:
        raise UserError(
            "protocol=clips: ACD is a distance between identity features, but no identity judge can be trained, since "
            "the training split has only one person. Give a face recogniser with metrics.identity_judge.path=FILE."
        )
    return judges.identity


def clip_scores(
    method: Method, filmed: Filmed, clips: Sequence[Clip], frames: FrameSet, sources: Tensor, seed: int = 0
) -> Scores:
    """Compute ACD, ACD-I and the judge's affect accuracy of every clip, and the inception score of all frames.

    Args:
        method: the method that made the clips.
        filmed: outputs of the judges.
        clips: C clips.
        frames: the frames of the split.
        sources: (C, E), identity embeddings of the sources.
        seed: seed of the inception score's shuffle.
    """
    shows = np.isin(np.arange(len(frames)), telling_rows(frames, JudgeRecipe().held_out_intensity))
    ends = np.cumsum([len(clip.rows) for clip in clips])[:-1]
    parts = filmed.embeddings.tensor_split(torch.from_numpy(ends))
    verdicts = np.split(filmed.affect_logits.argmax(dim=1).numpy(), ends)
    inception = SeededInceptionScore(filmed.affect_logits.shape[1], seed)
    inception.update(filmed.affect_logits.softmax(dim=1))
    rights = [_share(v == frames.affect[c.rows], shows[c.rows]) for v, c in zip(verdicts, clips, strict=True)]
    made = Scores(
        method.name,
        {
            "acd": np.array([acd(part) for part in parts]),
            "acd_i": np.array([acd_i(part, source) for part, source in zip(parts, sources, strict=True)]),
            "judge_affect_accuracy": np.array(rights),
        },
        {"is_judge": float(inception.compute()[0])},
        embeddings=(filmed.embeddings, torch.from_numpy(frames.identity[pairs_of(clips).target])),
        landmarks=filmed.landmarks,
    )
    if isinstance(method, Trained):
        made.run, made.seed = str(method.loaded.folder), method.loaded.run.seed
    return made


def _share(right: np.ndarray, counted: np.ndarray) -> float:
    """Return the share of the counted frames that are right; NaN if none is counted."""
    return float(right[counted].mean()) if counted.any() else float("nan")
