"""Everything `evaluate` says about the quality of generated images, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.metrics import pixels
from fexgan_lit.metrics.availability import Unavailable
from fexgan_lit.metrics.distribution_report import compare, metric_names
from fexgan_lit.metrics.distribution_report import recipes as distribution_recipes
from fexgan_lit.metrics.extractors import FeatureExtractor, Features
from fexgan_lit.metrics.lpips import Lpips
from fexgan_lit.metrics.real_side import RealSide
from fexgan_lit.metrics.streaming import ROW_CAP, FeatureReservoir, StreamedMoments


class ImageQuality:
    """Collects generated images and gives SSIM, MS-SSIM, PSNR, LPIPS and, by extractor, the distribution metrics.

    Of every image a few numbers are kept, of its features the sums and, up to a cap, the features themselves: memory
    does not grow with pixels seen. What cannot be had is missing from `compute` and has its reason in `notes`.

    Args:
        extractors: by name, as `{"judge": JudgeExtractor(...), "inception": make_inception()}`.
        lpips: what `make_lpips` gave; None where it is not wanted.
        cap: rows of features kept for the metrics that compare images one by one.
        seed: of the subsets of KID and the shuffle of the inception score.
        where: ends every recipe, for example `split=test, run=NAME`.
    """

    def __init__(
        self,
        extractors: Mapping[str, FeatureExtractor | Unavailable] | None = None,
        lpips: Lpips | Unavailable | None = None,
        *,
        cap: int = ROW_CAP,
        seed: int = 0,
        where: str = "",
    ) -> None:
        self.cap, self.seed, self.where = cap, seed, where
        self.n, self.image_size = 0, 0
        self.lpips = lpips if isinstance(lpips, Lpips) else None
        given = dict(extractors or {})
        self.extractors = {name: e for name, e in given.items() if isinstance(e, FeatureExtractor)}
        self._absent = {name: e.reason for name, e in {**given, "lpips": lpips}.items() if isinstance(e, Unavailable)}
        self._columns: dict[str, list[float]] = {}
        self._moments = {name: StreamedMoments(e.feature_size) for name, e in self.extractors.items()}
        self._features = {name: FeatureReservoir(cap) for name in self.extractors}
        self._probabilities = {name: FeatureReservoir(cap) for name in self.extractors}
        self._notes: dict[str, str] = {}

    @torch.no_grad()
    def update(
        self,
        generated: Tensor,
        target: Tensor,
        read: Mapping[str, Features] | None = None,
    ) -> None:
        """Add one batch.

        Args:
            generated: (B, 3, S, S) in [-1, 1].
            target: the true frames, the same shape and range.
            read: what an extractor has seen in `generated` already, by its name.

        Raises:
            UserError: an image holds NaN or infinite pixels.
            ValueError: the shapes differ.
        """
        generated, target = generated.detach().float(), target.detach().float()
        for side, images in (("generated", generated), ("true", target)):
            check_finite(images, side, self.n)
        self._keep(self._distances(generated, target))
        for name, extractor in self.extractors.items():
            seen = read[name] if read is not None and name in read else extractor(generated.to(extractor.device))
            self._moments[name].update(seen.features)
            self._features[name].update(seen.features)
            if seen.class_probabilities is not None:
                self._probabilities[name].update(seen.class_probabilities)
        self.n += len(generated)
        self.image_size = generated.shape[-1]

    def compute(self, real_sides: Mapping[str, RealSide]) -> dict[str, float]:
        """Every figure that can be had, by name; why one cannot is in `notes` afterwards.

        Args:
            real_sides: by the extractor's name, from `real_statistics`.

        Raises:
            UserError: no image was added.
        """
        if not self.n:
            raise UserError("there is nothing to measure: no image was generated; is the split empty?")
        self._notes = {}
        values = {name: float(column.mean()) for name, column in self.per_image().items()}
        for name, extractor in self.extractors.items():
            if name not in real_sides:
                first, *others = metric_names(name)
                self._notes[first] = f"absent, and with it {', '.join(others)}: no statistics of the real frames"
                continue
            fake = self.generated_side(name)
            found, notes = compare(name, real_sides[name], fake, self.seed, extractor.device)
            values |= found
            self._notes |= notes
        return values

    def generated_side(self, name: str) -> RealSide:
        """What the extractor `name` saw in the generated images, in the form of the real ones; two need an image."""
        features = self._features[name].rows
        if features is None:
            raise UserError("there is nothing to measure: no image was generated; is the split empty?")
        return RealSide(self._moments[name], features, self._probabilities[name].rows, self.n)

    def per_image(self) -> dict[str, np.ndarray]:
        """The values of every image by metric, (n,) float32 each, in the order the images came."""
        return {name: np.array(values, np.float32) for name, values in self._columns.items()}

    def recipes(self) -> dict[str, str]:
        """One line a metric: on what and how it was computed."""
        if not self.n:
            return {}
        lines = pixels.recipes(self.image_size)
        if self.lpips is not None:
            lines["lpips"] = self.lpips.recipe(self.image_size)
        for name, extractor in self.extractors.items():
            lines |= distribution_recipes(name, extractor, self.image_size, self.cap, self.seed)
        end = f"; n={self.n}" + (f", {self.where}" if self.where else "")
        return {name: line + end for name, line in lines.items()}

    def notes(self) -> dict[str, str]:
        """What to print beside a figure, or in the place of one that is absent; after `compute`."""
        absent = {"lpips": f"absent: {self._absent['lpips']}"} if "lpips" in self._absent else {}
        for name in self._absent.keys() - {"lpips"}:
            first, *others = metric_names(name)
            absent[first] = f"absent, and with it {', '.join(others)}: {self._absent[name]}"
        return absent | self._notes

    def _distances(self, generated: Tensor, target: Tensor) -> dict[str, Tensor]:
        found = pixels.pixel_distances(generated, target)._asdict()
        if self.lpips is not None:
            device = self.lpips.shift.device
            found["lpips"] = self.lpips(generated.to(device), target.to(device))
        return found

    def _keep(self, columns: Mapping[str, Tensor]) -> None:
        for name, column in columns.items():
            self._columns.setdefault(name, []).extend(column.detach().cpu().tolist())


def check_finite(images: Tensor, side: str, before: int = 0) -> None:
    """Raise a UserError if one of `images` (B, 3, S, S) holds NaN or infinite pixels.

    Args:
        images: the batch.
        side: what they are, for the message.
        before: images of the batches before this one, for the message.
    """
    sums = images.sum(dim=(1, 2, 3))  # not finite if one pixel is not; a fraction of the cost of a look at each
    if torch.isfinite(sums).all():
        return
    pixels_bad = (~torch.isfinite(images)).flatten(1).sum(dim=1)
    rows = pixels_bad.nonzero().flatten().tolist()
    first = rows[0]
    raise UserError(
        f"{len(rows)} of the {len(images)} {side} images of a batch hold NaN or infinite pixels: the first is row "
        f"{first} of the batch (image {before + first}), with {int(pixels_bad[first])} of {images[0].numel()} values. "
        "Expected numbers in [-1, 1]. The training has diverged, or its weights are damaged: measure an earlier "
        "checkpoint, run=RUN_DIR/checkpoints/FILE."
    )
