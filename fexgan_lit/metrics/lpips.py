"""LPIPS (Zhang et al. 2018): a perceptual distance of two images in the features of AlexNet or VGG16."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from fexgan_lit.metrics.judges.files import Unavailable, check_shapes, read_state
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import from_home

#: File names of torchvision's ImageNet weights in torch hub's cache.
BACKBONE_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
#: Channels of the five compared feature maps.
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
#: End of each of the five feature maps in torchvision's `features` (after a ReLU).
_ENDS = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30)}
#: Mean and standard deviation of ImageNet's colours, for images in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_BACKBONE, _HEADS = "metrics.lpips_backbone", "metrics.lpips_heads"


class Lpips(nn.Module):
    """The LPIPS distance (version 0.1, linear heads), frozen, with random weights until weights are loaded.

    Args:
        net: `alex`, recommended by the authors for evaluation, or `vgg`.
        origin: origin of the weights, for the recipe.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex", origin: str = "random weights") -> None:
        super().__init__()
        if net not in CHANNELS:
            raise UserError(f"LPIPS has no network '{net}'; expected one of {', '.join(CHANNELS)}")
        self.net, self.origin = net, origin
        self.features = nn.Sequential(*(_alexnet() if net == "alex" else _vgg16()))
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1, bias=False) for channels in CHANNELS[net])
        for weights in self.heads.parameters():
            nn.init.uniform_(weights)  # a distance has no negative weights
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))  # (3,) -> (1, 3, 1, 1)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (B,) of images (B, 3, S, S) in [-1, 1]; identical images have distance 0."""
        x = (torch.cat((a, b)).float() - self.shift) / self.scale  # (2B, 3, S, S), one forward pass for both
        total = torch.zeros(len(a), device=x.device)
        begin = 0
        for end, head in zip(_ENDS[self.net], self.heads, strict=True):
            x, begin = self.features[begin:end](x), end
            unit = x * (x.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt()  # normalise each pixel's feature vector
            first, second = unit.chunk(2)
            total = total + head((first - second).square()).mean(dim=(1, 2, 3))
        return total

    def recipe(self, size: int) -> str:
        """Return one line on the computation at `size` pixels, for reports."""
        return f"LPIPS 0.1, {self.net}, [-1, 1] floats at {size} px, not resized; {self.origin}; mean over images"


def make_lpips(
    net: str = "alex", backbone: str | Path | None = None, heads: str | Path | None = None
) -> Lpips | Unavailable:
    """Return LPIPS if its weights are on this machine; nothing is downloaded.

    Args:
        net: `alex` or `vgg`.
        backbone: path of torchvision's weights; None looks in torch hub's cache.
        heads: path of the linear heads, in the authors' and torchmetrics' format; None uses torchmetrics' heads.

    Raises:
        UserError: a path does not exist or holds the weights of another network.
    """
    lpips = Lpips(net)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILES[net]
    body = cached if backbone is None else Path(backbone).expanduser()
    if backbone is None and not cached.is_file():
        return Unavailable(f"found no weights of LPIPS's network at {from_home(cached)}; give {_BACKBONE}=PATH")
    shipped = shipped_heads(net)
    if heads is None and shipped is None:
        return Unavailable(f"torchmetrics ships no heads of LPIPS for {net}; give {_HEADS}=PATH")
    top = shipped if heads is None and shipped is not None else Path(str(heads)).expanduser()
    _load_backbone(lpips, body)
    _load_heads(lpips, top)
    lpips.origin = f"{body.name}, heads {top.name}"
    return lpips


def shipped_heads(net: str) -> Path | None:
    """Return the path of the heads in torchmetrics, or None where torchmetrics has none."""
    import torchmetrics

    path = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / f"{net}.pth"
    return path if path.is_file() else None


def _load_backbone(lpips: Lpips, path: Path) -> None:
    expected = f"torchvision's {BACKBONE_FILES[lpips.net]}"
    state = read_state(path, _BACKBONE, expected)
    found = {name.removeprefix("features."): t for name, t in state.items() if name.startswith("features.")}
    check_shapes(found, lpips.features.state_dict(), f"{_BACKBONE}={path}", expected)
    lpips.features.load_state_dict(found)


def _load_heads(lpips: Lpips, path: Path) -> None:
    expected = f"the heads of LPIPS for {lpips.net}: lin0.model.1.weight (1, {CHANNELS[lpips.net][0]}, 1, 1) to lin4"
    state = read_state(path, _HEADS, expected)
    names = {f"lin{i}.model.1.weight": f"{i}.weight" for i in range(len(lpips.heads))}
    wanted = {name: lpips.heads.state_dict()[own] for name, own in names.items()}
    check_shapes(state, wanted, f"{_HEADS}={path}", expected)
    lpips.heads.load_state_dict({own: state[name] for name, own in names.items()})


def _alexnet() -> Iterator[nn.Module]:
    """Yield the layers of torchvision's `features` up to the last ReLU."""
    yield from (nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2))
    yield from (nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2))
    for channels_in, channels_out in ((192, 384), (384, 256), (256, 256)):
        yield from (nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU())


def _vgg16() -> Iterator[nn.Module]:
    """Yield the layers of torchvision's `features` up to the last ReLU."""
    channels = 3
    for group, (width, convolutions) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if group:
            yield nn.MaxPool2d(2)
        for _ in range(convolutions):
            yield from (nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
            channels = width
