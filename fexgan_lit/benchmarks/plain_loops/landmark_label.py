"""The plain loop of landmark-and-label guided synthesis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim import Adam

from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.systems.gan import ema_decay, update_ema
from fexgan_lit.systems.landmark_label.losses import (
    adversarial_loss,
    discriminator_loss,
    generator_loss,
    perceptual_loss,
    pixel_loss,
)
from fexgan_lit.systems.landmark_label.networks import label_maps, landmark_heatmaps
from fexgan_lit.systems.landmark_label.system import LandmarkLabel


def train_landmark_label(
    system: LandmarkLabel, batches: Iterable[PairBatch], bf16: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Train the networks of `system`, which needs a perceptual network; see `fexgan_lit.benchmarks.plain_loops`."""
    G, D_image, D_geometry = system.generator, system.image_discriminator, system.geometry_discriminator
    options, w, s = system.optimizer_settings, system.loss_weights, system.settings
    device, K = system.device, len(system.affects)
    if system.perceptual is None:
        raise ValueError("the system has no perceptual network")
    average, phi = system.average, system.perceptual.to(device)
    betas, lr_d = (options.beta1, options.beta2), options.lr_discriminator or options.lr
    rates = ((G, options.lr), (D_image, lr_d), (D_geometry, lr_d))
    adams = [Adam(network.parameters(), lr, betas, fused=True) for network, lr in rates]
    G.train()

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        source, target = batch.source, batch.target
        if batch.target_landmarks is None:
            raise ValueError("the batches have no landmarks")
        labels = label_maps(one_hot(batch.target_affect, K).float(), s.inner_size)

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            heatmaps = landmark_heatmaps(batch.target_landmarks, s.image_size, s.sigma)
            fake = G(source, heatmaps, labels)
            image_real, image_fake = D_image.on_both(source, target, fake)
            geometry_real, geometry_fake = D_geometry.on_both(heatmaps, target, fake)
            adversarial, _ = adversarial_loss(image_fake, geometry_fake)
            with torch.no_grad():
                features = phi(target)
            perceptual = perceptual_loss(phi(fake), features)
            loss_g = generator_loss(adversarial, perceptual, pixel_loss(fake, target, w.pixel_channels), w)
            loss_image = discriminator_loss(image_real, image_fake)
            loss_geometry = discriminator_loss(geometry_real, geometry_fake)

        loss_g.backward(inputs=list(G.parameters()), retain_graph=True)
        loss_image.backward(inputs=list(D_image.parameters()))
        loss_geometry.backward(inputs=list(D_geometry.parameters()))
        for adam in adams:
            adam.step()
            adam.zero_grad()
        images = len(batch)
        update_ema(average, G, ema_decay(images, options.ema_half_life_images, iteration * images))
        yield loss_g.detach(), (loss_image + loss_geometry).detach()
