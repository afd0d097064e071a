"""FExGAN's networks for other programs."""

from __future__ import annotations

from torch import Tensor, nn

from fexgan_lit.systems.exported import Answering, Exported, Input, affect_input, face_input
from fexgan_lit.systems.fexgan.networks import Discriminator, Generator
from fexgan_lit.systems.fexgan.settings import FExGANSettings


class EncoderPart(nn.Module):
    """Face and what the encoder is told -> mu and s as a plain tuple."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.encoder = generator.encoder

    def forward(self, image: Tensor, affect: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`image` (B, 3, S, S), `affect` (B, K) -> mu, s (B, n)."""
        latent = self.encoder(image, affect)
        return latent.mu, latent.s


class WholeGenerator(nn.Module):
    """Face -> the same face with the wanted affects, by its mean code."""

    def __init__(self, generator: Generator, told: str) -> None:
        super().__init__()
        self.encoder, self.decoder, self.told = generator.encoder, generator.decoder, told

    def forward(self, image: Tensor, affect: Tensor, source_affect: Tensor | None = None) -> Tensor:
        """`image` (B, 3, S, S), `affect` (B, K), `source_affect` (B, K) if the encoder is told -> (B, 3, S, S)."""
        told = affect if self.told == "target" else source_affect
        return self.decoder(self.encoder(image, told).mu, affect)


def fexgan_parts(
    generator: Generator, discriminator: Discriminator, settings: FExGANSettings, affects: tuple[str, ...]
) -> dict[str, Exported]:
    """Encoder, decoder, discriminator and the whole generator."""
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
