"""The plain loop of StarGAN."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim import Adam

from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.systems.gan import ema_decay, update_ema
from fexgan_lit.systems.losses import absolute_difference, categorical_cross_entropy, gradient_penalty
from fexgan_lit.systems.stargan.system import StarGAN


def train_stargan(system: StarGAN, batches: Iterable[PairBatch], bf16: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Train the networks of `system`; see `fexgan_lit.benchmarks.plain_loops`.

    Iterations without a generator step yield the generator's last loss.
    """
    G, D, average = system.generator, system.critic, system.average
    options, w, device, K = system.optimizer_settings, system.loss_weights, system.device, len(system.affects)
    betas = (options.beta1, options.beta2)
    adam_g = Adam(G.parameters(), options.lr, betas, fused=True)
    adam_d = Adam(D.parameters(), options.lr_discriminator or options.lr, betas, fused=True)
    loss_g = torch.zeros(())

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        source, due = batch.source, (iteration + 1) % options.n_critic == 0
        shown, wanted = one_hot(batch.source_affect, K).float(), one_hot(batch.target_affect, K).float()

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            with torch.set_grad_enabled(due):
                made = G(source, wanted)
            (real, named), (fake, _) = D(source), D(made.detach())
            loss_d = (
                w.adversarial * (fake.float().mean() - real.float().mean())
                + w.lambda_class * categorical_cross_entropy(named, batch.source_affect)
                + w.lambda_gp * gradient_penalty(D.scores, source, made)
            )
        loss_d.backward(inputs=list(D.parameters()))
        adam_d.step()
        adam_d.zero_grad()

        if due:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                fake, named = D(made)
                loss_g = (
                    -w.adversarial * fake.float().mean()
                    + w.lambda_class * categorical_cross_entropy(named, batch.target_affect)
                    + w.lambda_cycle * absolute_difference(G(made, shown), source)
                )
            loss_g.backward(inputs=list(G.parameters()))
            adam_g.step()
            adam_g.zero_grad()
            images = len(batch)
            update_ema(average, G, ema_decay(images, options.ema_half_life_images, iteration * images))
        yield loss_g.detach(), loss_d.detach()
