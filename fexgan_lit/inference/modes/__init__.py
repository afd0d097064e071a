"""The modes of `generate` by name, with their options.

To add a mode, add a file to this package with a dataclass derived from `Options` and a function of a
`GenerationSession` and those options, a line below, and its options in `conf/generate.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fexgan_lit.inference.modes.action_units import ActionUnitOptions, action_units
from fexgan_lit.inference.modes.animate import AnimateOptions, animate
from fexgan_lit.inference.modes.blend import BlendOptions, blend
from fexgan_lit.inference.modes.clip import ClipOptions, clip
from fexgan_lit.inference.modes.expressions import ExpressionOptions, expressions
from fexgan_lit.inference.modes.finetune import TuneOptions, tune_run
from fexgan_lit.inference.modes.grid import GridOptions, grid
from fexgan_lit.inference.modes.interpolate import InterpolateOptions, interpolate
from fexgan_lit.inference.modes.prototypes import PrototypeOptions, prototypes
from fexgan_lit.inference.modes.random import RandomOptions, random_faces
from fexgan_lit.inference.modes.search_weights import LambdaOptions, learn_lambda
from fexgan_lit.inference.modes.transform import TransformOptions, transform
from fexgan_lit.inference.session import GenerationSession


class Mode(NamedTuple):
    """A mode of `generate`.

    Attributes:
        options: dataclass of its options.
        make: function that runs the mode and writes to the output folder of the session.
    """

    options: type
    make: Callable[[GenerationSession, Any], None]


MODES = {
    "transform": Mode(TransformOptions, transform),
    "random": Mode(RandomOptions, random_faces),
    "blend": Mode(BlendOptions, blend),
    "expressions": Mode(ExpressionOptions, expressions),
    "grid": Mode(GridOptions, grid),
    "action_units": Mode(ActionUnitOptions, action_units),
    "prototypes": Mode(PrototypeOptions, prototypes),
    "interpolate": Mode(InterpolateOptions, interpolate),
    "animate": Mode(AnimateOptions, animate),
    "clip": Mode(ClipOptions, clip),
    "lambda": Mode(LambdaOptions, learn_lambda),
    "tune": Mode(TuneOptions, tune_run),
}
