"""Numbers where no true frame of what is asked for is known: the way back, the own expression, the critic's reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.image import StructuralSimilarityIndexMeasure

from fexgan_lit.metrics.frechet import INCEPTION_FEATURES, Unavailable, small_sample_note, to_bytes

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.systems.base import ExpressionSystem

#: What to say of the figures that are missing.
ABSENT = (
    "SSIM and PSNR against a true frame, affects as asked, identity kept and fd_judge: no identity is known with two "
    "affects, so there is no true frame to compare with and nothing to train a judge on"
)
WHAT = {
    "back_ssim": "SSIM of the source against itself turned into a random other frame's expression and back",
    "own_ssim": "SSIM of the source against itself asked for what it shows already; 1 is best",
    "change": "mean absolute difference between source and result in [-1, 1]; 0 says that nothing is changed",
    "units_error": "mean absolute error of the action units (0..1) that the system's own critic reads in the result, "
    "against those asked for",
    "real_units_error": "ceiling: the same of the real sources, against theirs",
}


class UnpairedSuite(nn.Module):
    """The metrics of one split; update with batches, compute, reset.

    Args:
        split: name of the split, for the recipes.
        seed: of the pairs, for the recipes.
        fid: what `make_fid` gave, or None where FID is not wanted.
    """

    def __init__(self, split: str = "val", seed: int | None = None, fid: Metric | Unavailable | None = None) -> None:
        super().__init__()
        self.split, self.seed, self.n = split, seed, 0
        similarities = {name: StructuralSimilarityIndexMeasure(data_range=1.0) for name in ("back_ssim", "own_ssim")}
        means = {name: MeanMetric() for name in WHAT if name not in similarities}
        self.metrics = nn.ModuleDict({**similarities, **means})
        self.fid = fid if isinstance(fid, Metric) else None
        self.fid_missing = fid.reason if isinstance(fid, Unavailable) else None

    def add(self, system: ExpressionSystem, batch: PairBatch) -> None:
        """Let `system` answer a batch on its device and add what it made; draws no random number.

        The critic's reading is left out where the system has no `read_units`, images (B, 3, S, S) -> units (B, 17).
        """
        K = len(system.affects)
        shown, wanted = batch.source_expression(K), batch.target_expression(K)
        made = system.synthesize(batch.source, shown, wanted)
        own, back = system.synthesize(batch.source, shown, shown), system.synthesize(made, wanted, shown)
        self.update(batch.source, made, own, back, batch.target)
        read = getattr(system, "read_units", None)
        if read is not None and shown.aus is not None and wanted.aus is not None:
            self.update_units(read(made), wanted.aus, read(batch.source), shown.aus)

    def update(self, source: Tensor, made: Tensor, own: Tensor, back: Tensor, other: Tensor) -> None:
        """Add one batch, all (B, 3, S, S) in [-1, 1].

        Args:
            source: real frames.
            made: they with the expression of other frames.
            own: they asked for what they show.
            back: `made` asked for what the sources show.
            other: the other frames, for FID.
        """
        self.n += len(source)
        unit = [(images.float() + 1).div(2).clamp(0, 1) for images in (source, own, back)]
        self._metric("own_ssim").update(unit[1], unit[0])
        self._metric("back_ssim").update(unit[2], unit[0])
        self._metric("change").update((made - source).abs().mean((1, 2, 3)))
        if self.fid is not None:
            self.fid.update(to_bytes(other), real=True)
            self.fid.update(to_bytes(made), real=False)

    def update_units(self, read: Tensor, asked: Tensor, read_real: Tensor, shown: Tensor) -> None:
        """Add what a critic reads in results and in sources, beside what was asked for and shown, (B, 17) each."""
        self._metric("units_error").update((read - asked).abs().mean(1))
        self._metric("real_units_error").update((read_real - shown).abs().mean(1))

    def compute(self) -> dict[str, float]:
        """Every metric that has seen images, by name."""
        seen = {name: float(self._metric(name).compute()) for name in WHAT if self._metric(name).update_called}
        return seen | ({"fid": float(self.fid.compute())} if self.fid is not None and self.n > 1 else {})

    def notes(self) -> dict[str, str]:
        """What to print instead of the figures that are missing."""
        notes = {"absent": ABSENT}
        if self.fid_missing is not None:
            notes["fid"] = f"absent: {self.fid_missing}"
        elif self.fid is not None and (warning := small_sample_note(self.n, INCEPTION_FEATURES)):
            notes["fid"] = warning
        return notes

    def recipes(self) -> dict[str, str]:
        """One line a metric: on what and how it was computed."""
        where = f"n={self.n}, split={self.split}" + (f", seed={self.seed}" if self.seed is not None else "")
        lines = {name: f"{text}; {where}" for name, text in WHAT.items() if self._metric(name).update_called}
        if self.fid is not None:
            lines["fid"] = f"Inception-2048, generated against the other real frames, rounded to uint8; {where}"
        return lines

    def reset(self) -> None:
        """Forget all batches."""
        self.n = 0
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()

    def _metric(self, name: str) -> Metric:
        return cast(Metric, self.metrics[name])
