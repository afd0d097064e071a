"""The plain loop of GANimation; the gradient penalty has its own optimizer step, as in the published code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.optim import Adam

from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.systems.gan import ema_decay, update_ema
from fexgan_lit.systems.ganimation.losses import critic_loss, generator_loss
from fexgan_lit.systems.ganimation.system import GANimation
from fexgan_lit.systems.losses import gradient_penalty


def train_ganimation(system: GANimation, batches: Iterable[PairBatch], bf16: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Train the networks of `system`; see `fexgan_lit.benchmarks.plain_loops`.

    Iterations without a generator step yield the generator's last loss.
    """
    G, D, average = system.generator, system.critic, system.average
    options, w, device = system.optimizer_settings, system.loss_weights, system.device
    betas = (options.beta1, options.beta2)
    adam_g = Adam(G.parameters(), options.lr, betas, fused=True)
    adam_d = Adam(D.parameters(), options.lr_discriminator or options.lr, betas, fused=True)
    loss_g = torch.zeros(())

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        source, shown, others = batch.source, batch.source_aus, batch.target_aus
        if shown is None or others is None:
            raise ValueError("the batches have no action units")
        due = (iteration + 1) % options.n_critic == 0
        others = others[torch.randperm(len(others), device=device)]
        wanted = others + w.au_noise * (2 * torch.rand_like(others) - 1)

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            with torch.set_grad_enabled(due):
                made = G(source, wanted)
            loss_d, _ = critic_loss(D(source), D(made.image.detach()), shown, w)
        loss_d.backward(inputs=list(D.parameters()))
        adam_d.step()
        adam_d.zero_grad()

        penalty = w.lambda_gp * gradient_penalty(D.scores, source, made.image)
        penalty.backward(inputs=list(D.parameters()))
        adam_d.step()
        adam_d.zero_grad()

        if due:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                back = G(made.image, shown)
                loss_g, _ = generator_loss(D(made.image), wanted, made, back, source, w)
            loss_g.backward(inputs=list(G.parameters()))
            adam_g.step()
            adam_g.zero_grad()
            images = len(batch)
            update_ema(average, G, ema_decay(images, options.ema_half_life_images, iteration * images))
        yield loss_g.detach(), (loss_d + penalty).detach()
