"""MotionGAN and TextureGAN: shapes, labels, who learns from what, and what is refused."""

from __future__ import annotations

import pytest
import torch

from fexgan_lit.benchmarks.inputs import random_motions
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.judges.affect import JudgeNet
from fexgan_lit.systems.motion_texture.networks import (
    MotionCritic,
    MotionGenerator,
    MotionTextureSettings,
    Texture,
    Warp,
    label_code,
    landmark_map,
)
from fexgan_lit.systems.motion_texture.srvf import (
    exp_map,
    inner,
    karcher_mean,
    nearest,
    size,
    tangent,
)
from fexgan_lit.systems.motion_texture.system import MotionTexture
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import NoisePairs, changed, count, fit, snapshot

AFFECTS = ("joy", "fear", "anger", "neutral")


def make_system(motions=True, loss=None, **model) -> MotionTexture:
    torch.manual_seed(0)
    model = {"image_size": 32, "width": 0.07, "motion_width": 0.02, "dropout": 0.0, "steps": 8} | model
    optimizer = {"motion_batch": 6, "ema_half_life_images": 0}
    made = MotionTexture(model, {"identity": 0.0} | (loss or {}), optimizer, AFFECTS)
    if motions and made.average.motion is not None:
        made.set_motions(random_motions(9, 3, 8))
    return made


# ---------------------------------------------------------------------- networks


def test_motion_gan_has_the_layers_of_the_published_code():
    label = 3 * 6
    with torch.device("meta"):
        generator, critic = MotionGenerator(label, 30, 1.0), MotionCritic(label, 30, 1.0)
        v = generator(torch.empty(2, 128), torch.empty(2, label))
        assert v.shape == (2, 30, 136)
        assert critic(v, torch.empty(2, label)).shape == (2,)
    dense, maps = 1024 * 34 * 7, [(1024, 512), (512, 256), (256, 128), (128, 1)]
    assert count(generator) == (128 + 2 * label + 1) * dense + sum(9 * (a + label) * b for a, b in maps)
    convs, inner_size = [(1, 64), (64 + label, 32), (32 + label, 16)], (16 + label) * 17 * 4
    assert count(critic) == sum((25 * a + 1) * b for a, b in convs) + (inner_size + 1) * 1024 + 1024 + label + 1


def test_a_label_is_positive_for_the_true_affect_alone():
    magnitude = torch.rand(2, 4, 3) + 0.1
    code = label_code(torch.eye(4)[[2, 0]], magnitude).unflatten(1, (4, 3))
    assert torch.equal(code.abs(), magnitude)
    assert (code > 0).all(2).tolist() == [[False, False, True, False], [True, False, False, False]]
    assert (code < 0).all(2).sum() == 6


def test_the_critic_uses_the_statistics_of_the_batch_always():
    critic, label = MotionCritic(12, 30, 0.05), torch.zeros(4, 12)
    v = torch.randn(4, 30, 136)
    assert torch.equal(critic(v, label), critic.eval()(v, label))
    torch.testing.assert_close(critic(5 * v, label), critic(v, label), rtol=0.02, atol=0.02)


def test_a_map_has_a_peak_at_every_landmark():
    places = torch.tensor([[5, 9], [20, 30]])
    points = ((places + 0.5) * 2 / 32 - 1).repeat(34, 1)[None]  # all landmarks at two pixels
    found = landmark_map(points, 32, 1.0)
    assert found.shape == (1, 1, 32, 32)
    assert found.max() == 1
    assert (found[0, 0] == 1).nonzero().tolist() == [[9, 5], [30, 20]]


def test_a_mask_of_one_keeps_the_source():
    network = Texture(MotionTextureSettings(image_size=32, width=0.07, head="masked")).eval()
    image, points = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 68, 2)
    assert not torch.equal(network(image, points, points), image)
    network.network.to_rgb[1].bias.data[3] = 1e4
    assert torch.equal(network(image, points, points), image)


def test_a_warp_moves_pixels_with_their_landmarks():
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 30:34, 18:22] = 1
    g = torch.Generator().manual_seed(0)
    source = torch.rand(1, 68, 2, generator=g) - 0.5
    source[0, :9] = torch.cartesian_prod(torch.linspace(-0.45, -0.3, 3), torch.linspace(-0.1, 0.1, 3))
    torch.testing.assert_close(Warp()(image, source, source), image, atol=1e-3, rtol=0)
    moved = Warp()(image, source, source + torch.tensor([0.25, 0.0]))  # eight pixels to the right
    column = (moved[0, 0].sum(0) * torch.arange(64)).sum() / moved[0].sum() * 3
    assert column.item() == pytest.approx(27.5, abs=1)
    assert moved[0, 0, :, 0].abs().max() < 1e-3, "the border stays"
    # points that coincide, as of closed lips, are no trouble
    source[0, 60:] = source[0, 59]
    assert Warp()(image, source, source + 0.1).isfinite().all()


# ---------------------------------------------------------------------- training


@pytest.mark.parametrize("part", ["motion", "texture", "both"])
def test_each_part_is_trained_alone_or_with_the_other(part, tmp_path):
    system = make_system(part=part)
    networks = {f"{side}.{name}": getattr(getattr(system, side), name)
                for side in ("generator", "critics") for name in ("motion", "texture")}  # fmt: skip
    trained = {name for name in networks if part in ("both", name.partition(".")[2])}
    assert {name for name, network in networks.items() if network and count(network)} == trained
    before = {name: snapshot(networks[name]) for name in trained}
    fit(system, 3, tmp_path)
    assert system.trainer.global_step == 3
    assert all(changed(networks[name], before[name]) for name in trained)
    assert system.state_dict().keys() == make_system(part=part).state_dict().keys()


def test_each_part_has_its_own_learning_rate():
    system = make_system()
    system.optimizer_settings.lr_discriminator = 3e-4
    for adam, lr in zip(system.configure_optimizers(), (2e-4, 3e-4), strict=True):
        assert [group["lr"] for group in adam.param_groups] == [1e-4, lr]
        assert [group["betas"] for group in adam.param_groups] == [(0.5, 0.9), (0.5, 0.999)]


def test_a_step_of_the_generator_pulls_drawn_motions_to_real_ones_of_their_affect(tmp_path):
    """Without the critic, one small step must lower the distance of the same draws to the same real motions."""
    system = make_system(part="motion", loss={"motion_adversarial": 0.0, "tangent": 0.0})
    system.optimizer_settings.motion_critic_steps, batch = 1, NoisePairs().batch(0, 0)
    fit(system, 1, tmp_path)

    def distance():
        system.seed_iteration()
        return system._train_motion(batch)["geodesic"].item()

    system.step = lambda *_, **__: None
    first = distance()
    with torch.no_grad():
        for weight in system.generator.motion.parameters():
            weight -= 1e-3 * weight.grad
    assert distance() < first - 1e-4


def test_the_identity_loss_compares_the_result_with_the_source(tmp_path):
    system = make_system(part="texture", loss={"identity": 3.0})
    with pytest.raises(UserError, match=r"the identity loss has no network.*metrics\.judge=true or loss\.identity=0"):
        fit(system, 1, tmp_path)
    judge = FakeJudge()
    system.prepare(None, lambda: judge)
    assert system.judge is judge
    batch = NoisePairs().batch(0, 0)
    system.generator.texture = Copy()
    system.backward_into = lambda *_, **__: None
    system.step = lambda *_, **__: None
    assert system._train_texture(batch)["identity"].item() == pytest.approx(0, abs=1e-6), "the source has its own face"


class FakeJudge:
    """A judge that was never trained."""

    def __init__(self):
        torch.manual_seed(0)
        self.net = JudgeNet(4, 5, 32).freeze()

    def to(self, device):
        return self

    def describe(self):
        return "a fake"


class Copy(torch.nn.Module):
    def forward(self, image, source, landmarks):
        return image.clone().requires_grad_()


def test_frames_without_takes_train_texture_alone(tmp_path):
    with pytest.raises(UserError, match=r"MotionGAN has no motions.*model\.part=texture"):
        fit(make_system(motions=False), 1, tmp_path)
    fit(make_system(motions=False, part="texture"), 1, tmp_path)
    system = make_system(motions=False)
    assert "not set yet" in " ".join(system.summary_lines())
    skipped = random_motions(6, 2, 8)._replace(left_out={"have a single frame": ["nora/joy", "jun/joy"]})
    system.set_motions(skipped)
    assert "motions: 6 clips (joy 3, fear 3); left out: 2 have a single frame" in system.summary_lines()


# ---------------------------------------------------------------------- use


def test_drawn_motions_lie_on_the_sphere_and_have_lengths_of_their_affect():
    system, real = make_system(), random_motions(9, 3, 8)
    affect = torch.arange(3).repeat(20)
    q, length = system.draw_motions(affect, torch.Generator().manual_seed(1))
    torch.testing.assert_close(inner(q, q).flatten(), torch.ones(60), atol=1e-5, rtol=0)
    for k in range(3):
        own = real.length[real.affect == k]
        assert own.min() <= length[affect == k].min() < length[affect == k].max() <= own.max()
    again, _ = system.draw_motions(affect, torch.Generator().manual_seed(1))
    assert torch.equal(q, again)
    other, _ = system.draw_motions(affect, torch.Generator().manual_seed(2))
    assert not torch.equal(q, other)
    mean = karcher_mean(real.q)
    torch.testing.assert_close(system.average.mean, mean)
    distance, _ = nearest(exp_map(mean, 0.1 * tangent(mean, q) / size(tangent(mean, q))), mean[None])
    assert distance.tolist() == pytest.approx([0.1] * 60, abs=1e-4)
    sample = make_system(motions=False, reference="sample")
    sample.set_motions(real)
    assert torch.equal(sample.generator.mean, real.q[0])


def test_an_affect_without_training_motions_is_refused():
    system = make_system()
    assert system.moving_affects == ("joy", "fear", "anger")
    with pytest.raises(UserError, match="saw no motion of neutral in training; it knows joy, fear, anger"):
        system.draw_motions(torch.tensor([0, 3]))
    with pytest.raises(UserError, match=r"has no MotionGAN \(model\.part=texture\).*mode=animate"):
        make_system(part="texture").draw_motions(torch.tensor([0]))
    with pytest.raises(UserError, match="it knows none"):
        make_system(motions=False).draw_motions(torch.tensor([0]))


def test_sources_without_landmarks_are_refused():
    system, image = make_system().eval(), torch.rand(1, 3, 32, 32)
    target = Expression(landmarks=torch.rand(1, 68, 2))
    for source in (None, Expression()):
        with pytest.raises(UserError, match=r"moves the landmarks of the source, which are not known.*annotations=CSV"):
            system.synthesize(image, source, target)


def test_without_texture_gan_the_source_is_warped():
    system = make_system(part="motion").eval()
    batch = NoisePairs().batch(0, 0)
    shown = batch.source_expression(4)
    torch.testing.assert_close(system.synthesize(batch.source, shown, shown), batch.source, atol=0.05, rtol=0)
    assert not system.validation_step(batch).calibrated
