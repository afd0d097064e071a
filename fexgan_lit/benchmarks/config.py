"""The options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.utils.hardware import cores
from fexgan_lit.utils.options import Options, option, shown

SUITES = ("data", "inference", "motion", "page", "startup", "train")
#: The systems of the train suite.
SYSTEMS = (
    "fexgan", "fexgan_meta", "ganimation", "stargan", "landmark_label", "lgp_gan", "pix2pix", "us_gan", "attgan",
    "mien", "bridge", "landmark_fusion", "motion_texture",
)  # fmt: skip


@dataclass
class BenchmarkSettings(Options):
    """Which suite and how much of it; `conf/benchmark.yaml` explains each field."""

    suite: str = option("data", choices=SUITES)
    quick: bool = False
    image_size: int = option(128, choices=IMAGE_SIZES)
    batch_size: int = option(32, at_least=2, at_most=65536)
    frames: int = option(20000, at_least=100, at_most=1_000_000)
    stored: int = option(400, at_least=50, at_most=1_000_000)
    rounds: int = option(15, at_least=1, at_most=10_000)
    workers: int | None = option(None, at_least=1, at_most=1024)
    facekit: str | None = None
    scratch: str | None = None
    systems: list[str] = option(list(SYSTEMS), f"one or more of {', '.join(SYSTEMS)}", choices=SYSTEMS, empty=False)
    width: float = option(0.25, "a positive factor, 1 for the papers' channels", above=0, at_most=16)
    precision: str = option("auto", choices=("auto", "float32", "bf16"))
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
        few = replace(self, frames=min(self.frames, 200), stored=min(self.stored, 64), rounds=min(self.rounds, 2))
        return replace(few, image_size=32, batch_size=2, width=0.07) if self.suite in ("train", "inference") else few

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        found = []
        if self.suite == "data" and self.stored < 2 * self.batch_size:
            found.append(
                f"stored={shown(self.stored)}: expected {shown(2 * self.batch_size)} or more, two a pair of a batch"
            )
        if self.facekit is not None and not Path(self.facekit).exists():
            found.append(f"facekit={self.facekit}: there is no such file or folder")
        if self.scratch is not None and not Path(self.scratch).is_dir():
            found.append(f"scratch={self.scratch}: there is no such folder")
        return found
