"""The training of every system as a plain PyTorch loop, the baseline for the speed of the library.

A plain loop trains the networks of a system with its loss weights and optimizer settings, but without Lightning,
callbacks or logging. It is a Python generator: each `next` runs one iteration and yields the losses of generator and
discriminator, which is 0 without one. Random numbers come from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam, Optimizer

from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.systems.annotations import landmark_heatmaps, region_boxes
from fexgan_lit.systems.attgan import AttGAN
from fexgan_lit.systems.bridge import Bridge
from fexgan_lit.systems.fexgan import losses as fexgan_losses
from fexgan_lit.systems.fexgan.system import FExGAN
from fexgan_lit.systems.gan import ema_decay, update_ema
from fexgan_lit.systems.ganimation import losses as ganimation_losses
from fexgan_lit.systems.ganimation.system import GANimation
from fexgan_lit.systems.landmark_fusion import LandmarkFusion, map_loss
from fexgan_lit.systems.landmark_label import losses as landmark_losses
from fexgan_lit.systems.landmark_label.networks import label_maps
from fexgan_lit.systems.landmark_label.system import LandmarkLabel
from fexgan_lit.systems.layers import tiled
from fexgan_lit.systems.lgp_gan import LGPGAN
from fexgan_lit.systems.losses import (
    absolute_difference,
    binary_cross_entropy,
    categorical_cross_entropy,
    charbonnier,
    gradient_penalty,
    total_variation,
)
from fexgan_lit.systems.mien.losses import (
    flow_at_landmarks,
    laplacian_difference,
    relativistic,
    smoothness,
    squared_gradient,
)
from fexgan_lit.systems.mien.system import Mien
from fexgan_lit.systems.motion_texture.networks import NOISE, REALS, label_code, landmark_map
from fexgan_lit.systems.motion_texture.srvf import geodesic, log_map
from fexgan_lit.systems.motion_texture.system import MotionTexture
from fexgan_lit.systems.optimizers import dual_adam
from fexgan_lit.systems.pix2pix import Pix2Pix
from fexgan_lit.systems.stargan.system import StarGAN

#: The detached losses of one iteration: of the generator, and of the discriminators.
Losses = tuple[Tensor, Tensor]
#: Takes a system, endless batches and whether to use bf16 autocast; yields the losses of each iteration.
PlainLoop = Callable[[Any, Iterable[PairBatch], bool], Iterator[Losses]]


def descend(*parts: tuple[Optimizer, Tensor, nn.Module], clip: float | None = None) -> None:
    """Take a step of each optimizer with the gradients of its loss in its network; the losses may share one graph.

    Args:
        parts: optimizers, losses and networks; the first loss keeps the graph if there are others.
        clip: largest norm of the gradients of a network.
    """
    for number, (_, loss, network) in enumerate(parts):
        loss.backward(inputs=list(network.parameters()), retain_graph=number == 0 and len(parts) > 1)
    for adam, _, network in parts:
        if clip is not None:
            clip_grad_norm_(network.parameters(), clip)
        adam.step()
        adam.zero_grad()


def move_average(system: Any, images: int, iteration: int) -> None:
    """Update the moving average of the generator after an iteration with `images` images."""
    decay = ema_decay(images, system.optimizer_settings.ema_half_life_images, iteration * images)
    update_ema(system.average, system.generator, decay)


def train_fexgan(system: FExGAN, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the networks of `system`; lambda is 1, as in the published networks."""
    G, D = system.generator, system.discriminator
    options, weights, device, K = system.optimizer_settings, system.loss_weights, system.device, len(system.affects)
    adam_g, adam_d = dual_adam(G, D, options, fused=True, adam=Adam)
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
            loss_g, _ = fexgan_losses.generator_loss(
                on_fake, fake, batch.target, latent, batch.target_affect, weights, str(system.settings.sigma)
            )
            loss_d, _ = fexgan_losses.discriminator_loss(
                on_real, on_fake, batch.source_affect, batch.target_affect, weights.classify_fakes
            )

        descend((adam_g, loss_g, G), (adam_d, loss_d, D))
        move_average(system, len(batch), iteration)
        yield loss_g.detach(), loss_d.detach()


def train_ganimation(system: GANimation, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the networks of `system`; the gradient penalty has its own step, as in the published code.

    Iterations without a generator step yield the generator's last loss.
    """
    G, D = system.generator, system.critic
    options, w, device = system.optimizer_settings, system.loss_weights, system.device
    adam_g, adam_d = dual_adam(G, D, options, fused=True, adam=Adam)
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
            loss_d, _ = ganimation_losses.critic_loss(D(source), D(made.image.detach()), shown, w)
        descend((adam_d, loss_d, D))

        penalty = w.lambda_gp * gradient_penalty(D.scores, source, made.image)
        descend((adam_d, penalty, D))

        if due:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                back = G(made.image, shown)
                on_fake, true = D(made.image), batch.target
                loss_g, _ = ganimation_losses.generator_loss(on_fake, wanted, made, back, source, true, w)
            descend((adam_g, loss_g, G))
            move_average(system, len(batch), iteration)
        yield loss_g.detach(), (loss_d + penalty).detach()


def train_stargan(system: StarGAN | AttGAN, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the networks of `system`; AttGAN reconstructs the source where StarGAN has a cycle.

    Iterations without a generator step yield the generator's last loss.
    """
    G, D = system.generator, system.critic
    options, w, device, K = system.optimizer_settings, system.loss_weights, system.device, len(system.affects)
    cycle = isinstance(system, StarGAN)
    class_weight, back_weight = (w.lambda_class, w.lambda_cycle) if cycle else (w.lambda_edit, w.lambda_reconstruction)
    adam_g, adam_d = dual_adam(G, D, options, fused=True, adam=Adam)
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
        descend((adam_d, loss_d, D))

        if due:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                fake, named = D(made)
                loss_g = (
                    -w.adversarial * fake.float().mean()
                    + class_weight * categorical_cross_entropy(named, batch.target_affect)
                    + back_weight * absolute_difference(G(made if cycle else source, shown), source)
                )
            descend((adam_g, loss_g, G))
            move_average(system, len(batch), iteration)
        yield loss_g.detach(), loss_d.detach()


def train_landmark_label(system: LandmarkLabel, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the networks of `system`, which needs a perceptual network."""
    G, D_image, D_geometry = system.generator, system.image_discriminator, system.geometry_discriminator
    options, w, s = system.optimizer_settings, system.loss_weights, system.settings
    device, K = system.device, len(system.affects)
    if system.perceptual is None:
        raise ValueError("the system has no perceptual network")
    phi = system.perceptual.to(device)
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
            adversarial, _ = landmark_losses.adversarial_loss(image_fake, geometry_fake)
            with torch.no_grad():
                features = phi(target)
            perceptual = landmark_losses.perceptual_loss(phi(fake), features)
            loss_g = landmark_losses.generator_loss(
                adversarial, perceptual, landmark_losses.pixel_loss(fake, target, w.pixel_channels), w
            )
            loss_image = landmark_losses.discriminator_loss(image_real, image_fake)
            loss_geometry = landmark_losses.discriminator_loss(geometry_real, geometry_fake)

        descend(*zip(adams, (loss_g, loss_image, loss_geometry), (G, D_image, D_geometry), strict=True))
        move_average(system, len(batch), iteration)
        yield loss_g.detach(), (loss_image + loss_geometry).detach()


def train_pix2pix(system: Pix2Pix, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the networks of `system`."""
    G, D = system.generator, system.discriminator
    options, w, device, K = system.optimizer_settings, system.loss_weights, system.device, len(system.affects)
    adam_g, adam_d = dual_adam(G, D, options, fused=True, adam=Adam)
    G.train()
    D.train()

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        wanted = one_hot(batch.target_affect, K).float()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            fake = G(batch.source, wanted)
            on_real, on_fake = D.on_both(tiled(batch.source, wanted), batch.target, fake)
            loss_g = w.adversarial * binary_cross_entropy(on_fake, real=True)
            loss_g = loss_g + w.lambda_pixel * absolute_difference(fake, batch.target)
            loss_d = 0.5 * (binary_cross_entropy(on_real, real=True) + binary_cross_entropy(on_fake, real=False))

        descend((adam_g, loss_g, G), (adam_d, loss_d, D))
        move_average(system, len(batch), iteration)
        yield loss_g.detach(), loss_d.detach()


def train_landmark_fusion(system: LandmarkFusion, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the networks of `system`."""
    G, D = system.generator, system.discriminator
    options, w, device = system.optimizer_settings, system.loss_weights, system.device
    adam_g, adam_d = dual_adam(G, D, options, fused=True, adam=Adam)
    G.train()
    D.train()

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        own, wanted, driver = system.drive(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            made = G(batch.source, own, driver)
            condition = torch.cat((batch.source, made.drawing.detach()), dim=1)
            on_real, on_fake = D.on_both(condition, batch.target, made.image)
            loss_g = w.adversarial * binary_cross_entropy(on_fake, real=True)
            loss_g = loss_g + w.lambda_pixel * absolute_difference(made.image, batch.target)
            loss_g = loss_g + w.lambda_points * absolute_difference(made.landmarks, wanted)
            if made.map is not None:
                loss_g = loss_g + w.lambda_map * map_loss(made.map, wanted, own)
            loss_d = 0.5 * (binary_cross_entropy(on_real, real=True) + binary_cross_entropy(on_fake, real=False))

        descend((adam_g, loss_g, G), (adam_d, loss_d, D))
        move_average(system, len(batch), iteration)
        yield loss_g.detach(), loss_d.detach()


def train_lgp_gan(system: LGPGAN, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the networks of `system` with its local generators.

    Iterations without a generator step yield the generator's last loss.
    """
    G, D = system.generator, system.critic
    options, w, device, K = system.optimizer_settings, system.loss_weights, system.device, len(system.affects)
    adam_g, adam_d = dual_adam(G, D, options, fused=True, adam=Adam)
    loss_g = torch.zeros(())

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        source, due = batch.source, (iteration + 1) % options.n_critic == 0
        shown, wanted = one_hot(batch.source_affect, K).float(), one_hot(batch.target_affect, K).float()
        if batch.source_landmarks is None:
            raise ValueError("the batches have no landmarks")

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            with torch.set_grad_enabled(due):
                made = G(source, wanted, batch.source_landmarks)
            crops = {name: box.crop(source) for name, box in made.boxes.items()}
            levels = [(D["whole"], source, made.image, 1.0)]
            levels += [(D[name], crop, made.patches[name], w.lambda_local) for name, crop in crops.items()]
            loss_d = torch.zeros((), device=device)
            for critic, real, fake, weight in levels:
                (on_real, named), (on_fake, _) = critic(real), critic(fake.detach())
                loss_d = loss_d + weight * (
                    w.adversarial * (on_fake.float().mean() - on_real.float().mean())
                    + w.lambda_class * categorical_cross_entropy(named, batch.source_affect)
                    + w.lambda_gp * gradient_penalty(critic.scores, real, fake)
                )
        descend((adam_d, loss_d, D))

        if due:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                back = G(made.image, shown, batch.source_landmarks)
                cycles = [(back.image, source, made.attention, back.attention)]
                for name, patch in made.patches.items():
                    again, attention = G.local[name](patch, shown, patch)
                    cycles.append((again, crops[name], made.attentions[name], attention))
                loss_g = w.pixel * absolute_difference(made.image, batch.target)
                for (critic, _, fake, weight), (again, first, *masks) in zip(levels, cycles, strict=True):
                    on_fake, named = critic(fake)
                    loss_g = loss_g + weight * (
                        -w.adversarial * on_fake.float().mean()
                        + w.lambda_class * categorical_cross_entropy(named, batch.target_affect)
                        + w.lambda_cycle * absolute_difference(again, first)
                        + w.lambda_attention * (masks[0].mean() + masks[1].mean())
                        + w.lambda_tv * (total_variation(masks[0]) + total_variation(masks[1]))
                    )
            descend((adam_g, loss_g, G))
            move_average(system, len(batch), iteration)
        yield loss_g.detach(), loss_d.detach()


def train_mien(system: Mien, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the networks of `system`: with its critics if they start at once, else the regression before them."""
    G, D = system.generator, system.critics
    options, w, device = system.optimizer_settings, system.loss_weights, system.device
    adam_g, adam_d = dual_adam(G, D, options, fused=True, adam=Adam)
    loss_d = torch.zeros(())
    G.train()

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        source, shown, points, moved = batch.source, batch.source_aus, batch.source_landmarks, batch.target_landmarks
        if shown is None or batch.target_aus is None or points is None or moved is None:
            raise ValueError("the batches have no action units or no landmarks")
        own = torch.rand(len(batch), 1, device=device) < w.self_pairs
        target = torch.where(own[:, :, None, None], source, batch.target)
        wanted, moved = torch.where(own, shown, batch.target_aus), torch.where(own[:, :, None], points, moved)
        known = (torch.rand(len(batch), 1, device=device) >= w.unknown_source).float()
        boxes = region_boxes(moved, system.image_size)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            made = G(source, wanted, shown, known)

        if w.critics_from == 0:
            penalised = iteration % w.penalty_every == 0
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16 and not penalised):
                real, fake = (
                    {name: view.detach().requires_grad_(penalised) for name, view in views.items()}
                    for views in (D.views(source, target, boxes), D.views(source, made.image, boxes))
                )
                (on_real, read), (on_fake, _) = D(real, wanted), D(fake, wanted)
                loss_d = w.units * mse_loss(read, wanted)
                for name in real:
                    loss_d = loss_d + relativistic(on_real[name], on_fake[name])
                    if penalised:
                        penalty = squared_gradient(on_real[name], real[name]) + squared_gradient(
                            on_fake[name], fake[name]
                        )
                        loss_d = loss_d + w.penalty_every * w.gamma / 2 * penalty
            descend((adam_d, loss_d, D), clip=options.clip_norm)

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss_g = (
                w.charbonnier * charbonnier(made.image, target) + w.pyramid * laplacian_difference(made.image, target)
                + w.landmarks * flow_at_landmarks(made.flow, points, moved)
                + w.smooth * smoothness(made.flow) + w.painted * made.share.mean()
                + w.reader * mse_loss(made.read, shown)
            )  # fmt: skip
            near = [charbonnier(box.crop(made.image), box.crop(target)) for box in boxes.values()]
            loss_g = loss_g + w.regions * torch.stack(near).mean()
            if w.critics_from == 0:
                with torch.no_grad():
                    on_real, _ = D(D.views(source, target, boxes), wanted)
                on_fake, read = D(D.views(source, made.image, boxes), wanted)
                pairs = {name: relativistic(on_fake[name], on_real[name]) for name in on_real}
                loss_g = loss_g + w.adversarial * pairs.pop("whole") + w.units * mse_loss(read, wanted)
                loss_g = loss_g + w.local * torch.stack(list(pairs.values())).mean()
        descend((adam_g, loss_g, G), clip=options.clip_norm)
        move_average(system, len(batch), iteration)
        yield loss_g.detach(), loss_d.detach()


def train_bridge(system: Bridge, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train the network of `system`."""
    G, start_at_noise = system.generator, system.settings.prior == "noise"
    options, w, device = system.optimizer_settings, system.loss_weights, system.device
    adam = Adam(G.parameters(), options.lr, (options.beta1, options.beta2), fused=True)
    G.train()

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        source, target, rows = batch.source, batch.target, len(batch)
        if batch.source_aus is None or batch.target_aus is None:
            raise ValueError("the batches have no action units")
        known = (torch.rand(rows, 1, device=device) >= w.unknown_source).float()
        given = (torch.rand(rows, 1, device=device) >= w.unknown_target).float()
        time = (torch.rand(rows, device=device) - w.at_start).clamp(min=0) / max(1 - w.at_start, 1e-6)
        noise, u = torch.randn(source.shape, device=device), time[:, None, None, None]
        if start_at_noise:
            x = torch.lerp(noise, target, u)
        else:
            x = torch.lerp(source, target, u) + system.settings.sigma * (u * (1 - u)).sqrt() * noise
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = charbonnier(G(x, source, time, batch.target_aus, batch.source_aus, known, given), target, w.huber)
        descend((adam, loss, G))
        move_average(system, rows, iteration)
        yield loss.detach(), torch.zeros(())


def train_motion_texture(system: MotionTexture, batches: Iterable[PairBatch], bf16: bool) -> Iterator[Losses]:
    """Train both parts of `system` without the identity loss, on its motions and on the pairs."""
    G, D, s = system.generator, system.critics, system.settings
    o, w, device = system.optimizer_settings, system.loss_weights, system.device
    (adam_g, adam_d), K = system.configure_optimizers(), len(system.affects)
    M, count = system.motions, o.motion_batch
    G.train()

    for iteration, batch in enumerate(batches):
        batch = batch.to(device)
        points, wanted = batch.source_landmarks, batch.target_landmarks
        if points is None or wanted is None:
            raise ValueError("the batches have no landmarks")
        rows = (torch.rand(count, device=device) * len(M)).long().clamp(max=len(M) - 1)
        q, affect = M[rows], one_hot(system.motion_affect[rows], K).float()
        real = log_map(G.mean, q)

        def drawn(affect: Tensor = affect) -> tuple[Tensor, Tensor]:
            noise = torch.randn(count, NOISE, device=device)
            return noise, label_code(affect, torch.rand(count, K, REALS, device=device))

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            noise, label = drawn()
            made = G.motions(noise, label)
            fake = log_map(G.mean, made)
            loss_g = (
                -w.motion_adversarial * D.motion(fake, label).float().mean()
                + w.tangent * (fake - real).abs().mean() + w.geodesic * geodesic(made, q).mean()
            )  # fmt: skip
        descend((adam_g, loss_g, G.motion))
        for _ in range(o.motion_critic_steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                noise, label = drawn()
                with torch.no_grad():
                    fake = log_map(G.mean, G.motions(noise, label))
                share = torch.rand(count, 1, 1, device=device)
                penalty = gradient_penalty(partial(D.motion, label=label), real, fake, share)
                loss_d = w.lambda_gp * penalty + w.motion_adversarial * (
                    D.motion(fake, label).float().mean() - D.motion(real, label).float().mean()
                )
            descend((adam_d, loss_d, D.motion))

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            image = G(batch.source, points, wanted)
            seen = torch.cat((batch.source, landmark_map(wanted, s.image_size, s.sigma)), dim=1)
            on_real, on_fake = D.texture.on_both(seen, batch.target, image)
            painted = w.adversarial * binary_cross_entropy(on_fake, real=True) + w.lambda_pixel * absolute_difference(
                image, batch.target
            )
            told = 0.5 * (binary_cross_entropy(on_real, real=True) + binary_cross_entropy(on_fake, real=False))
        descend((adam_g, painted, G.texture), (adam_d, told, D.texture))
        move_average(system, len(batch), iteration)
        yield (loss_g + painted).detach(), (loss_d + told).detach()


#: Plain loops by model name.
PLAIN_LOOPS: dict[str, PlainLoop] = {
    "fexgan": train_fexgan,
    "fexgan_meta": train_fexgan,
    "ganimation": train_ganimation,
    "stargan": train_stargan,
    "us_gan": train_stargan,
    "attgan": train_stargan,
    "pix2pix": train_pix2pix,
    "lgp_gan": train_lgp_gan,
    "mien": train_mien,
    "bridge": train_bridge,
    "landmark_fusion": train_landmark_fusion,
    "motion_texture": train_motion_texture,
    "landmark_label": train_landmark_label,
}
