"""Landmark-and-label guided synthesis: the published tables, its ablations and options."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from fexgan_lit.expression import Expression
from fexgan_lit.systems.annotations import landmark_heatmaps
from fexgan_lit.systems.landmark_label.config import LandmarkLabelSettings
from fexgan_lit.systems.landmark_label.losses import (
    LandmarkLabelLossSettings,
)
from fexgan_lit.systems.landmark_label.networks import (
    Generator,
    MigrationBlock,
    label_maps,
)
from fexgan_lit.systems.landmark_label.system import LandmarkLabel
from fexgan_lit.systems.layers import PatchDiscriminator
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import count
from tests.systems.landmark_label import awake, make_system, tiny, wanted

# ---------------------------------------------------------------------- what the networks are told


def test_heatmaps_peak_at_the_pixel_of_their_landmark():
    size = 64
    columns, rows = torch.randint(size, (2, 3, 68), generator=torch.Generator().manual_seed(0))
    centres = torch.stack((columns, rows), dim=2)  # of pixels: pixel i spans i..i+1 of S
    maps = landmark_heatmaps((centres + 0.5) * 2 / size - 1, size, sigma=1.0)
    assert maps.shape == (3, 68, size, size)
    torch.testing.assert_close(maps.flatten(2).max(2).values, torch.ones(3, 68))
    assert torch.equal(maps.flatten(2).argmax(2), rows * size + columns)


def test_heatmaps_are_gaussians_of_the_given_width():
    middle = torch.full((1, 68, 2), 1 / 32)  # the centre of pixel 16 of 32
    heatmap = landmark_heatmaps(middle, 32, sigma=2.0)[0, 5]
    for dx, dy in ((0, 0), (2, 0), (-3, 1), (5, 4)):
        assert heatmap[16 + dy, 16 + dx].item() == pytest.approx(math.exp(-(dx**2 + dy**2) / 8), rel=1e-5)


def test_landmarks_cropped_away_leave_the_map_empty_or_cut():
    outside = torch.full((1, 68, 2), 3.0)
    assert landmark_heatmaps(outside, 32, sigma=0.5).max() == 0
    corner = torch.full((1, 68, 2), 1.0)  # the corner lies half a pixel from the last centre both ways
    assert landmark_heatmaps(corner, 32, sigma=1.0).amax().item() == pytest.approx(math.exp(-0.25))


def test_sigma_is_two_pixels_at_128_and_scales_with_the_image():
    assert [LandmarkLabelSettings(image_size=s).sigma for s in (128, 64, 512)] == [2.0, 1.0, 8.0]


@pytest.mark.parametrize("shape", [(2, 5, 2), (2, 468, 2), (2, 68, 3), (68, 2)])
def test_landmarks_of_another_count_are_refused(shape):
    with pytest.raises(UserError, match=r"expected \(batch, 68, 2\)"):
        landmark_heatmaps(torch.zeros(shape), 32, 1.0)


def test_label_maps_are_plus_one_and_minus_one_only():
    maps = label_maps(Expression.of_affects([2, 0], 8).affect, 32)
    assert maps.shape == (2, 8, 32, 32)
    assert set(maps.unique().tolist()) == {-1.0, 1.0}
    assert [row.tolist() for row in maps[:, :, 3, 7]] == [[-1, -1, 1, -1, -1, -1, -1, -1], [1] + [-1] * 7]
    assert torch.equal(maps, maps[:, :, :1, :1].expand_as(maps))


# ---------------------------------------------------------------------- networks


def test_parameter_counts_of_the_tables():
    def initialise(channels):
        return 49 * channels * 64 + 2 * 64 + 9 * 64 * 128 + 2 * 128 + 9 * 128 * 256 + 2 * 256

    image_path = 2 * (9 * 256 * 256 + 2 * 256)
    first_geometry = 9 * 256 * 256 + 2 * 256 + 9 * 256 * 256
    geometry = 9 * 512 * 512 + 2 * 512 + 9 * 512 * 256
    decoder = 9 * (256 + 7) * 128 + 2 * 128 + 9 * 128 * 64 + 2 * 64 + 49 * 64 * 3 + 3
    expected = initialise(3) + initialise(68) + 9 * image_path + first_geometry + 8 * geometry + decoder
    assert expected == 41_474_179
    assert count(Generator(LandmarkLabelSettings(), 7)) == expected

    def patches(channels):
        rest = 16 * 64 * 128 + 2 * 128 + 16 * 128 * 256 + 2 * 256 + 16 * 256 * 512 + 2 * 512 + 16 * 512 + 2
        return 16 * channels * 64 + 64 + rest

    assert count(PatchDiscriminator(3, last_norm=True)) == patches(6) == 2_768_706
    assert count(PatchDiscriminator(68, last_norm=True)) == patches(71) == 2_835_266


def test_shapes_of_the_tables_at_128_px():
    settings = LandmarkLabelSettings(width=0.06, blocks=1)
    shapes: list[tuple[int, ...]] = []
    generator, judge = Generator(settings, 7).eval(), PatchDiscriminator(68, 0.06, last_norm=True).eval()
    for layer in (*generator.geometry_stream, *generator.decoder.layers, *judge.layers):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
    with torch.no_grad():
        image = generator(torch.zeros(1, 3, 128, 128), torch.zeros(1, 68, 128, 128), torch.zeros(1, 7, 32, 32))
        judge(torch.zeros(1, 68, 128, 128), image)
    streams = [(4, 128, 128), (8, 64, 64), (15, 32, 32)]
    decoder = [(8, 64, 64), (4, 128, 128), (3, 128, 128)]
    patches = [(4, 64, 64), (8, 32, 32), (15, 16, 16), (31, 15, 15), (1, 14, 14)]
    assert shapes == [*streams, *decoder, *patches]


@pytest.mark.parametrize("size", [32, 64, 256, 512])
def test_shapes_at_every_image_size(size):
    system = make_system(image_size=size, width=0.02).eval()
    image = torch.rand(2, 3, size, size) * 2 - 1
    with torch.no_grad():
        made = system.synthesize(image, None, wanted())
        patches = system.image_discriminator(image, made)
    assert made.shape == image.shape
    assert made.abs().max() <= 1
    assert patches.shape == (2, 1, size // 8 - 2, size // 8 - 2)


def test_initial_weights():
    generator = Generator(LandmarkLabelSettings(width=0.5, blocks=2), 7)
    convolution = generator.blocks[1].geometry_path[1].weight
    assert convolution.std().item() == pytest.approx(0.02, rel=0.02)
    assert convolution.mean().abs().item() < 2e-4
    scales = torch.cat([m.weight.detach() for m in generator.modules() if isinstance(m, nn.BatchNorm2d)])
    assert scales.mean().item() == pytest.approx(1, abs=0.01)


def test_migration_block_has_the_layers_of_table_1():
    block = MigrationBlock(8, 16, 0.5)
    image = ["ReflectionPad2d", "Conv2d", "BatchNorm2d", "ReLU", "Dropout", "ReflectionPad2d", "Conv2d", "BatchNorm2d"]
    assert [type(layer).__name__ for layer in block.image_path] == image
    assert [type(layer).__name__ for layer in block.geometry_path] == image[:-1]
    assert block.image_path[4].p == 0.5
    assert [layer.out_channels for layer in block.geometry_path if isinstance(layer, nn.Conv2d)] == [16, 8]


def test_equations_1_to_3_by_hand():
    """With conv_P(x) = 3 x and conv_S(x) = x - 1 the block can be computed on paper."""

    class Affine(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.a, self.b = a, b

        def forward(self, x):
            return self.a * x + self.b

    block = MigrationBlock(1, 1, 0.0)
    block.image_path, block.geometry_path = Affine(3.0, 0.0), Affine(1.0, -1.0)
    face, geometry = torch.tensor([2.0, -4.0]), torch.tensor([1.0, 1.0 + math.log(3)])
    made, following = block(face.view(1, 1, 1, 2), geometry.view(1, 1, 1, 2))
    # masks 1/2 and 3/4: 1/2 * 6 + 2 = 5 and 3/4 * -12 - 4 = -13
    torch.testing.assert_close(made.flatten(), torch.tensor([5.0, -13.0]))
    torch.testing.assert_close(following.view(2, 2), torch.tensor([[0.0, math.log(3)], [5.0, -13.0]]))


def test_the_face_moves_with_landmarks_and_label():
    system = awake()
    source, target = torch.rand(2, 3, 32, 32) * 2 - 1, wanted()
    made = system.synthesize(source, None, target)
    assert torch.equal(made, system.synthesize(source, None, target))
    other = replace(target, landmarks=target.landmarks.flip(1))
    assert not torch.allclose(made, system.synthesize(source, None, other))
    other = replace(target, affect=target.affect.roll(1, 1))
    assert not torch.allclose(made, system.synthesize(source, None, other))


# ---------------------------------------------------------------------- ablations and options


def test_without_label_maps_the_affect_changes_nothing():
    system = awake(label_maps=False)
    assert system.generator.decoder.layers[0].in_channels == tiny().channels(256)
    source, target = torch.rand(2, 3, 32, 32), wanted()
    made = system.synthesize(source, None, replace(target, affect=target.affect.roll(1, 1)))
    assert torch.equal(made, system.synthesize(source, None, target))


def test_without_initialise_the_streams_are_linear_and_as_small():
    system = awake(initialise=False)
    stream = system.average.image_stream
    assert count(stream) == 3 * tiny().channels(256)
    x, y = torch.rand(2, 1, 3, 32, 32)
    assert stream(x).shape == (1, tiny().channels(256), 8, 8)
    torch.testing.assert_close(stream(x + 2 * y), stream(x) + 2 * stream(y))
    assert system.synthesize(torch.rand(2, 3, 32, 32), None, wanted()).shape == (2, 3, 32, 32)


def test_source_heatmaps_make_the_source_expression_matter():
    system = awake(source_heatmaps=True)
    source, target = torch.rand(2, 3, 32, 32), wanted()
    assert system.generator.geometry_stream[1].in_channels == 136
    own = [Expression(landmarks=target.landmarks * scale) for scale in (0.9, 0.5)]
    assert not torch.allclose(system.synthesize(source, own[0], target), system.synthesize(source, own[1], target))
    with pytest.raises(UserError, match="landmarks of the source"):
        system.synthesize(source, None, target)


def test_the_last_batch_norm_of_the_discriminators_can_be_dropped():
    printed, dropped = (PatchDiscriminator(3, 0.06, last_norm=on).layers for on in (True, False))
    assert isinstance(printed[-1], nn.BatchNorm2d)
    assert printed[-2].bias is None
    assert isinstance(dropped[-1], nn.Conv2d)
    assert dropped[-1].bias is not None


def test_real_and_generated_share_a_batch_so_that_the_last_batch_norm_keeps_them_apart():
    torch.manual_seed(0)
    judge = PatchDiscriminator(3, 0.06, last_norm=True)
    condition, real, fake = torch.zeros(4, 3, 32, 32), torch.ones(4, 3, 32, 32), -torch.ones(4, 3, 32, 32)
    noise = 0.1 * torch.randn_like(real)
    together = judge.on_both(condition, real + noise, fake + noise)
    apart = judge(condition, real + noise).mean() - judge(condition, fake + noise).mean()
    assert abs((together[0].mean() - together[1].mean()).item()) > 1
    assert abs(apart.item()) < 1e-4


@pytest.mark.parametrize(
    ("missing", "match"), [("landmarks", "landmark_label reads landmarks"), ("affect", "reads affects")]
)
def test_what_is_read_and_missing_is_named(missing, match):
    with pytest.raises(UserError, match=match):
        make_system().synthesize(torch.zeros(2, 3, 32, 32), None, replace(wanted(), **{missing: None}))
    assert LandmarkLabel.reads == {"affect", "landmarks"}


def test_every_unusable_value_is_named():
    model = LandmarkLabelSettings(
        image_size=100,
        width=0,
        blocks=0,
        dropout=1,
        heatmap_sigma=0,
        leaky_slope=1,
        perceptual="x",
        perceptual_layer="y",
    )
    assert len(model.problems()) == 8
    loss = LandmarkLabelLossSettings(adversarial=-1, perceptual=math.nan, pixel=-1, pixel_channels="x")
    assert len(loss.problems()) == 4
    for defaults in (LandmarkLabelSettings(), LandmarkLabelLossSettings()):
        assert defaults.problems() == []
