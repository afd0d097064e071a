"""StarGAN's networks for export."""

from __future__ import annotations

from torch import nn

from fexgan_lit.systems.export import Answering, Exported, affect_input, face_input


def stargan_parts(generator: nn.Module, critic: nn.Module, size: int, affects: tuple[str, ...]) -> dict[str, Exported]:
    """Return generator and critic for export."""
    face = face_input(size)
    made = {"face": "face with the wanted affects, RGB in [-1, 1]"}
    answers = {"scores": "Wasserstein scores of the four quarters", "affects": "logits of the affects"}
    return {
        "generator": Exported(generator, {"image": face, "affect": affect_input(affects)}, made),
        "critic": Exported(Answering(critic), {"image": face}, answers),
    }
