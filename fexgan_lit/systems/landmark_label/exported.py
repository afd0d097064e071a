"""The landmark-and-label system's networks for other programs; heatmaps and label maps are made inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fexgan_lit.systems.exported import Exported, Input, affect_input, face_input
from fexgan_lit.systems.landmark_label.conditions import LANDMARKS, label_maps, landmark_heatmaps
from fexgan_lit.systems.landmark_label.networks import Generator
from fexgan_lit.systems.landmark_label.settings import LandmarkLabelSettings


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
