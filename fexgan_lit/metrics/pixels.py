"""Distances of a generated frame to the true one that need no network: SSIM, MS-SSIM and PSNR, one value an image."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from fexgan_lit.errors import UserError

#: Side and standard deviation of SSIM's Gaussian window, and its two constants (Wang et al. 2004).
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
#: Exponents of the five scales of MS-SSIM (Wang et al. 2003).
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: PSNR of images that are alike to the last bit, in dB; without a bound one such image would make every mean infinite.
PSNR_CAP = 100.0
#: Images of which torch holds the maps at once.
_CHUNK = 64
#: Values of a batch from which the compiled loop is worth the seconds it takes to compile on a new machine.
_WORTH_COMPILING = 1 << 18


class PixelDistances(NamedTuple):
    """All three of every image, (B,) each."""

    ssim: Tensor
    ms_ssim: Tensor
    psnr: Tensor


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (B,) in [-1, 1] of images (B, 3, H, W) in [-1, 1] (Wang et al. 2004, equation 13).

    The map is as large as the image, whose edges are mirrored, and is averaged over pixels and channels. The same as
    torchmetrics' function in double precision; in single precision that one is off by up to 4e-5 where images are
    flat, and takes ten times as long on a processor.

    Raises:
        ValueError: the shapes differ.
        UserError: the images are smaller than the window.
    """
    return pixel_distances(a, b).ssim


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity (B,) in [0, 1] of images (B, 3, H, W) in [-1, 1] (Wang et al. 2003, eq. 7).

    There are as many scales as `scales` allows, their exponents made to sum to 1 again. A negative similarity of a
    scale counts as 0.

    Raises:
        ValueError: the shapes differ.
        UserError: the images are smaller than the window.
    """
    return pixel_distances(a, b).ms_ssim


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of images (B, 3, H, W) in [-1, 1]: 10 log10(4 / MSE), `PSNR_CAP` at most.

    Raises:
        ValueError: the shapes differ.
    """
    _check_alike(a, b)
    return _decibels((_halved(a) - _halved(b)).square().mean(dim=(1, 2, 3)))


def pixel_distances(a: Tensor, b: Tensor) -> PixelDistances:
    """All three in one go, a third of the work of one after the other; see `ssim`, `ms_ssim` and `psnr`."""
    _check_alike(a, b)
    scales(min(a.shape[-2:]))
    if a.device.type == "cpu" and torch.float64 not in (a.dtype, b.dtype) and a.numel() >= _WORTH_COMPILING:
        return _compiled(a, b)
    parts = [_distances(_halved(x), _halved(y)) for x, y in zip(a.split(_CHUNK), b.split(_CHUNK), strict=True)]
    return PixelDistances(*(torch.cat(column) for column in zip(*parts, strict=True)))


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


def recipes(size: int) -> dict[str, str]:
    """How each of the three is computed at `size` pixels, for reports."""
    where = f"[0, 1] floats, no quantisation, at {size} px; mean over images"
    weights = ", ".join(f"{weight:.3f}" for weight in scale_weights(size))
    return {
        "ssim": f"Gaussian {WINDOW}x{WINDOW}, sigma {SIGMA}, k1 {K1}, k2 {K2}, data_range 1, edges mirrored; {where}",
        "ms_ssim": f"SSIM's window on {scales(size)} scales, halved by averaging, exponents {weights}; {where}",
        "psnr": f"of each image by itself, {PSNR_CAP:g} dB at most, data_range 1; {where}",
    }


def _compiled(a: Tensor, b: Tensor) -> PixelDistances:
    """The three by the compiled loop, for single precision on a processor."""
    from fexgan_lit.metrics.pixel_kernel import pixel_distances as loop

    window = _gaussian().float().numpy()
    exponents = np.array(scale_weights(min(a.shape[-2:])))
    # (B, 3, H, W) -> (B, H, W, 3), which is how frames lie in memory already
    x, y = (images.detach().permute(0, 2, 3, 1).contiguous().float().numpy() for images in (a, b))
    similar, multiscale, error = torch.from_numpy(loop(x, y, window, exponents, torch.get_num_threads())).float().mT
    return PixelDistances(similar, multiscale, _decibels(error / 4))


def _distances(a: Tensor, b: Tensor) -> PixelDistances:
    """The three of a few images in [-0.5, 0.5], on any device and in any precision."""
    weights = scale_weights(min(a.shape[-2:]))
    similarity, contrast = _similarity(a, b)
    first, product, error = similarity, torch.ones_like(similarity), _decibels((a - b).square().mean(dim=(1, 2, 3)))
    for weight in weights[:-1]:
        product = product * contrast.relu() ** weight
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
        similarity, contrast = _similarity(a, b)
    return PixelDistances(first, product * similarity.relu() ** weights[-1], error)


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM (B,) over the whole image and the contrast-structure term (B,) over its inside, of [-0.5, 0.5] images.

    Around zero the differences of squares lose the least to rounding; a variance does not change with the origin.
    """
    rows, columns = (_window(size, a.device, a.dtype) for size in a.shape[-2:])
    maps = torch.stack((a, b, a * b, a.square() + b.square()))  # (4, B, 3, H, W)
    mean_a, mean_b, mean_ab, mean_squares = rows @ (maps @ columns.mT)
    c1, c2 = K1**2, K2**2
    covariance, variances = mean_ab - mean_a * mean_b, mean_squares - mean_a.square() - mean_b.square()
    # rounding may leave the variance of a flat patch a little below zero
    contrast = (2 * covariance + c2) / (variances.clamp_min(0) + c2)
    light_a, light_b = mean_a + 0.5, mean_b + 0.5
    similarity = contrast * (2 * light_a * light_b + c1) / (light_a.square() + light_b.square() + c1)
    edge = WINDOW // 2
    return similarity.mean(dim=(1, 2, 3)), contrast[..., edge:-edge, edge:-edge].mean(dim=(1, 2, 3))


@functools.lru_cache(maxsize=32)
def _window(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix (size, size) that filters a line of pixels by the Gaussian, its ends mirrored without the edge.

    A product with a banded matrix beats a convolution on every device at the sizes of faces.
    """
    places = (torch.arange(size)[:, None] + torch.arange(WINDOW) - WINDOW // 2).abs()  # (size, WINDOW), mirrored at 0
    places = torch.where(places < size, places, 2 * (size - 1) - places)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, places, _gaussian().expand(size, WINDOW))
    return matrix.to(device, dtype)


def _gaussian() -> Tensor:
    """SSIM's window along one axis, (11,) float64, sums to 1."""
    weights = torch.exp(-(torch.arange(WINDOW).double() - WINDOW // 2).square() / (2 * SIGMA**2))
    return weights / weights.sum()


def _decibels(error: Tensor) -> Tensor:
    """PSNR of a mean squared error on the scale of [0, 1]."""
    return (-10 * torch.log10(error)).clamp_max(PSNR_CAP)


def _halved(images: Tensor) -> Tensor:
    """[-1, 1] to [-0.5, 0.5] floats, clamped as a picture file would be; doubles stay doubles."""
    images = images if images.dtype == torch.float64 else images.float()
    return (images / 2).clamp_(-0.5, 0.5)


def _check_alike(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"expected two batches (B, 3, H, W) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
