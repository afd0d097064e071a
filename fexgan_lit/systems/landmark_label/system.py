"""Landmark-and-label guided synthesis: the training algorithm and the perceptual network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fexgan_lit.expression import Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.annotations import LANDMARKS, landmark_heatmaps
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Exported
from fexgan_lit.systems.gan import GANSystem, frozen_copy
from fexgan_lit.systems.landmark_label.config import LandmarkLabelSettings
from fexgan_lit.systems.landmark_label.losses import (
    LandmarkLabelLossSettings,
    adversarial_loss,
    discriminator_loss,
    generator_loss,
    perceptual_loss,
    pixel_loss,
)
from fexgan_lit.systems.landmark_label.networks import Generator, label_maps, landmark_label_parts
from fexgan_lit.systems.landmark_label.perceptual import Perceptual, find_vgg19, load_vgg19
from fexgan_lit.systems.landmark_label.pose import PoseRange
from fexgan_lit.systems.layers import PatchDiscriminator
from fexgan_lit.systems.optimizers import DualOptimizerSettings
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judges.affect import Judge


class LandmarkLabel(GANSystem):
    """A generator that moves a face to target landmarks, an image and a geometry discriminator, and a perceptual loss.

    Args:
        model: network options.
        loss: weights of equation 7.
        optimizer: Adam, moving average and clipping.
        affects: class names in index order.
        seed: seed of the dropout in training; torch's global generator initialises the weights.
    """

    reads = frozenset({"affect", "landmarks"})
    generator: Generator
    average: Generator
    settings_class = LandmarkLabelSettings
    loss_class = LandmarkLabelLossSettings
    optimizer_class = DualOptimizerSettings
    whole_batch_reason = ""

    def __init__(
        self,
        model: LandmarkLabelSettings,
        loss: LandmarkLabelLossSettings,
        optimizer: DualOptimizerSettings,
        affects: Sequence[str],
        seed: int = 0,
    ) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        self.generator = Generator(self.settings, len(self.affects))
        s = self.settings
        self.image_discriminator, self.geometry_discriminator = (
            PatchDiscriminator(condition, s.width, s.leaky_slope, s.batch_norm_before_sigmoid)
            for condition in (3, LANDMARKS)
        )
        self.average = frozen_copy(self.generator)
        self.pose_range = PoseRange()
        self.perceptual: Perceptual | None = None

    # ------------------------------------------------------------------ the perceptual network

    def prepare(self, frames: FrameSet, judge: Callable[[], Judge | None]) -> None:
        """Learn the range of head poses, and load VGG19 for the perceptual loss or, without its weights, the judge.

        Raises:
            UserError: neither is available, or the given weights are missing or belong to another network.
        """
        self.pose_range.learn(frames.landmarks)
        if self.perceptual is None and not self.load_perceptual():
            stand_in = judge()
            if stand_in is not None:
                self.set_perceptual(stand_in.net, stand_in.describe())
            self._phi()

    def load_perceptual(self) -> bool:
        """Load VGG19 for the perceptual loss if its weights are found.

        Returns:
            Whether the loss has its network; if not, call `set_perceptual` with a replacement.

        Raises:
            UserError: the given weights are missing or belong to another network.
        """
        wanted = self.settings.perceptual
        if not self.loss_weights.perceptual or wanted == "judge":
            return not self.loss_weights.perceptual
        path = find_vgg19(self.settings.vgg_weights)
        if path is not None:
            self.set_perceptual(load_vgg19(path, self.settings.perceptual_layer), str(path))
        elif wanted == "vgg19":
            raise UserError(
                "model.perceptual=vgg19: torch hub's cache has no weights of VGG19; give model.vgg_weights=FILE, or "
                "model.perceptual=auto to use the judge instead"
            )
        return self.perceptual is not None

    def set_perceptual(self, module: nn.Module, origin: str = "given by the caller") -> None:
        """Use `module` for the perceptual loss, for example a judge's network; see `Perceptual`."""
        self.perceptual = Perceptual(module, origin).to(self.device)

    def summary_lines(self) -> list[str]:
        """See the base class."""
        if not self.loss_weights.perceptual:
            return ["perceptual loss: off (loss.perceptual=0)"]
        return [f"perceptual loss: {self.perceptual.describe() if self.perceptual else 'its network is not set yet'}"]

    def condition_warnings(self) -> list[str]:
        """Return warnings about targets and sources with stronger yaw or roll than the training frames."""
        return self.pose_range.condition_warnings()

    # ------------------------------------------------------------------ training

    def on_train_start(self) -> None:
        """Move the perceptual network to the device of the other networks."""
        super().on_train_start()
        if self.loss_weights.perceptual:
            self._phi().to(self.device)

    def _phi(self) -> Perceptual:
        if self.perceptual is None:
            raise UserError(
                "the perceptual loss has no network: found neither weights of VGG19 nor a judge. Give "
                "model.vgg_weights=FILE, metrics.judge=true or loss.perceptual=0"
            )
        return self.perceptual

    def configure_optimizers(self) -> Any:
        """Return Adam for the generator, the image discriminator and the geometry discriminator."""
        o = self.optimizer_settings
        betas, fused = (o.beta1, o.beta2), self.device.type in ("cpu", "cuda")
        rates = (o.lr, o.lr_discriminator or o.lr, o.lr_discriminator or o.lr)
        networks = (self.generator, self.image_discriminator, self.geometry_discriminator)
        return self.with_schedule(
            [
                self.adam(network.parameters(), rate, betas, fused=fused)
                for network, rate in zip(networks, rates, strict=True)
            ]
        )

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration: all three networks share one generator forward, and all gradients precede all steps."""
        self.seed_iteration()
        losses = self.accumulate(batch, self._gradients)
        self.step_together(self.generator_is_due, len(batch))
        return losses

    def _gradients(self, batch: PairBatch, share: float) -> dict[str, Tensor]:
        """Add the gradients of all three losses, scaled by `share`, to the networks; return losses and parts."""
        w, K = self.loss_weights, len(self.affects)
        update_generator = self.generator_is_due
        heatmaps, geometry, labels = self._conditions(batch.source_expression(K), batch.target_expression(K))

        # Forward: one generated batch; each discriminator sees the real and the generated images beside its condition
        with torch.set_grad_enabled(update_generator):
            fake = self.generator(batch.source, geometry, labels)
        image_real, image_fake = self.image_discriminator.on_both(batch.source, batch.target, fake)
        geometry_real, geometry_fake = self.geometry_discriminator.on_both(heatmaps, batch.target, fake)

        # Equations 4 to 7 for the generator, equation 4 for the discriminators
        adversarial, parts = adversarial_loss(image_fake, geometry_fake)
        perceptual = self._perceptual_loss(fake, batch.target)
        pixel = pixel_loss(fake, batch.target, w.pixel_channels)
        loss_g = generator_loss(adversarial, perceptual, pixel, w)
        loss_image = discriminator_loss(image_real, image_fake)
        loss_geometry = discriminator_loss(geometry_real, geometry_fake)

        # Each loss reaches only its own network
        if update_generator:
            self.backward_into(self.generator, share * loss_g, retain_graph=True)
        self.backward_into(self.image_discriminator, share * loss_image)
        self.backward_into(self.geometry_discriminator, share * loss_geometry)
        parts |= {"perceptual": perceptual, "pixel": pixel, "d_image": loss_image, "d_geometry": loss_geometry}
        return {"generator": loss_g.detach(), "discriminator": (loss_image + loss_geometry).detach(),
                **{name: part.detach() for name, part in parts.items()}}  # fmt: skip

    def _perceptual_loss(self, fake: Tensor, wanted: Tensor) -> Tensor:
        """Return equation 6, or zero if its weight is zero."""
        if not self.loss_weights.perceptual:
            return fake.new_zeros(())
        phi = self._phi()
        with torch.no_grad():
            features = phi(wanted)
        return perceptual_loss(phi(fake), features)

    def _conditions(self, source: Expression | None, target: Expression) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the conditions of the networks.

        Args:
            source: expression of the source; its landmarks are read only with `source_heatmaps`.
            target: target expression.

        Returns:
            The target's heatmaps (B, 68, S, S) for the geometry discriminator; the generator's heatmaps, (B, 68, S, S)
            or (B, 136, S, S); and the label maps (B, K, S/4, S/4), or None without `label_maps`.

        Raises:
            UserError: a field is missing.
        """
        self.check_reads(target)
        s, known, labels = self.settings, target.known, None
        heatmaps = geometry = landmark_heatmaps(known["landmarks"], s.image_size, s.sigma)
        if s.source_heatmaps:
            if source is None or source.landmarks is None:
                raise UserError("this model was trained with model.source_heatmaps: give the landmarks of the source")
            own = landmark_heatmaps(source.landmarks, s.image_size, s.sigma)
            geometry = torch.cat((own, heatmaps), dim=1)  # (B, 136, S, S)
        if s.label_maps:
            labels = label_maps(known["affect"], s.inner_size)
        return heatmaps, geometry, labels

    # ------------------------------------------------------------------ use

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Move `source` (B, 3, S, S) to the landmarks and the affect of `target`; see the base class.

        The landmarks of `source_expression` are read only with `model.source_heatmaps`. The first head with stronger
        yaw or roll than the training frames raises a warning; `condition_warnings` returns the counts.
        """
        self.check_reads(target)
        with torch.no_grad():
            self.pose_range.look("wanted", target.landmarks)
            self.pose_range.look("source", source_expression.landmarks if source_expression else None)
        _, geometry, labels = self._conditions(source_expression, target)
        return self.average(source, geometry, labels).float()

    @torch.no_grad()
    def realness(self, source: Tensor, wanted: Expression, image: Tensor) -> Tensor:
        """Return the discriminators' realness of `image` (B, 3, S, S), with fixed batch-norm statistics.

        Args:
            source: source images, (B, 3, S, S).
            wanted: target landmarks.
            image: real or generated images.

        Returns:
            (B,) logits, averaged over the patches of both discriminators.
        """
        heatmaps = landmark_heatmaps(wanted.known["landmarks"], self.settings.image_size, self.settings.sigma)
        judges = ((self.image_discriminator, source), (self.geometry_discriminator, heatmaps))
        logits = [discriminator.realness(condition, image) for discriminator, condition in judges]
        return torch.stack(logits).mean(0)  # (2, B) -> (B,)

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; the real image is the target, which these discriminators see beside the source."""
        shown, wanted = (
            expression(len(self.affects)) for expression in (batch.source_expression, batch.target_expression)
        )
        generated = self.synthesize(batch.source, shown, wanted)
        on_real, on_fake = (self.realness(batch.source, wanted, image) for image in (batch.target, generated))
        return ValidationOutput(generated, on_real, None, on_fake, None)

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        return landmark_label_parts(
            self.average, self.image_discriminator, self.geometry_discriminator, self.settings, self.affects
        )

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving average as the generator, the discriminators, and the range of head poses."""
        return {"generator": self.average, "image_discriminator": self.image_discriminator,
                "geometry_discriminator": self.geometry_discriminator, "pose_range": self.pose_range}  # fmt: skip

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the kind of the perceptual network."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["perceptual"] = self.perceptual.kind if self.perceptual else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that training resumes with the same perceptual network.

        Raises:
            UserError: the run was trained with another perceptual network.
        """
        super().on_load_checkpoint(checkpoint)
        then, now = checkpoint.get("perceptual"), self.perceptual.kind if self.perceptual else None
        if then and now and then != now:
            raise UserError(
                f"the run was trained with {then} as its perceptual network, but {now} was found now, which would "
                "change the loss. Restore the weights of VGG19 (or, if the run used the judge, remove them from torch "
                "hub's cache), or start a new run"
            )
