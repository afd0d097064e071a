"""Every choice the paper leaves open, with the reading that is the default."""

from __future__ import annotations

from dataclasses import dataclass

from fexgan_lit.systems.layers import WIDTHS, scaled

IMAGE_SIZES = (32, 64, 128, 256, 512)
#: Sources of the perceptual network, and the places its map may be taken from.
PERCEPTUAL, PERCEPTUAL_LAYERS = ("auto", "vgg19", "judge"), ("conv1_2", "relu1_2")


@dataclass
class LandmarkLabelSettings:
    """The networks. Where the paper is silent the default is that of pose-attention transfer, which it builds on.

    Attributes:
        name: `landmark_label`.
        image_size: edge of the square images in pixels, a power of two from 32 to 512.
        width: factor on every channel count; 1 is the paper's size.
        blocks: migration blocks; the paper gives no number.
        dropout: rate inside the migration blocks, in [0, 1); the paper gives none.
        initialise: an initialise network of three convolutions a stream; false: both streams are averaged down to a
            quarter of the size and given their channels by one 1x1 convolution (the ablation of Table 7).
        label_maps: the decoder is told the affect by maps of +-1; false: it is not told (the ablation of Table 7).
        source_heatmaps: the geometry stream sees the source's landmarks too, before the target's; the paper's sees
            the target's alone.
        heatmap_sigma: standard deviation of a landmark's Gaussian, pixels of a 128 px image; it scales with the size.
        batch_norm_before_sigmoid: the discriminators' last BatchNorm, as Table 3 prints it.
        leaky_slope: of the discriminators' LeakyReLU.
        perceptual: network of equation 6: `vgg19`, `judge`, or `auto`: VGG19 where its weights are found, else judge.
        perceptual_layer: `conv1_2`, before its ReLU, or `relu1_2`, after it.
        vgg_weights: state dict of torchvision's vgg19; null looks in torch hub's cache.
    """

    name: str = "landmark_label"
    image_size: int = 128
    width: float = 1.0
    blocks: int = 9
    dropout: float = 0.5
    initialise: bool = True
    label_maps: bool = True
    source_heatmaps: bool = False
    heatmap_sigma: float = 2.0
    batch_norm_before_sigmoid: bool = True
    leaky_slope: float = 0.2
    perceptual: str = "auto"
    perceptual_layer: str = "conv1_2"
    vgg_weights: str | None = None

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        sizes = ", ".join(map(str, IMAGE_SIZES))
        checks = {
            "image_size": (self.image_size in IMAGE_SIZES, f"one of {sizes}"),
            "width": (
                WIDTHS[0] <= self.width <= WIDTHS[1],
                f"{WIDTHS[0]:g} to {WIDTHS[1]:g}, 1 for the paper's channels",
            ),
            "blocks": (self.blocks >= 1, "1 or more migration blocks"),
            "dropout": (0 <= self.dropout < 1, "a rate in [0, 1)"),
            "heatmap_sigma": (self.heatmap_sigma > 0, "a positive number of pixels at 128 px"),
            "leaky_slope": (0 <= self.leaky_slope < 1, "a slope in [0, 1)"),
            "perceptual": (self.perceptual in PERCEPTUAL, f"one of {', '.join(PERCEPTUAL)}"),
            "perceptual_layer": (self.perceptual_layer in PERCEPTUAL_LAYERS, f"one of {', '.join(PERCEPTUAL_LAYERS)}"),
        }
        return [
            f"model.{name}={getattr(self, name)}: expected {what}" for name, (fine, what) in checks.items() if not fine
        ]

    @property
    def inner_size(self) -> int:
        """Edge of the maps in the migration blocks: 32 at 128 px."""
        return self.image_size // 4

    @property
    def sigma(self) -> float:
        """Standard deviation of a landmark's Gaussian in pixels of this image size."""
        return self.heatmap_sigma * self.image_size / 128

    def channels(self, count: int) -> int:
        """A published channel count scaled by `width`, at least 4."""
        return scaled(count, self.width)
