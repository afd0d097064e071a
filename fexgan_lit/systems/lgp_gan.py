"""LGP-GAN (Xia et al. 2022): local generators for eyes and mouth, and a global one on top of their results.

The paper states the two stages, the attention and colour masks of the generators, and patch discriminators with a class
head for both regions and the whole face. It does not state layers, sizes, weights or schedule: here they are those of
GANimation and StarGAN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.expression import Expression
from fexgan_lit.systems.annotations import REGIONS, Box, region_boxes, region_shape
from fexgan_lit.systems.export import Exported, Input
from fexgan_lit.systems.layers import PatchCritic, TranslationTrunk, scaled
from fexgan_lit.systems.losses import (
    absolute_difference,
    categorical_cross_entropy,
    total_variation,
)
from fexgan_lit.systems.wgan import AffectTranslation, TranslationSettings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judges.affect import Judge

#: Width of the soft edge of a pasted region, in pixels of a 128 px image.
FEATHER = 6


@dataclass
class LGPGANSettings(TranslationSettings):
    """The networks; see `TranslationSettings`, whose residual blocks are those of the global generator.

    Attributes:
        local: whether the local generators and their discriminators exist; false leaves the global generator alone.
        local_blocks: number of residual blocks in each local generator.
    """

    name: str = "lgp_gan"
    local: bool = True
    local_blocks: int = option(4, at_least=0, at_most=256)


@dataclass
class LGPGANLossSettings(Options):
    """Weights of the losses, the same for both regions and the whole face.

    Attributes:
        adversarial: of the Wasserstein terms, in both losses.
        lambda_class: of the cross-entropy of the affects, in both losses.
        lambda_gp: of the gradient penalty.
        lambda_cycle: of the mean L1 distance between the source and its way there and back.
        lambda_attention: of the mean of the attention A, which keeps it from 1 everywhere.
        lambda_tv: of the total variation of the attention, a sum over all pixels of the batch.
        lambda_local: of the losses of both regions beside those of the whole face.
        pixel: of the mean L1 distance to the true target; above 0 only where the frames are paired.
    """

    section = "loss"

    adversarial: float = option(1.0, at_least=0)
    lambda_class: float = option(1.0, at_least=0)
    lambda_gp: float = option(10.0, at_least=0)
    lambda_cycle: float = option(10.0, at_least=0)
    lambda_attention: float = option(0.1, at_least=0)
    lambda_tv: float = option(1e-5, at_least=0)
    lambda_local: float = option(1.0, at_least=0)
    pixel: float = option(0.0, at_least=0)


def feathered(height: int, width: int, edge: int) -> Tensor:
    """Return a window (height, width) that rises from near 0 at its border to 1 over `edge` pixels as a cosine."""

    def side(length: int) -> Tensor:
        place = torch.arange(length, dtype=torch.float32) + 0.5
        return 0.5 - 0.5 * torch.cos(torch.pi * (torch.minimum(place, length - place) / edge).clamp(max=1))

    return side(height)[:, None] * side(width)


class MaskedGenerator(nn.Module):
    """Paint colours C and an attention A from an image, a condition and an affect: A * base + (1 - A) * C.

    Args:
        inputs: channels of the input.
        affects: number of affects.
        width: factor on every channel count.
        blocks: residual blocks.
        film: see `TranslationTrunk`.
    """

    def __init__(self, inputs: int, affects: int, width: float, blocks: int, film: bool) -> None:
        super().__init__()
        self.trunk = TranslationTrunk(inputs, affects, width, blocks, film)
        self.colour = nn.Conv2d(scaled(64, width), 3, 7, padding=3, bias=False)
        self.attention = nn.Conv2d(scaled(64, width), 1, 7, padding=3, bias=False)

    def forward(self, seen: Tensor, affect: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """Map `seen` (B, inputs, h, w), `affect` (B, K) and `base` (B, 3, h, w) to image and A (B, 1, h, w) in 0..1."""
        features = self.trunk(seen, affect)
        # masks in float32: the coarse bf16 steps near 1 would be visible in every kept pixel
        colour, attention = self.colour(features).float().tanh(), self.attention(features).float().sigmoid()
        return attention * base + (1 - attention) * colour, attention


class Faces(NamedTuple):
    """Output of the generator; the dictionaries have the keys `eyes` and `mouth`, or none without local generators.

    Attributes:
        image: result (B, 3, S, S) in [-1, 1].
        attention: A of the whole face (B, 1, S, S) in [0, 1]; 1 keeps the pixel of `canvas`.
        canvas: the source with the pasted regions, (B, 3, S, S).
        boxes: the place of each region.
        patches: result of each local generator, (B, 3, h, w).
        attentions: A of each local generator, (B, 1, h, w).
    """

    image: Tensor
    attention: Tensor
    canvas: Tensor
    boxes: dict[str, Box]
    patches: dict[str, Tensor]
    attentions: dict[str, Tensor]


class Generator(nn.Module):
    """Stage I paints eyes and mouth in boxes around the source's landmarks, stage II the whole face upon them.

    Buffers:
        mean_landmarks: (68, 2) of the training frames, for sources whose landmarks are not known; NaN before training.
    """

    local: Mapping[str, MaskedGenerator]
    mean_landmarks: Tensor

    def __init__(self, settings: LGPGANSettings, affects: int) -> None:
        super().__init__()
        size, width = settings.image_size, settings.width
        self.size = size
        regions = REGIONS if settings.local else {}
        self.local = nn.ModuleDict(  # type: ignore[assignment]
            {name: MaskedGenerator(3, affects, width, settings.local_blocks, settings.film) for name in regions}
        )
        self.whole = MaskedGenerator(
            6 if settings.local else 3, affects, width, settings.residual_blocks, settings.film
        )
        self.register_buffer("mean_landmarks", torch.full((68, 2), float("nan")))
        for name in regions:
            window = feathered(*region_shape(name, size), max(1, FEATHER * size // 128))
            self.register_buffer(f"{name}_window", window, persistent=False)

    def forward(self, image: Tensor, affect: Tensor, landmarks: Tensor) -> Faces:
        """Map `image` (B, 3, S, S) in [-1, 1] with `landmarks` (B, 68, 2) and `affect` (B, K) to `Faces`."""
        boxes = region_boxes(landmarks, self.size) if self.local else {}
        patches, attentions, canvas = {}, {}, image
        for name, box in boxes.items():
            crop = box.crop(image)
            patches[name], attentions[name] = self.local[name](crop, affect, crop)
            canvas = box.paste(canvas, patches[name], getattr(self, f"{name}_window"))
        seen = torch.cat((image, canvas), dim=1) if boxes else image  # (B, 6, S, S) or (B, 3, S, S)
        made, attention = self.whole(seen, affect, canvas)
        return Faces(made, attention, canvas, boxes, patches, attentions)


class Critics(nn.ModuleDict):
    """A patch critic by level: of the `whole` face, and of each region; as a module it is that of the whole face."""

    def __init__(self, settings: LGPGANSettings, affects: int) -> None:
        shapes: dict[str, int | tuple[int, int]] = {"whole": settings.image_size}
        if settings.local:
            shapes |= {name: region_shape(name, settings.image_size) for name in REGIONS}
        super().__init__({name: PatchCritic(shape, affects, settings.width) for name, shape in shapes.items()})

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map `image` (B, 3, S, S) in [-1, 1] to scores (B, 2, 2) and affect logits (B, K)."""
        return self["whole"](image)


class GeneratorPart(nn.Module):
    """The generator for export, with its image alone as output."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, affect: Tensor, source_landmarks: Tensor) -> Tensor:
        """Map `image` (B, 3, S, S), `affect` (B, K) and `source_landmarks` (B, 68, 2) to an image (B, 3, S, S)."""
        return self.generator(image, affect, source_landmarks).image


class LGPGAN(AffectTranslation):
    """Local and global generators against three patch critics that classify affects.

    Args:
        model: network options.
        loss: loss weights.
        optimizer: Adam and n_critic.
        affects: class names in index order.
        seed: seed of the random numbers in training; torch's global generator initialises the weights.
    """

    source_reads: ClassVar[frozenset[str]] = frozenset({"landmarks"})
    settings_class = LGPGANSettings
    loss_class = LGPGANLossSettings
    generator: Generator
    average: Generator

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        K = len(self.affects)
        self.adopt(Generator(self.settings, K), Critics(self.settings, K))

    def prepare(self, frames: FrameSet, judge: Callable[[], Judge | None]) -> None:
        """Learn the mean landmarks of the training frames."""
        if frames.landmarks is not None:
            mean = torch.from_numpy(frames.landmarks.mean(0, dtype="float64")).float()
            for generator in (self.generator, self.average):
                generator.mean_landmarks.copy_(mean)

    # ------------------------------------------------------------------ training

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration: update the critics and, in every n-th iteration, the generators."""
        self.seed_iteration()
        w, K, source = self.loss_weights, len(self.affects), batch.source
        shown, wanted = batch.source_expression(K).known["affect"], batch.target_expression(K).known["affect"]
        landmarks = self._landmarks(batch.source_landmarks, len(source))
        with torch.set_grad_enabled(self.generator_is_due):
            made = self.generator(source, wanted, landmarks)
        # real and generated image of the whole face and of each region
        real = {"whole": source} | {name: box.crop(source) for name, box in made.boxes.items()}
        fake = {"whole": made.image} | made.patches
        weights = {name: 1.0 if name == "whole" else w.lambda_local for name in real}

        # Critics: Wasserstein loss, affects of the real images, gradient penalty
        loss_d, parts_d = source.new_zeros(()), dict[str, Tensor]()
        for name, weight in weights.items():
            loss, parts = self.critic_loss(self.critic[name], real[name], fake[name], batch.source_affect)
            loss_d = loss_d + weight * loss
            parts_d |= {f"{name}_{part}": value for part, value in parts.items()}
        self.update(self.critic, loss_d, counted=True)

        # Generators: the target's affect, and back to the source
        if self.generator_is_due:
            back = self.generator(made.image, shown, landmarks)
            cycles, attentions = {"whole": back.image}, {"whole": (made.attention, back.attention)}
            for name, patch in made.patches.items():
                cycles[name], mask = self.generator.local[name](patch, shown, patch)
                attentions[name] = made.attentions[name], mask
            loss_g, parts = source.new_zeros(()), dict[str, Tensor]()
            for name, weight in weights.items():
                on_fake, named = self.critic[name](fake[name])
                parts |= {
                    f"{name}_adversarial": -on_fake.float().mean(),
                    f"{name}_class": categorical_cross_entropy(named, batch.target_affect),
                    f"{name}_cycle": absolute_difference(cycles[name], real[name]),
                }
                kept = sum((mask.mean() for mask in attentions[name]), source.new_zeros(()))
                rough = self.noise.share.world * sum(map(total_variation, attentions[name]), source.new_zeros(()))
                loss_g = loss_g + weight * (
                    w.adversarial * parts[f"{name}_adversarial"] + w.lambda_class * parts[f"{name}_class"]
                    + w.lambda_cycle * parts[f"{name}_cycle"] + w.lambda_attention * kept + w.lambda_tv * rough
                )  # fmt: skip
            if w.pixel:  # without it the target may show anyone
                parts["pixel"] = absolute_difference(made.image, batch.target)
                loss_g = loss_g + w.pixel * parts["pixel"]
            self.update(self.generator, loss_g, counted=False)
            self.update_average(len(batch))
            self.keep({"generator": loss_g, **parts, **attention_shares(made)})
        return self.report(loss_d, parts_d)

    def _landmarks(self, landmarks: Tensor | None, count: int) -> Tensor:
        """Return the landmarks of the sources (B, 68, 2); those of the mean training face where they are not known.

        Raises:
            UserError: neither is known.
        """
        if landmarks is not None:
            return landmarks
        if self.settings.local and self.average.mean_landmarks.isnan().any():
            raise UserError(
                f"{self.settings.name} finds eyes and mouth by the landmarks of the source, which has none, and it was "
                "not trained on frames with landmarks. Give the landmarks of the source, or use model.local=false"
            )
        return self.average.mean_landmarks.expand(count, -1, -1)

    # ------------------------------------------------------------------ use

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Translate `source` (B, 3, S, S) to the affects of `target`; see the base class.

        Without landmarks in `source_expression`, eyes and mouth are taken where the training frames have them.
        """
        self.check_reads(target)
        known = None if source_expression is None else source_expression.landmarks
        return self.average(source, target.known["affect"], self._landmarks(known, len(source))).image

    def export_modules(self) -> dict[str, Exported]:
        """See the base class; the generator also takes the landmarks of the given face."""
        parts = super().export_modules()
        points = Input(
            (68, 2), "points of the given face in dlib's order, x then y, -1..1 from edge to edge", -1.0, 1.0
        )
        generator = parts["generator"]
        inputs = {**generator.inputs, "source_landmarks": points}
        return {**parts, "generator": Exported(GeneratorPart(self.average), inputs, generator.outputs)}


@torch.no_grad()
def attention_shares(made: Faces) -> dict[str, Tensor]:
    """Return how much of the canvas the global generator keeps, on average inside and outside the local regions.

    A larger share inside shows that stage II uses the results of stage I.
    """
    if not made.boxes:
        return {"attention_mean": made.attention.mean()}
    inside = torch.zeros_like(made.attention)
    for box in made.boxes.values():
        ones = torch.ones_like(box.crop(inside))
        inside = box.paste(inside, ones, ones[0, 0])
    kept = made.attention
    return {
        "attention_inside": (kept * inside).sum() / inside.sum(),
        "attention_outside": (kept * (1 - inside)).sum() / (1 - inside).sum().clamp(min=1),
    }
