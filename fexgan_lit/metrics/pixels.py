"""Distances of a generated frame to the true one that need no network: SSIM, MS-SSIM and PSNR, one value an image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

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
#: Images worked on at once on a processor: their maps stay in its cache.
_CHUNK = 4


class Structure(NamedTuple):
    """Both similarities of every image, (B,) each; 1 for images that are alike."""

    ssim: Tensor
    ms_ssim: Tensor


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (B,) in [-1, 1] of images (B, 3, H, W) in [-1, 1] (Wang et al. 2004, equation 13).

    The map is as large as the image, whose edges are mirrored, and is averaged over pixels and channels. The same as
    torchmetrics' function in double precision; in single precision that one takes several times as long, its window
    not being taken apart, and is off by up to 4e-5 where images are flat.

    Raises:
        ValueError: the shapes differ.
        UserError: the images are smaller than the window.
    """
    return _by_chunks(a, b, lambda x, y: (_similarity(x, y)[0],))[0]


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity (B,) in [0, 1] of images (B, 3, H, W) in [-1, 1] (Wang et al. 2003, eq. 7).

    There are as many scales as `scales` allows, their exponents made to sum to 1 again. A negative similarity of a
    scale counts as 0.

    Raises:
        ValueError: the shapes differ.
        UserError: the images are smaller than the window.
    """
    return structure(a, b).ms_ssim


def structure(a: Tensor, b: Tensor) -> Structure:
    """SSIM and MS-SSIM in one go: the first scale serves both; see `ssim` and `ms_ssim`."""
    return Structure(*_by_chunks(a, b, _structure))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of images (B, 3, H, W) in [-1, 1]: 10 log10(4 / MSE), `PSNR_CAP` at most.

    Raises:
        ValueError: the shapes differ.
    """
    _check_alike(a, b)
    error = (a.float().clamp(-1, 1) - b.float().clamp(-1, 1)).square_().mean(dim=(1, 2, 3))
    return (10 * torch.log10(4 / error)).clamp_max(PSNR_CAP)


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


def _by_chunks(a: Tensor, b: Tensor, function: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """`function` of a few images at a time, in [-0.5, 0.5]; a tuple of (B,)."""
    _check_alike(a, b)
    scales(min(a.shape[-2:]))
    chunk = _CHUNK if a.device.type == "cpu" else 64 * _CHUNK
    pairs = zip(a.split(chunk), b.split(chunk), strict=True)
    parts = [function(_halved(x), _halved(y)) for x, y in pairs]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _structure(a: Tensor, b: Tensor) -> Structure:
    weights = scale_weights(min(a.shape[-2:]))
    similarity, contrast = _similarity(a, b)
    first, product = similarity, torch.ones_like(similarity)
    for weight in weights[:-1]:
        product = product * contrast.relu() ** weight
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
        similarity, contrast = _similarity(a, b)
    return Structure(first, product * similarity.relu() ** weights[-1])


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
    offsets = torch.arange(WINDOW) - WINDOW // 2
    weights = torch.exp(-offsets.double().square() / (2 * SIGMA**2))
    places = (torch.arange(size)[:, None] + offsets).abs()  # (size, WINDOW), mirrored at 0
    places = torch.where(places < size, places, 2 * (size - 1) - places)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, places, (weights / weights.sum()).expand(size, WINDOW))
    return matrix.to(device, dtype)


def _halved(images: Tensor) -> Tensor:
    """[-1, 1] to [-0.5, 0.5] floats, clamped as a picture file would be; doubles stay doubles."""
    images = images if images.dtype == torch.float64 else images.float()
    return (images / 2).clamp_(-0.5, 0.5)


def _check_alike(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"expected two batches (B, 3, H, W) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
