"""GANimation: unpaired training on action units, and images composed by an attention mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.systems.annotations import ReadsActionUnits
from fexgan_lit.systems.base import Sheet
from fexgan_lit.systems.export import Exported
from fexgan_lit.systems.ganimation.config import GANimationLossSettings, GANimationOptimizerSettings, GANimationSettings
from fexgan_lit.systems.ganimation.losses import critic_loss, generator_loss, mask_statistics
from fexgan_lit.systems.ganimation.networks import Generator, Painted, ganimation_parts
from fexgan_lit.systems.layers import PatchCritic
from fexgan_lit.systems.losses import gradient_penalty
from fexgan_lit.systems.wgan import WassersteinSystem

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch

#: Thresholds of a degenerate attention: above the first nothing changes, below the second the whole image is redrawn.
_ALL_KEPT, _NOTHING_KEPT = 0.98, 0.02


#: Action units and strengths in the figure of single action units.
SHOWN_UNITS, STRENGTHS = (1, 2, 4, 5, 9, 12, 15, 25, 26), (0.0, 0.33, 0.66, 1.0)


def single_units(shown: Tensor) -> list[Expression]:
    """Return the images' own action units (I, 17) with each of `SHOWN_UNITS` in turn at full strength."""
    asked = shown.repeat(len(SHOWN_UNITS), 1, 1)  # (I, 17) -> (U, I, 17)
    for row, unit in zip(asked, SHOWN_UNITS, strict=True):
        row[:, ACTION_UNITS.index(unit)] = 1.0
    return [Expression(aus=row) for row in asked]


class GANimation(ReadsActionUnits, WassersteinSystem):
    """Attention and colour masks from action units, and a WGAN-GP critic that also estimates action units.

    Args:
        model: network options.
        loss: loss weights.
        optimizer: Adam, n_critic and the separate step of the gradient penalty.
        affects: class names in index order.
        seed: seed of the random numbers in training; torch's global generator initialises the weights.
    """

    pairing = "none"
    settings_class = GANimationSettings
    loss_class = GANimationLossSettings
    optimizer_class = GANimationOptimizerSettings
    average: Generator
    optimizer_settings: GANimationOptimizerSettings

    def __init__(
        self,
        model: GANimationSettings,
        loss: GANimationLossSettings,
        optimizer: GANimationOptimizerSettings,
        affects: Sequence[str],
        seed: int = 0,
    ) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        critic = PatchCritic(self.image_size, len(ACTION_UNITS), self.settings.width)
        self.adopt(Generator(self.settings), critic)

    # ------------------------------------------------------------------ training

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration: update the critic and, in every n-th iteration, the generator."""
        self.seed_iteration()
        w, source, shown = self.loss_weights, batch.source, self.units_of(batch.source_aus)
        wanted = self.wanted_units(batch)
        with torch.set_grad_enabled(self.generator_is_due):
            made = self.generator(source, wanted)

        # Critic: Wasserstein loss and action units of the real images, then the gradient penalty
        loss_d, parts_d = critic_loss(self.critic(source), self.critic(made.image.detach()), shown, w)
        if self.optimizer_settings.separate_penalty:
            self.update(self.critic, loss_d, counted=False)
        penalty = gradient_penalty(self.critic.scores, source, made.image, self.between(len(batch)))
        weighted = w.lambda_gp * penalty
        last = weighted if self.optimizer_settings.separate_penalty else loss_d + weighted
        self.update(self.critic, last, counted=True)

        # Generator: to the target and back
        if self.generator_is_due:
            back = self.generator(made.image, shown)
            on_fake, processes = self.critic(made.image), self.noise.share.world
            loss_g, parts_g = generator_loss(on_fake, wanted, made, back, source, batch.target, w, processes)
            self.update(self.generator, loss_g, counted=False)
            self.update_average(len(batch))
            self.keep({"generator": loss_g, **parts_g, **mask_statistics(made.attention)})
        return self.report(loss_d + weighted, parts_d | {"d_penalty": penalty})

    def wanted_units(self, batch: PairBatch) -> Tensor:
        """Return action units (B, 17) of random other frames of any identity, with uniform noise, unclipped.

        With a pixel loss they are those of the targets.
        """
        others = self.units_of(batch.target_aus)
        if self.loss_weights.pixel:
            return others
        others = self.noise.shuffled(others)
        return others + self.loss_weights.au_noise * (2 * self.noise.uniform(*others.shape, device=others.device) - 1)

    def diagnose(self, parts: Mapping[str, float]) -> str | None:
        """Return advice if the attention keeps everything or nothing; see the base class."""
        kept, mean, now = (
            parts.get("attention_saturated"),
            parts.get("attention_mean"),
            self.loss_weights.lambda_attention,
        )
        if kept is None or mean is None:
            return None
        if kept > _ALL_KEPT:
            return (
                f"the attention is saturated: {kept:.1%} of the pixels keep the input, so faces hardly change. Raise "
                f"loss.lambda_attention gently (it is {now:g}, try {2 * now or 0.1:g}), and check the action units: "
                "if they are wrong, the generator has no reason to change anything"
            )
        if mean < _NOTHING_KEPT:
            return (
                f"the attention is {mean:.3f} on average: all pixels are redrawn, which blurs the input. Lower "
                f"loss.lambda_attention (it is {now:g}, try {now / 2:g})"
            )
        return None

    # ------------------------------------------------------------------ use

    def paint(self, source: Tensor, target: Expression) -> Painted:
        """Return the masks and the image they compose with `source` (B, 3, S, S), with gradients.

        Raises:
            UserError: `target` has no action units, or they are not in 0..1.
        """
        return self.average(source, self.checked_units(target))

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Compose `source` (B, 3, S, S) with the colours for the action units of `target`; see the base class."""
        return self.paint(source, target).image.float()

    @torch.no_grad()
    def sample_figures(
        self, references: Tensor, shown: Expression, wanted: Sequence[Expression], identities: Sequence[str]
    ) -> list[Sheet]:
        """Return figures of single action units at four strengths on the first image, and of the attention.

        The attention is shown for every affect, or for single action units at full strength if `wanted` is empty.
        """
        units = self.units_of(shown.aus)[:1].repeat(len(STRENGTHS), 1)  # (1, 17) -> (L, 17)
        first = references[:1].expand(len(STRENGTHS), -1, -1, -1)
        rows = []
        for unit in SHOWN_UNITS:
            asked = units.clone()
            asked[:, ACTION_UNITS.index(unit)] = torch.tensor(STRENGTHS, device=asked.device)
            rows.append(self.synthesize(first, None, Expression(aus=asked)))
        names = tuple(f"AU {unit}" for unit in SHOWN_UNITS)
        asked_for, columns = (wanted, self.affects) if wanted else (single_units(self.units_of(shown.aus)), names)
        # (I, 1, S, S) in 0..1 -> (I, K, 3, S, S) in -1..1
        masks = torch.stack([2 * self.paint(references, w).attention - 1 for w in asked_for], dim=1)
        return [
            Sheet("action_units", "Single action units at four strengths; 0 gives the input back.",
                  references[:1].expand(len(rows), -1, -1, -1), torch.stack(rows), names,
                  tuple(f"{strength:g}" for strength in STRENGTHS)),
            Sheet("attention", "Where the input is kept (white) and where it is redrawn (black).",
                  references, masks.expand(-1, -1, 3, -1, -1), tuple(identities), columns),
        ]  # fmt: skip

    @torch.no_grad()
    def read_units(self, images: Tensor) -> Tensor:
        """Return the critic's estimate of the action units (B, 17), about 0..1, in `images` (B, 3, S, S) in [-1, 1]."""
        return self.critic(images)[1].float()

    def class_logits(self, answers: Tensor) -> None:
        """Return None: the critic's answers are action units."""

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        return ganimation_parts(self.average, self.critic, self.image_size)
