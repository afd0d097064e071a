"""Verification that an exported network gives the same outputs as the original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fexgan_lit.inference.export.config import TOLERANCE
from fexgan_lit.systems.export import Exported
from fexgan_lit.utils.errors import UserError

#: Batch sizes that are compared; the export uses a batch of 2.
BATCHES = (1, 3)
EXAMPLE_BATCH = 2


def answers(part: Exported, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the outputs of the network in order."""
    with torch.no_grad():
        found = part.module(**inputs)
    return [found] if isinstance(found, Tensor) else list(found)


def greatest_difference(part: Exported, run: Callable[[Mapping[str, Tensor]], Sequence[Tensor]]) -> float:
    """Return the greatest difference of the outputs from those of `run` over several batch sizes; infinite for NaN."""
    worst = 0.0
    for batch in BATCHES:
        inputs = part.draw(batch, seed=batch)
        for ours, theirs in zip(answers(part, inputs), run(inputs), strict=True):
            off = (ours - theirs).abs().nan_to_num(nan=float("inf"))
            worst = max(worst, float(off.max()))
    return worst


def accept(part: str, difference: float, path: Path) -> None:
    """Remove the file and raise a UserError if the difference exceeds `TOLERANCE`."""
    if difference <= TOLERANCE:
        return
    path.unlink(missing_ok=True)
    raise UserError(
        f"the {part} written to {path.name} differs from PyTorch's by {difference:.2g}; allowed is {TOLERANCE:g}; the "
        "file was removed. Try another opset= or another version of torch or onnxruntime"
    )
