"""Options of the networks, including every choice that the paper leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.systems.layers import WIDTH, scaled
from fexgan_lit.utils.options import Options, option

#: Sources of the perceptual network, and the places its map may be taken from.
PERCEPTUAL, PERCEPTUAL_LAYERS = ("auto", "vgg19", "judge"), ("conv1_2", "relu1_2")


@dataclass
class LandmarkLabelSettings(Options):
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

    section = "model"

    name: str = "landmark_label"
    image_size: int = option(128, choices=IMAGE_SIZES)
    width: float = option(1.0, **WIDTH)
    blocks: int = option(9, at_least=1, at_most=256)
    dropout: float = option(0.5, "a rate in [0, 1)", at_least=0, below=1)
    initialise: bool = True
    label_maps: bool = True
    source_heatmaps: bool = False
    heatmap_sigma: float = option(2.0, "a positive number of pixels at 128 px", above=0)
    batch_norm_before_sigmoid: bool = True
    leaky_slope: float = option(0.2, "a slope in [0, 1)", at_least=0, below=1)
    perceptual: str = option("auto", choices=PERCEPTUAL)
    perceptual_layer: str = option("conv1_2", choices=PERCEPTUAL_LAYERS)
    vgg_weights: str | None = None

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
