"""FExGAN and FExGAN-Meta: the training algorithm, encoding, decoding and the fitted prior."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.expression import Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Exported
from fexgan_lit.systems.fexgan.config import FExGANSettings, fill_nulls
from fexgan_lit.systems.fexgan.losses import FExGANLossSettings, discriminator_loss, generator_loss
from fexgan_lit.systems.fexgan.networks import Discriminator, DiscriminatorOutput, Generator, Latent, fexgan_parts
from fexgan_lit.systems.gan import GANSystem, frozen_copy
from fexgan_lit.systems.optimizers import DualOptimizerSettings, dual_adam
from fexgan_lit.systems.prior import FittedPrior
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch


class FExGAN(GANSystem):
    """A variational encoder-decoder generator and an auxiliary-classifier discriminator for same-identity pairs.

    Args:
        model: network options.
        loss: weights and variants of equations 1 to 7.
        optimizer: Adam, moving average and clipping.
        affects: class names in index order.
        seed: seed of the noise in training; torch's global generator initialises the weights.
    """

    generator: Generator
    average: Generator
    settings_class = FExGANSettings
    loss_class = FExGANLossSettings
    optimizer_class = DualOptimizerSettings
    compilable_losses = ("generator_loss", "discriminator_loss")
    supports_kernels = True
    whole_batch_reason = ""
    min_batch = 2
    min_batch_reason = (
        "BatchNorm cannot train on a batch of 1: at 1 x 1 pixel each channel would have a single value; "
        "expected dataset.batch_size=2 or more"
    )

    def __init__(
        self,
        model: FExGANSettings,
        loss: FExGANLossSettings,
        optimizer: DualOptimizerSettings,
        affects: Sequence[str],
        seed: int = 0,
    ) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        self.settings = self.settings.resolve()
        fill_nulls(self.loss_weights, self.settings.preset_values)
        #: current weight of phi_b in equation 1; a schedule may lower it (FExGAN after epoch 50)
        self.adversarial_binary = self.loss_weights.adversarial_binary
        self.generator_loss, self.discriminator_loss = generator_loss, discriminator_loss
        self.generator = Generator(self.settings, len(self.affects))
        self.discriminator = Discriminator(self.settings, len(self.affects))
        self.average = frozen_copy(self.generator)
        self.prior = FittedPrior(self.settings.latent_size)

    # ------------------------------------------------------------------ training

    def graph_key(self) -> tuple[Hashable, ...]:
        """See the base class."""
        return (*super().graph_key(), self.adversarial_binary)

    def configure_optimizers(self) -> Any:
        """Return Adam for the generator and Adam for the discriminator."""
        fused = self.device.type in ("cpu", "cuda")
        return self.with_schedule(
            dual_adam(self.generator, self.discriminator, self.optimizer_settings, fused, self.adam)
        )

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration: both networks share one generator forward, and both gradients precede both steps."""
        self.seed_iteration()
        if len(batch) < self.min_batch:
            raise UserError(self.min_batch_reason)
        losses = self.accumulate(batch, self._gradients)
        self.step_together(self.generator_is_due, len(batch))
        return losses

    def _gradients(self, batch: PairBatch, share: float) -> dict[str, Tensor]:
        """Add the gradients of both losses, scaled by `share`, to the networks; return the losses and their parts."""
        update_generator = self.generator_is_due
        told, wanted = self._training_conditions(batch)

        # Forward: one generated batch, which the discriminator sees beside the real images
        with torch.set_grad_enabled(update_generator):
            fake, latent = self.generator(batch.source, told, wanted, *self._shared_noise(len(batch)))
        on_real, on_fake = self.discriminator(batch.source), self.discriminator(fake)

        # Equations 4 and 7
        loss_g, parts_g = self.generator_loss(
            on_fake, fake, batch.target, latent, batch.target_affect, self.loss_weights,
            str(self.settings.sigma), self.adversarial_binary,
        )  # fmt: skip
        loss_d, parts_d = self.discriminator_loss(
            on_real, on_fake, batch.source_affect, batch.target_affect, self.loss_weights.classify_fakes
        )

        # Each loss reaches only its own network
        if update_generator:
            self.backward_into(self.generator, share * loss_g, retain_graph=True)
        self.backward_into(self.discriminator, share * loss_d)
        return {"generator": loss_g.detach(), "discriminator": loss_d.detach(),
                **{name: part.detach() for name, part in (parts_g | parts_d).items()}}  # fmt: skip

    def _training_conditions(self, batch: PairBatch) -> tuple[Tensor | None, Tensor]:
        """Return the affects (B, K) for encoder and decoder in training, with one random scale lambda per sample."""
        wanted = self._one_hot(batch.target_affect)
        mode = self.settings.lambda_mode
        if mode != "one":
            scale = self.noise.normal(len(batch), 1, device=wanted.device)
            wanted = wanted * (scale.abs() if mode == "abs_normal" else scale)
        return self._told(wanted, self._one_hot(batch.source_affect)), wanted

    def _shared_noise(self, batch: int) -> tuple[Tensor, ...]:
        """Return the noise (B, n) of the codes if several processes share the batch; one draws it in `forward`."""
        if not self.noise.together:
            return ()
        return (self.noise.normal(batch, self.settings.latent_size, device=self.device),)

    def _one_hot(self, classes: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(classes, len(self.affects)).float()  # (B,) -> (B, K)

    def _told(self, wanted: Tensor, source: Tensor | None) -> Tensor | None:
        """Return the affect (B, K) that the encoder reads, selected by `encoder_label`."""
        told = {"target": wanted, "source": source, "none": None}[self.settings.encoder_label]
        if told is None and self.settings.encoder_label == "source":
            raise UserError("this FExGAN was trained with model.encoder_label=source: give the affect of the source")
        return told

    # ------------------------------------------------------------------ use

    @torch.no_grad()
    def encode(self, image: Tensor, affect: Tensor | None) -> Latent:
        """Encode images (B, 3, S, S) with the affects (B, K) that the encoder reads -> mu, s (B, n)."""
        return self.average.encoder(image, affect)

    @torch.no_grad()
    def decode(self, z: Tensor, affect: Tensor) -> Tensor:
        """Decode codes (B, n) with affects (B, K) -> images (B, 3, S, S) in [-1, 1]."""
        return self.average.decoder(z, affect).float()

    @torch.no_grad()
    def classify(self, image: Tensor) -> DiscriminatorOutput:
        """Return the discriminator's logits for images (B, 3, S, S), with fixed batch-norm statistics."""
        training = self.discriminator.training
        self.discriminator.eval()
        verdict = self.discriminator(image)
        self.discriminator.train(training)
        return DiscriminatorOutput(verdict.realness.float(), verdict.affect.float())

    def discriminate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See the base class."""
        return self.classify(image)

    def codes(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Encode images (B, 3, S, S) to mean codes (B, n), with the encoder's affect as in training; keep gradients."""
        told = self._told(self._affects(target), source_expression.affect if source_expression else None)
        return self.average.encoder(source, told).mu

    def paint_codes(self, codes: Tensor, target: Expression) -> Tensor:
        """Decode codes (B, n) with the affects of `target` -> images (B, 3, S, S) in [-1, 1], with gradients."""
        return self.average.decoder(codes, self._affects(target)).float()

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Decode the mean code of `source` (B, 3, S, S) with the affects of `target`; see the base class."""
        return self.paint_codes(self.codes(source, source_expression, target), target)

    def _affects(self, target: Expression) -> Tensor:
        if target.affect is None:
            raise UserError("FExGAN reads affects; the target expression has none")
        return target.affect

    def draw_prior(self, n: int, prior: str = "normal", generator: torch.Generator | None = None) -> Tensor:
        """Draw `n` codes (n, latent_size) on the CPU from a prior; see `sample`.

        Raises:
            UserError: the prior is unknown or not fitted.
        """
        if prior == "fitted":
            return self.prior.sample(n, generator)
        if prior == "normal":
            return torch.randn(n, self.settings.latent_size, generator=generator)
        raise UserError(f"prior={prior}: expected normal or fitted")

    @torch.no_grad()
    def sample(
        self, n: int, target: Expression, prior: str = "normal", generator: torch.Generator | None = None
    ) -> Tensor:
        """Generate `n` images with the affects of `target` (n, K), from codes of N(0, I) or the fitted mixture.

        Args:
            n: number of images.
            target: target affects, (n, K).
            prior: `normal` or `fitted` (the Gaussian mixture fitted to the training codes after training).
            generator: random number generator on the CPU.
        """
        z = self.draw_prior(n, prior, generator)
        return self.decode(z.to(self.device), self._affects(target).to(self.device))

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class."""
        generated = self.synthesize(
            batch.source, self.expression(batch.source_affect), self.expression(batch.target_affect)
        )
        on_real, on_fake = self.classify(batch.source), self.classify(generated)
        return ValidationOutput(generated, on_real.realness, on_real.affect, on_fake.realness, on_fake.affect)

    @torch.no_grad()
    def draw_codes(
        self, image: Tensor, source: Expression, target: Expression, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw codes z = mu + sigma * eps (B, n) of images on the CPU, with the encoder's affect as in training."""
        mu, s = self.encode(image, self._told(target.affect, source.affect))  # type: ignore[arg-type]
        return self.generator.draw(Latent(mu.cpu().float(), s.cpu().float()), generator)

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving averages of encoder and decoder, the discriminator and the prior."""
        return {"encoder": self.average.encoder, "decoder": self.average.decoder,
                "discriminator": self.discriminator, "prior": self.prior}  # fmt: skip

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        return fexgan_parts(self.average, self.discriminator, self.settings, self.affects)

    @torch.no_grad()
    def fit_prior(self, frames: FrameSet, seed: int = 0, most: int = 4096) -> None:
        """Fit the Gaussian mixture of `prior=fitted` to one code per training frame.

        Args:
            frames: the training split.
            seed: seed of the choice of frames, of the encoder's affects and of the codes.
            most: most frames to encode.
        """
        generator, codes = torch.Generator().manual_seed(seed), []
        for rows in torch.randperm(len(frames), generator=generator)[:most].split(256):
            images = frames.floats(rows.numpy(), self.image_size).to(self.device)
            told = self.expression(torch.randint(len(self.affects), (len(rows),), generator=generator))
            own = self.expression(torch.from_numpy(frames.affect[rows.numpy()]))
            codes.append(self.draw_codes(images, own, told, generator))
        self.prior.fit(torch.cat(codes), seed=seed)

    @torch.no_grad()
    def reconstruction_error(self, image: Tensor) -> Tensor:
        """See `Reconstructs`. What the image shows need not be known: the affect that fits best counts."""
        every = [self.expression([k] * len(image)) for k in range(len(self.affects))]
        errors = [(self(image, affect, affect) - image).abs().flatten(1).mean(1) for affect in every]  # K of (B,)
        return 127.5 * torch.stack(errors).amin(0)

    def reconstruction_limit(self, frames: FrameSet, most: int = 128) -> float:
        """See `Reconstructs`."""
        rows = np.unique(np.linspace(0, len(frames) - 1, most).astype(np.int64))
        parts = [rows[start : start + 32] for start in range(0, len(rows), 32)]
        images = (frames.floats(part, self.image_size).to(self.device) for part in parts)
        return max(float(self.reconstruction_error(image).max()) for image in images)

    def on_test_start(self) -> None:
        """Fit the prior to the training frames, so that the final metrics include it."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if hasattr(data, "train"):
            with torch.inference_mode(mode=False):
                self.fit_prior(data.train, self.seed)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resize the mixture to that of the checkpoint before the weights are loaded."""
        self.prior.resize_as(checkpoint["state_dict"], "prior.")
        super().on_load_checkpoint(checkpoint)
