"""MotionGAN's generator and critic of tangent vectors, and TextureGAN's U-Net and patch discriminator.

MotionGAN has the layers of the authors' later code for 3D faces, with 136 coordinates in place of 204. TextureGAN's
layers are not stated: here they are those of pix2pix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.systems.annotations import landmark_heatmaps
from fexgan_lit.systems.layers import WIDTH, PatchDiscriminator, UNet, scaled, tiled
from fexgan_lit.systems.motion_texture.srvf import COORDINATES, exp_map, tangent
from fexgan_lit.utils.options import Options, option

#: Random numbers of a motion, and reals of each affect's label.
NOISE, REALS = 128, 3
#: Quantiles of the lengths of the training motions that are kept for each affect.
QUANTILES = 11
PARTS = ("motion", "texture", "both")


@dataclass
class MotionTextureSettings(Options):
    """Network options.

    Attributes:
        name: name of the system.
        image_size: edge length of the square images in pixels, a power of two from 32 to 512.
        part: what is trained: `motion`, `texture` or `both`. Without TextureGAN the source is warped.
        width: factor on every channel count; 1 is the paper's size.
        motion_width: the same for MotionGAN; None takes `width`.
        steps: number of time steps of a motion.
        arc_length: whether clips are resampled equally spaced in arc length, as the authors do; otherwise in time.
        reference: point of the sphere with the tangent space: the Karcher `mean`, or a `sample` of the motions.
        head: `direct` paints the image; `masked` paints colours C and a mask A: A * source + (1 - A) * C.
        dropout: rate of the three innermost blocks of the U-Net's decoder, in training alone.
        sigma: standard deviation in pixels of the Gaussians around landmarks.
    """

    section = "model"

    name: str = "motion_texture"
    image_size: int = option(128, choices=IMAGE_SIZES)
    part: str = option("both", choices=PARTS)
    width: float = option(1.0, **WIDTH)
    motion_width: float | None = option(None, **WIDTH)
    steps: int = option(30, at_least=8, at_most=512)
    arc_length: bool = True
    reference: str = option("mean", choices=("mean", "sample"))
    head: str = option("direct", choices=("direct", "masked"))
    dropout: float = option(0.5, at_least=0, below=1)
    sigma: float = option(2.0, above=0, at_most=64)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are trained."""
        return PARTS[:2] if self.part == "both" else (self.part,)


def label_code(affect: Tensor, magnitude: Tensor) -> Tensor:
    """Return three reals for each affect, positive for the true one and negative for the others.

    Args:
        affect: (B, K) weights; 1 is the affect, 0 is not, and weights between shrink both.
        magnitude: (B, K, 3) in [0, 1].

    Returns:
        (B, 3 K).
    """
    return ((2 * affect - 1).unsqueeze(2) * magnitude).flatten(1)


def draw_layer(module: nn.Module) -> None:
    """Draw convolutions from N(0, 0.02) within two standard deviations, linear layers from N(0, (in * out)^(-1/4))."""
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=(module.in_features * module.out_features) ** -0.25)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class MotionGenerator(nn.Module):
    """Map noise and a label to a tangent vector: a map with a row for each coordinate and a column for each time step.

    Args:
        label: length of a label code.
        steps: time steps T.
        width: factor on every channel count.
    """

    def __init__(self, label: int, steps: int, width: float) -> None:
        super().__init__()
        self.steps = steps
        a, b, c, d = (scaled(count, width) for count in (1024, 512, 256, 128))
        self.dense = nn.Linear(NOISE + 2 * label, a * (COORDINATES // 4) * (steps // 4))
        conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
        self.convs = nn.ModuleList([conv(a + label, b), conv(b + label, c), conv(c + label, d), conv(d + label, 1)])
        self.apply(draw_layer)

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        """Map `noise` (B, 128) and `label` (B, 3 K) to a function (B, T, 136) in [-1, 1]."""
        maps = self.dense(torch.cat((noise, label, label), dim=1)).relu()
        maps = maps.unflatten(1, (-1, COORDINATES // 4, self.steps // 4))  # (B, 1024, 34, T/4)
        quarter = self.steps // 4
        for n, shape in enumerate([(68, 2 * quarter), (136, 4 * quarter), (136, self.steps), None]):
            maps = maps if shape is None else F.interpolate(maps, shape)
            maps = self.convs[n](tiled(maps, label))  # (B, c, 68, T/2), (B, c, 136, T), ..., (B, 1, 136, T)
            maps = maps.relu() if shape else maps
        return maps.float().tanh().squeeze(1).mT  # (B, 136, T) -> (B, T, 136)


class Shift(nn.Module):
    """Add a learned constant to each channel: what is left of BatchNorm without its scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, c, ...) plus the constant of each channel."""
        return x + self.bias.view(-1, *[1] * (x.ndim - 2))


class MotionCritic(nn.Module):
    """Score tangent vectors; BatchNorm always uses the statistics of the batch, and has no scale.

    Args:
        label: length of a label code.
        steps: time steps T.
        width: factor on every channel count.
    """

    def __init__(self, label: int, steps: int, width: float) -> None:
        super().__init__()
        widths = [scaled(count, width) for count in (64, 32, 16)]
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for before, after in zip([1, *(each + label for each in widths)], widths, strict=False):
            self.convs.append(nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False))
            norm = nn.BatchNorm2d(after, affine=False, track_running_stats=False)
            self.norms.append(nn.Sequential(norm, Shift(after), nn.ReLU()))
        wide, last = scaled(1024, width), (widths[-1] + label) * math.ceil(COORDINATES / 8) * math.ceil(steps / 8)
        self.dense = nn.Sequential(
            nn.Linear(last, wide, bias=False), nn.BatchNorm1d(wide, affine=False, track_running_stats=False),
            Shift(wide), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.score = nn.Linear(wide + label, 1)
        self.apply(draw_layer)

    def forward(self, v: Tensor, label: Tensor) -> Tensor:
        """Map tangent vectors `v` (B, T, 136) and `label` (B, 3 K) to unbounded scores (B,)."""
        maps = v.mT.unsqueeze(1)  # (B, T, 136) -> (B, 1, 136, T)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            maps = tiled(norm(conv(maps)), label)  # (B, c + 3 K, 68, T/2), (B, c + 3 K, 34, T/4), ...
        return self.score(torch.cat((self.dense(maps.flatten(1)), label), dim=1)).squeeze(1)


class Texture(nn.Module):
    """TextureGAN's generator: a U-Net of the source, its landmarks and the landmarks of the frame, as maps."""

    def __init__(self, settings: MotionTextureSettings) -> None:
        super().__init__()
        self.size, self.sigma, self.masked = settings.image_size, settings.sigma, settings.head == "masked"
        self.network = UNet(5, self.size, settings.width, settings.dropout, outputs=4 if self.masked else 3)

    def forward(self, image: Tensor, source: Tensor, landmarks: Tensor) -> Tensor:
        """Move `image` (B, 3, S, S) from its landmarks `source` (B, 68, 2) to `landmarks`: (B, 3, S, S) in [-1, 1]."""
        maps = [landmark_map(points, self.size, self.sigma) for points in (source, landmarks)]
        raw = self.network.raw(torch.cat((image, *maps), dim=1))  # (B, 3 or 4, S, S)
        colour = raw[:, :3].tanh()
        return torch.lerp(colour, image.float(), raw[:, 3:].sigmoid()) if self.masked else colour


def landmark_map(landmarks: Tensor, size: int, sigma: float) -> Tensor:
    """Return one map (B, 1, S, S) in [0, 1] with a Gaussian around each of the landmarks (B, 68, 2)."""
    return landmark_heatmaps(landmarks, size, sigma).amax(1, keepdim=True)


class Warp(nn.Module):
    """Move pixels with the landmarks, without weights: what a system without TextureGAN shows.

    A thin-plate spline maps each pixel of the result to its place in the source. It maps the landmarks of the result to
    those of the source, and leaves 16 points on the border of the image where they are.
    """

    anchors: Tensor

    def __init__(self) -> None:
        super().__init__()
        side = torch.linspace(-1, 1, 5)
        grid = torch.cartesian_prod(side, side)
        self.register_buffer("anchors", grid[grid.abs().amax(1) == 1], persistent=False)  # (16, 2)

    def forward(self, image: Tensor, source: Tensor, landmarks: Tensor) -> Tensor:
        """Move `image` (B, 3, S, S) from its landmarks `source` (B, 68, 2) to `landmarks`: (B, 3, S, S) in [-1, 1]."""
        with torch.autocast(image.device.type, enabled=False):
            image, fixed = image.float(), self.anchors.expand(len(image), -1, -1)
            points = torch.cat((landmarks.float(), fixed), dim=1)  # (B, P, 2)
            shift = torch.cat((source.float() - landmarks.float(), torch.zeros_like(fixed)), dim=1)
            bend = spline_kernel(points, points)
            # points of closed lips and eyes coincide: a little stiffness keeps the system solvable
            bend = bend + 1e-3 * torch.eye(bend.shape[1], device=image.device)
            linear = F.pad(points, (1, 0), value=1.0)  # (B, P, 3): 1, x, y
            top = torch.cat((bend, linear), dim=2)
            bottom = torch.cat((linear.mT, torch.zeros(len(image), 3, 3, device=image.device)), dim=2)
            weights = torch.linalg.solve(torch.cat((top, bottom), dim=1), F.pad(shift, (0, 0, 0, 3)))  # (B, P + 3, 2)
            identity = torch.eye(2, 3, device=image.device).expand(len(image), -1, -1)
            grid = F.affine_grid(identity, list(image.shape), align_corners=False)  # (B, S, S, 2)
            places = grid.flatten(1, 2)  # (B, S * S, 2)
            moved = torch.cat((spline_kernel(places, points), F.pad(places, (1, 0), value=1.0)), dim=2) @ weights
            return F.grid_sample(image, grid + moved.view_as(grid), padding_mode="border", align_corners=False)


def spline_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return r^2 log r^2 of the distances r of points `a` (B, N, 2) and `b` (B, P, 2): (B, N, P)."""
    square = (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(3)
    return square * (square + 1e-9).log()


class Generator(nn.Module):
    """MotionGAN's generator, if it is trained, and TextureGAN's, or the warp in its place.

    Buffers:
        mean: (T, 136), the point of the sphere whose tangent space MotionGAN works in; NaN before training.
        lengths: (K, 11), quantiles of the lengths of the training motions of each affect; NaN for others.
    """

    mean: Tensor
    lengths: Tensor
    motion: Any

    def __init__(self, settings: MotionTextureSettings, affects: int) -> None:
        super().__init__()
        parts = settings.parts
        width = settings.width if settings.motion_width is None else settings.motion_width
        self.motion = MotionGenerator(REALS * affects, settings.steps, width) if "motion" in parts else None
        self.texture = Texture(settings) if "texture" in parts else Warp()
        self.register_buffer("mean", torch.full((settings.steps, COORDINATES), float("nan")))
        self.register_buffer("lengths", torch.full((affects, QUANTILES), float("nan")))

    def forward(self, image: Tensor, source: Tensor, landmarks: Tensor) -> Tensor:
        """Move `image` (B, 3, S, S) from its landmarks `source` (B, 68, 2) to `landmarks`: (B, 3, S, S) in [-1, 1]."""
        return self.texture(image, source, landmarks)

    def motions(self, noise: Tensor, label: Tensor) -> Tensor:
        """Map `noise` (B, 128) and `label` (B, 3 K) to SRVFs (B, T, 136)."""
        return exp_map(self.mean, tangent(self.mean, self.motion(noise, label)))


class Critics(nn.Module):
    """The critic of motions and the patch discriminator of frames, those of the trained parts."""

    motion: Any
    texture: Any

    def __init__(self, settings: MotionTextureSettings, affects: int) -> None:
        super().__init__()
        parts = settings.parts
        width = settings.width if settings.motion_width is None else settings.motion_width
        self.motion = MotionCritic(REALS * affects, settings.steps, width) if "motion" in parts else None
        # beside a frame it sees the source and the map of the frame's landmarks
        self.texture = PatchDiscriminator(4, settings.width, spectral=True) if "texture" in parts else None


class TexturePart(nn.Module):
    """TextureGAN's generator for export."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, source_landmarks: Tensor, landmarks: Tensor) -> Tensor:
        """Map `image` (B, 3, S, S) and landmarks (B, 68, 2) to an image (B, 3, S, S)."""
        return self.generator(image, source_landmarks, landmarks)


class MotionPart(nn.Module):
    """MotionGAN's generator for export; every real of the label has the magnitude 1/2, the mean in training."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, noise: Tensor, affect: Tensor) -> Tensor:
        """Map `noise` (B, 128) and `affect` (B, K) to SRVFs (B, T, 136)."""
        return self.generator.motions(noise, label_code(affect, torch.full((*affect.shape, REALS), 0.5).to(affect)))
