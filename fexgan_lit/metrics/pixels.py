"""Distances of a generated frame to the true one that need no network: SSIM, MS-SSIM and PSNR, one value an image."""

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
#: PSNR of images that are alike to the last bit, in dB; without a bound one such image would make every mean infinite.
PSNR_CAP = 100.0


class CappedPSNR(PeakSignalNoiseRatio):
    """torchmetrics' PSNR of every image by itself, `PSNR_CAP` dB at most."""

    def __init__(self) -> None:
        super().__init__(data_range=1.0, dim=(1, 2, 3), reduction="none")

    def compute(self) -> Tensor:
        """(N,) dB."""
        return super().compute().clamp(max=PSNR_CAP)


def pixel_metrics(size: int, multiscale: bool) -> dict[str, Metric]:
    """SSIM, PSNR and, on request, MS-SSIM for images in [0, 1] of `size` pixels; each computes (N,) values.

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
    """How each of the three is computed at `size` pixels, for reports."""
    where = f"generated against target frame, [0, 1] floats, no quantisation, at {size} px; mean over images"
    weights = ", ".join(f"{weight:.3f}" for weight in scale_weights(size))
    return {
        "ssim": f"Gaussian {WINDOW}x{WINDOW}, sigma 1.5, k1 0.01, k2 0.03, data_range 1, edges mirrored; {where}",
        "ms_ssim": f"SSIM's window on {scales(size)} scales, halved by averaging, exponents {weights}; {where}",
        "psnr": f"of each image by itself, {PSNR_CAP:g} dB at most, data_range 1; {where}",
    }


def scales(size: int) -> int:
    """How many scales MS-SSIM has at `size` pixels: as long as (11 - 1) * 2^(M - 1) < size, five at most.

    Raises:
        UserError: not even the first scale holds the window.
    """
    if size < WINDOW:
        raise UserError(f"SSIM needs images of {WINDOW} px or more, as large as its window; these have {size} px")
    return max(m for m in range(1, len(SCALE_WEIGHTS) + 1) if (WINDOW - 1) * 2 ** (m - 1) < size)


def scale_weights(size: int) -> tuple[float, ...]:
    """The exponents of the scales at `size` pixels; they sum to 1."""
    kept = SCALE_WEIGHTS[: scales(size)]
    return tuple(weight / sum(kept) for weight in kept)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (B,) of images (B, 3, H, W) in [-1, 1]; of flat images exact to 3e-4, in doubles exact."""
    found = structural_similarity_index_measure(to_unit(a), to_unit(b), data_range=1.0, reduction="none")
    return torch.as_tensor(found)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of images (B, 3, H, W) in [-1, 1], `PSNR_CAP` at most."""
    metric = CappedPSNR().to(a.device)
    metric.update(to_unit(a), to_unit(b))
    return metric.compute().reshape(-1)  # torchmetrics makes a scalar of a single image's


def to_unit(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1] floats, clamped as a picture file would be; doubles stay doubles."""
    images = images if images.dtype == torch.float64 else images.float()
    return ((images + 1) / 2).clamp(0, 1)
