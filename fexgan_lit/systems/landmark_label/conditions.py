"""What the generator is told, as maps: landmarks as Gaussians, affects as planes of +1 and -1."""

from __future__ import annotations

import torch
from torch import Tensor

from fexgan_lit.utils.errors import UserError

#: Points of a face, in dlib's order; one heatmap each.
LANDMARKS = 68


def landmark_heatmaps(landmarks: Tensor, size: int, sigma: float) -> Tensor:
    """A Gaussian of height 1 around every landmark, made where the landmarks lie.

    A Gaussian over the plane is the product of one along x and one along y, so only 2 * size exponentials are taken
    for a map of size * size. Points beyond the edge leave what of their Gaussian reaches into the image.

    Args:
        landmarks: (B, 68, 2), x then y, -1..1 from edge to edge of the image.
        size: S, edge of the maps in pixels.
        sigma: standard deviation, pixels.

    Returns:
        (B, 68, S, S) float32 in [0, 1].

    Raises:
        UserError: there are not 68 points of two coordinates.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 2):
        raise UserError(
            f"landmarks of shape {tuple(landmarks.shape)}: expected (batch, {LANDMARKS}, 2), the {LANDMARKS} points of "
            "dlib with x and y from -1 to 1; `python -m fexgan_lit.prepare ... dataset.detector=mediapipe` finds them"
        )
    # from edge to edge to the index of the pixel whose centre lies there: -1 is half a pixel left of pixel 0
    places = (landmarks.float() + 1) * (size / 2) - 0.5  # (B, 68, 2)
    pixels = torch.arange(size, device=landmarks.device, dtype=torch.float32)
    bells = torch.exp(-0.5 * ((pixels - places.unsqueeze(3)) / sigma).square())  # (B, 68, 2, S)
    along_x, along_y = bells.unbind(2)  # (B, 68, S) each
    return along_y.unsqueeze(3) * along_x.unsqueeze(2)  # (B, 68, S, 1) * (B, 68, 1, S) -> (B, 68, S, S)


def label_maps(affect: Tensor, size: int) -> Tensor:
    """The one-hot label with -1 in place of 0, each value tiled to a map.

    Args:
        affect: (B, K) weights; one-hot gives maps of +1 and -1 alone, a weight between 0 and 1 lies between them.
        size: edge of the maps.

    Returns:
        (B, K, size, size).
    """
    return (2 * affect - 1)[:, :, None, None].expand(-1, -1, size, size)  # (B, K) -> (B, K, s, s)
