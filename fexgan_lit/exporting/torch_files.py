"""`torch.export` programs (`.pt2`) with a dynamic batch: they run without this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fexgan_lit.exporting.checks import EXAMPLE_BATCH
from fexgan_lit.exporting.onnx_files import quiet
from fexgan_lit.systems.exported import Exported


def write_torch(part: Exported, path: Path) -> None:
    """Write `part` with a batch of any size."""
    batch = torch.export.Dim("batch", min=1)
    shapes = {name: {0: batch} for name in part.inputs}
    with quiet():
        program = torch.export.export(part.module, (), part.draw(EXAMPLE_BATCH), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, path)


def open_program(path: Path) -> Any:
    """The program of a file, ready to be called."""
    with quiet():
        return torch.export.load(path).module()


def run_program(program: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Outputs in order, for inputs by name."""
    with torch.no_grad():
        found = program(**inputs)
    return [found] if isinstance(found, Tensor) else list(found)
