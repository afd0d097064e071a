"""Generator and discriminators, layer by layer as in Tables 1 to 3 of the paper, and their export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fexgan_lit.systems.export import Exported, Input, affect_input, face_input
from fexgan_lit.systems.landmark_label.conditions import LANDMARKS, label_maps, landmark_heatmaps
from fexgan_lit.systems.landmark_label.config import LandmarkLabelSettings
from fexgan_lit.systems.layers import init_normal


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, act: bool = True) -> list[nn.Module]:
    """ReflectPad to keep the size (zero padding where the stride halves it), Conv without bias, BatchNorm, ReLU."""
    pad = kernel // 2
    padding: list[nn.Module] = [nn.ReflectionPad2d(pad)] if stride == 1 else []
    layers: list[nn.Module] = [
        *padding,
        nn.Conv2d(inputs, outputs, kernel, stride, padding=0 if padding else pad, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*layers, nn.ReLU(inplace=True)] if act else layers


def initialise_network(inputs: int, settings: LandmarkLabelSettings) -> nn.Sequential:
    """A stream's way into the migration blocks: (B, inputs, S, S) -> (B, 256, S/4, S/4).

    The paper does not give its layers; these are the three of pose-attention transfer. Without an initialise network
    the stream is averaged down and mixed linearly to the channels that equation 2 adds to.
    """
    narrow, middle, wide = (settings.channels(c) for c in (64, 128, 256))
    if not settings.initialise:
        return nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(inputs, wide, 1, bias=False))
    return nn.Sequential(*conv(inputs, narrow, 7), *conv(narrow, middle, 3, 2), *conv(middle, wide, 3, 2))


class MigrationBlock(nn.Module):
    """Moves the face towards the wanted landmarks, where a mask drawn from them says so (equations 1 to 3, Table 1).

    Args:
        width: channels of the face's maps F^P.
        geometry: channels of the geometry's maps F^S it is given: `width` in the first block, twice that later.
        dropout: rate of layers 1_5 and 2_5.
    """

    def __init__(self, width: int, geometry: int, dropout: float) -> None:
        super().__init__()
        self.image_path = nn.Sequential(*conv(width, width, 3), nn.Dropout(dropout), *conv(width, width, 3, act=False))
        # layers 2_1 to 2_7: no BatchNorm after the second convolution
        self.geometry_path = nn.Sequential(
            *conv(geometry, geometry, 3), nn.Dropout(dropout), *conv(geometry, width, 3, act=False)[:-1]
        )

    def forward(self, image: Tensor, geometry: Tensor) -> tuple[Tensor, Tensor]:
        """F^P (B, c, s, s) and F^S (B, g, s, s) of block t-1 -> F^P (B, c, s, s) and F^S (B, 2c, s, s) of block t."""
        shape = self.geometry_path(geometry)
        mask = torch.sigmoid(shape)  # equation 1
        image = mask * self.image_path(image) + image  # equation 2
        return image, torch.cat((shape, image), dim=1)  # equation 3


class Decoder(nn.Module):
    """Maps of the last block and label maps -> face (Table 2)."""

    def __init__(self, settings: LandmarkLabelSettings, labels: int) -> None:
        super().__init__()
        narrow, middle, wide = (settings.channels(c) for c in (64, 128, 256))
        layers: list[nn.Module] = []
        for inputs, outputs in ((wide + labels, middle), (middle, narrow)):
            # without the output padding 32 would become 63, not 64
            up = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)
            layers += [up, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(narrow, 3, 7), nn.Tanh())

    def forward(self, maps: Tensor) -> Tensor:
        """(B, 256 + K, S/4, S/4) -> (B, 3, S, S) in [-1, 1]."""
        return self.layers(maps)


class Generator(nn.Module):
    """Face, wanted landmarks and wanted affect -> face."""

    def __init__(self, settings: LandmarkLabelSettings, affects: int) -> None:
        super().__init__()
        wide, heatmaps = settings.channels(256), LANDMARKS * (2 if settings.source_heatmaps else 1)
        self.label_maps = settings.label_maps
        self.image_stream = initialise_network(3, settings)
        self.geometry_stream = initialise_network(heatmaps, settings)
        self.blocks = nn.ModuleList(
            MigrationBlock(wide, wide if t == 0 else 2 * wide, settings.dropout) for t in range(settings.blocks)
        )
        self.decoder = Decoder(settings, affects if settings.label_maps else 0)
        self.apply(initial_weights)

    def forward(self, image: Tensor, heatmaps: Tensor, labels: Tensor | None) -> Tensor:
        """Paint the face `image` with the wanted landmarks and affect.

        Args:
            image: (B, 3, S, S) in [-1, 1].
            heatmaps: (B, 68, S, S) in [0, 1], 136 with the source's before the target's.
            labels: (B, K, S/4, S/4) label maps; unused without them.

        Returns:
            (B, 3, S, S) in [-1, 1].
        """
        face, geometry = self.image_stream(image), self.geometry_stream(heatmaps)  # (B, 256, S/4, S/4) each
        for block in self.blocks:
            face, geometry = block(face, geometry)
        if self.label_maps:
            if labels is None:
                raise ValueError("this generator is told an affect (model.label_maps), but none was given")
            face = torch.cat((face, labels.to(face.dtype)), dim=1)  # (B, 256 + K, S/4, S/4)
        return self.decoder(face)


class PatchDiscriminator(nn.Module):
    """Real or generated, for overlapping patches of an image seen beside a condition (Table 3, without the sigmoid).

    Args:
        condition: channels of the condition: 3 for the source face, 68 for the target's landmarks.
        settings: of the networks.
    """

    def __init__(self, condition: int, settings: LandmarkLabelSettings) -> None:
        super().__init__()
        widths = [settings.channels(c) for c in (64, 128, 256, 512)]
        layers: list[nn.Module] = []
        for n, (inputs, outputs) in enumerate(zip([condition + 3, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=1 if n == 3 else 2, padding=1, bias=n == 0))
            layers += [nn.BatchNorm2d(outputs)] if n else []
            layers.append(nn.LeakyReLU(settings.leaky_slope, inplace=True))
        norm = settings.batch_norm_before_sigmoid
        layers.append(nn.Conv2d(widths[-1], 1, 4, padding=1, bias=not norm))
        self.layers = nn.Sequential(*layers, *([nn.BatchNorm2d(1)] if norm else []))
        self.apply(initial_weights)

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """`condition` (B, c, S, S) and `image` (B, 3, S, S) -> logits (B, 1, S/8 - 2, S/8 - 2), 14x14 at 128 px."""
        return self.layers(torch.cat((condition, image), dim=1))  # (B, c + 3, S, S)

    def on_both(self, condition: Tensor, real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the real and of the generated images beside the same condition, from one batch of both.

        Apart, the last BatchNorm would give either batch the same mean, and the two could not be told from each other.
        """
        logits = self(torch.cat((condition, condition)), torch.cat((real, generated)))  # (2B, 1, p, p)
        on_real, on_fake = logits.chunk(2)
        return on_real, on_fake


def initial_weights(module: nn.Module) -> None:
    """Convolutions from N(0, 0.02), BatchNorm scales from N(1, 0.02), every bias zero."""
    init_normal(module)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class GeneratorPart(nn.Module):
    """Face, points and affects -> face."""

    def __init__(self, generator: Generator, settings: LandmarkLabelSettings) -> None:
        super().__init__()
        self.generator = generator
        self.size, self.sigma, self.inner = settings.image_size, settings.sigma, settings.inner_size

    def forward(
        self, image: Tensor, landmarks: Tensor, affect: Tensor | None = None, source_landmarks: Tensor | None = None
    ) -> Tensor:
        """`image` (B, 3, S, S), points (B, 68, 2), `affect` (B, K) -> (B, 3, S, S)."""
        maps = landmark_heatmaps(landmarks, self.size, self.sigma)
        if source_landmarks is not None:
            maps = torch.cat((landmark_heatmaps(source_landmarks, self.size, self.sigma), maps), dim=1)
        return self.generator(image, maps, None if affect is None else label_maps(affect, self.inner))


class ImagePart(nn.Module):
    """The image discriminator's patches."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        """Both (B, 3, S, S) -> (B, 1, p, p)."""
        return self.discriminator(source, image)


class GeometryPart(ImagePart):
    """The geometry discriminator's patches."""

    def __init__(self, discriminator: nn.Module, settings: LandmarkLabelSettings) -> None:
        super().__init__(discriminator)
        self.size, self.sigma = settings.image_size, settings.sigma

    def forward(self, landmarks: Tensor, image: Tensor) -> Tensor:
        """Points (B, 68, 2) and `image` (B, 3, S, S) -> (B, 1, p, p)."""
        return self.discriminator(landmark_heatmaps(landmarks, self.size, self.sigma), image)


def landmark_label_parts(
    generator: Generator, image_discriminator: nn.Module, geometry_discriminator: nn.Module,
    settings: LandmarkLabelSettings, affects: tuple[str, ...],
) -> dict[str, Exported]:  # fmt: skip
    """The whole generator and the two discriminators."""
    face, source = face_input(settings.image_size), face_input(settings.image_size, "the given face")
    points = Input((LANDMARKS, 2), "wanted points in dlib's order, x then y, -1..1 from edge to edge", -1.0, 1.0)
    inputs = {"image": source, "landmarks": points}
    if settings.label_maps:
        inputs["affect"] = affect_input(affects)
    if settings.source_heatmaps:
        inputs["source_landmarks"] = points._replace(meaning="points of the given face, likewise")
    said = {"realness": "logits of overlapping patches"}
    geometry = GeometryPart(geometry_discriminator, settings)
    return {
        "generator": Exported(GeneratorPart(generator, settings), inputs, {"face": "face, RGB in [-1, 1]"}),
        "image_discriminator": Exported(ImagePart(image_discriminator), {"source": source, "image": face}, said),
        "geometry_discriminator": Exported(geometry, {"landmarks": points, "image": face}, said),
    }
