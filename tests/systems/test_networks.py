"""The networks are the published ones: sizes, shapes, and the official networks' own answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
from fexgan_lit.systems.fexgan.networks import Decoder, Discriminator, Encoder, Generator, Latent
from fexgan_lit.systems.fexgan.system import DualOptimizerSettings, FExGAN
from fexgan_lit.utils.errors import UserError


def settings(**changes) -> FExGANSettings:
    return FExGANSettings(**changes).resolve()


def stated_count(network: nn.Module) -> int:
    """Parameters and batch-norm statistics, as the papers' weight files hold them."""
    state = network.state_dict().items()
    return sum(value.numel() for name, value in state if not name.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    ("network", "count"), [(Encoder, 16_434_944), (Decoder, 19_464_707), (Discriminator, 2_233_864)]
)
def test_parameter_counts_of_the_published_weights(network, count):
    assert stated_count(network(settings(), 7)) == count


@pytest.mark.parametrize("size", [32, 64, 128, 256, 512])
def test_shapes_at_every_image_size(size):
    s = settings(image_size=size, width=0.05)
    generator, discriminator = Generator(s, 5).eval(), Discriminator(s, 5).eval()
    image, affect = torch.rand(2, 3, size, size) * 2 - 1, torch.eye(5)[:2]
    with torch.no_grad():
        made, latent = generator(image, affect, affect)
        realness, classes = discriminator(made)
    assert made.shape == image.shape
    assert made.abs().max() <= 1
    assert latent.mu.shape == latent.s.shape == (2, 128)
    assert realness.shape == (2,)
    assert classes.shape == (2, 5)


def test_intermediate_shapes_are_those_of_the_paper_at_128_px():
    shapes: list[tuple[int, ...]] = []

    def record(module, inputs, output):
        shapes.append(tuple(output.shape[1:]))

    s = settings()
    encoder, decoder, discriminator = Encoder(s, 7), Decoder(s, 7), Discriminator(s, 7)
    for network in (encoder, decoder, discriminator):
        network.eval()
        for block in network.blocks:
            block.register_forward_hook(record)
    with torch.no_grad():
        encoder(torch.zeros(1, 3, 128, 128), torch.zeros(1, 7))
        decoder(torch.zeros(1, 128), torch.zeros(1, 7))
        discriminator(torch.zeros(1, 3, 128, 128))
    down = [(128, 64, 64), (256, 32, 32), (512, 16, 16), (512, 8, 8), (512, 4, 4), (512, 2, 2), (128, 1, 1)]
    up = [(512, 2, 2), (512, 4, 4), (512, 8, 8), (512, 16, 16), (256, 32, 32), (128, 64, 64)]
    assert shapes == [*down, *up, (64, 64, 64), (128, 32, 32), (512, 16, 16)]


def test_dropout_sits_in_the_first_three_decoder_blocks_only():
    blocks = Decoder(settings(), 7).blocks
    has_dropout = [any(isinstance(layer, nn.Dropout) for layer in block) for block in blocks]
    assert has_dropout == [True, True, True, False, False, False]


def test_width_multiplies_the_channels():
    half = Encoder(settings(width=0.5), 7)
    assert [block[0].out_channels for block in half.blocks] == [64, 128, 256, 256, 256, 256, 128]


def test_initial_weights_follow_the_papers():
    torch.manual_seed(0)
    encoder = Encoder(settings(), 7)
    assert encoder.blocks[2][0].weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert encoder.blocks[2][0].weight.mean().abs().item() < 1e-4
    assert encoder.s.weight.abs().max() == 0
    bound = (6 / 256) ** 0.5  # Glorot uniform of 128 -> 128
    assert encoder.mu.weight.abs().max().item() == pytest.approx(bound, rel=0.01)


@pytest.mark.parametrize(
    ("preset", "name", "slopes"),
    [
        ("code", "fexgan", (nn.LeakyReLU, nn.ReLU, nn.LeakyReLU)),
        ("paper", "fexgan", (nn.ReLU, nn.LeakyReLU, nn.ReLU)),
        ("paper", "fexgan_meta", (nn.Identity, nn.ReLU, nn.LeakyReLU)),
    ],
)
def test_presets_choose_the_activations_of_their_source(preset, name, slopes):
    s = settings(preset=preset, name=name, image_size=32, width=0.05)
    found = [type(network(s, 7).blocks[1][-1]) for network in (Encoder, Decoder, Discriminator)]
    assert found == list(slopes)


def test_an_explicit_activation_beats_the_preset():
    assert settings(preset="paper", decoder_activation="relu").decoder_activation == "relu"


def test_the_paper_preset_reaches_lambda_and_the_losses():
    def resolved(**model):
        s = FExGANSettings(image_size=32, width=0.05, **model)
        system = FExGAN(s, FExGANLossSettings(), DualOptimizerSettings(), ["a", "b"])
        return s.lambda_mode, system.loss_weights.kl_reduction, system.loss_weights.l1_reduction

    assert resolved() == ("one", "mean", "mean")
    assert resolved(preset="paper") == ("normal", "sum", "sum")
    assert resolved(preset="paper", name="fexgan_meta") == ("normal", "mean", "sum")
    assert resolved(preset="paper", lambda_mode="one")[0] == "one"


def test_leaky_slope_is_that_of_keras():
    assert Encoder(settings(image_size=32, width=0.05), 7).blocks[0][-1].negative_slope == 0.3


@pytest.mark.parametrize(("sigma", "factor"), [("log_sigma", np.e**2), ("logvar_head", np.e)])
def test_the_second_head_is_read_as_stated(sigma, factor):
    generator = Generator(settings(image_size=32, width=0.05, sigma=sigma), 7)
    z = generator.draw(Latent(torch.zeros(20_000, 4), torch.full((20_000, 4), 2.0)))
    assert z.std().item() == pytest.approx(factor, rel=0.02)


def make_system(**model) -> FExGAN:
    torch.manual_seed(0)
    s = FExGANSettings(image_size=32, width=0.05, latent_size=8, **model)
    return FExGAN(s, FExGANLossSettings(), DualOptimizerSettings(), [f"a{k}" for k in range(4)]).eval()


def test_the_encoder_is_told_what_the_option_says():
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    answers = {}
    for label in ("target", "source", "none"):
        system = make_system(encoder_label=label)
        joy, fear = system.expression([0, 0, 0]), system.expression([1, 1, 1])
        same_target = [system._told(joy.affect, e.affect) for e in (joy, fear)]
        answers[label] = [None if t is None else t.argmax(1).tolist() for t in same_target]
        assert system.synthesize(x, joy, fear).shape == x.shape
    assert answers == {"target": [[0] * 3, [0] * 3], "source": [[0] * 3, [1] * 3], "none": [None, None]}


def test_meta_without_a_source_affect_says_so():
    system = make_system(encoder_label="source")
    with pytest.raises(UserError, match="affect of the source"):
        system.synthesize(torch.zeros(1, 3, 32, 32), None, system.expression([0]))


def test_parts_are_usable_apart():
    system = make_system()
    x, affect = torch.rand(2, 3, 32, 32), torch.eye(4)[:2]
    latent = system.encode(x, affect)
    by_parts = system.decode(latent.mu, affect)
    assert torch.equal(by_parts, system.synthesize(x, None, system.expression([0, 1])))
    assert system.classify(x).affect.shape == (2, 4)
    drawn = [
        system.sample(2, system.expression([0, 1]), generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    with pytest.raises(UserError, match="fitted prior"):
        system.sample(2, system.expression([0, 1]), prior="fitted")
