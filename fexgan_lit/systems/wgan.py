"""The common base classes of the systems with a Wasserstein critic: GANimation, StarGAN, AttGAN and LGP-GAN."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Answering, Exported, affect_input, face_input
from fexgan_lit.systems.gan import GANSystem, frozen_copy
from fexgan_lit.systems.layers import WIDTH, init_normal
from fexgan_lit.systems.losses import categorical_cross_entropy, gradient_penalty
from fexgan_lit.systems.optimizers import DualOptimizerSettings, dual_adam
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch


@dataclass
class TranslationSettings(Options):
    """Network options.

    Attributes:
        name: name of the system.
        image_size: edge length of the square images in pixels, a power of two from 32 to 512.
        width: factor on every channel count; 1 is the paper's size.
        residual_blocks: number of residual blocks in the generator.
        film: also modulate every residual block by the condition; see `TranslationTrunk`.
    """

    section = "model"

    name: str
    image_size: int = option(128, choices=IMAGE_SIZES)
    width: float = option(1.0, **WIDTH)
    residual_blocks: int = option(6, at_least=0, at_most=256)
    film: bool = False


@dataclass
class WassersteinOptimizerSettings(DualOptimizerSettings):
    """Adam as StarGAN and GANimation use it; see `DualOptimizerSettings`."""

    lr: float = option(1e-4, above=0)
    n_critic: int = option(5, at_least=1, at_most=1000)
    ema_half_life_images: float = option(0.0, "zero or more images", at_least=0)


class WassersteinSystem(GANSystem):
    """A generator against a Wasserstein critic; the critic is updated in every iteration, the generator in every n-th.

    Attributes:
        generator: the trained generator.
        critic: returns scores and answers.
        average: moving average of the generator, which all public methods use; equal to it where averaging is off.
    """

    critic: Any
    whole_batch_reason = (
        "its critic steps in the middle of an iteration, and the generator learns from the updated critic in the same "
        "forward pass, which would have to be stored for the whole batch"
    )

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        #: losses of the last generator step, since most iterations have no generator step
        self._generator_parts: dict[str, Tensor] = {"generator": torch.zeros(())}
        if getattr(self.loss_weights, "pixel", 0) > 0:
            self.pairing = "identity"  # the target has to be the true one

    def adopt(self, generator: nn.Module, critic: nn.Module) -> None:
        """Set the two networks, and draw their convolution weights from N(0, 0.02 / sqrt(width)).

        Narrower networks get larger weights: each pixel sums fewer channels, and a critic whose signals fade from layer
        to layer learns nothing for hundreds of iterations.
        """
        for network in (generator, critic):
            network.apply(partial(init_normal, std=0.02 / math.sqrt(self.settings.width)))
        self.generator, self.critic = generator, critic
        self.average = frozen_copy(generator)

    def compilable_networks(self) -> dict[str, nn.Module]:
        """Return both networks; the gradient penalty calls the critic's `scores`, not its compiled `forward`."""
        return {"generator": self.generator, "critic": self.critic}

    def configure_optimizers(self) -> Any:
        """Return Adam for the generator and Adam for the critic."""
        fused = self.device.type in ("cpu", "cuda")
        return self.with_schedule(dual_adam(self.generator, self.critic, self.optimizer_settings, fused, self.adam))

    def update(self, network: nn.Module, loss: Tensor, *, counted: bool) -> None:
        """Step `network`, the generator or the critic, along the gradient of `loss`; the other one gets no gradient.

        The last step of the critic must be the counted one.
        """
        self.backward_into(network, loss)
        self.step(0 if network is self.generator else 1, counted=counted)

    def between(self, batch: int) -> Tensor:
        """Draw the weights of the real images for the gradient penalty, (B, 1, 1, 1) in [0, 1]."""
        return self.noise.uniform(batch, 1, 1, 1, device=self.device)

    def keep(self, parts: dict[str, Tensor]) -> None:
        """Store the generator's losses for the log until its next step, always in the same memory.

        An iteration captured without a generator step (`fexgan_lit.training.cuda_graphs`) reads the values from there.
        """
        for name, part in parts.items():
            there = self._generator_parts.get(name)
            if there is not None and there.device == part.device:
                there.copy_(part.detach())
            else:
                self._generator_parts[name] = part.detach().clone()

    def report(self, critic: Tensor, critic_parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses to log; those of the generator come from its last step (0 before the first)."""
        kept = {name: part.clone() for name, part in self._generator_parts.items()}
        parts = kept | {"discriminator": critic} | critic_parts
        return {name: part.detach() for name, part in parts.items()}

    @abstractmethod
    def class_logits(self, answers: Tensor) -> Tensor | None:
        """Return the affect logits (B, K) in the critic's answers (B, n), or None where the answers are not affects."""

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; the realness of an image is the mean of its patch scores."""
        K = len(self.affects)
        generated = self.synthesize(batch.source, batch.source_expression(K), batch.target_expression(K))
        (real, shown), (fake, made) = self.critic(batch.source), self.critic(generated)
        # (B, 2, 2) -> (B,)
        return ValidationOutput(generated, real.float().mean((1, 2)), self.class_logits(shown),
                       fake.float().mean((1, 2)), self.class_logits(made), calibrated=False)  # fmt: skip

    @torch.no_grad()
    def discriminate(self, image: Tensor) -> tuple[None, Tensor | None]:
        """See the base class; a Wasserstein critic's score is not a logit."""
        return None, self.class_logits(self.critic(image)[1])

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving average as the generator, and the critic."""
        return {"generator": self.average, "critic": self.critic}


class AffectTranslation(WassersteinSystem):
    """A Wasserstein system whose generator reads an affect and whose critic classifies affects; it needs no pairs."""

    pairing = "none"
    optimizer_class = WassersteinOptimizerSettings

    def critic_loss(self, critic: Any, real: Tensor, fake: Tensor, affect: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a critic and its parts: Wasserstein terms, affects of the real images, gradient penalty.

        Args:
            critic: returns scores and affect logits, and with `scores` the scores alone.
            real: images (B, 3, h, w) in [-1, 1].
            fake: generated images; no gradient flows into them.
            affect: class indices (B,) of the real images.
        """
        w = self.loss_weights
        if torch.is_autocast_enabled("cpu"):
            # in one pass, since Lightning's autocast converts the weights to bf16 anew for every pass; a CPU feels it
            scores, answers = critic(torch.cat((real, fake.detach())))
            (on_real, on_fake), named = scores.chunk(2), answers[: len(real)]
        else:
            (on_real, named), (on_fake, _) = critic(real), critic(fake.detach())
        penalty = gradient_penalty(critic.scores, real, fake, self.between(len(real)))
        parts = {"d_real": on_real.float().mean(), "d_fake": on_fake.float().mean(),
                 "d_class": categorical_cross_entropy(named, affect), "d_penalty": penalty}  # fmt: skip
        loss = (
            w.adversarial * (parts["d_fake"] - parts["d_real"])
            + w.lambda_class * parts["d_class"] + w.lambda_gp * parts["d_penalty"]
        )  # fmt: skip
        return loss, parts

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Translate `source` (B, 3, S, S) to the affects of `target`; see the base class."""
        self.check_reads(target)
        return self.average(source, target.affect)

    def class_logits(self, answers: Tensor) -> Tensor:
        """Return the critic's answers, which are affect logits."""
        return answers.float()

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        face = face_input(self.image_size)
        inputs = {"image": face, "affect": affect_input(self.affects)}
        answers = {"scores": "Wasserstein scores", "affects": "logits of the affects"}
        return {
            "generator": Exported(self.average, inputs, {"face": "face with the wanted affects, RGB in [-1, 1]"}),
            "critic": Exported(Answering(self.critic), {"image": face}, answers),
        }
