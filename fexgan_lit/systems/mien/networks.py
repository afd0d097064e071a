"""MIEN: move the pixels of a face before painting on them, by the change of its action units.

The generator predicts, from coarse to fine, where every pixel of the result comes from in the source, and what must be
painted where no pixel of the source fits (teeth, lids, wrinkles). An untrained generator returns its source. Identity
enters through the source alone, and no code ties the system to the people of the training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.systems.annotations import REGIONS, UNITS, Box, region_shape
from fexgan_lit.systems.layers import WIDTH, FiLM, scaled
from fexgan_lit.utils.options import Options, option

#: Channels of the scales from 256 px down to the trunk at 16 px; the last is the trunk's.
CHANNELS = (16, 24, 48, 96, 192, 320)
#: Largest flow that each scale of the decoder adds, as a share of half the image.
FLOW_BOUNDS = (0.25, 0.06, 0.02)
#: Factor on the outputs of the last layers of flow, paint and mask. With 1, a step of Adam moves pixels by more than
#: most action units do, and the losses of the first iterations teach the layers to do nothing.
OUTPUT_GAIN = 0.1
#: Half the width in pixels of the window that interpolates the source.
LANCZOS = 4
_SLOPE = 0.2


@dataclass
class MienSettings(Options):
    """Network options; every part that is a switch can be left out for an ablation.

    Attributes:
        name: name of the system.
        image_size: edge length of the square images in pixels, a power of two from 32 to 512.
        width: factor on every channel count.
        blocks: residual blocks at the coarsest scale.
        flow: move the pixels and features of the source; false paints on the unmoved source.
        paint: paint on the moved pixels; false moves alone.
        mask: multiply the paint by a mask.
        change: the flow is linear in the change of the action units, which is also part of the condition; false puts
            the target in its place.
        local_critics: critics of eyes and mouth, where the frames have landmarks.
    """

    section = "model"

    name: str = "mien"
    image_size: int = option(128, choices=IMAGE_SIZES)
    width: float = option(1.0, **WIDTH)
    blocks: int = option(6, at_least=0, at_most=64)
    flow: bool = True
    paint: bool = True
    mask: bool = True
    change: bool = True
    local_critics: bool = True

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        return [] if self.flow or self.paint else ["model.flow=false and model.paint=false: nothing could change"]


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, zero: bool = False) -> nn.Conv2d:
    """Return a convolution that keeps the size (or halves it), with He's initial weights or zeros, and zero bias."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - stride + 1) // 2)
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer whose outputs have the variance of its inputs, with zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Conv 3x3, a scale and shift by the condition (FiLM), LeakyReLU, Conv 3x3, and a skip connection.

    Neither normalises. The second convolution starts at zero, so an untrained block returns its input.

    Args:
        channels: of input and output.
        condition: size of the condition; 0 has none.
    """

    def __init__(self, channels: int, condition: int = 0) -> None:
        super().__init__()
        self.first, self.second = conv(channels, channels), conv(channels, channels, zero=True)
        self.film = FiLM(condition, channels) if condition else None
        if self.film is not None:
            nn.init.normal_(self.film.linear.weight, std=condition**-0.5)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map `x` (B, c, s, s) and `condition` (B, n) to (B, c, s, s)."""
        hidden = self.first(x)
        if self.film is not None:
            hidden = self.film(hidden, condition)
        return x + self.second(F.leaky_relu(hidden, _SLOPE))


def identity_grid(size: int, device: torch.device) -> Tensor:
    """Return the centres of all pixels, x then y, -1..1 from edge to edge: (1, size, size, 2)."""
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((x, y), dim=2)[None]


def warp(image: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Return `image` (B, c, S, S) sampled at every pixel's place plus `flow` (B, 2, S, S), in half images, x then y.

    `mode` is that of `grid_sample`. Coordinates are float32 at every precision of the training: bf16 has 8 bits, less
    than the pixels of a row.
    """
    grid = identity_grid(image.shape[2], image.device) + flow.float().permute(0, 2, 3, 1)  # (B, S, S, 2)
    with torch.autocast(image.device.type, enabled=False):
        return F.grid_sample(image.float(), grid, mode, "border", align_corners=False)


def lanczos_midpoint() -> Tensor:
    """Return Lanczos's weights (2 * LANCZOS,) of the pixels on both sides of a place midway between two of them."""
    x = torch.arange(2 * LANCZOS, dtype=torch.float64) - LANCZOS + 0.5
    weights = torch.sinc(x) * torch.sinc(x / LANCZOS)
    return (weights / weights.sum()).float()


def warp_sharply(image: Tensor, flow: Tensor, weights: Tensor) -> Tensor:
    """Return `image` (B, c, S, S) moved as by `warp`, but with less blur; used after the training.

    Faces of 64 px that MIEN moves keep 0.71 of their Laplacian energy with bilinear sampling, 0.88 with bicubic
    sampling, and 0.95 with bicubic sampling of an image of twice the size, whose new pixels Lanczos's window
    interpolates. Where nothing moves, the pixels stay what they are. In training it is of no use: the regression on the
    targets rewards blur, and after 800 iterations with it the networks were at 0.88 again.

    Args:
        image: the pixels.
        flow: (B, 2, S, S), see `warp`.
        weights: those of `lanczos_midpoint`.
    """
    B, c, S, _ = image.shape
    before, after = LANCZOS - 1, LANCZOS
    grid = identity_grid(S, image.device) + flow.float().permute(0, 2, 3, 1)  # (B, S, S, 2)
    with torch.autocast(image.device.type, enabled=False):
        image = image.float().flatten(0, 1)[:, None]  # (B, c, S, S) -> (B * c, 1, S, S)
        beside = F.conv2d(F.pad(image, (before, after, 0, 0), mode="replicate"), weights[None, None, None])
        wide = torch.stack((image, beside), dim=4).flatten(3)  # (B * c, 1, S, 2 * S)
        below = F.conv2d(F.pad(wide, (0, 0, before, after), mode="replicate"), weights[None, None, :, None])
        large = torch.stack((wide, below), dim=3).flatten(2, 3)  # (B * c, 1, 2 * S, 2 * S)
        large = large.view(B, c, 2 * S, 2 * S)
        # the centre of a pixel lies half a pixel of the larger image further left in it
        return F.grid_sample(large, grid - 1 / (2 * S), "bicubic", "border", align_corners=False)


def enlarged(x: Tensor, size: int) -> Tensor:
    """Resize (B, c, s, s) bilinearly to (B, c, size, size)."""
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


class Faces(NamedTuple):
    """Output of the generator.

    Attributes:
        image: (B, 3, S, S); in [-1, 1] in use, while in training paint may leave the range.
        flow: (B, 2, S, S), where each pixel comes from, relative to its place and in half images; x then y.
        moved: the source with its pixels moved, (B, 3, S, S).
        share: of the paint, (B, 1, S, S) in [0, 1].
        read: the action units of the source as the generator reads them, (B, 17).
    """

    image: Tensor
    flow: Tensor
    moved: Tensor
    share: Tensor
    read: Tensor


class Generator(nn.Module):
    """An encoder, a trunk at 16 px, and a decoder that moves the encoder's features before it reads them.

    Each scale of the flow has a field of motion for every action unit; the flow is their sum, weighted by the change of
    the action units. No change moves nothing, half of it moves half as far (but for the bounds), and mixtures add up.
    """

    midpoint: Tensor

    def __init__(self, settings: MienSettings) -> None:
        super().__init__()
        self.settings = settings
        stages = int(math.log2(settings.image_size)) - 4
        # for 512 px the outermost scale is repeated
        counts = [*(CHANNELS[:1] * max(0, stages - 5)), *CHANNELS[max(0, 5 - stages) :]]
        widths = [scaled(count, settings.width) for count in counts]  # from the image to the trunk
        size, last = scaled(256, settings.width), widths[-1]
        self.condition = nn.Sequential(linear(2 * UNITS, size), nn.LeakyReLU(_SLOPE), linear(size, size))
        self.stem = conv(3, widths[0])
        self.encoder = nn.ModuleList(Block(width) for width in widths[:-1])
        self.down = nn.ModuleList(conv(a, b, 4, 2) for a, b in itertools.pairwise(widths))
        # the action units of the source, where they are not known
        self.read = nn.Sequential(
            conv(last, last, 4, 2), nn.LeakyReLU(_SLOPE), conv(last, last, 4, 2), nn.LeakyReLU(_SLOPE),
            conv(last, UNITS, 4, 4, zero=True), nn.Flatten(),
        )  # fmt: skip
        # which part of a face usually lies where
        self.place = nn.Parameter(torch.randn(1, last, 16, 16))
        self.trunk = nn.ModuleList(Block(last, size) for _ in range(settings.blocks))
        outward = widths[::-1]
        # up to half the size of the image, for motion is smooth; at least two
        scales = min(len(FLOW_BOUNDS), max(2, stages))
        self.flows = nn.ModuleList(conv(width, 2 * UNITS, zero=True) for width in outward[:scales])
        self.up = nn.ModuleList(conv(a, b, 1) for a, b in itertools.pairwise(outward))
        self.merge = nn.ModuleList(conv(2 * width, width, 1) for width in outward[1:])
        self.decoder = nn.ModuleList(Block(width, size) for width in outward[1:])
        self.paint = conv(widths[0], 3, zero=True)
        self.mask = conv(widths[0], 1, zero=True) if settings.mask else None
        self.register_buffer("midpoint", lanczos_midpoint(), persistent=False)

    def forward(self, image: Tensor, wanted: Tensor, shown: Tensor, known: Tensor) -> Faces:
        """Give `image` the action units `wanted`.

        Args:
            image: (B, 3, S, S) in [-1, 1].
            wanted: (B, 17), about 0..1.
            shown: those of the source, (B, 17).
            known: (B, 1), 1 where `shown` is known and 0 where it is to be read in the image.
        """
        features, seen = self.stem(image), []
        for block, down in zip(self.encoder, self.down, strict=True):
            features = block(features)
            seen.append(features)
            features = down(F.leaky_relu(features, _SLOPE))  # (B, c, S, S), ..., (B, 320, 16, 16)
        read = self.read(features).float()
        shown = known * shown + (1 - known) * read
        change = wanted - shown if self.settings.change else wanted
        condition = self.condition(torch.cat((wanted, change), dim=1))
        features = features + self.place
        for block in self.trunk:
            features = block(features, condition)

        flow = self._flow(0, features, change, torch.zeros_like(features[:, :2], dtype=torch.float32))
        for n, (up, merge, block) in enumerate(zip(self.up, self.merge, self.decoder, strict=True)):
            there = seen.pop()
            features = enlarged(up(features), there.shape[2])  # a 1x1 convolution and resizing commute
            flow = enlarged(flow, there.shape[2])
            there = warp(there, flow) if self.settings.flow else there
            features = block(merge(torch.cat((features, there.to(features.dtype)), dim=1)), condition)
            flow = self._flow(n + 1, features, change, flow)

        moved = image.float()
        if self.settings.flow:
            moved = warp(image, flow, "bicubic") if self.training else warp_sharply(image, flow, self.midpoint)
        features = F.leaky_relu(features, _SLOPE)
        share = torch.ones_like(moved[:, :1])
        if self.mask is not None:  # at the start the share is 1 - sigmoid(2) = 0.12
            share = (OUTPUT_GAIN * self.mask(features).float() - 2).sigmoid()
        painted = 2 * (OUTPUT_GAIN * self.paint(features).float()).tanh()
        made = moved + share * painted if self.settings.paint else moved
        return Faces(made if self.training else made.clamp(-1, 1), flow, moved, share, read)

    def _flow(self, scale: int, features: Tensor, change: Tensor, before: Tensor) -> Tensor:
        """Return the flow `before` (B, 2, s, s) of the coarser scales plus that of this scale."""
        if not self.settings.flow or scale >= len(self.flows):
            return before
        motions = self.flows[scale](F.leaky_relu(features, _SLOPE)).float().unflatten(1, (UNITS, 2))
        moved = (motions * change[:, :, None, None, None]).sum(1)  # (B, 17, 2, s, s) -> (B, 2, s, s)
        return before + FLOW_BOUNDS[scale] * (OUTPUT_GAIN * moved).tanh()


class Critic(nn.Module):
    """Score a source beside an image for its action units, and read the action units in the image.

    Args:
        inputs: channels of the input.
        size: height and width of the input.
        width: factor on every channel count.
        most: largest channel count; they double from 48 while the image is halved to 4 pixels.
        reads: whether it has a head that reads action units.
    """

    def __init__(self, inputs: int, size: tuple[int, int], width: float, most: int, reads: bool) -> None:
        super().__init__()
        depth = int(math.log2(min(size))) - 2
        counts = [scaled(min(48 * 2**n, most), width) for n in range(depth + 1)]
        layers: list[nn.Module] = [conv(inputs, counts[0]), nn.LeakyReLU(_SLOPE)]
        for before, after in itertools.pairwise(counts):
            layers += [conv(before, after, 4, 2), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, Block(counts[-1]), nn.LeakyReLU(_SLOPE))
        flat = counts[-1] * (size[0] >> depth) * (size[1] >> depth)
        self.score = nn.Linear(flat, 1)
        self.project = nn.Linear(UNITS, flat, bias=False)
        self.read = nn.Linear(flat, UNITS) if reads else None

    def forward(self, image: Tensor, aus: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map `image` (B, c, h, w) and the units `aus` (B, 17) it should show to scores (B,) and units (B, 17)."""
        features = self.layers(image).flatten(1).float()  # (B, c, h', w') -> (B, n)
        # the projection is a mean and not a sum over features, so that both terms are of one size
        score = self.score(features).squeeze(1) + (features * self.project(aus)).mean(1)
        return score, None if self.read is None else self.read(features)


class Critics(nn.ModuleDict):
    """A critic by part: the `whole` face, which is seen beside its source, and the regions eyes and mouth."""

    def __init__(self, settings: MienSettings) -> None:
        size, width = settings.image_size, settings.width
        regions = REGIONS if settings.local_critics else ()
        super().__init__(
            {"whole": Critic(6, (size, size), width, 320, reads=True)}
            | {name: Critic(3, region_shape(name, size), width, 192, reads=False) for name in regions}
        )

    def views(self, source: Tensor, image: Tensor, boxes: Mapping[str, Box]) -> dict[str, Tensor]:
        """Return what each critic sees of `image` (B, 3, S, S): all of it beside `source`, or the region of its box."""
        crops = {name: box.crop(image) for name, box in boxes.items() if name in self}
        return {"whole": torch.cat((source, image), dim=1), **crops}  # (B, 6, S, S), (B, 3, h, w)

    def forward(self, views: Mapping[str, Tensor], aus: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the scores (B,) by part for the units `aus` (B, 17), and the units read in the whole face, (B, 17)."""
        answers = {name: self[name](view, aus) for name, view in views.items()}
        return {name: score for name, (score, _) in answers.items()}, answers["whole"][1]


class GeneratorPart(nn.Module):
    """The generator for export, with its image alone as output."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, aus: Tensor, source_aus: Tensor) -> Tensor:
        """Map `image` (B, 3, S, S), `aus` and `source_aus` (B, 17) to an image (B, 3, S, S)."""
        return self.generator(image, aus, source_aus, torch.ones_like(aus[:, :1])).image
