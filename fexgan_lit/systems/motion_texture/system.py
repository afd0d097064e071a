"""MotionGAN and TextureGAN: the training steps of both, and motions from a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from fexgan_lit.expression import Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.annotations import LANDMARKS
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Exported, Input, affect_input, face_input
from fexgan_lit.systems.gan import GANSystem, frozen_copy
from fexgan_lit.systems.losses import absolute_difference, binary_cross_entropy, gradient_penalty
from fexgan_lit.systems.motion_texture.networks import (
    NOISE,
    QUANTILES,
    REALS,
    Critics,
    Generator,
    MotionPart,
    MotionTextureSettings,
    TexturePart,
    label_code,
    landmark_map,
)
from fexgan_lit.systems.motion_texture.srvf import COORDINATES, Motions, geodesic, karcher_mean, log_map, motions_of
from fexgan_lit.systems.optimizers import DualOptimizerSettings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judges.affect import Judge


@dataclass
class MotionTextureLossSettings(Options):
    """Weights of the losses.

    Attributes:
        motion_adversarial: of MotionGAN's Wasserstein terms.
        lambda_gp: of the gradient penalty of MotionGAN's critic.
        tangent: of the mean L1 distance of a generated and a real motion of the same affect in the tangent space.
        geodesic: of their geodesic distance.
        adversarial: of TextureGAN's cross-entropy.
        lambda_pixel: of the mean L1 distance of a generated to the true frame.
        identity: of 1 - cosine of the judge's identity logits of the generated frame and the source.
    """

    section = "loss"

    motion_adversarial: float = option(1.0, at_least=0)
    lambda_gp: float = option(10.0, at_least=0)
    tangent: float = option(10.0, at_least=0)
    geodesic: float = option(10.0, at_least=0)
    adversarial: float = option(1.0, at_least=0)
    lambda_pixel: float = option(100.0, at_least=0)
    identity: float = option(1.0, at_least=0)


@dataclass
class MotionTextureOptimizerSettings(DualOptimizerSettings):
    """Adam for TextureGAN (see `DualOptimizerSettings`) and for MotionGAN, both of which step in every iteration.

    Attributes:
        motion_lr: learning rate of MotionGAN and its critic.
        motion_beta2: decay of Adam's second moment there; the first is `beta1`.
        motion_batch: motions in an iteration.
        motion_critic_steps: steps of MotionGAN's critic in an iteration, after the one of its generator.
    """

    n_critic: int = option(1, "1; motion_critic_steps gives MotionGAN's critic more steps", choices=(1,))
    motion_lr: float = option(1e-4, above=0)
    motion_beta2: float = option(0.9, at_least=0, below=1)
    motion_batch: int = option(64, at_least=2, at_most=65536)
    motion_critic_steps: int = option(4, at_least=1, at_most=1000)


class MotionTexture(GANSystem):
    """A Wasserstein GAN of landmark motions on a sphere, and a conditional GAN that paints a frame from landmarks.

    `forward` is TextureGAN: it gives a source the landmarks of a target. `draw_motions` is MotionGAN.

    Args:
        model: network options.
        loss: loss weights.
        optimizer: Adam, moving average and clipping.
        affects: class names in index order.
        seed: seed of the random numbers in training; torch's global generator initialises the weights.

    Attributes:
        motions: SRVFs (N, T, 136) of the training clips.
        motion_affect: (N,) int64, their affects.
        judge: the network of the identity loss, or None.
    """

    reads = frozenset({"landmarks"})
    source_reads: ClassVar[frozenset[str]] = frozenset({"landmarks"})
    settings_class = MotionTextureSettings
    loss_class = MotionTextureLossSettings
    optimizer_class = MotionTextureOptimizerSettings
    generator: Generator
    average: Generator
    optimizer_settings: MotionTextureOptimizerSettings
    motions: Tensor
    motion_affect: Tensor

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        K = len(self.affects)
        self.generator, self.critics = Generator(self.settings, K), Critics(self.settings, K)
        self.average = frozen_copy(self.generator)
        self.register_buffer("motions", torch.empty(0, self.settings.steps, COORDINATES), persistent=False)
        self.register_buffer("motion_affect", torch.empty(0, dtype=torch.long), persistent=False)
        self.judge: Judge | None = None
        self._data_line = "motions: those of the training clips are not set yet"

    # ------------------------------------------------------------------ what is not learned

    def prepare(self, frames: FrameSet, judge: Callable[[], Judge | None]) -> None:
        """Read the motions of the training clips, and take the judge for the identity loss.

        Raises:
            UserError: the frames have no affects, landmarks or takes, or no take has a motion.
        """
        if "motion" in self.settings.parts:
            self.set_motions(motions_of(frames, self.settings.steps, self.settings.arc_length))
        if "texture" in self.settings.parts and self.loss_weights.identity and self.judge is None:
            self.judge = judge()

    def set_motions(self, motions: Motions) -> None:
        """Train MotionGAN on `motions`: compute the reference point, and the lengths of each affect."""
        q, length, affect, *_ = motions
        self.motions, self.motion_affect = q.to(self.device), affect.to(self.device)
        mean = karcher_mean(q) if self.settings.reference == "mean" else q[0]
        for generator in (self.generator, self.average):
            generator.mean.copy_(mean)
            for k in affect.unique().tolist():
                places = torch.linspace(0, 1, QUANTILES)
                generator.lengths[k] = length[affect == k].quantile(places)
        counts = affect.bincount(minlength=len(self.affects)).tolist()
        shown = ", ".join(f"{name} {count}" for name, count in zip(self.affects, counts, strict=True) if count)
        skipped = "; ".join(f"{len(names)} {reason}" for reason, names in motions.left_out.items())
        self._data_line = f"motions: {len(q)} clips ({shown})" + (f"; left out: {skipped}" if skipped else "")

    def summary_lines(self) -> list[str]:
        """See the base class."""
        lines = []
        if "motion" in self.settings.parts:
            lines.append(self._data_line)
        if "texture" not in self.settings.parts:
            lines.append("images: the source is warped to the landmarks, as there is no TextureGAN (model.part=motion)")
        elif not self.loss_weights.identity:
            lines.append("identity loss: off (loss.identity=0)")
        else:
            lines.append(f"identity loss: {self.judge.describe() if self.judge else 'its network is not set yet'}")
        return lines

    def on_train_start(self) -> None:
        """Check that motions and judge are there, and move the judge to the device of the networks.

        Raises:
            UserError: MotionGAN has no motions, or the identity loss has no judge.
        """
        super().on_train_start()
        if "motion" in self.settings.parts and not len(self.motions):
            raise UserError(
                "MotionGAN has no motions: they come from the takes of a FrameDataModule, or from set_motions(); "
                "model.part=texture trains TextureGAN alone"
            )
        if "texture" in self.settings.parts and self.loss_weights.identity:
            if self.judge is None:
                raise UserError(
                    "the identity loss has no network, since this run has no judge; expected metrics.judge=true or "
                    "loss.identity=0"
                )
            self.judge.to(self.device)

    # ------------------------------------------------------------------ training

    def configure_optimizers(self) -> Any:
        """Return Adam for the generators and Adam for the critics, with a group of parameters for each part."""
        o, fused = self.optimizer_settings, self.device.type in ("cpu", "cuda")
        rates = {"texture": (o.lr, o.lr_discriminator or o.lr), "motion": (o.motion_lr, o.motion_lr)}
        betas = {"texture": (o.beta1, o.beta2), "motion": (o.beta1, o.motion_beta2)}
        adams: list[Optimizer] = []
        for n, networks in enumerate((self.generator, self.critics)):
            groups = [
                {"params": list(getattr(networks, part).parameters()), "lr": rates[part][n], "betas": betas[part]}
                for part in self.settings.parts
            ]
            adams.append(self.adam(groups, fused=fused))
        return self.with_schedule(adams)

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration of MotionGAN on training motions, and one of TextureGAN on the pairs."""
        self.seed_iteration()
        steps = {"motion": self._train_motion, "texture": self._train_texture}
        losses = dict[str, Tensor]()
        for part in self.settings.parts:
            for name, loss in steps[part](batch).items():
                losses[name] = (losses[name] + loss if name in losses else loss).detach()
        self.update_average(len(batch))
        return losses

    def _train_motion(self, batch: PairBatch) -> dict[str, Tensor]:
        """Step MotionGAN's generator once, then its critic several times on the same real motions."""
        w, o, G, D = self.loss_weights, self.optimizer_settings, self.generator, self.critics.motion
        count = max(2, o.motion_batch // self.noise.share.world)
        most = len(self.motions) - 1
        rows = (self.noise.uniform(count, device=self.device) * (most + 1)).long().clamp(max=most)
        q, affect = self.motions[rows], F.one_hot(self.motion_affect[rows], len(self.affects)).float()
        real = log_map(G.mean, q)

        # Generator: the critic, and a real motion of the same affect
        noise, label = self._draw(affect)
        made = G.motions(noise, label)
        fake = log_map(G.mean, made)
        parts = {"motion": -D(fake, label).float().mean(), "tangent": (fake - real).abs().mean(),
                 "geodesic": geodesic(made, q).mean()}  # fmt: skip
        loss_g = w.motion_adversarial * parts["motion"] + w.tangent * parts["tangent"] + w.geodesic * parts["geodesic"]
        self.backward_into(G.motion, loss_g)
        self.step(0, counted=False)

        # Critic: Wasserstein terms and gradient penalty in the tangent space
        for number in range(o.motion_critic_steps):
            noise, label = self._draw(affect)
            with torch.no_grad():
                fake = log_map(G.mean, G.motions(noise, label))
            share = self.noise.uniform(count, 1, 1, device=self.device)
            penalty = gradient_penalty(partial(D, label=label), real, fake, share)
            wasserstein = D(fake, label).float().mean() - D(real, label).float().mean()
            loss_d = w.motion_adversarial * wasserstein + w.lambda_gp * penalty
            self.backward_into(D, loss_d)
            last = number + 1 == o.motion_critic_steps
            self.step(1, counted=last and self.settings.part == "motion")
        return {"generator": loss_g, "discriminator": loss_d, **parts, "d_motion": wasserstein, "d_penalty": penalty}

    def _draw(self, affect: Tensor) -> tuple[Tensor, Tensor]:
        """Draw noise (B, 128) and label codes (B, 3 K) for affects (B, K)."""
        noise = self.noise.normal(len(affect), NOISE, device=self.device)
        return noise, label_code(affect, self.noise.uniform(*affect.shape, REALS, device=self.device))

    def _train_texture(self, batch: PairBatch) -> dict[str, Tensor]:
        """Step TextureGAN's generator and its discriminator after one forward pass of the generator."""
        w, D = self.loss_weights, self.critics.texture
        points, wanted = self._landmarks(batch.source_landmarks), self._landmarks(batch.target_landmarks)
        fake = self.generator(batch.source, points, wanted)
        on_real, on_fake = D.on_both(self._condition(batch.source, wanted), batch.target, fake)
        parts = {"adversarial": binary_cross_entropy(on_fake, real=True),
                 "pixel": absolute_difference(fake, batch.target)}  # fmt: skip
        if w.identity and self.judge is not None:
            made, given = (self.judge.net(image).identity_logits.float() for image in (fake, batch.source))
            parts["identity"] = (1 - F.cosine_similarity(made, given, dim=1)).mean()
        weights = {"adversarial": w.adversarial, "pixel": w.lambda_pixel, "identity": w.identity}
        loss_g = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        # halved, as in pix2pix, so that the discriminator learns more slowly than the generator
        loss_d = 0.5 * (binary_cross_entropy(on_real, real=True) + binary_cross_entropy(on_fake, real=False))
        self.backward_into(self.generator.texture, loss_g, retain_graph=True)
        self.backward_into(self.critics.texture, loss_d)
        self.step(0, counted=False)
        self.step(1, counted=True)
        return {"generator": loss_g, "discriminator": loss_d, **parts, "d_texture": loss_d}

    def _condition(self, source: Tensor, landmarks: Tensor) -> Tensor:
        """Return what the discriminator sees beside an image: the source and the map of the frame, (B, 4, S, S)."""
        return torch.cat((source, landmark_map(landmarks, self.image_size, self.settings.sigma)), dim=1)

    def _landmarks(self, landmarks: Tensor | None) -> Tensor:
        """Return the landmarks of sources; raise a UserError if they are unknown."""
        if landmarks is None:
            raise UserError(
                f"{self.settings.name} moves the landmarks of the source, which are not known; expected a source with "
                "landmarks (annotations=CSV with the columns path and x00,y00..x67,y67)"
            )
        return landmarks

    # ------------------------------------------------------------------ use

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Move `source` (B, 3, S, S) from its own landmarks to those of `target`; see the base class."""
        self.check_reads(target)
        own = self._landmarks(None if source_expression is None else source_expression.landmarks)
        return self.average(source, own, target.known["landmarks"]).float()

    @property
    def moving_affects(self) -> tuple[str, ...]:
        """The affects whose motions MotionGAN learned."""
        known = ~self.average.lengths.isnan().any(1)
        return tuple(name for name, learned in zip(self.affects, known.tolist(), strict=True) if learned)

    @torch.no_grad()
    def draw_motions(self, affect: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw a motion from neutral to the apex for each row of `affect` (B,), class indices.

        Args:
            affect: (B,) int64.
            generator: of random numbers, on the CPU; None uses torch's global one.

        Returns:
            SRVFs (B, T, 136), and lengths (B,) drawn from those of the affect's training motions.

        Raises:
            UserError: there is no MotionGAN, or it never saw a motion of an affect.
        """
        if self.average.motion is None:
            raise UserError(
                f"this {self.settings.name} has no MotionGAN (model.part=texture): it generates no motions, but "
                "follows a driver (mode=animate). Train with model.part=both or model.part=motion"
            )
        unknown = sorted({self.affects[k] for k in affect.tolist()} - set(self.moving_affects))
        if unknown:
            raise UserError(
                f"MotionGAN saw no motion of {', '.join(unknown)} in training; it knows "
                f"{', '.join(self.moving_affects) or 'none, since it was not trained on clips'}"
            )
        B, K = len(affect), len(self.affects)
        noise = torch.randn(B, NOISE, generator=generator).to(self.device)
        magnitude = torch.rand(B, K, REALS, generator=generator).to(self.device)
        place = torch.rand(B, generator=generator).to(self.device) * (QUANTILES - 1)
        index = affect.to(self.device)
        q = self.average.motions(noise, label_code(F.one_hot(index, K).float(), magnitude))
        low, high = (self.average.lengths[index, edge.long()] for edge in (place.floor(), place.ceil()))
        return q, torch.lerp(low, high, place.frac())

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; the real image is the target, which the discriminator sees beside the source."""
        K = len(self.affects)
        wanted = batch.target_expression(K)
        generated = self.synthesize(batch.source, batch.source_expression(K), wanted)
        if self.critics.texture is None:
            nobody = torch.zeros(len(batch), device=generated.device)
            return ValidationOutput(generated, nobody, None, nobody, None, calibrated=False)
        condition = self._condition(batch.source, self._landmarks(wanted.landmarks))
        on_real, on_fake = (self.critics.texture.realness(condition, image) for image in (batch.target, generated))
        return ValidationOutput(generated, on_real, None, on_fake, None)

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        points = Input((LANDMARKS, 2), "wanted points in dlib's order, x then y, -1..1 from edge to edge", -1.0, 1.0)
        inputs = {
            "image": face_input(self.image_size, "the given face"),
            "source_landmarks": points._replace(meaning="points of the given face, likewise"),
            "landmarks": points,
        }
        parts = {"generator": Exported(TexturePart(self.average), inputs, {"face": "face, RGB in [-1, 1]"})}
        if self.average.motion is not None:
            drawn = {"noise": Input((NOISE,), "numbers from N(0, 1)", -1.0, 1.0), "affect": affect_input(self.affects)}
            parts["motion"] = Exported(MotionPart(self.average), drawn, {"q": "SRVF of a motion, steps x 136"})
        return parts

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving average as the generator, and the critics."""
        return {"generator": self.average, "critics": self.critics}
