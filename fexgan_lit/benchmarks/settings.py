"""The options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from fexgan_lit.cores import cores
from fexgan_lit.data.settings import SIZES

SUITES = ("data", "inference", "startup", "train")
#: The systems of the train suite.
SYSTEMS = ("fexgan", "fexgan_meta", "ganimation", "stargan", "landmark_label")
PRECISIONS = ("auto", "float32", "bf16")


@dataclass
class BenchmarkSettings:
    """Which suite and how much of it; `conf/benchmark.yaml` explains each field."""

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
    def packed(self) -> tuple[int, ...]:
        """Sizes of the packs between which the time of a batch is compared, in frames."""
        return (500, 1000, 2000) if self.quick else (1000, 10_000, 100_000)

    @property
    def training_frames(self) -> int:
        """Frames of the pack from which the resident memory of the feed is measured: as many as MH-FED has."""
        return 2000 if self.quick else 162_000

    def reduced(self) -> BenchmarkSettings:
        """Amounts that take seconds."""
        few = replace(self, frames=min(self.frames, 200), stored=min(self.stored, 64), rounds=2)
        return replace(few, image_size=32, batch_size=2, width=0.07) if self.suite in ("train", "inference") else few

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = []
        if self.image_size not in SIZES:
            found.append(f"image_size={self.image_size}: expected one of {', '.join(map(str, SIZES))}.")
        least = {"batch_size": 2, "frames": 100, "stored": 50, "rounds": 1, "workers": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                found.append(f"{name}={value}: expected {smallest} or more.")
        if self.suite == "data" and self.stored < self.batch_size * 2:
            found.append(f"stored={self.stored}: expected two batches, {self.batch_size * 2} or more.")
        unknown = [name for name in self.systems if name not in SYSTEMS]
        if unknown or not self.systems:
            found.append(f"systems=[{','.join(unknown)}]: expected one or more of {', '.join(SYSTEMS)}.")
        if self.precision not in PRECISIONS:
            found.append(f"precision={self.precision}: expected one of {', '.join(PRECISIONS)}.")
        if not self.width > 0:
            found.append(f"width={self.width}: expected a positive factor, 1 for the papers' channels.")
        if self.facekit is not None and not Path(self.facekit).exists():
            found.append(f"facekit={self.facekit}: there is no such file or folder.")
        if self.scratch is not None and not Path(self.scratch).is_dir():
            found.append(f"scratch={self.scratch}: there is no such folder.")
        return found
