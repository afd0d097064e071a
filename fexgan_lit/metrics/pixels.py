"""Metrics without a network between a generated frame and its target: SSIM, MS-SSIM and PSNR, one value per image."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import (
    MultiScaleStructuralSimilarityIndexMeasure,
    PeakSignalNoiseRatio,
    StructuralSimilarityIndexMeasure,
)

from fexgan_lit.utils.errors import UserError

#: Side of SSIM's Gaussian window (Wang et al. 2004).
WINDOW = 11
#: Exponents of the five scales of MS-SSIM (Wang et al. 2003).
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: PSNR in dB of identical images; without this bound, one such image would make every mean infinite.
PSNR_CAP = 100.0


class CappedPSNR(PeakSignalNoiseRatio):
    """The PSNR of torchmetrics per image, at most `PSNR_CAP` dB."""

    def __init__(self) -> None:
        super().__init__(data_range=1.0, dim=(1, 2, 3), reduction="none")

    def compute(self) -> Tensor:
        """Return (N,) values in dB."""
        return super().compute().clamp(max=PSNR_CAP)


def pixel_metrics(size: int, multiscale: bool) -> dict[str, Metric]:
    """Return SSIM, PSNR and optionally MS-SSIM for images in [0, 1] of `size` pixels; each computes (N,) values.

    Raises:
        UserError: the images are smaller than SSIM's window.
    """
    weights = scale_weights(size)
    found: dict[str, Metric] = {
        "ssim": StructuralSimilarityIndexMeasure(data_range=1.0, reduction="none"),
        "psnr": CappedPSNR(),
    }
    if multiscale:
        found["ms_ssim"] = MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0, reduction="none", betas=weights)
    return found


def recipes(size: int) -> dict[str, str]:
    """Return one line per metric on its computation at `size` pixels, for reports."""
    where = f"generated against target frame, [0, 1] floats, no quantisation, at {size} px; mean over images"
    weights = ", ".join(f"{weight:.3f}" for weight in scale_weights(size))
    return {
        "ssim": f"Gaussian {WINDOW}x{WINDOW}, sigma 1.5, k1 0.01, k2 0.03, data_range 1, edges mirrored; {where}",
        "ms_ssim": f"SSIM's window on {scales(size)} scales, halved by averaging, exponents {weights}; {where}",
        "psnr": f"of each image by itself, {PSNR_CAP:g} dB at most, data_range 1; {where}",
    }


def scales(size: int) -> int:
    """Return the number M of MS-SSIM scales at `size` pixels: the largest with (11 - 1) * 2^(M - 1) < size, at most 5.

    Raises:
        UserError: the images are smaller than SSIM's window.
    """
    if size < WINDOW:
        raise UserError(f"SSIM needs images at least as large as its window of {WINDOW} px; these have {size} px")
    return max(m for m in range(1, len(SCALE_WEIGHTS) + 1) if (WINDOW - 1) * 2 ** (m - 1) < size)


def scale_weights(size: int) -> tuple[float, ...]:
    """Return the exponents of the scales at `size` pixels; they sum to 1."""
    kept = SCALE_WEIGHTS[: scales(size)]
    return tuple(weight / sum(kept) for weight in kept)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the SSIM (B,) of images (B, 3, H, W) in [-1, 1]; in float32, flat images have an error up to 3e-4."""
    found = structural_similarity_index_measure(to_unit(a), to_unit(b), data_range=1.0, reduction="none")
    return torch.as_tensor(found)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the PSNR (B,) in dB, at most `PSNR_CAP`, of images (B, 3, H, W) in [-1, 1]."""
    metric = CappedPSNR().to(a.device)
    metric.update(to_unit(a), to_unit(b))
    return metric.compute().reshape(-1)  # torchmetrics returns a scalar for a single image


def to_unit(images: Tensor) -> Tensor:
    """Convert [-1, 1] to floats in [0, 1], clamped as in an image file; float64 stays float64."""
    images = images if images.dtype == torch.float64 else images.float()
    return ((images + 1) / 2).clamp(0, 1)
