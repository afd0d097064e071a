"""LGP-GAN: boxes that never leave the image, exact pastes, its losses, and the ablation without local generators."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fexgan_lit.expression import Expression
from fexgan_lit.systems.annotations import REGIONS, Box
from fexgan_lit.systems.lgp_gan import (
    LGPGAN,
    Generator,
    LGPGANLossSettings,
    LGPGANSettings,
    attention_shares,
    feathered,
)
from fexgan_lit.systems.wgan import WassersteinOptimizerSettings
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import NoisePairs, changed, count, fit, snapshot


def make_system(loss=None, optimizer=None, **model) -> LGPGAN:
    torch.manual_seed(0)
    settings = LGPGANSettings(**{"image_size": 32, "width": 0.07, "residual_blocks": 1, "local_blocks": 1} | model)
    optimizer = optimizer or WassersteinOptimizerSettings(n_critic=1)
    return LGPGAN(settings, loss or LGPGANLossSettings(), optimizer, [f"a{k}" for k in range(4)])


def face(middle=(0.0, 0.0)) -> torch.Tensor:
    """(1, 68, 2) landmarks with eyes above and a mouth below `middle`."""
    points = torch.zeros(1, 68, 2)
    points[:, list(REGIONS["eyes"][0])] = torch.tensor([0.0, -0.3])
    points[:, list(REGIONS["mouth"][0])] = torch.tensor([0.0, 0.4])
    return points + torch.tensor(middle)


@pytest.mark.parametrize("x", [-1e9, -1.0, 0.0, 0.13, 1.0, 1e9, float("nan"), float("inf")])
@pytest.mark.parametrize("y", [-3.0, 0.2, 1.0])
def test_a_crop_never_leaves_the_image(x, y):
    box = Box.around(torch.tensor([[[x, y], [x, y]]]), 24, 48, 64)
    rows, columns = box.pixels[0] // 64, box.pixels[0] % 64
    assert rows[0, 0] >= 0
    assert rows[-1, 0] < 64
    assert torch.equal(rows, rows[:1, :1] + torch.arange(24)[:, None].expand(24, 48)), "whole and in order"
    assert torch.equal(columns, columns[:1, :1] + torch.arange(48).expand(24, 48))
    assert box.crop(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 24, 48)


def test_a_box_lies_around_the_middle_of_its_landmarks():
    # the middle of (-0.5, -0.25) and (0, 0.25) is (-0.25, 0): pixel 24 of 64 along x, 32 along y
    box = Box.around(torch.tensor([[[-0.5, -0.25], [0.0, 0.25]]]), 8, 16, 64)
    assert (box.pixels[0, 0, 0], box.pixels[0, -1, -1]) == (64 * 28 + 16, 64 * 35 + 31)
    image = torch.arange(64.0).repeat(64, 1)[None, None]  # every pixel holds its column
    assert torch.equal(box.crop(image)[0, 0, 0], torch.arange(16.0, 32.0))


def test_a_paste_of_weight_0_returns_the_source_bit_for_bit_and_of_weight_1_the_patch():
    torch.manual_seed(0)
    image, patch = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 8, 12)
    box = Box.around(torch.tensor([[[0.3, 0.1]], [[-0.9, 0.9]]]), 8, 12, 32)
    assert torch.equal(box.paste(image, patch, torch.zeros(8, 12)), image)
    pasted = box.paste(image, patch, torch.ones(8, 12))
    assert torch.equal(box.crop(pasted), patch)
    outside = pasted != image
    assert outside.sum() <= 2 * 3 * 8 * 12
    half = box.crop(box.paste(image, patch, torch.full((8, 12), 0.5)))
    torch.testing.assert_close(half, (patch + box.crop(image)) / 2)


def test_the_window_is_soft_at_its_border_and_1_inside():
    window = feathered(24, 32, 3)
    assert window.shape == (24, 32)
    assert torch.equal(window[3:-3, 3:-3], torch.ones(18, 26))
    # half a pixel from the border: (1 - cos(pi / 6)) / 2
    assert window[0, 10].item() == pytest.approx((1 - np.cos(np.pi / 6)) / 2, abs=1e-6)
    assert window[0, 0].item() == pytest.approx(window[0, 10].item() ** 2, abs=1e-6)
    assert torch.equal(window, window.flip(0, 1))


def test_parameters_by_hand():
    def masked(inputs, blocks):
        stem, heads = 49 * inputs * 64 + 2 * 64, 49 * 64 * 4
        down_up = 2 * (16 * 64 * 128 + 16 * 128 * 256) + 2 * (128 + 256 + 128 + 64)
        return stem + heads + down_up + blocks * (2 * 9 * 256 * 256 + 4 * 256)

    K = 8
    assert count(Generator(LGPGANSettings(), K)) == masked(6 + K, 6) + 2 * masked(3 + K, 4)
    # the global generator alone is GANimation's with labels in place of its 17 action units
    assert count(Generator(LGPGANSettings(local=False), K)) == masked(3 + K, 6) == 8_471_296 - (17 - K) * 49 * 64


def test_stage_two_sees_what_stage_one_painted_and_eyes_and_mouth_change_alone():
    system = make_system()
    source, affect = torch.rand(1, 3, 32, 32) * 2 - 1, torch.eye(4)[:1]
    made = system.generator(source, affect, face())
    inside = torch.zeros(1, 1, 32, 32)
    for box in made.boxes.values():
        inside = box.paste(inside, torch.ones_like(box.crop(inside)), torch.ones_like(box.crop(inside))[0, 0])
    assert torch.equal(made.canvas * (1 - inside), source * (1 - inside)), "outside the boxes the canvas is the source"
    assert not torch.allclose(made.canvas, source)
    shares = attention_shares(made)
    expected = made.attention[inside.bool()].mean()
    assert shares["attention_inside"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_losses_of_an_iteration_by_hand():
    loss = LGPGANLossSettings(lambda_local=0.5, pixel=10.0)
    system, losses = make_system(loss), {}
    system.update = lambda network, value, counted: losses.setdefault(network is system.generator, value)
    batch = NoisePairs().batch(0, 0)
    parts = system.training_step(batch, 0)
    levels = {"whole": 1.0, "eyes": 0.5, "mouth": 0.5}
    critic = sum(
        weight
        * (
            parts[f"{name}_d_fake"]
            - parts[f"{name}_d_real"]
            + parts[f"{name}_d_class"]
            + 10 * parts[f"{name}_d_penalty"]
        )
        for name, weight in levels.items()
    )
    assert losses[False].item() == pytest.approx(critic.item(), rel=1e-5)
    known = sum(
        weight * (parts[f"{name}_adversarial"] + parts[f"{name}_class"] + 10 * parts[f"{name}_cycle"])
        for name, weight in levels.items()
    ) + 10 * parts["pixel"]  # fmt: skip
    masks = losses[True] - known  # what is left: 0.1 of the mean attention, there and back, and 1e-5 of its variation
    assert 0 < masks.item() < 0.1 * 2 * 2 + 1e-5 * 4 * 2 * 2 * 2 * 32 * 32
    gradients = torch.autograd.grad(losses[False], list(system.generator.parameters()), allow_unused=True)
    assert gradients == tuple(None for _ in system.generator.parameters())


def test_generators_move_on_every_fifth_iteration_and_all_of_them(tmp_path):
    system = make_system(optimizer=WassersteinOptimizerSettings())
    parts = {"eyes": system.generator.local["eyes"], "mouth": system.generator.local["mouth"],
             "whole": system.generator.whole}  # fmt: skip
    before = {name: snapshot(part) for name, part in parts.items()}
    critics = snapshot(system.critic["mouth"])
    fit(system, 4, tmp_path)
    assert not any(changed(part, before[name]) for name, part in parts.items())
    assert changed(system.critic["mouth"], critics)
    fit(system, 5, tmp_path)
    assert all(changed(part, before[name]) for name, part in parts.items())


def test_without_local_generators_landmarks_are_not_needed(tmp_path):
    system = make_system(local=False)
    assert list(system.critic) == ["whole"]
    assert system.generator.whole.trunk[0][0].in_channels == 3 + 4
    fit(system, 2, tmp_path, pairs=NoisePairs(bare=True))
    system.synthesize(torch.zeros(1, 3, 32, 32), None, system.expression([0]))


def test_a_source_without_landmarks_has_those_of_the_mean_training_face():
    system, source = make_system().eval(), torch.rand(2, 3, 32, 32)
    wanted = system.expression([0, 1])
    with pytest.raises(UserError, match="landmarks of the source"):
        system.synthesize(source, None, wanted)
    points = torch.cat((face((0.1, 0.0)), face((-0.1, 0.2))))
    system.prepare(SimpleNamespace(landmarks=points.numpy()), lambda: None)
    mean = face((0.0, 0.1)).expand(2, -1, -1)
    told = system.synthesize(source, Expression(landmarks=mean), wanted)
    torch.testing.assert_close(system.synthesize(source, None, wanted), told)
    elsewhere = system.synthesize(source, Expression(landmarks=mean - 0.4), wanted)
    assert not torch.allclose(told, elsewhere), "its own landmarks count where they are known"
    # in the saved generator the mean face goes along
    assert torch.equal(system.saved_modules()["generator"].state_dict()["mean_landmarks"], mean[0])


def test_it_reads_affects_of_the_target_alone():
    system, batch = make_system().eval(), NoisePairs().batch(0, 0)
    shown, wanted = batch.source_expression(4), batch.target_expression(4)
    made = system.synthesize(batch.source, shown, wanted)
    assert torch.equal(made, system.synthesize(batch.source, shown, replace(wanted, landmarks=None, aus=None)))
