"""The options and the losses of MIEN, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fexgan_lit.utils.options import Options, option


@dataclass
class MienLossSettings(Options):
    """Weights of the losses, and what the batches hold.

    Attributes:
        charbonnier: of the Charbonnier distance to the true target.
        pyramid: of the L1 distance of three levels of Laplacian pyramids.
        regions: of the Charbonnier distance in eyes and mouth, where the frames have landmarks.
        landmarks: of the squared distance between the flow at the target's landmarks and the true motion of the
            landmarks, in 1/64 of the image.
        smooth: of the total variation of the flow, per pixel.
        painted: of the mean share of paint.
        adversarial: of the relativistic loss of the whole face.
        local: of the relativistic losses of eyes and mouth.
        units: of the squared error of the action units that the critic reads in the result.
        reader: of the squared error of the action units that the generator reads in the source.
        gamma: of the gradient penalties on real and generated images when the critics start.
        gamma_end: at the end of the training; geometric in between.
        penalty_every: the penalties are computed in every n-th iteration, and weighted n times.
        critics_from: share of the training without critics, before they start.
        self_pairs: probability that the target of a pair is the source itself.
        unknown_source: probability that the action units of a source are hidden.
    """

    section = "loss"

    charbonnier: float = option(10.0, at_least=0)
    pyramid: float = option(5.0, at_least=0)
    regions: float = option(5.0, at_least=0)
    landmarks: float = option(0.3, at_least=0)
    smooth: float = option(0.05, at_least=0)
    painted: float = option(0.02, at_least=0)
    adversarial: float = option(0.5, at_least=0)
    local: float = option(0.25, at_least=0)
    units: float = option(1.0, at_least=0)
    reader: float = option(1.0, at_least=0)
    gamma: float = option(2.0, above=0)
    gamma_end: float = option(0.2, above=0)
    penalty_every: int = option(4, at_least=1, at_most=1000)
    critics_from: float = option(0.6, at_least=0, at_most=1)
    self_pairs: float = option(0.0, at_least=0, at_most=1)
    unknown_source: float = option(0.2, at_least=0, at_most=1)


def laplacian_difference(image: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Return the L1 distance of the Laplacian pyramids of two batches (B, 3, S, S), mean over the levels."""
    difference, total = image - target, image.new_zeros(())  # the pyramid is linear
    for level in range(levels):
        smaller = F.avg_pool2d(difference, 2)
        detail = (
            difference - F.interpolate(smaller, scale_factor=2, mode="bilinear") if level < levels - 1 else difference
        )
        total, difference = total + detail.abs().mean(), smaller
    return total / levels


def flow_at_landmarks(flow: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance between the flow at the target's landmarks and the way back to the source's.

    The flow says where a pixel comes from: at a landmark of the target it must lead to that landmark in the source. The
    distance is squared, since most landmarks hardly move: the L1 distance is smallest for a flow of zero until the flow
    follows the action units. The unit is 1/64 of the image, one pixel at 64 px.

    Args:
        flow: (B, 2, S, S) in half images.
        source: landmarks (B, 68, 2) of the source, -1..1 from edge to edge.
        target: those of the target; landmarks outside the image do not count.
    """
    inside = (target.abs() <= 1).all(2) & (source.abs() <= 1).all(2)  # (B, 68)
    there = F.grid_sample(flow, target[:, :, None], "bilinear", "border", align_corners=False)  # (B, 2, 68, 1)
    error = (32 * (there.squeeze(3).transpose(1, 2) - (source - target))).square().sum(2)  # (B, 68)
    return (error * inside).sum() / inside.sum().clamp(min=1)


def smoothness(flow: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels of `flow` (B, 2, S, S), in pixels."""
    pixels = flow * (flow.shape[2] / 2)
    return pixels.diff(dim=2).abs().mean() + pixels.diff(dim=3).abs().mean()


def relativistic(better: Tensor, worse: Tensor) -> Tensor:
    """Return the mean of -log sigmoid(better - worse) of paired scores (B,) (R3GAN, 2501.05441)."""
    return F.softplus(worse - better).mean()


def squared_gradient(score: Tensor, image: Tensor) -> Tensor:
    """Return the mean squared norm of the gradient of scores (B,) with respect to `image` (B, c, h, w)."""
    (gradient,) = torch.autograd.grad(score.sum(), image, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
