"""What StarGAN and GANimation share as systems: a generator, a patch critic that also answers, and their updates."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.gan import GANSystem, frozen_copy
from fexgan_lit.systems.layers import WIDTHS, PatchCritic, init_normal
from fexgan_lit.systems.optimizers import DualOptimizerSettings, dual_adam

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch


IMAGE_SIZES = (32, 64, 128, 256, 512)


@dataclass
class TranslationSettings:
    """The networks.

    Attributes:
        name: of the system.
        image_size: edge of the square images in pixels, a power of two from 32 to 512.
        width: factor on every channel count; 1 is the paper's size.
        residual_blocks: of the generator.
    """

    name: str
    image_size: int = 128
    width: float = 1.0
    residual_blocks: int = 6

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = []
        if self.image_size not in IMAGE_SIZES:
            found.append(f"model.image_size={self.image_size}: expected one of {', '.join(map(str, IMAGE_SIZES))}")
        if not WIDTHS[0] <= self.width <= WIDTHS[1]:
            found.append(
                f"model.width={self.width}: expected {WIDTHS[0]:g} to {WIDTHS[1]:g}, 1 for the paper's channels"
            )
        if self.residual_blocks < 0:
            found.append(f"model.residual_blocks={self.residual_blocks}: expected zero or more")
        return found


@dataclass
class WassersteinOptimizerSettings(DualOptimizerSettings):
    """Adam as StarGAN and GANimation use it; see `DualOptimizerSettings`."""

    lr: float = 1e-4
    n_critic: int = 5
    ema_half_life_images: float = 0.0


def negative_weights(loss: Any) -> list[str]:
    """A sentence for each field of a dataclass of weights that is below zero."""
    values = {field.name: getattr(loss, field.name) for field in fields(loss)}
    return [f"loss.{name}={value}: expected zero or more" for name, value in values.items() if not value >= 0]


class WassersteinSystem(GANSystem):
    """Generator against Wasserstein critic; the critic moves on every iteration, the generator on every n-th.

    Attributes:
        generator: what is trained.
        critic: scores and answers.
        average: moving average of the generator, which all public methods use; equal to it where averaging is off.
    """

    critic: PatchCritic
    whole_batch_reason = (
        "its critic steps in the middle of an iteration, and the generator learns from the stepped critic by the same "
        "pass; that pass would have to be kept for the whole batch"
    )

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        #: of the last generator step, since most iterations have none
        self._generator_parts: dict[str, Tensor] = {"generator": torch.zeros(())}

    def adopt(self, generator: nn.Module, critic: PatchCritic) -> None:
        """Take the two networks, their convolutions drawn from N(0, 0.02).

        Narrower ones get larger weights: each pixel sums fewer channels, and a critic whose signals fade from layer to
        layer learns nothing for hundreds of iterations.
        """
        for network in (generator, critic):
            network.apply(partial(init_normal, std=0.02 / math.sqrt(self.settings.width)))
        self.generator, self.critic = generator, critic
        self.average = frozen_copy(generator)

    def compilable_networks(self) -> dict[str, nn.Module]:
        """Both; the gradient penalty asks the critic's layers for `scores`, past its compiled forward."""
        return {"generator": self.generator, "critic": self.critic}

    def configure_optimizers(self) -> Any:
        """Adam for the generator, Adam for the critic."""
        fused = self.device.type in ("cpu", "cuda")
        return self.with_schedule(dual_adam(self.generator, self.critic, self.optimizer_settings, fused, self.adam))

    def update(self, network: nn.Module, loss: Tensor, *, counted: bool) -> None:
        """One step of `network`, the generator or the critic, down the gradient of `loss`; the other gets none.

        The last step of the critic is the one that counts the batch.
        """
        self.backward_into(network, loss)
        self.step(0 if network is self.generator else 1, counted=counted)
        torch.clear_autocast_cache()  # it holds bf16 copies of the weights as they were before this step

    def between(self, batch: int) -> Tensor:
        """Where the gradient penalty looks between the real and the made image of each pair, (B, 1, 1, 1) in [0, 1]."""
        return self.noise.uniform(batch, 1, 1, 1, device=self.device)

    def keep(self, parts: dict[str, Tensor]) -> None:
        """Remember what the log says of the generator until its next step, in the same memory every time.

        A recorded iteration without a generator step (`fexgan_lit.cuda_graphs`) reads there what another one left.
        """
        for name, part in parts.items():
            there = self._generator_parts.get(name)
            if there is not None and there.device == part.device:
                there.copy_(part.detach())
            else:
                self._generator_parts[name] = part.detach().clone()

    def report(self, critic: Tensor, critic_parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """End an iteration: its losses and parts, those of the generator as of its last step (0 before the first)."""
        kept = {name: part.clone() for name, part in self._generator_parts.items()}
        parts = kept | {"discriminator": critic} | critic_parts
        return {name: part.detach() for name, part in parts.items()}

    @abstractmethod
    def class_logits(self, answers: Tensor) -> Tensor | None:
        """What the critic's answers (B, n) say of the affect: logits (B, K), or None where they are about else."""

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; the realness of a face is the mean of its patches' scores."""
        K = len(self.affects)
        generated = self.synthesize(batch.source, batch.source_expression(K), batch.target_expression(K))
        (real, shown), (fake, made) = self.critic(batch.source), self.critic(generated)
        # (B, 2, 2) -> (B,)
        return ValidationOutput(generated, real.float().mean((1, 2)), self.class_logits(shown),
                       fake.float().mean((1, 2)), self.class_logits(made), calibrated=False)  # fmt: skip

    @torch.no_grad()
    def discriminate(self, image: Tensor) -> tuple[None, Tensor | None]:
        """See the base class; a critic's score is no logit."""
        return None, self.class_logits(self.critic(image)[1])

    def saved_modules(self) -> dict[str, nn.Module]:
        """The generator is the moving average."""
        return {"generator": self.average, "critic": self.critic}
