"""Metrics without a network between a generated frame and its target, with one value per image.

SSIM, MS-SSIM and PSNR come from torchmetrics; the ratio of sharpness and the PSNR of a part are implemented here.
"""

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
#: Margin around a mouth on each side, as a share of its width.
MOUTH_MARGIN = 0.2
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
        "sharpness": f"Laplacian energy of the generated divided by that of the target frame, 1 is right; {where}",
        "mouth_sharpness": "the same in the box around landmarks 49 to 68 (from 1) of the target frame, wider by "
        f"{MOUTH_MARGIN:g} of the mouth's width on each side; {where}",
        "mouth_psnr": f"PSNR of each image in the same box, {PSNR_CAP:g} dB at most; {where}",
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


def box_psnr(a: Tensor, b: Tensor, boxes: Tensor) -> Tensor:
    """Return the PSNR (B,) in dB, at most `PSNR_CAP`, inside a box of each image; NaN where a box has no pixel.

    Not that of torchmetrics, which takes whole images alone: the boxes of a batch have different sizes.

    Args:
        a: (B, 3, S, S) in [-1, 1].
        b: the same shape.
        boxes: (B, 4), as in `sharpness`.
    """
    error = (to_unit(a) - to_unit(b)).double().square().mean(dim=1)  # (B, S, S)
    inside = inside_boxes(boxes.to(error.device), error.shape[-1])
    mean = (error * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))  # 0 / 0 is NaN
    return (-10 * mean.log10()).clamp(max=PSNR_CAP).float()


def sharpness(made: Tensor, true: Tensor, boxes: Tensor | None = None) -> Tensor:
    """Return the Laplacian energy of generated frames relative to that of the true frames: (B,), 1 is equally sharp.

    Blur gives less, noise more. The energy is the mean square of the five-point Laplacian over pixels and channels. The
    ratio is NaN where the true frame is flat.

    Args:
        made: (B, 3, S, S) in [-1, 1].
        true: the same shape.
        boxes: parts of the frames to compare, (B, 4): left, top, right and bottom from edge to edge in [-1, 1]; None
            compares whole frames.
    """
    energy = [_laplacian(to_unit(images)).square().mean(dim=1) for images in (made, true)]  # (B, S-2, S-2) each
    if boxes is not None:
        inside = inside_boxes(boxes.to(made.device), made.shape[-1])[:, 1:-1, 1:-1]
        energy = [e * inside for e in energy]
    ours, theirs = (e.double().sum(dim=(1, 2)) for e in energy)
    return torch.where(theirs > 0, ours / theirs, torch.nan)


def _laplacian(x: Tensor) -> Tensor:
    """Return the five-point Laplacian (B, C, S-2, S-2) of the inner pixels of (B, C, S, S)."""
    inner = x[..., 1:-1, 1:-1]
    return x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:] - 4 * inner


def inside_boxes(boxes: Tensor, size: int) -> Tensor:
    """Return whether the centre of each pixel of `size` x `size` lies in the box, (B, size, size) bool.

    `boxes` (B, 4) are left, top, right and bottom from edge to edge in [-1, 1].
    """
    centres = (2 * torch.arange(size, device=boxes.device) + 1) / size - 1
    low, high = boxes[:, :2, None], boxes[:, 2:, None]  # (B, 2, 1), x then y
    across, down = ((centres >= low) & (centres <= high)).unbind(dim=1)  # (B, size) each
    return down[:, :, None] & across[:, None, :]


def mouth_boxes(landmarks: Tensor) -> Tensor:
    """Return the boxes (B, 4) of the mouths of faces with landmarks (B, 68, 2): left, top, right, bottom."""
    mouth = landmarks[:, 48:68]
    low, high = mouth.amin(dim=1), mouth.amax(dim=1)  # (B, 2)
    margin = MOUTH_MARGIN * (high[:, :1] - low[:, :1])
    return torch.cat((low - margin, high + margin), dim=1)


def to_unit(images: Tensor) -> Tensor:
    """Convert [-1, 1] to floats in [0, 1], clamped as in an image file; float64 stays float64."""
    images = images if images.dtype == torch.float64 else images.float()
    return ((images + 1) / 2).clamp(0, 1)
