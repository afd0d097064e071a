"""A flow from the source to the target: the baseline of diffusion models for paired data.

A U-Net predicts the target from any point of a path to it. The path starts at the source and may be noisy, a Brownian
bridge (BBDM, 2205.07680; I2SB, 2302.05872); without noise it is a rectified flow (2209.03003) from the source. The path
may also start at noise, with the source as a condition. From the source, a single step is an ordinary regression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.annotations import UNITS, ReadsActionUnits
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Exported, unit_edit_inputs
from fexgan_lit.systems.gan import MovingAverageSystem, frozen_copy
from fexgan_lit.systems.layers import WIDTH, FiLM, scaled
from fexgan_lit.systems.losses import charbonnier
from fexgan_lit.systems.optimizers import AdamSettings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch

#: Channels of the scales from the image inwards; from 256 px on the last scale is repeated down to 16 px.
CHANNELS = (64, 128, 256, 256)
#: Edge length in pixels of the only scale with attention.
ATTENTION = 16
#: Numbers of the condition, and cosines of the time.
CONDITION, COSINES = 256, 64


@dataclass
class BridgeSettings(Options):
    """Options of the network, of the path and of sampling; `steps`, `stochastic` and `guidance` matter in use alone.

    Attributes:
        name: name of the system.
        image_size: edge length of the square images in pixels, a power of two from 32 to 512.
        width: factor on every channel count.
        prior: where the path starts: at the `source`, or at `noise` with the source as a condition.
        sigma: noise of a path from the source, `sigma * sqrt(u * (1 - u))` at time u; 0 is a rectified flow.
        steps: number of sampling steps.
        stochastic: whether each step but the last adds noise, so that its result has the noise of training.
        guidance: factor on the difference of the predictions with and without the target's action units.
    """

    section = "model"

    name: str = "bridge"
    image_size: int = option(128, choices=IMAGE_SIZES)
    width: float = option(1.0, **WIDTH)
    prior: str = option("source", choices=("source", "noise"))
    sigma: float = option(0.1, at_least=0, at_most=10)
    steps: int = option(1, at_least=1, at_most=1000)
    stochastic: bool = False
    guidance: float = option(1.0, at_least=0, at_most=100)

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        if self.stochastic and (self.prior == "noise" or self.sigma == 0 or self.steps == 1):
            found = f"model.prior={self.prior} model.sigma={self.sigma:g} model.steps={self.steps}"
            return [f"model.stochastic=true with {found}: no step adds noise; expected source, above 0, and 2 or more"]
        return []


@dataclass
class BridgeLossSettings(Options):
    """The distance to the target, and what the batches hold.

    Attributes:
        huber: error in image units from which the pseudo-Huber distance grows linearly.
        at_start: probability that the time is 0; elsewhere it is uniform in 0..1.
        unknown_source: probability that the action units of the source are hidden.
        unknown_target: probability that those of the target are hidden, which `model.guidance` needs.
    """

    section = "loss"

    huber: float = option(0.03, above=0)
    at_start: float = option(0.2, at_least=0, at_most=1)
    unknown_source: float = option(0.2, at_least=0, at_most=1)
    unknown_target: float = option(0.1, at_least=0, below=1)


@dataclass
class BridgeOptimizerSettings(AdamSettings):
    """Adam for the U-Net; the half-life is a moving average of 0.9995 at batches of 32."""

    ema_half_life_images: float = option(44_000, "zero or more images", at_least=0)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm with 32 groups, or as many as divide both 32 and `channels`."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a layer whose weights start at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Block(nn.Module):
    """GroupNorm, SiLU, Conv 3x3, GroupNorm, FiLM, SiLU, Conv 3x3, and a skip connection, which it is at first."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Sequential(group_norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.norm, self.film = group_norm(outputs), FiLM(condition, outputs)
        self.second = zero_init(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map `x` (B, inputs, s, s) and `condition` (B, n) to (B, outputs, s, s)."""
        hidden = self.film(self.norm(self.first(x)), condition)
        return self.skip(x) + self.second(F.silu(hidden))


class Attention(nn.Module):
    """Attention of all pixels to all pixels with one head, and a skip connection, which it is at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = group_norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c, s, s) to the same."""
        pixels = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None]  # (B, 1, s * s, 3c)
        seen = F.scaled_dot_product_attention(*pixels.chunk(3, dim=3))[:, 0]  # (B, s * s, c)
        return x + self.out(seen.transpose(1, 2).unflatten(2, x.shape[2:]))


class Scale(nn.Module):
    """Two blocks, and attention where `attention` is set: (B, inputs, s, s) -> (B, outputs, s, s)."""

    def __init__(self, inputs: int, outputs: int, condition: int, attention: bool) -> None:
        super().__init__()
        self.first, self.second = Block(inputs, outputs, condition), Block(outputs, outputs, condition)
        self.attention = Attention(outputs) if attention else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map `x` (B, inputs, s, s) and `condition` (B, n) to (B, outputs, s, s)."""
        return self.attention(self.second(self.first(x, condition), condition))


class Condition(nn.Module):
    """Encode target and source action units with one network, and their difference.

    Action units that are not known have a learnt code.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(UNITS, size), nn.LeakyReLU(0.2), nn.Linear(size, size))
        self.absent = nn.Parameter(torch.zeros(size))
        self.mix = nn.Sequential(nn.Linear(2 * size, size), nn.LeakyReLU(0.2), nn.Linear(size, size))

    def forward(self, wanted: Tensor, shown: Tensor, known: Tensor, given: Tensor) -> Tensor:
        """Map target units `wanted` and source units `shown`, (B, 17), to a condition (B, size).

        `known` and `given` (B, 1) are 1 where the units of source and target are known and 0 elsewhere.
        """
        target = given * self.encode(wanted) + (1 - given) * self.absent
        source = known * self.encode(shown) + (1 - known) * self.absent
        return self.mix(torch.cat((target, target - source), dim=1))


class UNet(nn.Module):
    """Predict the target from a point of the path, the source, the time and the action units.

    The output is added to the source; the last layer starts at zero.
    """

    frequencies: Tensor

    def __init__(self, settings: BridgeSettings) -> None:
        super().__init__()
        scales = max(len(CHANNELS), int(math.log2(settings.image_size // ATTENTION)) + 1)
        counts = [scaled(CHANNELS[min(n, len(CHANNELS) - 1)], settings.width) for n in range(scales)]
        size = scaled(CONDITION, settings.width)
        attention = [settings.image_size >> n == ATTENTION for n in range(scales)]
        self.register_buffer("frequencies", math.pi * torch.arange(1.0, COSINES + 1), persistent=False)
        self.condition = Condition(size)
        self.embed = nn.Sequential(nn.Linear(COSINES + size, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())
        self.stem = nn.Conv2d(6, counts[0], 3, padding=1)
        self.down = nn.ModuleList(Scale(counts[max(0, n - 1)], counts[n], size, attention[n]) for n in range(scales))
        self.up = nn.ModuleList(
            Scale(counts[n + 1] + counts[n], counts[n], size, attention[n]) for n in reversed(range(scales - 1))
        )
        self.head = nn.Sequential(group_norm(counts[0]), nn.SiLU(), zero_init(nn.Conv2d(counts[0], 3, 3, padding=1)))

    def forward(
        self, x: Tensor, source: Tensor, time: Tensor, wanted: Tensor, shown: Tensor, known: Tensor, given: Tensor
    ) -> Tensor:
        """Return the predicted targets, (B, 3, S, S), which may leave [-1, 1].

        Args:
            x: points of the path, (B, 3, S, S).
            source: (B, 3, S, S) in [-1, 1].
            time: (B,), 0 at the start of the path and 1 at the target.
            wanted: action units of the target, (B, 17).
            shown: those of the source, (B, 17).
            known: (B, 1), 1 where `shown` is known and 0 elsewhere.
            given: (B, 1), the same for `wanted`.
        """
        cosines = (time[:, None] * self.frequencies).cos()  # (B, COSINES)
        condition = self.embed(torch.cat((cosines, self.condition(wanted, shown, known, given)), dim=1))
        features, seen = self.stem(torch.cat((x, source), dim=1)), []
        for n, scale in enumerate(self.down):
            features = scale(features if n == 0 else F.avg_pool2d(features, 2), condition)
            seen.append(features)  # (B, 64, S, S), ..., (B, 256, S / 8, S / 8)
        seen.pop()
        for scale in self.up:
            larger = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = scale(torch.cat((larger, seen.pop()), dim=1), condition)
        return source + self.head(features).float()


def bridge_point(start: Tensor, target: Tensor, time: Tensor, sigma: float, noise: Tensor) -> Tensor:
    """Return (1 - u) start + u target + sigma sqrt(u (1 - u)) noise for the times u.

    Args:
        start: (B, 3, S, S).
        target: (B, 3, S, S).
        time: u, (B,) in 0..1.
        sigma: see the equation.
        noise: from N(0, 1), (B, 3, S, S).
    """
    u = time[:, None, None, None]
    return torch.lerp(start, target, u) + sigma * (u * (1 - u)).sqrt() * noise


def sampling_noise(settings: BridgeSettings, rows: int, generator: torch.Generator) -> Tensor:
    """Draw the noise of `sample`, (n, rows, 3, S, S), where n is the number of steps, 1 for the start alone, or 0."""
    n = settings.steps if settings.stochastic else int(settings.prior == "noise")
    return torch.randn(n, rows, 3, settings.image_size, settings.image_size, generator=generator)


def sample(
    network: Callable[..., Tensor], settings: BridgeSettings, noise: Tensor, source: Tensor,
    *units: Tensor,
) -> Tensor:  # fmt: skip
    """Return images (B, 3, S, S) in [-1, 1] after `settings.steps` steps from the start of the path.

    Step i of K, counted from 0, moves 1 / (K - i) of the way to the predicted target; the last step arrives there. A
    stochastic step adds the noise of a Brownian bridge, which gives its result the variance of `bridge_point`.

    Args:
        network: predicts the target, see `UNet.forward`.
        settings: options of path and sampling.
        noise: see `sampling_noise`, with 1 or B rows.
        source: (B, 3, S, S) in [-1, 1].
        units: `wanted`, `shown` and `known` of `UNet.forward`.
    """
    x = noise[0].expand_as(source) if settings.prior == "noise" else source
    given = source.new_ones(source.shape[0], 1)  # the export would take `len` for a constant
    for left in range(settings.steps, 0, -1):
        time = source.new_full((source.shape[0],), 1 - left / settings.steps)
        predicted = network(x, source, time, *units, given)
        if settings.guidance != 1:
            without = network(x, source, time, *units, torch.zeros_like(given))
            predicted = torch.lerp(without, predicted, settings.guidance)
        x = torch.lerp(x, predicted.clamp(-1, 1), 1 / left)
        if settings.stochastic:
            spread = settings.sigma * math.sqrt((left - 1) / (left * settings.steps))
            x = x + spread * noise[settings.steps - left]
    return x


class GeneratorPart(nn.Module):
    """The sampler for export, with the noise that the system itself uses."""

    noise: Tensor

    def __init__(self, network: UNet, settings: BridgeSettings, noise: Tensor) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.register_buffer("noise", noise)

    def forward(self, image: Tensor, aus: Tensor, source_aus: Tensor) -> Tensor:
        """Map `image` (B, 3, S, S), `aus` and `source_aus` (B, 17) to an image (B, 3, S, S)."""
        return sample(self.network, self.settings, self.noise, image, aus, source_aus, torch.ones_like(aus[:, :1]))


class Bridge(ReadsActionUnits, MovingAverageSystem):
    """A diffusion model for pairs: a network that predicts the target from any point between source and target.

    Args:
        model: options of the network, of the path and of sampling.
        loss: options of the loss.
        optimizer: Adam, moving average and clipping.
        affects: class names in index order.
        seed: seed of the noise in training and in use; torch's global generator initialises the weights.
    """

    settings_class = BridgeSettings
    loss_class = BridgeLossSettings
    optimizer_class = BridgeOptimizerSettings
    whole_batch_reason = ""
    generator: UNet
    average: UNet

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        if self.settings.guidance != 1 and self.loss_weights.unknown_target == 0:
            raise UserError(
                f"model.guidance={self.settings.guidance:g} needs predictions without the target's action units, which "
                "loss.unknown_target=0 does not train; expected loss.unknown_target above 0, or model.guidance=1"
            )
        self.generator = UNet(self.settings)
        self.average = frozen_copy(self.generator)

    def configure_optimizers(self) -> Any:
        """Return Adam for the U-Net."""
        o, fused = self.optimizer_settings, self.device.type in ("cpu", "cuda")
        return self.with_schedule([self.adam(self.generator.parameters(), o.lr, (o.beta1, o.beta2), fused=fused)])

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration: predict the targets from random points of their paths."""
        self.seed_iteration()
        losses = self.accumulate(batch, self._gradients)
        self.step(0, counted=True)
        self.update_average(len(batch))
        return losses

    def _gradients(self, batch: PairBatch, share: float) -> dict[str, Tensor]:
        """Add the gradient of the loss, scaled by `share`, to the U-Net; return the loss."""
        w, s, rows, uniform = self.loss_weights, self.settings, len(batch), self.noise.uniform
        wanted, shown = self.units_of(batch.target_aus), self.units_of(batch.source_aus)
        known = (uniform(rows, 1, device=self.device) >= w.unknown_source).float()
        given = (uniform(rows, 1, device=self.device) >= w.unknown_target).float()
        # a share `at_start` of the numbers becomes 0, and the others are uniform again
        time = (uniform(rows, device=self.device) - w.at_start).clamp(min=0) / max(1 - w.at_start, 1e-6)
        noise = self.noise.normal(rows, *batch.source.shape[1:], device=self.device)
        start, sigma = (noise, 0.0) if s.prior == "noise" else (batch.source, s.sigma)
        x = bridge_point(start, batch.target, time, sigma, noise)
        made = self.generator(x, batch.source, time, wanted, shown, known, given)
        loss = charbonnier(made, batch.target, w.huber)
        self.backward_into(self.generator, share * loss)
        return {"generator": loss.detach()}

    def edit(
        self, source: Tensor, source_expression: Expression | None, target: Expression,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # fmt: skip
        """Give `source` (B, 3, S, S) the action units of `target`, with gradients.

        Args:
            source: (B, 3, S, S) in [-1, 1].
            source_expression: its action units make the result more exact where they are known.
            target: the wanted action units.
            generator: a generator on the CPU that draws the noise of every face, for varied results; by default every
                face gets the same noise, which depends on the seed alone.
        """
        units = self.units_in_use(source_expression, target)
        rows = 1 if generator is None else len(source)
        noise = sampling_noise(self.settings, rows, generator or torch.Generator().manual_seed(self.seed))
        return sample(self.average, self.settings, noise.to(source.device), source, *units)

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """See the base class, and `edit`."""
        return self.edit(source, source_expression, target)

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; there is no discriminator, so every image is as real as any other."""
        K, score = len(self.affects), torch.zeros(len(batch), device=self.device)
        generated = self.synthesize(batch.source, batch.source_expression(K), batch.target_expression(K))
        return ValidationOutput(generated, score, None, score, None, calibrated=False)

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        noise = sampling_noise(self.settings, 1, torch.Generator().manual_seed(self.seed)).to(self.device)
        part = GeneratorPart(self.average, self.settings, noise)
        return {"generator": Exported(part, unit_edit_inputs(self.image_size), {"face": "face, RGB in [-1, 1]"})}

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving average as the generator, and the action units of the affects."""
        return {"generator": self.average, "prototypes": self.prototypes}
