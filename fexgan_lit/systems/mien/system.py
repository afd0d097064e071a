"""MIEN: a regression on pairs of one identity first, then relativistic critics besides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fexgan_lit.expression import Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.annotations import ReadsActionUnits, region_boxes
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Exported, unit_edit_inputs
from fexgan_lit.systems.gan import GANSystem, frozen_copy
from fexgan_lit.systems.losses import charbonnier
from fexgan_lit.systems.mien.losses import (
    MienLossSettings,
    flow_at_landmarks,
    laplacian_difference,
    relativistic,
    smoothness,
    squared_gradient,
)
from fexgan_lit.systems.mien.networks import Critics, Faces, Generator, GeneratorPart, MienSettings
from fexgan_lit.systems.optimizers import DualOptimizerSettings, dual_adam
from fexgan_lit.utils.options import option

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch

#: By how much less a part of a face must move in one of several frames to count e times as much, in half images.
SHARED_FLOW = 0.002


@dataclass
class MienOptimizerSettings(DualOptimizerSettings):
    """Adam for generator and critics, which both step in every iteration; see `DualOptimizerSettings`."""

    n_critic: int = option(1, "1, since the generator learns from true targets in every iteration", choices=(1,))
    beta1: float = option(0.5, at_least=0, below=1)
    beta2: float = option(0.99, at_least=0, below=1)


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
        boxes = {} if landmarks is None else region_boxes(landmarks, self.image_size)
        views, parts_d = self.critics.views, dict[str, Tensor]()

        # Critics: real images should score higher than generated ones, both with small gradients
        loss_d = source.new_zeros(())
        if self.critics_started:
            loss_d, parts_d = self._critic_loss(views(source, target, boxes), views(source, made.image, boxes), wanted)
            self.backward_into(self.critics, loss_d)
            self.step(1, counted=False)

        # Generator: the true target, the true motion of the landmarks, and the critics
        parts = {
            "charbonnier": charbonnier(made.image, target),
            "pyramid": laplacian_difference(made.image, target),
            "smooth": smoothness(made.flow),
            "painted": made.share.mean(),
            "reader": F.mse_loss(made.read, shown),
        }
        if landmarks is not None and batch.source_landmarks is not None:
            parts["landmarks"] = flow_at_landmarks(made.flow, batch.source_landmarks, landmarks)
            near = [charbonnier(box.crop(made.image), box.crop(target)) for box in boxes.values()]
            parts["regions"] = torch.stack(near).mean()
        if self.critics_started:
            with torch.no_grad():
                on_real, _ = self.critics(views(source, target, boxes), wanted)
            on_fake, read = self.critics(views(source, made.image, boxes), wanted)
            pairs = {name: relativistic(on_fake[name], on_real[name]) for name in on_real}
            parts |= {"adversarial": pairs.pop("whole"), "units": F.mse_loss(read, wanted)}
            if pairs:
                parts["local"] = torch.stack(list(pairs.values())).mean()
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

    def _critic_loss(
        self, real: dict[str, Tensor], fake: dict[str, Tensor], wanted: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the critics and its parts; the units are read in real images alone.

        Args:
            real: what the critics see of the targets.
            fake: what they see of the generated images.
            wanted: action units (B, 17) of both.
        """
        w, penalised = self.loss_weights, self._penalised
        real, fake = (
            {name: view.detach().requires_grad_(penalised) for name, view in views.items()} for views in (real, fake)
        )
        # gradients are differentiated twice: float32 at every precision of the training
        with torch.autocast(self.device.type, enabled=False) if penalised else nullcontext():
            (on_real, read), (on_fake, _) = self.critics(real, wanted), self.critics(fake, wanted)
            parts = {f"d_{name}": relativistic(on_real[name], on_fake[name]) for name in real}
            total = torch.stack(list(parts.values())).sum()
            parts["d_units"] = F.mse_loss(read, wanted)
            total = total + w.units * parts["d_units"]
            if penalised:
                gradients = [squared_gradient(on_real[name], real[name]) for name in real]
                gradients += [squared_gradient(on_fake[name], fake[name]) for name in fake]
                total = total + w.penalty_every * self.gamma / 2 * torch.stack(gradients).sum()
        return total, parts

    # ------------------------------------------------------------------ use

    def edit(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Faces:
        """Return the result with its flow and its paint, with gradients; see `forward`."""
        return self.average(source, *self.units_in_use(source_expression, target))

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Give `source` (B, 3, S, S) the action units of `target`; see the base class.

        The action units of `source_expression` make the result more exact where they are known.
        """
        return self.edit(source, source_expression, target).image.float()

    def synthesize_among(
        self, source: Tensor, source_expression: Expression | None, target: Expression, others: Tensor
    ) -> Tensor:
        """Edit several frames of one person, and take every part of the face from the frame in which it moves least.

        Args:
            source: (B, 3, S, S) in [-1, 1].
            source_expression: see `forward`.
            target: expressions of the result.
            others: further frames of the same person, (N, 3, S, S), aligned with the source.
        """
        made = [self.edit(source, source_expression, target)]
        made += [self.edit(other.expand_as(source), None, target) for other in others]
        size = self.image_size // 16 * 2 + 1
        far = [F.avg_pool2d(faces.flow.norm(dim=1, keepdim=True), size, 1, size // 2) for faces in made]
        weights = (torch.stack(far) / -SHARED_FLOW).softmax(0)  # (N + 1, B, 1, S, S)
        return (weights * torch.stack([faces.image.float() for faces in made])).sum(0)

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; the real image is the target, which the critic sees beside the source."""
        K = len(self.affects)
        wanted = batch.target_expression(K)
        generated = self.synthesize(batch.source, batch.source_expression(K), wanted)
        units = self.units_of(wanted.aus)
        on_real, on_fake = (
            self.critics(self.critics.views(batch.source, image, {}), units)[0]["whole"]
            for image in (batch.target, generated)
        )
        return ValidationOutput(generated, on_real, None, on_fake, None, calibrated=False)

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        inputs = unit_edit_inputs(self.image_size)
        return {"generator": Exported(GeneratorPart(self.average), inputs, {"face": "face, RGB in [-1, 1]"})}

    def weights_of(self, other: Any) -> dict[str, dict[str, Tensor]]:
        """See the base class; a larger image has more scales outside, and the encoder counts them from there."""
        more, weights = len(self.generator.encoder) - len(other.generator.encoder), super().weights_of(other)
        renamed = {}
        for key, value in weights["generator"].items():
            part, _, rest = key.partition(".")
            number, _, leaf = rest.partition(".")
            name = f"{part}.{int(number) + more}.{leaf}" if part in ("encoder", "down") else key
            renamed[name] = value
        return {**weights, "generator": renamed}

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving average as the generator, the critics, and the action units of the affects."""
        return {"generator": self.average, "critics": self.critics, "prototypes": self.prototypes}
