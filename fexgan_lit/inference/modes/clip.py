"""`mode=clip`: faces that perform a new motion, drawn from a label."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fexgan_lit.expression import Expression, resolve_affect
from fexgan_lit.inference.animation.timeline import FASTEST, MOST_FRAMES, SLOWEST, Beat, Play
from fexgan_lit.inference.conditions import STRONGEST
from fexgan_lit.inference.modes.animate import write_films
from fexgan_lit.systems.motion_texture.srvf import apply_motion, as_landmarks, as_vectors, resample
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession


@dataclass
class ClipOptions(Options):
    """The motion.

    Attributes:
        affect: the affect at the end of the clip; every clip starts with the source.
        strength: factor on the length of the motion; 1 draws it from the lengths of the training clips.
        steps: number of frames, spread evenly over the motion; None takes one for each point of the motion.
        fps: frames per second.
    """

    affect: str | None = None
    strength: float = option(
        1.0, f"0..{STRONGEST:g}, 1 for a motion as long as the data show it", at_least=0, at_most=STRONGEST
    )
    steps: int | None = option(None, f"2 to {MOST_FRAMES} frames", at_least=2, at_most=MOST_FRAMES)
    fps: float = option(25.0, f"{SLOWEST:g} to {FASTEST:g} frames a second", at_least=SLOWEST, at_most=FASTEST)

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        return [] if self.affect else ["affect= is missing: the affect that the clip ends with, such as affect=joy"]


def clip(session: GenerationSession, options: ClipOptions) -> None:
    """Draw a motion of the affect for every face, and film it: NAME.mp4, NAME.gif, frames/NAME/*.png and strip.png.

    Raises:
        UserError: the run has no motions or never saw one of the affect, or the landmarks of a face are unknown.
    """
    system: Any = session.system
    if not hasattr(system, "draw_motions"):
        raise UserError(
            f"mode=clip: {system.settings.name} has no motions, it changes single frames; expected "
            "run=motion_texture or a run of model=motion_texture. mode=animate lets other runs follow a driver"
        )
    affect = resolve_affect(str(options.affect), system.affects)
    own = session.own("landmarks")  # (N, 68, 2)
    generator = torch.Generator().manual_seed(session.settings.seed)
    index = torch.full((session.count,), system.affects.index(affect))
    q, length = (drawn.cpu() for drawn in system.draw_motions(index, generator))
    curves = as_vectors(apply_motion(q, options.strength * length, own))  # (N, T + 1, 136)
    if options.steps is not None:
        curves = resample(curves, options.steps, by_arc_length=False)
    landmarks = as_landmarks(curves)  # (N, M, 68, 2)
    shown = session.sources.shown.affect
    if shown is not None and "neutral" in system.affects:
        others = (shown.argmax(1) != system.affects.index("neutral")).nonzero().flatten().tolist()
        if others:
            names = ", ".join(session.sources.names[i] for i in others[:5])
            session.say(f"motions start from neutral faces, but {len(others)} sources are not neutral ({names})")
    session.output.measured["motion"] = {
        "affect": affect, "strength": options.strength, "seed": session.settings.seed,
        "length": dict(zip(session.sources.names, (options.strength * length).tolist(), strict=True)),
    }  # fmt: skip
    rate = Fraction(options.fps).limit_denominator(1001)
    times = np.arange(landmarks.shape[1]) / float(rate)
    name = affect if options.strength == 1 else f"{affect} {options.strength:g}"
    play = Play(name, Beat(times, rate), lambda number: Expression(landmarks=landmarks[number]), lambda *_: None)
    write_films(session, play)
