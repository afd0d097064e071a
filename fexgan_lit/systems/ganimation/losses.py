"""The losses of GANimation: Wasserstein terms, action units, cycle, and sparsity and smoothness of the attention."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from fexgan_lit.systems.ganimation.config import GANimationLossSettings
from fexgan_lit.systems.ganimation.networks import Painted
from fexgan_lit.systems.losses import absolute_difference, total_variation

#: A loss as its total and its named parts, unweighted.
Loss = tuple[Tensor, dict[str, Tensor]]
#: Output of the critic: scores (B, 2, 2) and action units (B, 17).
DiscriminatorOutput = tuple[Tensor, Tensor]

#: Attention above which a pixel of the input looks unchanged.
KEPT = 0.99


def critic_loss(
    on_real: DiscriminatorOutput, on_fake: DiscriminatorOutput, shown: Tensor, w: GANimationLossSettings
) -> Loss:
    """Return -E D(real) + E D(fake) plus the loss of the action units, which only real images enter.

    Args:
        on_real: output of the critic for source images.
        on_fake: output of the critic for generated images.
        shown: action units of the sources, (B, 17).
        w: the weights.
    """
    parts = {
        "d_real": on_real[0].float().mean(),
        "d_fake": on_fake[0].float().mean(),
        "d_units": mse_loss(on_real[1].float(), shown),
    }
    return w.adversarial * (parts["d_fake"] - parts["d_real"]) + w.lambda_cond * parts["d_units"], parts


def generator_loss(
    on_fake: DiscriminatorOutput, wanted: Tensor, made: Painted, back: Painted, source: Tensor,
    target: Tensor, w: GANimationLossSettings, processes: int = 1,
) -> Loss:  # fmt: skip
    """Return -E D(fake) plus the losses of action units, cycle, both attentions and pixels.

    Args:
        on_fake: output of the critic for `made.image`.
        wanted: target action units, (B, 17).
        made: the generated image with its masks.
        back: the cycle image, generated from `made.image` with the source's action units.
        source: (B, 3, S, S).
        target: the true targets, (B, 3, S, S), for the pixel loss.
        w: the weights.
        processes: number of processes that share the batch and average their gradients; the total variation is a sum
            over the whole batch.
    """
    parts = {
        "adversarial": -on_fake[0].float().mean(),
        "units": mse_loss(on_fake[1].float(), wanted),
        "cycle": absolute_difference(back.image, source),
        "attention": made.attention.mean() + back.attention.mean(),
        "variation": processes * (total_variation(made.attention) + total_variation(back.attention)),
    }
    weights = [w.adversarial, w.lambda_cond, w.lambda_cycle, w.lambda_attention, w.lambda_tv]
    if w.pixel:  # without it the target may show anyone
        parts["pixel"] = absolute_difference(made.image, target)
        weights.append(w.pixel)
    total = sum((weight * part for weight, part in zip(weights, parts.values(), strict=True)), source.new_zeros(()))
    return total, parts


def mask_statistics(attention: Tensor) -> dict[str, Tensor]:
    """Return mean and deviation of an attention (B, 1, S, S), and the fraction of pixels that keep the input."""
    attention = attention.detach()
    return {
        "attention_mean": attention.mean(),
        "attention_std": attention.std(),
        "attention_saturated": (attention > KEPT).float().mean(),
    }
