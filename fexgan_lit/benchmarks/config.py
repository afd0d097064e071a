"""The options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from fexgan_lit.data.config import SIZES
from fexgan_lit.utils.hardware import cores

SUITES = ("data", "inference", "page", "startup", "train")
#: The systems of the train suite.
SYSTEMS = ("fexgan", "fexgan_meta", "ganimation", "stargan", "landmark_label")


@dataclass
class BenchmarkSettings:
    """Which suite and how much of it; `conf/benchmark.yaml` explains each field."""

    MOST: ClassVar = {
        "batch_size": 65536, "frames": 1_000_000, "stored": 1_000_000, "rounds": 10_000, "workers": 1024, "width": 16,
    }  # fmt: skip

    suite: str = "data"
    quick: bool = False
    image_size: int = 128
    batch_size: int = 32
    frames: int = 20000
    stored: int = 400
    rounds: int = 15
    workers: int | None = None
    facekit: str | None = None
    scratch: str | None = None
    systems: list[str] = field(default_factory=lambda: list(SYSTEMS))
    width: float = 0.25
    precision: str = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    run: str | None = None

    @property
    def cores(self) -> int:
        """Threads and processes that decode."""
        return cores(self.workers)

    @property
    def packed(self) -> tuple[int, int, int]:
        """Sizes of the packs between which the time of a batch is compared, in frames."""
        return (500, 1000, 2000) if self.quick else (1000, 10_000, 100_000)

    @property
    def batch_gb(self) -> float:
        """GB of uint8 read and float32 written for one batch of pairs."""
        return 2 * self.batch_size * self.image_size**2 * 3 * 5 / 1e9

    def reduced(self) -> BenchmarkSettings:
        """Return amounts that take seconds."""
        few = replace(self, frames=min(self.frames, 200), stored=min(self.stored, 64), rounds=2)
        return replace(few, image_size=32, batch_size=2, width=0.07) if self.suite in ("train", "inference") else few

    def problems(self) -> list[str]:
        """Return a sentence for every value that cannot be used, with what was expected."""
        choices: dict[str, tuple[Any, ...]] = {
            "suite": SUITES, "image_size": SIZES, "precision": ("auto", "float32", "bf16"),
        }  # fmt: skip
        least = {"batch_size": 2, "frames": 100, "stored": 50, "rounds": 1, "workers": 1}
        if self.suite == "data":
            least["stored"] = max(50, 2 * self.batch_size)
        found = [
            f"{name}={getattr(self, name)}: expected one of {', '.join(map(str, known))}."
            for name, known in choices.items()
            if getattr(self, name) not in known
        ]
        found += [
            f"{name}={getattr(self, name)}: expected {smallest} or more."
            for name, smallest in least.items()
            if getattr(self, name) is not None and getattr(self, name) < smallest
        ]
        unknown = [name for name in self.systems if name not in SYSTEMS]
        if unknown or not self.systems:
            found.append(f"systems=[{','.join(unknown)}]: expected one or more of {', '.join(SYSTEMS)}.")
        if not self.width > 0:
            found.append(f"width={self.width}: expected a positive factor, 1 for the papers' channels.")
        if self.facekit is not None and not Path(self.facekit).exists():
            found.append(f"facekit={self.facekit}: there is no such file or folder.")
        if self.scratch is not None and not Path(self.scratch).is_dir():
            found.append(f"scratch={self.scratch}: there is no such folder.")
        return found
