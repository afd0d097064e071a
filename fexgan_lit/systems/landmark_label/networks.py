"""Generator and discriminators, layer by layer as in Tables 1 to 3 of the paper, and their export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fexgan_lit.systems.annotations import LANDMARKS, landmark_heatmaps
from fexgan_lit.systems.export import Exported, Input, affect_input, face_input
from fexgan_lit.systems.landmark_label.config import LandmarkLabelSettings
from fexgan_lit.systems.layers import pix2pix_weights


def label_maps(affect: Tensor, size: int) -> Tensor:
    """Return the one-hot label, with -1 in place of 0, tiled to maps.

    Args:
        affect: (B, K) weights; one-hot weights give maps of +1 and -1, weights between 0 and 1 values in between.
        size: edge length of the maps.

    Returns:
        (B, K, size, size).
    """
    return (2 * affect - 1)[:, :, None, None].expand(-1, -1, size, size)  # (B, K) -> (B, K, s, s)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, act: bool = True) -> list[nn.Module]:
    """Return Conv without bias, BatchNorm and ReLU; reflection padding at stride 1, zero padding at stride 2."""
    pad = kernel // 2
    padding: list[nn.Module] = [nn.ReflectionPad2d(pad)] if stride == 1 else []
    layers: list[nn.Module] = [
        *padding,
        nn.Conv2d(inputs, outputs, kernel, stride, padding=0 if padding else pad, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*layers, nn.ReLU(inplace=True)] if act else layers


def initialise_network(inputs: int, settings: LandmarkLabelSettings) -> nn.Sequential:
    """Return the input network of a stream: (B, inputs, S, S) -> (B, 256, S/4, S/4).

    The paper does not give its layers; these three convolutions are those of pose-attention transfer. With
    `initialise=false` the input is average-pooled and mapped linearly to the channels that equation 2 adds to.
    """
    narrow, middle, wide = (settings.channels(c) for c in (64, 128, 256))
    if not settings.initialise:
        return nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(inputs, wide, 1, bias=False))
    return nn.Sequential(*conv(inputs, narrow, 7), *conv(narrow, middle, 3, 2), *conv(middle, wide, 3, 2))


class MigrationBlock(nn.Module):
    """Move the face towards the target landmarks inside a mask computed from them (equations 1 to 3, Table 1).

    Args:
        width: channels of the image features F^P.
        geometry: channels of the geometry features F^S: `width` in the first block, twice that in later blocks.
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
        """Map F^P (B, c, s, s), F^S (B, g, s, s) of block t-1 to F^P (B, c, s, s), F^S (B, 2c, s, s) of block t."""
        shape = self.geometry_path(geometry)
        mask = torch.sigmoid(shape)  # equation 1
        image = mask * self.image_path(image) + image  # equation 2
        return image, torch.cat((shape, image), dim=1)  # equation 3


class Decoder(nn.Module):
    """Decode the features of the last block and the label maps to an image (Table 2)."""

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
        """Map (B, 256 + K, S/4, S/4) to (B, 3, S, S) in [-1, 1]."""
        return self.layers(maps)


class Generator(nn.Module):
    """Map an image, target landmarks and a target affect to an image."""

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
        self.apply(pix2pix_weights)

    def forward(self, image: Tensor, heatmaps: Tensor, labels: Tensor | None) -> Tensor:
        """Generate the face of `image` with the target landmarks and affect.

        Args:
            image: (B, 3, S, S) in [-1, 1].
            heatmaps: (B, 68, S, S) in [0, 1]; with source heatmaps (B, 136, S, S), source before target.
            labels: (B, K, S/4, S/4) label maps, or None without `label_maps`.

        Returns:
            (B, 3, S, S) in [-1, 1].
        """
        face, geometry = self.image_stream(image), self.geometry_stream(heatmaps)  # (B, 256, S/4, S/4) each
        for block in self.blocks:
            face, geometry = block(face, geometry)
        if self.label_maps:
            if labels is None:
                raise ValueError("this generator reads an affect (model.label_maps), but none was given")
            face = torch.cat((face, labels.to(face.dtype)), dim=1)  # (B, 256 + K, S/4, S/4)
        return self.decoder(face)


class GeneratorPart(nn.Module):
    """The generator for export, with landmarks and affects as inputs."""

    def __init__(self, generator: Generator, settings: LandmarkLabelSettings) -> None:
        super().__init__()
        self.generator = generator
        self.size, self.sigma, self.inner = settings.image_size, settings.sigma, settings.inner_size

    def forward(
        self, image: Tensor, landmarks: Tensor, affect: Tensor | None = None, source_landmarks: Tensor | None = None
    ) -> Tensor:
        """Map `image` (B, 3, S, S), `landmarks` (B, 68, 2) and `affect` (B, K) to an image (B, 3, S, S)."""
        maps = landmark_heatmaps(landmarks, self.size, self.sigma)
        if source_landmarks is not None:
            maps = torch.cat((landmark_heatmaps(source_landmarks, self.size, self.sigma), maps), dim=1)
        return self.generator(image, maps, None if affect is None else label_maps(affect, self.inner))


class ImagePart(nn.Module):
    """The image discriminator for export."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        """Map `source` and `image`, both (B, 3, S, S), to logits (B, 1, p, p)."""
        return self.discriminator(source, image)


class GeometryPart(ImagePart):
    """The geometry discriminator for export."""

    def __init__(self, discriminator: nn.Module, settings: LandmarkLabelSettings) -> None:
        super().__init__(discriminator)
        self.size, self.sigma = settings.image_size, settings.sigma

    def forward(self, landmarks: Tensor, image: Tensor) -> Tensor:
        """Map `landmarks` (B, 68, 2) and `image` (B, 3, S, S) to logits (B, 1, p, p)."""
        return self.discriminator(landmark_heatmaps(landmarks, self.size, self.sigma), image)


def landmark_label_parts(
    generator: Generator, image_discriminator: nn.Module, geometry_discriminator: nn.Module,
    settings: LandmarkLabelSettings, affects: tuple[str, ...],
) -> dict[str, Exported]:  # fmt: skip
    """Return the generator and the two discriminators for export."""
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
