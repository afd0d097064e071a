"""Landmark-fusion cGAN (Fan, Jiang, Lan and Lan 2023): one face with the expression of another person.

The paper calls the person whose expression is taken *source* and the face that changes *target*. Here, as in every
system, the face that changes is the source; the other person is the *driver*, whose landmarks are the target
expression.

The paper states the fusion of both persons' landmark images by an autoencoder, a deviation that is added to the
landmarks of the face, a U-Net with DCGAN's changes, and a patch discriminator with spectral norm. It does not state
layers, sizes, losses or schedule: those are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.data.reference import similar_rows_of_others
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.annotations import draw_landmarks
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Exported, Input, face_input
from fexgan_lit.systems.gan import PatchGAN, frozen_copy
from fexgan_lit.systems.layers import WIDTH, PatchDiscriminator, UNet, scaled
from fexgan_lit.systems.losses import absolute_difference, binary_cross_entropy
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judges.affect import Judge

#: Edge length in pixels of the landmark images that the fusion reads.
FUSION_SIZE = 64
#: Width of a face from ear to ear in those images, whose own width is 2.
FUSION_FACE = 1.2
#: Number of frames of other people from which the driver of a training frame is drawn.
NEAREST = 8


@dataclass
class LandmarkFusionSettings(Options):
    """Network options.

    Attributes:
        name: name of the system.
        image_size: edge length of the square images in pixels, a power of two from 32 to 512.
        width: factor on the channel counts of the convolutions.
        fusion: whether the fusion reads landmarks as an `image` (the abstract) or as a `vector`.
        dropout: dropout rate of the three innermost blocks of the U-Net's decoder, in training alone.
    """

    section = "model"

    name: str = "landmark_fusion"
    image_size: int = option(128, choices=IMAGE_SIZES)
    width: float = option(1.0, **WIDTH)
    fusion: str = option("image", choices=("image", "vector"))
    dropout: float = option(0.5, at_least=0, below=1)


@dataclass
class LandmarkFusionLossSettings(Options):
    """Weights of the losses.

    Attributes:
        adversarial: of the generator's cross-entropy.
        lambda_pixel: of the mean L1 distance to the true target.
        lambda_points: of the mean L1 distance of the fused landmarks to those of the true target, in [-1, 1].
        lambda_map: of the cross-entropy of the map that the image fusion decodes.
        own_drivers: share of the training pairs that the target itself drives, not another person.
    """

    section = "loss"

    adversarial: float = option(1.0, at_least=0)
    lambda_pixel: float = option(100.0, at_least=0)
    lambda_points: float = option(100.0, at_least=0)
    lambda_map: float = option(1.0, at_least=0)
    own_drivers: float = option(0.25, at_least=0, at_most=1)


def face_frame(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Return middle (B, 1, 2) and width (B, 1, 1), the distance between the ends of the jaw, of faces (B, 68, 2)."""
    points = landmarks.float()
    width = (points[:, 16] - points[:, 0]).norm(dim=1).clamp(min=1e-3)
    return points.mean(1, keepdim=True), width[:, None, None]


class VectorFusion(nn.Module):
    """Map the landmarks of driver and face to a deviation: 136-256-128 each, together with the face's 136-256-136."""

    def __init__(self) -> None:
        super().__init__()
        self.driver, self.own = (
            nn.Sequential(nn.Linear(136, 256), nn.ReLU(), nn.Linear(256, 128)) for _ in range(2)
        )  # fmt: skip
        self.deviation = nn.Sequential(nn.Linear(128 + 128 + 136, 256), nn.ReLU(), nn.Linear(256, 136))

    def forward(self, driver: Tensor, own: Tensor) -> tuple[Tensor, None]:
        """Map normalised landmarks (B, 68, 2) of driver and face to (B, 68, 2) in widths of the face."""
        driver, own = driver.flatten(1), own.flatten(1)  # (B, 136)
        codes = torch.cat((self.driver(driver), self.own(own), own), dim=1)  # (B, 392)
        return self.deviation(codes).unflatten(1, (68, 2)), None


class ImageFusion(nn.Module):
    """Map landmark images of driver and face to a deviation and a landmark image of the result.

    Two encoders of 32-64-128-256 channels reduce the images from 64 to 4 pixels; a decoder of 256-128-64-32 channels
    returns to 64.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        widths = [scaled(count, width) for count in (32, 64, 128, 256)]

        def block(layer: nn.Conv2d, act: nn.Module) -> list[nn.Module]:
            return [layer, nn.BatchNorm2d(layer.out_channels), act]

        def encoder() -> nn.Sequential:
            pairs = zip([1, *widths], widths, strict=False)
            blocks = [block(nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)) for a, b in pairs]
            return nn.Sequential(*(layer for layers in blocks for layer in layers))

        self.driver, self.own = encoder(), encoder()
        pairs = zip([2 * widths[-1], *widths[:0:-1]], widths[::-1], strict=True)
        blocks = [
            [nn.Upsample(scale_factor=2), *block(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.ReLU())]
            for a, b in pairs
        ]  # fmt: skip
        self.map = nn.Sequential(
            *(layer for layers in blocks for layer in layers), nn.Conv2d(widths[0], 1, 3, padding=1)
        )
        self.deviation = nn.Sequential(nn.Linear(2 * widths[-1], 256), nn.ReLU(), nn.Linear(256, 136))

    def forward(self, driver: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised landmarks (B, 68, 2) to a deviation (B, 68, 2) and logits of an image (B, 1, 64, 64)."""
        images = (draw_landmarks(FUSION_FACE * points, FUSION_SIZE) for points in (driver, own))
        codes = torch.cat([net(image) for net, image in zip((self.driver, self.own), images, strict=True)], dim=1)
        return self.deviation(codes.mean((2, 3))).unflatten(1, (68, 2)), self.map(codes)  # codes: (B, 512, 4, 4)


class Fused(NamedTuple):
    """Output of the generator.

    Attributes:
        image: (B, 3, S, S) in [-1, 1].
        landmarks: of the result, (B, 68, 2): those of the face and the deviation.
        drawing: those landmarks as an image, (B, 1, S, S).
        map: logits of a landmark image (B, 1, 64, 64) with the face in its middle; None with `fusion=vector`.
    """

    image: Tensor
    landmarks: Tensor
    drawing: Tensor
    map: Tensor | None


class Generator(nn.Module):
    """Fuse the landmarks of a face and a driver, draw the result, and repaint the face by it.

    The fusion sees landmarks around their middle in widths of the face, so the driver may have another size and place,
    and its last layer starts at zero: an untrained fusion leaves the landmarks of the face as they are.
    """

    def __init__(self, settings: LandmarkFusionSettings) -> None:
        super().__init__()
        s = settings
        self.size = s.image_size
        self.transfer = UNet(4, s.image_size, s.width, s.dropout, nearest=True)
        self.fusion = VectorFusion() if s.fusion == "vector" else ImageFusion(s.width)
        for weight in self.fusion.deviation[-1].parameters():
            nn.init.zeros_(weight)

    def forward(self, image: Tensor, own: Tensor, driver: Tensor) -> Fused:
        """Map `image` (B, 3, S, S), its landmarks `own` (B, 68, 2) and the driver's (B, 68, 2), in any unit."""
        (middle, width), (other, other_width) = face_frame(own), face_frame(driver)
        deviation, decoded = self.fusion((driver.float() - other) / other_width, (own.float() - middle) / width)
        landmarks = own.float() + width * deviation.float()
        drawing = draw_landmarks(landmarks, self.size)
        return Fused(self.transfer(torch.cat((image, drawing), dim=1)), landmarks, drawing, decoded)


class GeneratorPart(nn.Module):
    """The generator for export."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, landmarks: Tensor, source_landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Map `image` (B, 3, S, S), `landmarks` (B, 68, 2) of the driver and those of the image to image and points."""
        made = self.generator(image, source_landmarks, landmarks)
        return made.image, made.landmarks


class DiscriminatorPart(nn.Module):
    """The discriminator for export, with its condition as two inputs."""

    def __init__(self, discriminator: PatchDiscriminator, size: int) -> None:
        super().__init__()
        self.discriminator, self.size = discriminator, size

    def forward(self, source: Tensor, landmarks: Tensor, image: Tensor) -> Tensor:
        """Map `source`, `image` (B, 3, S, S) and `landmarks` (B, 68, 2) to logits (B, 1, p, p)."""
        return self.discriminator(torch.cat((source, draw_landmarks(landmarks, self.size)), dim=1), image)


class LandmarkFusion(PatchGAN):
    """Landmarks of two people, fused and drawn, a U-Net, and a patch discriminator on (source, drawing, image).

    Args:
        model: network options.
        loss: loss weights.
        optimizer: Adam, moving average and clipping.
        affects: class names in index order.
        seed: seed of dropout and drivers in training; torch's global generator initialises the weights.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"landmarks"})
    source_reads: ClassVar[frozenset[str]] = frozenset({"landmarks"})
    fuses_landmarks = True
    generator: Generator
    average: Generator
    settings_class = LandmarkFusionSettings
    loss_class = LandmarkFusionLossSettings

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        self.generator = Generator(self.settings)
        self.discriminator = PatchDiscriminator(3 + 1, self.settings.width, spectral=True)
        self.average = frozen_copy(self.generator)
        self.drivers: Tensor | None
        self.driver_landmarks: Tensor | None
        self.register_buffer("drivers", None, persistent=False)
        self.register_buffer("driver_landmarks", None, persistent=False)

    # ------------------------------------------------------------------ training

    def prepare(self, frames: FrameSet, judge: Callable[[], Judge | None]) -> None:
        """Find the drivers of every training frame; see `similar_rows_of_others`."""
        if frames.landmarks is None:
            return
        self.drivers = torch.from_numpy(similar_rows_of_others(frames, NEAREST, self.seed)).to(self.device)
        self.driver_landmarks = torch.from_numpy(frames.landmarks).float().to(self.device)

    def summary_lines(self) -> list[str]:
        """See the base class."""
        if self.drivers is None:
            return ["every target drives itself, since prepare() saw no frames of other people"]
        alone = int((self.drivers[:, 0].cpu() == torch.arange(len(self.drivers))).sum())
        told = f"{len(self.drivers) - alone} of {len(self.drivers)} targets are driven by other people"
        return [f"{told}, {self.loss_weights.own_drivers:.0%} of the time by themselves"]

    def drive(self, batch: PairBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the landmarks of sources, targets and drivers of a batch, (B, 68, 2) each.

        Raises:
            UserError: the frames have no landmarks.
        """
        source, target = batch.source_landmarks, batch.target_landmarks
        if source is None or target is None:
            raise UserError(f"{self.settings.name} reads landmarks; the frames have none")
        chance, choice = self.noise.uniform(len(batch), 2, device=self.device).unbind(1)
        if self.drivers is None or self.driver_landmarks is None:
            return source, target, target
        row = self.drivers[batch.target_row].gather(1, (NEAREST * choice).long()[:, None]).squeeze(1)
        own = (chance < self.loss_weights.own_drivers)[:, None, None]
        return source, target, torch.where(own, target, self.driver_landmarks[row])

    def _gradients(self, batch: PairBatch, share: float) -> dict[str, Tensor]:
        """Add the gradients of both losses, scaled by `share`, to the networks; return losses and parts."""
        w = self.loss_weights
        own, wanted, driver = self.drive(batch)
        with torch.set_grad_enabled(self.generator_is_due):
            made = self.generator(batch.source, own, driver)
        # the discriminator takes the drawing as given: it may not move points to please it
        condition = torch.cat((batch.source, made.drawing.detach()), dim=1)  # (B, 4, S, S)
        on_real, on_fake = self.discriminator.on_both(condition, batch.target, made.image)

        parts = {"adversarial": binary_cross_entropy(on_fake, real=True),
                 "pixel": absolute_difference(made.image, batch.target),
                 "points": absolute_difference(made.landmarks, wanted)}  # fmt: skip
        loss_g = w.adversarial * parts["adversarial"] + w.lambda_pixel * parts["pixel"]
        loss_g = loss_g + w.lambda_points * parts["points"]
        if made.map is not None:
            parts["map"] = map_loss(made.map, wanted, own)
            loss_g = loss_g + w.lambda_map * parts["map"]
        return self.backpropagate(loss_g, on_real, on_fake, parts, share)

    # ------------------------------------------------------------------ use

    def fuse(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Fused:
        """Return the image, and the landmarks that were drawn for it; see `forward`."""
        self.check_reads(target)
        if source_expression is None or source_expression.landmarks is None:
            raise UserError(f"{self.settings.name} reads the landmarks of the source; its expression has none")
        return self.average(source, source_expression.landmarks, target.known["landmarks"])

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Give `source` (B, 3, S, S) the expression of the driver whose landmarks are in `target`; see the base class.

        The driver may be any face of any size and place, the source itself too.

        Raises:
            UserError: the landmarks of the source or of the driver are missing.
        """
        return self.fuse(source, source_expression, target).image

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; the real image is the target, which this discriminator sees beside source and drawing."""
        K = len(self.affects)
        made = self.fuse(batch.source, batch.source_expression(K), batch.target_expression(K))
        condition = torch.cat((batch.source, made.drawing), dim=1)
        on_real, on_fake = (self.discriminator.realness(condition, image) for image in (batch.target, made.image))
        return ValidationOutput(made.image, on_real, None, on_fake, None)

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        face, source = face_input(self.image_size), face_input(self.image_size, "the given face")
        points = Input((68, 2), "points of the driver in dlib's order, x then y, in any unit", -1.0, 1.0)
        own = points._replace(meaning="points of the given face, likewise, -1..1 from edge to edge")
        made = {"face": "the given face with the driver's expression, RGB in [-1, 1]", "points": "its landmarks"}
        inputs = {"image": source, "landmarks": points, "source_landmarks": own}
        seen = {"source": source, "landmarks": own._replace(meaning="points of the result"), "image": face}
        judged = DiscriminatorPart(self.discriminator, self.image_size)
        return {
            "generator": Exported(GeneratorPart(self.average), inputs, made),
            "discriminator": Exported(judged, seen, {"realness": "logits of overlapping patches"}),
        }


def map_loss(decoded: Tensor, wanted: Tensor, own: Tensor) -> Tensor:
    """Return the mean cross-entropy of a decoded landmark image and the drawn target landmarks.

    Args:
        decoded: logits (B, 1, 64, 64).
        wanted: landmarks (B, 68, 2) of the true target.
        own: landmarks (B, 68, 2) of the source, whose middle and width place the image.
    """
    middle, width = face_frame(own)
    true = draw_landmarks(FUSION_FACE * (wanted - middle) / width, FUSION_SIZE)
    return F.binary_cross_entropy_with_logits(decoded.float(), true)
