"""GANimation's networks for other programs."""

from __future__ import annotations

from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.systems.exported import Answering, Exported, Input, face_input
from fexgan_lit.systems.ganimation.networks import Generator

_UNITS = f"action units {', '.join(map(str, ACTION_UNITS))}"


class GeneratorPart(nn.Module):
    """The generator's answer as a plain tuple."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, aus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`image` (B, 3, S, S), `aus` (B, 17) -> face (B, 3, S, S), attention (B, 1, S, S), colour (B, 3, S, S)."""
        painted = self.generator(image, aus)
        return painted.image, painted.attention, painted.colour


def ganimation_parts(generator: Generator, critic: nn.Module, size: int) -> dict[str, Exported]:
    """The whole generator and the critic."""
    face = face_input(size)
    units = Input((len(ACTION_UNITS),), f"wanted intensity 0..1 of {_UNITS}")
    made = {"face": "face with the wanted action units, RGB in [-1, 1]",
            "attention": "mask in 0..1, 1 keeps the input", "colour": "what is painted, RGB in [-1, 1]"}  # fmt: skip
    answers = {"scores": "Wasserstein scores of the four quarters", "aus": f"{_UNITS} as read, about 0..1"}
    return {
        "generator": Exported(GeneratorPart(generator), {"image": face, "aus": units}, made),
        "critic": Exported(Answering(critic), {"image": face}, answers),
    }
