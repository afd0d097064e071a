"""The options of an export, and the description of a written file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fexgan_lit.utils.options import Options, option

FORMATS = ("onnx", "torch", "safetensors", "run")
#: Maximum difference of an exported network's outputs from the PyTorch original.
TOLERANCE = 1e-4
#: The oldest opset that torch's exporter writes.
OLDEST_OPSET = 18


@dataclass
class ExportSettings(Options):
    """Options of an export; `conf/export.yaml` explains each field."""

    run: str | None = None
    format: str = option("onnx", choices=FORMATS)
    parts: list[str] | None = None
    int8: bool = False
    opset: int | None = None
    half: bool = False
    faces: bool = False
    out: str | None = None

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        found = [
            f"{name}={getattr(self, name)}: it belongs to format=onnx; format is {self.format}"
            for name in ("int8", "opset")
            if getattr(self, name) and self.format != "onnx"
        ]
        if self.half and self.format not in ("safetensors", "run"):
            found.append(f"half=true: it belongs to format=safetensors and format=run; format is {self.format}")
        if self.faces and self.format != "run":
            found.append(f"faces=true: it belongs to format=run; format is {self.format}")
        if self.parts is not None and self.format == "run":
            found.append("parts: a run folder holds all parts; leave it out")
        if self.parts == []:
            found.append("parts=[]: expected some names, or null for all")
        return found


@dataclass(frozen=True)
class Written:
    """A written network.

    Attributes:
        part: name of the network.
        path: path of the file.
        difference: greatest difference from the PyTorch network, over all outputs and several batch sizes.
    """

    part: str
    path: Path
    difference: float

    @property
    def megabytes(self) -> float:
        """Size of the file, 10^6 bytes."""
        return self.path.stat().st_size / 1e6
