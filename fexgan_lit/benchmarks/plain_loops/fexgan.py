"""The plain loop of FExGAN and FExGAN-Meta; lambda is 1, as in the published networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim import Adam

from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.systems.fexgan.losses import discriminator_loss, generator_loss
from fexgan_lit.systems.fexgan.system import FExGAN
from fexgan_lit.systems.gan import ema_decay, update_ema


def train_fexgan(system: FExGAN, batches: Iterable[PairBatch], bf16: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Train the networks of `system`; see `fexgan_lit.benchmarks.plain_loops`."""
    G, D, average = system.generator, system.discriminator, system.average
    options, weights, device, K = system.optimizer_settings, system.loss_weights, system.device, len(system.affects)
    betas = (options.beta1, options.beta2)
    adam_g = Adam(G.parameters(), options.lr, betas, fused=True)
    adam_d = Adam(D.parameters(), options.lr_discriminator or options.lr, betas, fused=True)
    told_target = system.settings.encoder_label == "target"
    G.train()
    D.train()

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        target = one_hot(batch.target_affect, K).float()
        told = target if told_target else one_hot(batch.source_affect, K).float()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            fake, latent = G(batch.source, told, target)
            on_real, on_fake = D(batch.source), D(fake)
            loss_g, _ = generator_loss(
                on_fake, fake, batch.target, latent, batch.target_affect, weights, str(system.settings.sigma)
            )
            loss_d, _ = discriminator_loss(
                on_real, on_fake, batch.source_affect, batch.target_affect, weights.classify_fakes
            )

        loss_g.backward(inputs=list(G.parameters()), retain_graph=True)
        loss_d.backward(inputs=list(D.parameters()))
        adam_g.step()
        adam_d.step()
        adam_g.zero_grad()
        adam_d.zero_grad()
        images = len(batch)
        update_ema(average, G, ema_decay(images, options.ema_half_life_images, iteration * images))
        yield loss_g.detach(), loss_d.detach()
