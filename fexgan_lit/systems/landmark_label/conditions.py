"""The generator's conditions as maps: landmarks as Gaussians, affects as planes of +1 and -1."""

from __future__ import annotations

import torch
from torch import Tensor

from fexgan_lit.utils.errors import UserError

#: Landmarks of a face in dlib's order; each has one heatmap.
LANDMARKS = 68


def landmark_heatmaps(landmarks: Tensor, size: int, sigma: float) -> Tensor:
    """Return a Gaussian of height 1 around every landmark, computed on the device of `landmarks`.

    A two-dimensional Gaussian is the product of one along x and one along y, so a map of size * size needs only
    2 * size exponentials. Landmarks outside the image contribute the part of their Gaussian that lies inside.

    Args:
        landmarks: (B, 68, 2), x then y, -1..1 from edge to edge of the image.
        size: edge length S of the maps in pixels.
        sigma: standard deviation in pixels.

    Returns:
        (B, 68, S, S) float32 in [0, 1].

    Raises:
        UserError: the shape is not (B, 68, 2).
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 2):
        raise UserError(
            f"landmarks of shape {tuple(landmarks.shape)}: expected (batch, {LANDMARKS}, 2), the {LANDMARKS} points of "
            "dlib with x and y from -1 to 1; `python -m fexgan_lit.prepare ... dataset.detector=mediapipe` finds them"
        )
    # pixel indices, whose pixel centres are integers: -1 is half a pixel left of pixel 0
    places = (landmarks.float() + 1) * (size / 2) - 0.5  # (B, 68, 2)
    pixels = torch.arange(size, device=landmarks.device, dtype=torch.float32)
    bells = torch.exp(-0.5 * ((pixels - places.unsqueeze(3)) / sigma).square())  # (B, 68, 2, S)
    along_x, along_y = bells.unbind(2)  # (B, 68, S) each
    return along_y.unsqueeze(3) * along_x.unsqueeze(2)  # (B, 68, S, 1) * (B, 68, 1, S) -> (B, 68, S, S)


def label_maps(affect: Tensor, size: int) -> Tensor:
    """Return the one-hot label, with -1 in place of 0, tiled to maps.

    Args:
        affect: (B, K) weights; one-hot weights give maps of +1 and -1, weights between 0 and 1 values in between.
        size: edge length of the maps.

    Returns:
        (B, K, size, size).
    """
    return (2 * affect - 1)[:, :, None, None].expand(-1, -1, size, size)  # (B, K) -> (B, K, s, s)
