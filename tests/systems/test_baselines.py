"""pix2pix, US-GAN and AttGAN: published sizes, equations by hand, and what sets each apart."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from fexgan_lit.systems.attgan import AttGAN, AttGANLossSettings, AttGANSettings
from fexgan_lit.systems.attgan import Generator as AttGANGenerator
from fexgan_lit.systems.layers import PatchDiscriminator, UNet, tiled
from fexgan_lit.systems.optimizers import DualOptimizerSettings
from fexgan_lit.systems.pix2pix import Pix2Pix, Pix2PixLossSettings, Pix2PixSettings
from fexgan_lit.systems.stargan.system import Generator as StarGANGenerator
from fexgan_lit.systems.stargan.system import StarGANSettings
from fexgan_lit.systems.wgan import WassersteinOptimizerSettings
from tests.systems.helpers import NoisePairs, changed, count, fit, snapshot

AFFECTS = [f"a{k}" for k in range(4)]


def make_pix2pix(**model) -> Pix2Pix:
    torch.manual_seed(0)
    settings = Pix2PixSettings(**{"image_size": 32, "width": 0.1, "dropout": 0.0} | model)
    return Pix2Pix(settings, Pix2PixLossSettings(), DualOptimizerSettings(), AFFECTS)


def make_attgan(**model) -> AttGAN:
    torch.manual_seed(0)
    settings = AttGANSettings(**{"image_size": 32, "width": 0.07} | model)
    return AttGAN(settings, AttGANLossSettings(), WassersteinOptimizerSettings(n_critic=1), AFFECTS)


def test_the_u_net_has_the_parameters_of_the_paper():
    down = [3, 64, 128, 256, 512, 512, 512, 512]
    encoder = sum(16 * a * b for a, b in itertools.pairwise(down)) + 2 * sum(down[2:7])
    up = [(512, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64)]
    decoder = sum(16 * a * b + 2 * b for a, b in up) + 16 * 128 * 3 + 3
    films = sum((7 + 1) * 2 * b for _, b in up)
    assert count(UNet(3, 128, 1.0, 0.5, affects=7)) == encoder + decoder + films
    assert encoder + decoder == 41_828_995  # `unet_128` of the published code
    # 70 x 70 patches see source, affects and image
    assert PatchDiscriminator(3 + 7).layers[0].in_channels == 3 + 7 + 3


def test_a_patch_is_70_pixels_wide():
    field, step = 1, 1
    for layer in PatchDiscriminator(3).layers:
        if isinstance(layer, nn.Conv2d):
            field, step = field + (layer.kernel_size[0] - 1) * step, step * layer.stride[0]
    assert field == 70


def test_the_affect_modulates_the_decoder_and_starts_as_nothing():
    network, image = UNet(3, 32, 0.1, 0.5, affects=4).eval(), torch.rand(1, 3, 32, 32)
    joy, rest = torch.eye(4)[:1], torch.zeros(1, 4)
    assert torch.equal(network(image, joy), network(image, rest)), "scale 1, shift 0 before training"
    with torch.no_grad():
        network.films[0].linear.bias[: network.films[0].linear.out_features // 2] = -1.0  # a scale of 1 - 1
        network.films[0].linear.weight[-1] = 2.0
    features = torch.ones(1, network.films[0].linear.out_features // 2, 3, 3)
    modulated = network.films[0](features, joy)
    assert torch.equal(modulated[0, :-1], torch.zeros_like(modulated[0, :-1]))
    assert torch.equal(modulated[0, -1], torch.full((3, 3), 2.0))


def test_the_losses_of_pix2pix_by_hand():
    system, batch = make_pix2pix(), NoisePairs().batch(0, 0)
    losses = {}
    system.backward_into = lambda network, loss, retain_graph=False: losses.setdefault(network, loss)
    system.step_together = lambda update, images: None
    parts = system.training_step(batch, 0)
    wanted = torch.eye(4)[batch.target_affect]
    fake = system.generator(batch.source, wanted)
    on_real, on_fake = system.discriminator.on_both(tiled(batch.source, wanted), batch.target, fake)
    ones, zeros = torch.ones_like(on_real), torch.zeros_like(on_real)
    expected = binary_cross_entropy_with_logits(on_fake, ones) + 100 * (fake - batch.target).abs().mean()
    assert losses[system.generator].item() == pytest.approx(expected.item(), rel=1e-4)
    expected = binary_cross_entropy_with_logits(on_real, ones) + binary_cross_entropy_with_logits(on_fake, zeros)
    assert losses[system.discriminator].item() == pytest.approx(expected.item() / 2, rel=1e-4)
    assert parts["pixel"].item() == pytest.approx((fake - batch.target).abs().mean().item(), rel=1e-4)


def test_pix2pix_learns_the_true_target(tmp_path):
    class Mirrored(NoisePairs):
        """The target is the source, darker for affect 1."""

        def batch(self, epoch, number):
            pairs = super().batch(epoch, number)
            pairs.target = torch.where((pairs.target_affect == 1)[:, None, None, None], -0.9, 0.9) * torch.ones_like(
                pairs.source
            )
            return pairs

    system = make_pix2pix()
    system.optimizer_settings.lr, system.optimizer_settings.ema_half_life_images = 5e-3, 0.0
    fit(system, 60, tmp_path, pairs=Mirrored())
    source = NoisePairs().batch(9, 0).source
    bright, dark = (system.synthesize(source, None, system.expression([k] * len(source))).mean() for k in (0, 1))
    assert bright > dark + 0.5


def test_us_gan_adds_its_input_and_is_smaller_than_stargan():
    settings = StarGANSettings(image_size=32, width=0.07, residual_blocks=1, add_input=True)
    torch.manual_seed(0)
    adding = StarGANGenerator(settings, 4)
    image, affect = torch.rand(1, 3, 32, 32) * 2 - 1, torch.eye(4)[:1]
    trained = adding(image, affect)
    adding.add_input = False
    painted = adding(image, affect)
    torch.testing.assert_close(trained, image + painted)
    adding.add_input = True
    assert torch.equal(adding.eval()(image, affect), trained.clamp(-1, 1)), "in use images end at -1 and 1"
    with torch.no_grad():
        adding.to_rgb.weight.zero_()
    assert torch.equal(adding(image, affect), image), "a generator that paints nothing returns its input"
    small, large = (count(StarGANGenerator(StarGANSettings(residual_blocks=n), 7)) for n in (1, 6))
    assert large - small == 5 * (2 * 9 * 256 * 256 + 4 * 256)
    assert small == pytest.approx(2.5e6, rel=0.02)


def test_the_layers_of_attgan_at_128_px():
    kinds = nn.Conv2d | nn.ConvTranspose2d
    layers = [module for module in AttGANGenerator(AttGANSettings(), 7).modules() if isinstance(module, kinds)]
    encoder = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    decoder = [(1024 + 7, 1024), (1024 + 512, 512), (512, 256), (256, 128), (128, 3)]
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == encoder + decoder


def test_the_losses_of_attgan_by_hand_and_its_way_back_is_the_source_itself():
    system, batch, losses = make_attgan(), NoisePairs().batch(0, 0), {}
    system.update = lambda network, loss, counted: losses.setdefault(network is system.generator, loss)
    parts = system.training_step(batch, 0)
    assert losses[False].item() == pytest.approx(
        (parts["d_fake"] - parts["d_real"] + parts["d_class"] + 10 * parts["d_penalty"]).item(), rel=1e-5
    )
    total = parts["adversarial"] + 10 * parts["class"] + 100 * parts["reconstruction"]
    assert losses[True].item() == pytest.approx(total.item(), rel=1e-5)
    own = system.generator(batch.source, torch.eye(4)[batch.source_affect])
    assert parts["reconstruction"].item() == pytest.approx((own - batch.source).abs().mean().item(), rel=1e-3)
    named = system.critic(batch.source)[1]
    assert parts["d_class"].item() == pytest.approx(cross_entropy(named, batch.source_affect).item(), rel=1e-5)


def test_attgan_tells_its_decoder_plus_and_minus_a_half():
    system, seen = make_attgan(affect_scale=2.0), []
    system.generator.decoder[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    system.generator(torch.zeros(1, 3, 32, 32), torch.tensor([[1.0, 0.0, 0.25, 0.5]]))
    assert seen[0][0, -4:, 0, 0].tolist() == [1.0, -1.0, -0.5, 0.0]


@pytest.mark.parametrize("make", [make_pix2pix, make_attgan])
def test_both_networks_learn(make, tmp_path):
    system = make()
    networks = {name: network for name, network in system.named_children() if name != "average"}
    before = {name: snapshot(network) for name, network in networks.items()}
    fit(system, 2, tmp_path)
    assert all(changed(network, before[name]) for name, network in networks.items())
