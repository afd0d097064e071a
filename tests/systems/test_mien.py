"""MIEN: it starts as a copy, moves pixels the right way, and its losses are those of the equations."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from fexgan_lit.expression import Expression
from fexgan_lit.systems.losses import charbonnier
from fexgan_lit.systems.mien.losses import (
    MienLossSettings,
    flow_at_landmarks,
    laplacian_difference,
    relativistic,
    smoothness,
    squared_gradient,
)
from fexgan_lit.systems.mien.networks import (
    FLOW_BOUNDS,
    Critic,
    Faces,
    Generator,
    MienSettings,
    lanczos_midpoint,
    warp,
    warp_sharply,
)
from fexgan_lit.systems.mien.system import Mien, MienOptimizerSettings
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import NoisePairs, changed, fit, snapshot


def make_system(loss=None, optimizer=None, **model) -> Mien:
    torch.manual_seed(0)
    settings = MienSettings(**{"image_size": 32, "width": 0.07, "blocks": 1} | model)
    optimizer = optimizer or MienOptimizerSettings(ema_half_life_images=0)
    return Mien(settings, loss or MienLossSettings(), optimizer, [f"a{k}" for k in range(4)])


def woken(generator: Generator) -> Generator:
    """The generator with weights in the layers that start at zero."""
    torch.manual_seed(1)
    for parameter in generator.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return generator


def asked(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    return torch.rand(batch, 17, generator=g), torch.rand(batch, 17, generator=g), torch.ones(batch, 1)


@pytest.mark.parametrize("switches", [{}, {"flow": False}, {"mask": False}, {"paint": False}, {"change": False}])
@pytest.mark.parametrize("size", [32, 64])
def test_an_untrained_generator_returns_its_source_bit_for_bit(switches, size):
    generator = Generator(MienSettings(image_size=size, width=0.07, blocks=1, **switches))
    source = torch.rand(2, 3, size, size) * 2 - 1
    made = generator(source, *asked())
    assert torch.equal(made.image, source)
    assert not made.flow.any()


def test_a_switch_leaves_its_part_out():
    source = torch.rand(2, 3, 32, 32) * 2 - 1
    still, bare, open_ = (
        woken(Generator(MienSettings(image_size=32, width=0.07, blocks=1, **off)))(source, *asked())
        for off in ({"flow": False}, {"paint": False}, {"mask": False})
    )
    assert not still.flow.any()
    assert torch.equal(still.moved, source)
    assert torch.equal(bare.image, bare.moved)
    assert bare.flow.any()
    assert torch.equal(open_.share, torch.ones(2, 1, 32, 32))
    assert MienSettings(flow=False, paint=False).problems() == [
        "model.flow=false and model.paint=false: nothing could change"
    ]


def test_in_use_images_end_at_minus_1_and_1_and_the_flow_at_its_bounds():
    generator = woken(Generator(MienSettings(image_size=64, width=0.07, blocks=1)))
    for layer in generator.flows:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, 100.0)
    made = generator(torch.rand(2, 3, 64, 64) * 2 - 1, torch.ones(2, 17), torch.zeros(2, 17), torch.ones(2, 1))
    torch.testing.assert_close(made.flow, torch.full_like(made.flow, sum(FLOW_BOUNDS[:2])))
    assert generator.eval()(torch.ones(2, 3, 64, 64), *asked()).image.abs().max() <= 1


def test_a_flow_says_where_a_pixel_comes_from():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 3, 5] = 1.0  # row 3, column 5
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 2 * 2 / 8  # two pixels to the right
    moved = warp(image, flow)
    assert moved[0, 0, 3, 3] == 1, "what lay two pixels to the right is here now"
    assert moved.sum() == 1
    assert torch.equal(warp(image, torch.zeros(1, 2, 8, 8)), image)


def test_pixels_move_exactly_and_between_pixels_without_blur():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    wave = torch.sin(0.6 * torch.pi * x + 0.3 * y)[None, None]  # 3.3 pixels a period
    flow = torch.zeros(1, 2, 32, 32)
    assert torch.equal(warp_sharply(wave, flow, lanczos_midpoint()), wave)
    flow[:, 0] = 2 / 16  # two pixels from the right
    assert torch.equal(warp_sharply(wave, flow, lanczos_midpoint())[..., :30], wave[..., 2:])
    for part in (0.25, 0.5, 0.8):
        flow[:, 0] = part / 16
        true = torch.sin(0.6 * torch.pi * (x + part) + 0.3 * y)[None, None]
        inside = (slice(None), slice(None), slice(6, 26), slice(6, 26))
        error = (warp_sharply(wave, flow, lanczos_midpoint()) - true)[inside].abs().max()
        bilinear = (warp(wave, flow) - true)[inside].abs().max()
        assert error < 0.08 < 0.25 < bilinear, part


def test_the_flow_at_landmarks_is_zero_for_the_true_motion_alone():
    source = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    target = source + torch.tensor([0.1, -0.05])
    flow = torch.tensor([-0.1, 0.05])[None, :, None, None].expand(2, -1, 16, 16)  # back from target to source
    assert flow_at_landmarks(flow, source, target).item() == pytest.approx(0, abs=1e-6)
    assert flow_at_landmarks(-flow, source, target).item() == pytest.approx(51.2, rel=1e-5)  # 6.4^2 + 3.2^2
    assert flow_at_landmarks(0 * flow, source, target).item() == pytest.approx(12.8, rel=1e-5)
    # points that have left the image say nothing
    gone = target.clone()
    gone[:, 1:] = 3.0
    assert flow_at_landmarks(-flow, source, gone).item() == pytest.approx(51.2, rel=1e-5)
    assert flow_at_landmarks(-flow, source, torch.full_like(target, 3.0)).item() == 0


def test_a_warp_along_the_flow_at_landmarks_brings_the_source_to_the_target():
    """The signs of both agree: a spot at the source's landmark lies at the target's afterwards."""
    source, target = torch.tensor([[[-0.25, 0.25]]]), torch.tensor([[[0.25, -0.25]]])
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 9:11, 5:7] = 1.0  # around (-0.25, 0.25): column 6, row 10 of 16
    flow = (source - target)[:, 0, :, None, None].expand(1, 2, 16, 16)
    assert flow_at_landmarks(flow, source, target).item() == pytest.approx(0, abs=1e-6)
    moved = warp(image, flow)
    assert torch.equal(moved[0, 0, 5:7, 9:11], torch.ones(2, 2))  # around (0.25, -0.25)
    assert moved.sum() == 4


def test_distances_by_hand():
    zero, one = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
    assert charbonnier(one, zero).item() == pytest.approx(math.sqrt(1 + 1e-6) - 1e-3)
    assert charbonnier(one, one).item() == 0
    # a constant difference has no detail: only the coarsest of three levels counts
    assert laplacian_difference(one, zero).item() == pytest.approx(1 / 3)
    checkered = torch.ones(16, 16)
    checkered[::2, ::2] = checkered[1::2, 1::2] = -1.0
    # a checkerboard is detail alone: its average is zero
    assert laplacian_difference(checkered.expand(2, 3, -1, -1), zero).item() == pytest.approx(1 / 3)
    slope = torch.arange(16.0).expand(1, 2, 16, 16) * 2 / 16  # one pixel more at every column
    assert smoothness(slope).item() == pytest.approx(1.0)
    high, low = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert relativistic(high, low).item() == pytest.approx(expected, rel=1e-6)
    image = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert squared_gradient(3 * image.flatten(1).sum(1), image).item() == pytest.approx(9 * 48)


def test_the_flow_is_linear_in_the_change_of_the_action_units():
    generator, source = woken(Generator(MienSettings(image_size=32, width=0.07, blocks=0))), torch.rand(2, 3, 32, 32)
    for block in generator.decoder:
        torch.nn.init.zeros_(block.film.linear.weight)  # the features depend on the source alone
    for layer in generator.flows:
        layer.weight.data *= 1e-3  # far from the bounds
    known, shown = torch.ones(2, 1), torch.full((2, 17), 0.3)
    smile, frown = torch.zeros(2, 17), torch.zeros(2, 17)
    smile[:, 8], frown[:, 2] = 0.4, 0.2

    def coarse(change):
        return generator._flow(0, torch.ones(2, generator.place.shape[1], 16, 16), change, torch.zeros(2, 2, 16, 16))

    assert not generator(source, shown, shown, known).flow.any()
    assert not generator(source, torch.zeros_like(shown), torch.zeros_like(shown), known).flow.any()
    one, other = coarse(smile), coarse(frown)
    assert one.abs().max() > 0
    torch.testing.assert_close(coarse(smile + frown), one + other, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(coarse(0.5 * smile), 0.5 * one, rtol=1e-3, atol=1e-7)


def test_action_units_that_are_not_known_are_read_in_the_source():
    generator, (wanted, shown, known) = woken(Generator(MienSettings(image_size=32, width=0.07, blocks=1))), asked()
    source = torch.rand(2, 3, 32, 32)
    told = generator(source, wanted, shown, known)
    assert not torch.equal(told.image, generator(source, wanted, shown + 0.2, known).image)
    hidden = generator(source, wanted, shown, 1 - known)
    assert torch.equal(hidden.image, generator(source, wanted, shown + 0.2, 1 - known).image)
    assert torch.equal(hidden.image, generator(source, wanted, hidden.read, known).image)
    assert torch.equal(told.read, hidden.read)


def test_critics_start_late_and_then_all_networks_learn(tmp_path):
    system = make_system(MienLossSettings(critics_from=0.5))
    critics = snapshot(system.critics)
    generator = snapshot(system.generator)
    look = []
    step = system.training_step
    system.training_step = lambda batch, batch_idx: look.append(step(batch, batch_idx)) or look[-1]
    fit(system, 4, tmp_path)
    assert ["adversarial" in losses for losses in look] == [False, False, True, True]
    assert all(losses["discriminator"] == 0 for losses in look[:2])
    assert {"d_whole", "d_eyes", "d_mouth", "d_units"} <= set(look[3])
    for part, critic in system.critics.items():
        before = {n.removeprefix(f"{part}."): v for n, v in critics.items() if n.startswith(f"{part}.")}
        assert changed(critic, before), part
    assert changed(system.generator, generator)


def test_the_weight_of_the_penalties_falls_geometrically_once_the_critics_have_started(tmp_path):
    system = make_system(MienLossSettings(critics_from=0.5, gamma=8.0, gamma_end=0.5))
    found = []
    for iteration in (0, 50, 75, 100):
        system.iteration, system._trainer = iteration, SimpleNamespace(max_steps=100)
        found.append((system.critics_started, system.gamma))
    assert found == [(False, 8.0), (True, 8.0), (True, pytest.approx(2.0)), (True, pytest.approx(0.5))]


@pytest.mark.parametrize(("share", "own"), [(0.0, 0), (1.0, 4)])
def test_a_part_of_the_pairs_is_to_return_the_source(share, own):
    system, batch = make_system(MienLossSettings(self_pairs=share)), NoisePairs().batch(0, 0)
    target, wanted, landmarks = system._targets(batch)
    assert torch.equal(target, torch.cat((batch.source[:own], batch.target[own:])))
    assert torch.equal(wanted, torch.cat((batch.source_aus[:own], batch.target_aus[own:])))
    assert torch.equal(landmarks, torch.cat((batch.source_landmarks[:own], batch.target_landmarks[own:])))


def test_the_critic_reads_real_images_alone_and_no_loss_reaches_another_network():
    system, batch = make_system(MienLossSettings(self_pairs=0.0)), NoisePairs().batch(0, 0)
    seen = {}
    system.backward_into = lambda network, loss: seen.setdefault(network, loss)
    system.step = lambda number, counted: None
    system.update_average = lambda images: None
    type(system).progress, kept = property(lambda self: 1.0), type(system).progress
    try:
        parts = system.training_step(batch, 0)
    finally:
        type(system).progress = kept
    read = system.critics(system.critics.views(batch.source, batch.target, {}), batch.target_aus)[1]
    expected = torch.nn.functional.mse_loss(read, batch.target_aus)
    assert parts["d_units"].item() == pytest.approx(expected.item(), rel=1e-5)
    weights = list(system.generator.parameters())
    assert torch.autograd.grad(seen[system.critics], weights, allow_unused=True) == tuple(None for _ in weights)
    w = system.loss_weights
    names = (
        "charbonnier", "pyramid", "smooth", "painted", "reader", "landmarks", "regions", "adversarial", "units",
        "local",
    )  # fmt: skip
    total = sum(getattr(w, name) * parts[name] for name in names)
    assert seen[system.generator].item() == pytest.approx(total.item(), rel=1e-5)


def test_a_few_iterations_learn_a_motion(tmp_path):
    """Faces are a bright square; action unit 1 (column 0) moves it to the right by a quarter of the image."""

    class Squares(NoisePairs):
        def batch(self, epoch, number):
            pairs = super().batch(epoch, number)
            pairs.source_aus, pairs.target_aus = (torch.zeros(self.size, 17) for _ in range(2))
            pairs.target_aus[::2, 0] = 1.0
            pairs.source = torch.full_like(pairs.source, -1.0)
            pairs.source[:, :, 12:20, 8:16] = 1.0
            pairs.target = pairs.source.clone()
            pairs.target[::2] = pairs.source[::2].roll(8, dims=3)
            pairs.source_landmarks = torch.tensor([-0.25, 0.0]).expand(self.size, 68, 2).clone()
            pairs.target_landmarks = pairs.source_landmarks.clone()
            pairs.target_landmarks[::2, :, 0] += 0.5
            return pairs

    loss = MienLossSettings(critics_from=1.0, self_pairs=0.0, unknown_source=0.0)
    system = make_system(loss, MienOptimizerSettings(lr=3e-3, beta1=0.9, ema_half_life_images=0), width=0.15)
    fit(system, 80, tmp_path, pairs=Squares())
    batch = Squares().batch(5, 0)
    made = system.eval().edit(batch.source, batch.source_expression(4), batch.target_expression(4))
    copied, error = ((image[::2] - batch.target[::2]).abs().mean().item() for image in (batch.source, made.image))
    assert error < 0.5 * copied
    at = made.flow[0, 0, 16, 20].item()  # inside the moved square
    assert at == pytest.approx(-0.5, abs=0.25), "it comes from a quarter of the image to the left"


def test_a_source_without_units_is_edited_and_a_target_without_them_refused():
    system, x = make_system().eval(), torch.rand(1, 3, 32, 32)
    woken(system.average)
    wanted = Expression(aus=torch.full((1, 17), 0.5))
    shown = Expression(aus=torch.full((1, 17), 0.1))
    assert not torch.equal(system.synthesize(x, None, wanted), system.synthesize(x, shown, wanted))
    with pytest.raises(UserError, match="mien reads action units"):
        system.synthesize(x, None, system.expression([0]))
    with pytest.raises(UserError, match=r"expected intensities in 0\.\.1"):
        system.synthesize(x, None, Expression(aus=torch.full((1, 17), 3.0)))


def test_every_part_of_a_face_comes_from_the_picture_in_which_it_moves_least(monkeypatch):
    system = make_system()

    def edit(source, shown, target):
        """The left half of bright pictures stays, and the right half of dark ones."""
        flow = torch.zeros(len(source), 2, 32, 32)
        for row, picture in enumerate(source):
            flow[row, :, :, slice(16, None) if picture.mean() > 0 else slice(0, 16)] = 0.5
        return Faces(source, flow, source, source[:, :1], torch.zeros(len(source), 17))

    monkeypatch.setattr(system, "edit", edit)
    source, other = torch.full((2, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), -0.5)
    made = system.synthesize_among(source, None, Expression(aus=torch.rand(2, 17)), other)
    assert made.shape == source.shape
    assert torch.allclose(made[..., :12], torch.tensor(0.5), atol=1e-3)
    assert torch.allclose(made[..., -12:], torch.tensor(-0.5), atol=1e-3)
    alone = system.synthesize_among(source, None, Expression(aus=torch.rand(2, 17)), other[:0])
    assert torch.equal(alone, source)


def test_a_larger_image_starts_from_the_inner_scales_of_a_smaller_one():
    small, large = make_system(image_size=64), make_system(image_size=128)
    with torch.no_grad():
        for number, value in enumerate(small.average.parameters()):
            value.fill_(number + 1)
    weights = large.weights_of(small)["generator"]
    own = large.generator.state_dict()
    fitting = {name for name, value in weights.items() if name in own and value.shape == own[name].shape}
    assert "encoder.0.first.weight" not in weights, "the outermost scale is new"
    assert torch.equal(weights["encoder.2.first.weight"], small.average.encoder[1].first.weight)
    assert torch.equal(weights["down.1.bias"], small.average.down[0].bias)
    assert torch.equal(weights["decoder.0.second.weight"], small.average.decoder[0].second.weight), "from the trunk out"
    assert {name.split(".")[0] for name in own.keys() - fitting} == {
        "stem", "encoder", "down", "flows", "up", "merge", "decoder", "paint", "mask"
    }  # fmt: skip
    assert {name for name in own.keys() - fitting if name.startswith(("encoder", "down"))} == {
        name for name in own if name.startswith(("encoder.0.", "down.0."))
    }


def test_scores_depend_on_the_units_that_are_asked_for():
    torch.manual_seed(0)
    critic, image = Critic(6, (32, 32), 0.07, 320, reads=True), torch.rand(2, 6, 32, 32)
    (first, read), (second, again) = critic(image, torch.zeros(2, 17)), critic(image, torch.ones(2, 17))
    assert first.shape == (2,)
    assert not torch.allclose(first, second)
    assert torch.equal(read, again), "what is read does not depend on what is asked"
