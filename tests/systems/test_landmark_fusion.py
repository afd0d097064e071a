"""The landmark-fusion cGAN: drawn lines that move with their landmarks, its fusion, drivers, sizes and losses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.data.reference import similar_rows_of_others
from fexgan_lit.expression import Expression
from fexgan_lit.systems.annotations import LINES, draw_landmarks
from fexgan_lit.systems.landmark_fusion import (
    NEAREST,
    Generator,
    LandmarkFusion,
    LandmarkFusionLossSettings,
    LandmarkFusionSettings,
    face_frame,
)
from fexgan_lit.systems.layers import PatchDiscriminator, UNet
from fexgan_lit.systems.optimizers import DualOptimizerSettings
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import NoisePairs, changed, count, fit, snapshot


def make_system(fusion="image", loss=None, **model) -> LandmarkFusion:
    torch.manual_seed(0)
    settings = LandmarkFusionSettings(**{"image_size": 32, "width": 0.1, "dropout": 0.0, "fusion": fusion} | model)
    return LandmarkFusion(
        settings, loss or LandmarkFusionLossSettings(), DualOptimizerSettings(), [f"a{k}" for k in range(4)]
    )


def outside() -> torch.Tensor:
    """(1, 68, 2) landmarks that all lie far outside the image, each line on a point."""
    return torch.full((1, 68, 2), -9.0)


# ---------------------------------------------------------------------- the drawing


def test_lines_cover_the_68_points_and_lids_and_lips_are_closed():
    assert [point for first, last, _ in LINES for point in range(first, last + 1)] == list(range(68))
    assert sum(last - first + closed for first, last, closed in LINES) == 63
    assert [first for first, _, closed in LINES if closed] == [36, 42, 48, 60]


def test_a_straight_line_has_the_height_of_its_distance_whatever_the_length_of_its_segments():
    points = outside()
    # the jaw on row 10 of 64, x from pixel 8 to 40 with segments of very unequal length
    x = torch.tensor([8, 9, 11, 12, 14, 15, 18, 20, 21, 24, 26, 28, 30, 33, 36, 38, 40.0])
    points[0, :17] = torch.stack(((x + 0.5) / 32 - 1, torch.full((17,), 10.5 / 32 - 1)), dim=1)
    image = draw_landmarks(points, 64)[0, 0]
    for row in (10, 11, 12):
        expected = 1 - math.exp(-math.exp(-0.5 * (row - 10) ** 2))
        torch.testing.assert_close(image[row, 14:34], torch.full((20,), expected), rtol=0.02, atol=0)
    assert image[10, 8].item() == pytest.approx(1 - math.exp(-0.5), rel=0.1), "a line ends at half its height"
    assert image[16:].max() < 1e-4
    # twice the size: the same picture of lines as wide in pixels, and as high
    assert draw_landmarks(points, 128)[0, 0, 20:22, 40].max().item() == pytest.approx(
        1 - math.exp(-math.exp(-1 / 8)), rel=0.02
    )


def test_the_drawing_moves_with_its_landmarks():
    points = outside()
    points[0, :17, 0] = torch.linspace(-0.5, 0.5, 17)
    points[0, :17, 1] = 0.1
    points.requires_grad_()
    image = draw_landmarks(points, 32)
    rows = torch.arange(32.0)[:, None]
    (gradient,) = torch.autograd.grad((image * rows).sum() / image.detach().sum(), points)
    # a line that goes down by d moves the middle of the ink down by 16 d: half of 32 pixels are a unit
    assert gradient[0, :17, 1].sum().item() == pytest.approx(16, rel=0.01)
    assert gradient[0, :17, 0].sum().abs().item() < 0.05, "to the side its rows stay"
    assert torch.equal(gradient[0, 17:], torch.zeros(51, 2))
    assert torch.isfinite(gradient).all(), "also where two points of a line are one"
    moved = draw_landmarks(points.detach() + torch.tensor([0.0, 2 / 32]), 32)
    torch.testing.assert_close(moved[0, 0, 1:], image.detach()[0, 0, :-1], atol=1e-5, rtol=0)


# ---------------------------------------------------------------------- sizes


def test_parameters_by_hand():
    down = [4, 64, 128, 256, 512, 512, 512, 512]
    encoder = sum(16 * a * b for a, b in itertools.pairwise(down)) + 2 * sum(down[2:7])
    up = [(512, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64)]
    decoder = sum(9 * a * b + 2 * b for a, b in up) + 9 * 128 * 3 + 3
    assert count(UNet(4, 128, 1.0, 0.5, nearest=True)) == encoder + decoder == 30_243_843

    widths = [1, 32, 64, 128, 256]
    convolutions = sum(16 * a * b + 2 * b for a, b in itertools.pairwise(widths))
    mapping = sum(9 * a * b + 2 * b for a, b in itertools.pairwise([512, 256, 128, 64, 32])) + 9 * 32 + 1
    head = 512 * 256 + 256 + 256 * 136 + 136
    image, vector = (Generator(LandmarkFusionSettings(fusion=fusion)) for fusion in ("image", "vector"))
    assert count(image.fusion) == 2 * convolutions + mapping + head == 3_113_449
    code = 136 * 256 + 256 + 256 * 128 + 128
    assert count(vector.fusion) == 2 * code + (128 + 128 + 136) * 256 + 256 + 256 * 136 + 136 == 271_496
    assert count(image) - count(image.fusion) == count(vector) - count(vector.fusion) == encoder + decoder

    patches = PatchDiscriminator(4, spectral=True)
    channels = [7, 64, 128, 256, 512, 1]
    assert count(patches) == sum(16 * a * b + b for a, b in itertools.pairwise(channels))
    assert patches(torch.zeros(1, 4, 128, 128), torch.zeros(1, 3, 128, 128)).shape == (1, 1, 14, 14)


def test_spectral_norm_holds_every_convolution_at_1_and_no_batch_norm_is_left():
    torch.manual_seed(0)
    patches = PatchDiscriminator(4, 0.1, spectral=True).train()
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in patches.modules())
    for _ in range(40):  # an iteration of the power method each
        patches(torch.rand(1, 4, 32, 32), torch.rand(1, 3, 32, 32))
    for layer in patches.layers:
        if isinstance(layer, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(1, rel=0.02)


# ---------------------------------------------------------------------- the fusion


@pytest.mark.parametrize("fusion", ["image", "vector"])
def test_an_untrained_fusion_keeps_the_landmarks_and_a_deviation_is_in_widths_of_the_face(fusion):
    system, batch = make_system(fusion).eval(), NoisePairs().batch(0, 0)
    own, driver = batch.source_landmarks, batch.target_landmarks
    made = system.generator(batch.source, own, driver)
    assert torch.equal(made.landmarks, own)
    torch.testing.assert_close(made.drawing, draw_landmarks(own, 32))
    assert (made.map is None) == (fusion == "vector")
    with torch.no_grad():
        system.generator.fusion.deviation[-1].bias[0] = 0.5  # point 0 by half a face to the right
    made = system.generator(batch.source, own, driver)
    width = (own[:, 16] - own[:, 0]).norm(dim=1)
    torch.testing.assert_close((made.landmarks - own)[:, 0, 0], 0.5 * width)


@pytest.mark.parametrize("fusion", ["image", "vector"])
def test_size_and_place_of_the_driver_do_not_matter_but_its_shape_does(fusion):
    system, batch = make_system(fusion).eval(), NoisePairs().batch(0, 0)
    with torch.no_grad():
        torch.nn.init.normal_(system.generator.fusion.deviation[-1].weight)
    own, driver = batch.source_landmarks, batch.target_landmarks
    made, pixels, other = (
        system.generator(batch.source, own, points).landmarks for points in (driver, 200 * driver + 40, driver.flip(0))
    )
    torch.testing.assert_close(pixels, made, atol=2e-3, rtol=1e-3)
    assert not torch.allclose(other, made, atol=1e-2)


def test_the_pixels_reach_the_fusion_through_the_coordinates_alone():
    system, batch = make_system().train(), NoisePairs().batch(0, 0)
    made = system.generator(batch.source, batch.source_landmarks, batch.target_landmarks)
    fusion, seen = system.generator.fusion, torch.autograd.grad
    (head,) = seen(made.image.square().mean(), fusion.deviation[-1].weight, retain_graph=True)
    assert head.abs().sum() > 0
    unused = seen(made.image.square().mean(), list(fusion.map.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in unused)


# ---------------------------------------------------------------------- drivers


def people(affect, identity, **known) -> FrameSet:
    """Frames without pixels."""
    known = {name: np.asarray(value, np.float32) for name, value in known.items()}
    affect, identity = np.array(affect), np.array(identity)
    return FrameSet(np.zeros((len(affect), 1, 1, 3), np.uint8), np.arange(len(affect)), affect, identity,
                    affects=("a0", "a1"), identities=("p",), **{"intensity": None} | known)  # fmt: skip


def test_a_driver_is_another_person_with_the_same_affect_and_the_nearest_expression():
    # rows 0-2: person 0, affect 0; rows 3-5: person 1, affect 0; row 6: person 1, affect 1, which nobody else shows
    frames = people([0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1, 1], intensity=[0.1, 0.5, 0.9, 0.2, 0.55, 1.0, 0.5])
    found = similar_rows_of_others(frames, 2)
    assert found.tolist() == [[3, 4], [4, 3], [5, 4], [0, 1], [1, 2], [2, 1], [6, 6]]
    # action units come before intensities
    units = np.zeros((7, 17))
    units[:, 3] = [0.1, 0.5, 0.9, 1.0, 0.6, 0.0, 0.5]
    assert similar_rows_of_others(people(frames.affect, frames.identity, aus=units), 1)[:3, 0].tolist() == [5, 4, 3]
    # fewer candidates than asked for come again
    assert similar_rows_of_others(frames, 5)[0].tolist() == [3, 4, 5, 3, 4]


def test_a_share_of_the_targets_drives_itself_and_the_others_are_driven_by_their_drivers():
    system, batch = make_system(loss=LandmarkFusionLossSettings(own_drivers=0.5)), NoisePairs(batch=64).batch(0, 0)
    assert torch.equal(system.drive(batch)[2], batch.target_landmarks), "nobody else is known"
    landmarks = torch.rand(8, 68, 2)
    system.prepare(people([0] * 8, range(8), landmarks=landmarks.numpy()), lambda: None)
    assert "8 of 8 targets are driven by other people, 50% of the time" in system.summary_lines()[0]
    batch.target_row = torch.arange(64) % 8
    source, target, driver = system.drive(batch)
    assert torch.equal(source, batch.source_landmarks)
    own = (driver == target).all((1, 2))
    assert 16 <= own.sum() <= 48
    for pair in torch.where(~own)[0].tolist():
        chosen = torch.where((driver[pair] == landmarks).all((1, 2)))[0]
        assert chosen.numel() == 1
        assert chosen != batch.target_row[pair]
    assert not set(system.state_dict()) & {"drivers", "driver_landmarks"}, "drivers are no weights"
    assert system.drivers.shape == (8, NEAREST)
    with pytest.raises(UserError, match="reads landmarks; the frames have none"):
        system.drive(NoisePairs(bare=True).batch(0, 0))


# ---------------------------------------------------------------------- training and use


@pytest.mark.parametrize("fusion", ["image", "vector"])
def test_the_losses_by_hand(fusion):
    weights = LandmarkFusionLossSettings(adversarial=0.5, lambda_pixel=20, lambda_points=30, lambda_map=4)
    system, batch, losses = make_system(fusion, weights), NoisePairs().batch(0, 0), {}
    system.backward_into = lambda network, loss, retain_graph=False: losses.setdefault(network, loss)
    system.step_together = lambda update, images: None
    parts = system.training_step(batch, 0)
    own, wanted = batch.source_landmarks, batch.target_landmarks
    made = system.generator(batch.source, own, wanted)  # noise has no drivers, so the target drives itself
    condition = torch.cat((batch.source, draw_landmarks(own, 32)), dim=1)
    on_real, on_fake = system.discriminator.eval().on_both(condition, batch.target, made.image)
    ones, zeros = torch.ones_like(on_real), torch.zeros_like(on_real)
    expected = (
        0.5 * binary_cross_entropy_with_logits(on_fake, ones)
        + 20 * (made.image - batch.target).abs().mean()
        + 30 * (own - wanted).abs().mean()
    )
    if fusion == "image":
        middle, width = face_frame(own)
        true = draw_landmarks(1.2 * (wanted - middle) / width, 64)
        expected = expected + 4 * binary_cross_entropy_with_logits(made.map, true)
    assert losses[system.generator].item() == pytest.approx(expected.item(), rel=1e-3)
    expected = binary_cross_entropy_with_logits(on_real, ones) + binary_cross_entropy_with_logits(on_fake, zeros)
    assert losses[system.discriminator].item() == pytest.approx(expected.item() / 2, rel=1e-3)
    assert set(parts) == {"generator", "discriminator", "adversarial", "pixel", "points"} | (
        {"map"} if fusion == "image" else set()
    )


class OneOpensTheMouth(NoisePairs):
    """Two people; affect 1 moves the mouth down. Rows 0 and 1 are the people at rest, 2 and 3 with open mouths."""

    faces = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(5)).sub(0.5).repeat(2, 1, 1)
    faces[2:, 48:] += torch.tensor([0.0, 0.3])

    def batch(self, epoch, number):
        pairs = super().batch(epoch, number)
        pairs.source_row = torch.arange(len(pairs)) % 2
        pairs.target_row = pairs.source_row + 2 * pairs.target_affect
        pairs.source_landmarks, pairs.target_landmarks = self.faces[pairs.source_row], self.faces[pairs.target_row]
        return pairs


def test_the_fusion_learns_the_expression_without_the_shape_of_the_driver(tmp_path):
    loss = LandmarkFusionLossSettings(adversarial=0.0, lambda_pixel=0.0, own_drivers=0.5)
    system, faces = make_system("vector", loss, width=0.05), OneOpensTheMouth.faces
    system.optimizer_settings.lr, system.optimizer_settings.ema_half_life_images = 3e-3, 0.0
    system.prepare(people([0, 0, 1, 1], [0, 1, 0, 1], landmarks=faces), lambda: None)
    fit(system, 60, tmp_path, pairs=OneOpensTheMouth(batch=16, affects=2))
    away = (faces[0] - faces[2]).abs().mean()
    for driver, wanted in ((3, 2), (1, 0)):  # the other person, with an open mouth and at rest
        made = system.fuse(
            torch.zeros(1, 3, 32, 32), Expression(landmarks=faces[:1]), Expression(landmarks=faces[driver][None])
        )
        assert (made.landmarks - faces[wanted]).abs().mean() < 0.25 * away


@pytest.mark.parametrize("fusion", ["image", "vector"])
def test_all_networks_learn_and_both_landmarks_count(fusion, tmp_path):
    system = make_system(fusion)
    parts = {"fusion": system.generator.fusion, "transfer": system.generator.transfer, "critic": system.discriminator}
    before = {name: snapshot(part) for name, part in parts.items()}
    fit(system, 2, tmp_path)
    assert all(changed(part, before[name]) for name, part in parts.items())
    batch = NoisePairs().batch(1, 0)
    shown, wanted = batch.source_expression(4), batch.target_expression(4)
    with pytest.raises(UserError, match="landmarks of the source"):
        system.synthesize(batch.source, None, wanted)
    made = system.synthesize(batch.source, shown, wanted)
    assert not torch.equal(made, system.synthesize(batch.source, wanted, wanted))
