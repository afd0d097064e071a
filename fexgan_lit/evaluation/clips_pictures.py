"""Pictures of clips: strips of true frames above what each system makes, and where everyone stands."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.data.pairs import FixedPairLoader
from fexgan_lit.evaluation.clips import Clip, answer, pairs_of
from fexgan_lit.evaluation.contenders import Ceiling, Contender, Trained
from fexgan_lit.evaluation.pictures import standings_figure

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.evaluation.findings import Findings
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.evaluation.settings import EvaluationSettings

#: Frames of a strip, and of a film, at most.
_MOMENTS, _FILMED = 8, 60
#: Frames a second where the data do not know.
_UNKNOWN_RATE = Fraction(10)


def clip_name(clip: Clip, frames: FrameSet) -> str:
    """Who, which affect and which take, as in ``nora, joy, take 3``."""
    take = "" if frames.take is None else f", take {int(frames.take[clip.rows[0]])}"
    return f"{frames.identities[frames.identity[clip.rows[0]]]}, {frames.affects[affect_of(clip, frames)]}{take}"


def affect_of(clip: Clip, frames: FrameSet) -> int:
    """What a take is of: the affect of its first frame that is not neutral, as filmed takes begin so; else neutral."""
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else -1
    shown = frames.affect[clip.rows]
    other = shown[shown != neutral]
    return int(other[0] if len(other) else neutral)


def draw_clips(
    findings: Findings, contenders: Sequence[Trained], clips: Sequence[Clip], ground: Ground,
    settings: EvaluationSettings,
) -> None:  # fmt: skip
    """Put the strips and the standings into `findings`."""
    firsts = list({contender.name: contender for contender in reversed(contenders)}.values())[::-1]
    count = max(1, settings.shown // (1 + len(firsts)))
    shown = shown_clips(clips, ground.frames, count, settings.seed)
    length, strength = max(len(clip.rows) for clip in shown), settings.clips.strength
    findings.pictures["clips"] = strip_sheet(Strips.of(firsts, shown, ground, strength, min(_MOMENTS, length)))
    moments = min(_FILMED, length)
    film = strip_film(Strips.of(firsts, shown, ground, strength, moments))
    findings.films["clips_moving"] = film, film_rate(shown, ground.frames, moments)
    findings.captions["clips_moving"] = "The same clips moving, each over the whole of its take."
    findings.captions["clips"] = (
        "True clips and what each system (first seed) makes of their source, at the same moments."
    )
    findings.pictures["standings"] = standings_figure(findings.rows, findings.headline_metrics())
    findings.captions["standings"] = (
        "A dot a seed, a bar the interval over the clips; green the true clips, dotted the source as a still picture."
    )


def shown_clips(clips: Sequence[Clip], frames: FrameSet, count: int, seed: int) -> list[Clip]:
    """`count` clips at random, as many affects and people among them as can be; neutral takes come last."""
    affect = [affect_of(clip, frames) for clip in clips]
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
    """Some clips at even distances in time, by everyone.

    Attributes:
        sources: (C, 3, S, S) in [-1, 1].
        frames: (C, M, T, 3, S, S) in [-1, 1]; the first of the M makers is the truth.
        clips: C names.
        makers: M names.
    """

    sources: Tensor
    frames: Tensor
    clips: list[str]
    makers: list[str]

    @classmethod
    def of(
        cls, systems: Sequence[Trained], clips: Sequence[Clip], ground: Ground, strength: str, moments: int
    ) -> Strips:  # fmt: skip
        """Let everyone make `moments` frames of every clip; shorter takes show a frame more than once."""
        frames = ground.frames
        chosen = [Clip(c.source, c.rows[np.rint(np.linspace(0, len(c.rows) - 1, moments)).astype(int)]) for c in clips]
        batches = list(FixedPairLoader(frames, pairs_of(chosen), ground.batch_size, ground.image_size))
        makers: list[Contender] = [Ceiling("true clip"), *systems]
        made = torch.stack(
            [torch.cat([answer(maker, batch, frames, strength).cpu() for batch in batches]) for maker in makers]
        )
        by_clip = made.unflatten(1, (len(chosen), moments)).transpose(0, 1)  # (M, C*T, ...) -> (C, M, T, ...)
        sources = torch.cat([batch.source for batch in batches])[::moments]
        return cls(sources, by_clip, [clip_name(clip, frames) for clip in chosen], [maker.name for maker in makers])


def strip_sheet(strips: Strips) -> Image.Image:
    """The true frames above what each system makes, time from left to right."""
    moments = strips.frames.shape[2]
    labels = [f"{100 * i / (moments - 1):.0f}%" for i in range(moments)]
    return figures.clip_strips(strips.sources, strips.frames, strips.clips, strips.makers, labels)


def strip_film(strips: Strips) -> np.ndarray:
    """The same side by side and moving, (T, H, W, 3) uint8 RGB: a row a clip, a column a maker."""
    pages = [
        figures.complex_grid(
            strips.sources, strips.frames[:, :, t], strips.clips, strips.makers, reference_label="source"
        )
        for t in range(strips.frames.shape[2])
    ]
    return np.stack([np.asarray(page) for page in pages])


def film_rate(clips: Sequence[Clip], frames: FrameSet, moments: int) -> Fraction:
    """Frames a second at which `moments` frames last as long as the true takes do on average, else 10."""
    if frames.time_s is None:
        return _UNKNOWN_RATE
    seconds = float(np.mean([frames.time_s[clip.rows[-1]] - frames.time_s[clip.rows[0]] for clip in clips]))
    return Fraction((moments - 1) / seconds).limit_denominator(100) if seconds > 0 else _UNKNOWN_RATE
