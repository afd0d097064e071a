"""Encoder, decoder and discriminator of FExGAN, layer by layer as in the published networks, and their export."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.systems.export import Answering, Exported, Input, affect_input, face_input
from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.layers import dense, down_block, init_normal, up_block


class Latent(NamedTuple):
    """Output of the encoder: `mu` (B, n) and `s` (B, n); `FExGANSettings.sigma` sets the meaning of `s`."""

    mu: Tensor
    s: Tensor


class DiscriminatorOutput(NamedTuple):
    """Output of the discriminator: the logits `realness` (B,) and `affect` (B, K)."""

    realness: Tensor
    affect: Tensor


class Encoder(nn.Module):
    """Encode an image and an affect to a latent distribution (FExGAN-Meta section 3.1)."""

    def __init__(self, settings: FExGANSettings, affects: int) -> None:
        super().__init__()
        size, act = settings.image_size, str(settings.encoder_activation)
        self.size = size
        self.label = None if settings.encoder_label == "none" else dense(affects, size * size, "normal")
        widths = [settings.channels(c) for c in (128, 256, *[512] * (settings.blocks - 3))]
        inputs = [3 if self.label is None else 4, *widths]
        blocks = [down_block(i, o, act, norm=n > 0) for n, (i, o) in enumerate(zip(inputs, widths, strict=False))]
        self.blocks = nn.Sequential(*blocks, down_block(widths[-1], settings.latent_size, "linear"))
        self.mu = dense(settings.latent_size, settings.latent_size, "glorot")
        self.s = dense(settings.latent_size, settings.latent_size, "zero")
        self.apply(init_normal)

    def forward(self, image: Tensor, affect: Tensor | None) -> Latent:
        """Map `image` (B, 3, S, S) in [-1, 1] and `affect` (B, K) weights (unused without a label) to mu, s (B, n)."""
        if self.label is not None:
            if affect is None:
                raise ValueError("this encoder reads an affect (model.encoder_label), but none was given")
            # (B, K) -> (B, S*S) -> (B, 1, S, S)
            plane = torch.relu(self.label(affect)).view(-1, 1, self.size, self.size)
            image = torch.cat((image, plane.to(image.dtype)), dim=1)  # (B, 4, S, S)
        features = self.blocks(image).flatten(1)  # (B, n, 1, 1) -> (B, n)
        return Latent(self.mu(features), self.s(features))


class Decoder(nn.Module):
    """Decode a latent code and an affect to an image (FExGAN-Meta section 3.2)."""

    def __init__(self, settings: FExGANSettings, affects: int) -> None:
        super().__init__()
        half, act = settings.channels(256), str(settings.decoder_activation)
        self.label = nn.Sequential(
            dense(affects, settings.channels(64), "glorot"), dense(settings.channels(64), half, "normal"), nn.ReLU()
        )
        self.latent = nn.Sequential(dense(settings.latent_size, half, "normal"), nn.ReLU())
        widths = [settings.channels(c) for c in (*[512] * (settings.blocks - 3), 256, 128)]
        inputs = [2 * half, *widths]
        blocks = [
            # only the first three blocks of 512 channels have dropout
            up_block(i, o, act, settings.dropout if n < min(3, settings.blocks - 3) else 0.0)
            for n, (i, o) in enumerate(zip(inputs, widths, strict=False))
        ]
        self.blocks = nn.Sequential(*blocks)
        self.to_rgb = nn.ConvTranspose2d(widths[-1], 3, 4, stride=2, padding=1)
        self.apply(init_normal)

    def forward(self, z: Tensor, affect: Tensor) -> Tensor:
        """Map codes `z` (B, n) and `affect` (B, K) weights to images (B, 3, S, S) in [-1, 1]."""
        code = torch.cat((self.latent(z), self.label(affect)), dim=1)  # (B, c)
        return torch.tanh(self.to_rgb(self.blocks(code[:, :, None, None])))  # (B, c, 1, 1) -> (B, 3, S, S)


class Discriminator(nn.Module):
    """Classify an image as real or generated, and its affect (auxiliary classifier; FExGAN-Meta section 3.3).

    Up to 128 px it has three downsampling blocks as published. Each doubling of the image size adds one block, so the
    last feature map stays 16 x 16 and the two heads keep their size.
    """

    def __init__(self, settings: FExGANSettings, affects: int) -> None:
        super().__init__()
        act = str(settings.discriminator_activation)
        widths = [settings.channels(c) for c in (64, 128, *[512] * max(1, settings.blocks - 6))]
        inputs = [3, *widths]
        blocks = [down_block(i, o, act, norm=n > 0) for n, (i, o) in enumerate(zip(inputs, widths, strict=False))]
        self.blocks = nn.Sequential(*blocks)
        features = widths[-1] * (settings.image_size // 2 ** len(widths)) ** 2
        self.realness = dense(features, 1, "glorot")
        self.affect = dense(features, affects, "glorot")
        self.apply(init_normal)

    def forward(self, image: Tensor) -> DiscriminatorOutput:
        """Map `image` (B, 3, S, S) in [-1, 1] to the logits of realness (B,) and affect (B, K)."""
        features = self.blocks(image).flatten(1)  # (B, c, s, s) -> (B, c*s*s)
        return DiscriminatorOutput(self.realness(features).squeeze(1), self.affect(features))  # (B, 1) -> (B,)


class Generator(nn.Module):
    """The variational encoder-decoder: encode an image, draw a code, and decode it with the target affect."""

    def __init__(self, settings: FExGANSettings, affects: int) -> None:
        super().__init__()
        self.encoder = Encoder(settings, affects)
        self.decoder = Decoder(settings, affects)
        self.log_variance = settings.sigma == "logvar_head"

    def draw(self, latent: Latent, generator: torch.Generator | None = None) -> Tensor:
        """Draw z = mu + sigma * eps with eps ~ N(0, I); (B, n)."""
        eps = torch.randn(latent.mu.shape, generator=generator, device=latent.mu.device, dtype=latent.mu.dtype)
        return latent.mu + self.deviation(latent) * eps

    def deviation(self, latent: Latent) -> Tensor:
        """Return the standard deviation of every code entry, (B, n)."""
        return torch.exp(0.5 * latent.s if self.log_variance else latent.s)

    def forward(
        self, image: Tensor, encoder_affect: Tensor | None, affect: Tensor, eps: Tensor | None = None
    ) -> tuple[Tensor, Latent]:
        """Generate images with target affects.

        Args:
            image: source images, (B, 3, S, S) in [-1, 1].
            encoder_affect: affects that the encoder reads, (B, K).
            affect: target affects, (B, K).
            eps: noise of the codes, (B, n); drawn from torch's global generator if None.

        Returns:
            The generated images (B, 3, S, S) and the encoder's output.
        """
        latent = self.encoder(image, encoder_affect)
        z = self.draw(latent) if eps is None else latent.mu + self.deviation(latent) * eps.to(latent.mu.dtype)
        return self.decoder(z, affect), latent


class EncoderPart(nn.Module):
    """The encoder for export, with mu and s as a plain tuple."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.encoder = generator.encoder

    def forward(self, image: Tensor, affect: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map `image` (B, 3, S, S) and `affect` (B, K) to mu, s (B, n)."""
        latent = self.encoder(image, affect)
        return latent.mu, latent.s


class WholeGenerator(nn.Module):
    """The generator for export: it decodes the mean code of an image with the target affects."""

    def __init__(self, generator: Generator, told: str) -> None:
        super().__init__()
        self.encoder, self.decoder, self.told = generator.encoder, generator.decoder, told

    def forward(self, image: Tensor, affect: Tensor, source_affect: Tensor | None = None) -> Tensor:
        """Map `image` (B, 3, S, S), `affect` (B, K) and, if the encoder reads it, `source_affect` to an image."""
        told = affect if self.told == "target" else source_affect
        return self.decoder(self.encoder(image, told).mu, affect)


def fexgan_parts(
    generator: Generator, discriminator: Discriminator, settings: FExGANSettings, affects: tuple[str, ...]
) -> dict[str, Exported]:
    """Return encoder, decoder, discriminator and generator for export."""
    face, wanted, n = face_input(settings.image_size), affect_input(affects), settings.latent_size
    shown = affect_input(affects, "affect of the given face")
    told = {"target": {"affect": wanted}, "source": {"affect": shown}, "none": {}}[settings.encoder_label]
    asked = {"affect": wanted} | ({"source_affect": shown} if settings.encoder_label == "source" else {})
    made = {"face": "face with the wanted affects, RGB in [-1, 1]"}
    sigma = "log sigma^2" if settings.sigma == "logvar_head" else "log sigma"
    return {
        "encoder": Exported(EncoderPart(generator), {"image": face} | told,
                            {"mu": f"mean code ({n})", "s": f"{sigma} of the code ({n})"}),
        "decoder": Exported(generator.decoder, {"z": Input((n,), "code, about N(0, 1)", -2.0, 2.0), "affect": wanted},
                            made),
        "discriminator": Exported(Answering(discriminator), {"image": face},
                                  {"realness": "logit that the face is real", "affects": "logits of the affects"}),
        "generator": Exported(WholeGenerator(generator, settings.encoder_label), {"image": face} | asked, made),
    }  # fmt: skip
