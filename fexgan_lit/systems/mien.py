"""MIEN: move the pixels of a face before painting on them, by the change of its action units.

The generator predicts, from coarse to fine, where every pixel of the result comes from in the source, and what must be
painted where no pixel of the source fits (teeth, lids, wrinkles). An untrained generator returns its source. Identity
enters through the source alone, and no code ties the system to the people of the training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.annotations import REGIONS, Box, ReadsActionUnits
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Exported, Input, face_input
from fexgan_lit.systems.gan import GANSystem, frozen_copy
from fexgan_lit.systems.layers import WIDTH, scaled
from fexgan_lit.systems.optimizers import DualOptimizerSettings, dual_adam
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch

#: Channels of the scales from 256 px down to the trunk at 16 px; the last is the trunk's.
CHANNELS = (16, 24, 48, 96, 192, 320)
#: Largest flow that each scale of the decoder adds, as a share of half the image.
FLOW_BOUNDS = (0.25, 0.06, 0.02)
#: Number of action units.
UNITS = len(ACTION_UNITS)
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
        change: condition on the change of the action units besides their target.
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


@dataclass
class MienLossSettings(Options):
    """Weights of the losses, and what the batches hold.

    Attributes:
        charbonnier: of the Charbonnier distance to the true target.
        pyramid: of the L1 distance of three levels of Laplacian pyramids.
        landmarks: of the L1 distance between the flow at the target's landmarks and the true motion of the landmarks.
        smooth: of the total variation of the flow, per pixel.
        painted: of the mean share of paint.
        adversarial: of the relativistic loss of the whole face.
        local: of the relativistic losses of eyes and mouth.
        units: of the squared error of the action units that the critic reads in the result.
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
    landmarks: float = option(2.0, at_least=0)
    smooth: float = option(0.05, at_least=0)
    painted: float = option(0.02, at_least=0)
    adversarial: float = option(0.5, at_least=0)
    local: float = option(0.25, at_least=0)
    units: float = option(1.0, at_least=0)
    gamma: float = option(2.0, above=0)
    gamma_end: float = option(0.2, above=0)
    penalty_every: int = option(4, at_least=1, at_most=1000)
    critics_from: float = option(0.6, at_least=0, at_most=1)
    self_pairs: float = option(0.25, at_least=0, at_most=1)
    unknown_source: float = option(0.2, at_least=0, at_most=1)


@dataclass
class MienOptimizerSettings(DualOptimizerSettings):
    """Adam for generator and critics, which both step in every iteration; see `DualOptimizerSettings`."""

    n_critic: int = option(1, "1, since the generator learns from true targets in every iteration", choices=(1,))
    beta1: float = option(0.0, at_least=0, below=1)
    beta2: float = option(0.99, at_least=0, below=1)


# ---------------------------------------------------------------------- generator


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
        self.film = nn.Linear(condition, 2 * channels) if condition else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map `x` (B, c, s, s) and `condition` (B, n) to (B, c, s, s)."""
        hidden = self.first(x)
        if self.film is not None:
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)  # (B, c, 1, 1) each
            hidden = hidden * (1 + scale) + shift
        return x + self.second(F.leaky_relu(hidden, _SLOPE))


class Condition(nn.Module):
    """Encode target and source action units with one network, and their difference.

    A source whose action units are not known has a learnt code.
    """

    def __init__(self, size: int, change: bool) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(UNITS, size), nn.LeakyReLU(_SLOPE), nn.Linear(size, size))
        self.absent = nn.Parameter(torch.zeros(size))
        self.mix = nn.Sequential(nn.Linear(2 * size, size), nn.LeakyReLU(_SLOPE), nn.Linear(size, size))
        self.change = change

    def forward(self, wanted: Tensor, shown: Tensor, known: Tensor) -> Tensor:
        """Map target units `wanted` and source units `shown`, (B, 17), to a condition (B, size).

        `known` (B, 1) is 1 where the units of the source are known and 0 elsewhere.
        """
        target = self.encode(wanted)
        source = known * self.encode(shown) + (1 - known) * self.absent
        change = target - source if self.change else torch.zeros_like(target)
        return self.mix(torch.cat((target, change), dim=1))


def identity_grid(size: int, device: torch.device) -> Tensor:
    """Return the centres of all pixels, x then y, -1..1 from edge to edge: (1, size, size, 2)."""
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((x, y), dim=2)[None]


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Return `image` (B, c, S, S) sampled at every pixel's place plus `flow` (B, 2, S, S), in half images, x then y.

    Coordinates are float32 at every precision of the training: bf16 has 8 bits, less than the pixels of a row.
    """
    grid = identity_grid(image.shape[2], image.device) + flow.float().permute(0, 2, 3, 1)  # (B, S, S, 2)
    with torch.autocast(image.device.type, enabled=False):
        return F.grid_sample(image.float(), grid, "bilinear", "border", align_corners=False)


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
    """

    image: Tensor
    flow: Tensor
    moved: Tensor
    share: Tensor


class Generator(nn.Module):
    """An encoder, a trunk at 16 px, and a decoder that moves the encoder's features before it reads them."""

    def __init__(self, settings: MienSettings) -> None:
        super().__init__()
        self.settings = settings
        stages = int(math.log2(settings.image_size)) - 4
        # for 512 px the outermost scale is repeated
        counts = [*(CHANNELS[:1] * max(0, stages - 5)), *CHANNELS[max(0, 5 - stages) :]]
        widths = [scaled(count, settings.width) for count in counts]  # from the image to the trunk
        size = scaled(256, settings.width)
        self.condition = Condition(size, settings.change)
        self.stem = conv(3, widths[0])
        self.encoder = nn.ModuleList(Block(width) for width in widths[:-1])
        self.down = nn.ModuleList(conv(a, b, 4, 2) for a, b in itertools.pairwise(widths))
        self.trunk = nn.ModuleList(Block(widths[-1], size) for _ in range(settings.blocks))
        outward = widths[::-1]
        self.flows = nn.ModuleList(conv(width, 2, zero=True) for width in outward[: len(FLOW_BOUNDS)])
        self.up = nn.ModuleList(conv(a, b, 1) for a, b in itertools.pairwise(outward))
        self.merge = nn.ModuleList(conv(2 * width, width, 1) for width in outward[1:])
        self.decoder = nn.ModuleList(Block(width, size) for width in outward[1:])
        self.paint = conv(widths[0], 3, zero=True)
        self.mask = conv(widths[0], 1, zero=True)

    def forward(self, image: Tensor, wanted: Tensor, shown: Tensor, known: Tensor) -> Faces:
        """Give `image` the action units `wanted`.

        Args:
            image: (B, 3, S, S) in [-1, 1].
            wanted: (B, 17), about 0..1.
            shown: those of the source, (B, 17).
            known: (B, 1), 1 where `shown` is known and 0 elsewhere.
        """
        condition = self.condition(wanted, shown, known)
        features, seen = self.stem(image), []
        for block, down in zip(self.encoder, self.down, strict=True):
            features = block(features)
            seen.append(features)
            features = down(F.leaky_relu(features, _SLOPE))  # (B, c, S, S), ..., (B, 320, 16, 16)
        for block in self.trunk:
            features = block(features, condition)

        flow = self._flow(0, features, None)
        for n, (up, merge, block) in enumerate(zip(self.up, self.merge, self.decoder, strict=True)):
            there = seen.pop()
            features = up(enlarged(features, there.shape[2]))
            flow = enlarged(flow, there.shape[2])
            there = warp(there, flow) if self.settings.flow else there
            features = block(merge(torch.cat((features, there.to(features.dtype)), dim=1)), condition)
            flow = self._flow(n + 1, features, flow)

        moved = warp(image, flow) if self.settings.flow else image.float()
        features = F.leaky_relu(features, _SLOPE)
        # at the start the share is 1 - sigmoid(2) = 0.12
        share = (self.mask(features).float() - 2).sigmoid() if self.settings.mask else torch.ones_like(flow[:, :1])
        painted = 2 * self.paint(features).float().tanh() if self.settings.paint else torch.zeros_like(moved)
        made = moved + share * painted
        return Faces(made if self.training else made.clamp(-1, 1), flow, moved, share)

    def _flow(self, scale: int, features: Tensor, before: Tensor | None) -> Tensor:
        """Return the flow of the coarser scales plus what this scale adds, (B, 2, s, s) in float32."""
        if before is None:
            before = torch.zeros_like(features[:, :2], dtype=torch.float32)
        if not self.settings.flow or scale >= len(FLOW_BOUNDS):
            return before
        return before + FLOW_BOUNDS[scale] * self.flows[scale](F.leaky_relu(features, _SLOPE)).float().tanh()


# ---------------------------------------------------------------------- critics


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


class Critics(nn.Module):
    """The critic of the whole face, which sees the source too, and those of eyes and mouth."""

    local: Mapping[str, Critic]

    def __init__(self, settings: MienSettings) -> None:
        super().__init__()
        size, width = settings.image_size, settings.width
        self.size = size
        self.whole = Critic(6, (size, size), width, 320, reads=True)
        regions = REGIONS if settings.local_critics else {}
        self.local = nn.ModuleDict(  # type: ignore[assignment]
            {
                name: Critic(3, (height * size // 128, breadth * size // 128), width, 192, reads=False)
                for name, (_, height, breadth) in regions.items()
            }
        )

    def forward(self, source: Tensor, image: Tensor, aus: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores (B,) and the units (B, 17) of the whole face."""
        score, read = self.whole(torch.cat((source, image), dim=1), aus)
        return score, read

    def crops(self, image: Tensor, landmarks: Tensor | None) -> dict[str, Tensor]:
        """Return the regions of `image` (B, 3, S, S) around `landmarks` (B, 68, 2), by name."""
        if landmarks is None:
            return {}
        found = {}
        for name in self.local:
            points, height, breadth = REGIONS[name]
            shape = height * self.size // 128, breadth * self.size // 128
            found[name] = Box.around(landmarks[:, list(points)], *shape, self.size).crop(image)
        return found


# ---------------------------------------------------------------------- losses


def charbonnier(image: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(d^2 + epsilon^2) - epsilon over all pixels: L1 with a smooth minimum."""
    return ((image - target).square() + epsilon**2).sqrt().mean() - epsilon


def laplacian_difference(image: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Return the L1 distance of the Laplacian pyramids of two batches (B, 3, S, S), mean over the levels."""
    difference, total = image - target, image.new_zeros(())  # the pyramid is linear
    for level in range(levels):
        smaller = F.avg_pool2d(difference, 2)
        detail = difference - enlarged(smaller, difference.shape[2]) if level < levels - 1 else difference
        total, difference = total + detail.abs().mean(), smaller
    return total / levels


def flow_at_landmarks(flow: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return the mean L1 distance between the flow at the target's landmarks and the way back to the source's.

    The flow says where a pixel comes from: at a landmark of the target it must lead to that landmark in the source.

    Args:
        flow: (B, 2, S, S) in half images.
        source: landmarks (B, 68, 2) of the source, -1..1 from edge to edge.
        target: those of the target; landmarks outside the image do not count.
    """
    inside = (target.abs() <= 1).all(2) & (source.abs() <= 1).all(2)  # (B, 68)
    there = F.grid_sample(flow, target[:, :, None], "bilinear", "border", align_corners=False)  # (B, 2, 68, 1)
    error = (there.squeeze(3).transpose(1, 2) - (source - target)).abs().mean(2)  # (B, 68)
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


class GeneratorPart(nn.Module):
    """The generator for export, with its image alone as output."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, aus: Tensor, source_aus: Tensor) -> Tensor:
        """Map `image` (B, 3, S, S), `aus` and `source_aus` (B, 17) to an image (B, 3, S, S)."""
        return self.generator(image, aus, source_aus, torch.ones_like(aus[:, :1])).image


class Mien(ReadsActionUnits, GANSystem):
    """Motion and paint by action units: a regression on pairs first, then critics besides.

    Args:
        model: network options.
        loss: loss weights.
        optimizer: Adam, moving average and clipping.
        affects: class names in index order.
        seed: seed of the random numbers in training; torch's global generator initialises the weights.
    """

    settings_class = MienSettings
    loss_class = MienLossSettings
    optimizer_class = MienOptimizerSettings
    generator: Generator
    average: Generator

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        self.generator, self.critics = Generator(self.settings), Critics(self.settings)
        self.average = frozen_copy(self.generator)

    def configure_optimizers(self) -> Any:
        """Return Adam for the generator and Adam for the critics."""
        fused = self.device.type in ("cpu", "cuda")
        return self.with_schedule(dual_adam(self.generator, self.critics, self.optimizer_settings, fused, self.adam))

    # ------------------------------------------------------------------ training

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration: update the critics, once they have started, and then the generator."""
        self.seed_iteration()
        w, source = self.loss_weights, batch.source
        target, wanted, landmarks = self._targets(batch)
        shown = self.units_of(batch.source_aus)
        known = (self.noise.uniform(len(batch), 1, device=self.device) >= w.unknown_source).float()
        made = self.generator(source, wanted, shown, known)
        started, parts_d = self.critics_started, dict[str, Tensor]()

        # Critics: real images should score higher than generated ones, both with small gradients
        loss_d = source.new_zeros(())
        if started:
            loss_d, parts_d = self._critic_loss(source, target, made.image.detach(), wanted, landmarks)
            self.backward_into(self.critics, loss_d)
            self.step(1, counted=False)

        # Generator: the true target, the true motion of the landmarks, and the critics
        parts = {
            "charbonnier": charbonnier(made.image, target),
            "pyramid": laplacian_difference(made.image, target),
            "smooth": smoothness(made.flow),
            "painted": made.share.mean(),
        }
        if landmarks is not None and batch.source_landmarks is not None:
            parts["landmarks"] = flow_at_landmarks(made.flow, batch.source_landmarks, landmarks)
        if started:
            on_real, on_fake, read = self._scores(source, target, made.image, wanted, landmarks)
            parts["adversarial"] = relativistic(on_fake.pop("whole"), on_real.pop("whole"))
            parts["units"] = F.mse_loss(read, wanted)
            if on_fake:
                regions = [relativistic(score, on_real[name]) for name, score in on_fake.items()]
                parts["local"] = torch.stack(regions).mean()
        loss_g = sum((getattr(w, name) * part for name, part in parts.items()), source.new_zeros(()))
        self.backward_into(self.generator, loss_g)
        self.step(0, counted=True)
        self.update_average(len(batch))
        return {name: loss.detach() for name, loss in {"generator": loss_g, "discriminator": loss_d, **parts,
                                                       **parts_d}.items()}  # fmt: skip

    @property
    def progress(self) -> float:
        """Return the finished share of the training, 0..1; 0 where its length is not known."""
        trainer = self.attached_trainer
        total = 0 if trainer is None else trainer.max_steps
        return self.iteration / total if total > 0 else 0.0

    @property
    def critics_started(self) -> bool:
        """Return whether the critics take part in this iteration."""
        return self.progress >= self.loss_weights.critics_from

    @property
    def gamma(self) -> float:
        """Return the weight of the gradient penalties: in ten geometric steps from `gamma` to `gamma_end`."""
        w = self.loss_weights
        late = (self.progress - w.critics_from) / max(1e-9, 1 - w.critics_from)
        return w.gamma * (w.gamma_end / w.gamma) ** round(min(1.0, max(0.0, late)), 1)

    @property
    def _penalised(self) -> bool:
        return self.iteration % self.loss_weights.penalty_every == 0

    def graph_key(self) -> tuple[Hashable, ...]:
        """See the base class."""
        return (self.critics_started, self._penalised, self.gamma)

    def _targets(self, batch: PairBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the targets with their units and landmarks; a random part of the pairs has the source as target."""
        own = self.noise.uniform(len(batch), 1, device=self.device) < self.loss_weights.self_pairs  # (B, 1)
        target = torch.where(own[:, :, None, None], batch.source, batch.target)
        wanted = torch.where(own, self.units_of(batch.source_aus), self.units_of(batch.target_aus))
        if batch.target_landmarks is None or batch.source_landmarks is None:
            return target, wanted, None
        return target, wanted, torch.where(own[:, :, None], batch.source_landmarks, batch.target_landmarks)

    def _scores(
        self, source: Tensor, real: Tensor, fake: Tensor, wanted: Tensor, landmarks: Tensor | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return all critics' scores (B,) of real and of generated images, and the units read in the generated ones."""
        with torch.no_grad():
            on_real = {"whole": self.critics(source, real, wanted)[0]}
            on_real |= {name: self.critics.local[name](crop, wanted)[0]
                        for name, crop in self.critics.crops(real, landmarks).items()}  # fmt: skip
        score, read = self.critics(source, fake, wanted)
        on_fake = {"whole": score} | {
            name: self.critics.local[name](crop, wanted)[0]
            for name, crop in self.critics.crops(fake, landmarks).items()
        }
        return on_real, on_fake, read

    def _critic_loss(
        self, source: Tensor, real: Tensor, fake: Tensor, wanted: Tensor, landmarks: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the critics and its parts; the units are read in real images alone."""
        w = self.loss_weights
        penalised = self._penalised
        inputs = {"whole": (torch.cat((source, real), 1), torch.cat((source, fake), 1), self.critics.whole)}
        crops = self.critics.crops(real, landmarks), self.critics.crops(fake, landmarks)
        inputs |= {name: (crops[0][name], crops[1][name], self.critics.local[name]) for name in crops[0]}

        total, parts = source.new_zeros(()), {}
        # gradients are differentiated twice: float32 at every precision of the training
        with torch.autocast(self.device.type, enabled=False) if penalised else nullcontext():
            for name, (first, second, critic) in inputs.items():
                first, second = first.detach().requires_grad_(penalised), second.detach().requires_grad_(penalised)
                on_real, read = critic(first, wanted)
                on_fake, _ = critic(second, wanted)
                parts[f"d_{name}"] = relativistic(on_real, on_fake)
                total = total + parts[f"d_{name}"]
                if read is not None:
                    parts["d_units"] = F.mse_loss(read, wanted)
                    total = total + w.units * parts["d_units"]
                if penalised:
                    penalty = squared_gradient(on_real, first) + squared_gradient(on_fake, second)
                    total = total + w.penalty_every * self.gamma / 2 * penalty
        return total, parts

    # ------------------------------------------------------------------ use

    def edit(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Faces:
        """Return the result with its flow and its paint, with gradients; see `forward`."""
        wanted = self.checked_units(target)
        shown = None if source_expression is None else source_expression.aus
        known = wanted.new_full((len(wanted), 1), float(shown is not None))
        return self.average(source, wanted, torch.zeros_like(wanted) if shown is None else shown, known)

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Give `source` (B, 3, S, S) the action units of `target`; see the base class.

        The action units of `source_expression` make the result more exact where they are known.
        """
        return self.edit(source, source_expression, target).image.float()

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; the real image is the target, which the critic sees beside the source."""
        K = len(self.affects)
        wanted = batch.target_expression(K)
        generated = self.synthesize(batch.source, batch.source_expression(K), wanted)
        units = self.units_of(wanted.aus)
        on_real, on_fake = (self.critics(batch.source, image, units)[0] for image in (batch.target, generated))
        return ValidationOutput(generated, on_real, None, on_fake, None, calibrated=False)

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        names = f"action units {', '.join(map(str, ACTION_UNITS))}"
        inputs = {
            "image": face_input(self.image_size, "the given face"),
            "aus": Input((UNITS,), f"wanted intensity 0..1 of {names}"),
            "source_aus": Input((UNITS,), "those of the given face"),
        }
        return {"generator": Exported(GeneratorPart(self.average), inputs, {"face": "face, RGB in [-1, 1]"})}

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving average as the generator, the critics, and the mean action units of the affects."""
        return {"generator": self.average, "critics": self.critics, "prototypes": self.prototypes}
