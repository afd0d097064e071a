"""The network of the perceptual loss: the first layers of VGG19 or, in their place, of a judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fexgan_lit.utils.errors import UserError

#: File name of torchvision's ImageNet weights in torch hub's cache.
VGG19_FILE = "vgg19-dcbb9e9d.pth"
#: Index in torchvision's `features`, and input and output channels, of VGG19's sixteen convolutions.
VGG19_CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512), 28: (512, 512), 30: (512, 512),
    32: (512, 512), 34: (512, 512),
}  # fmt: skip
#: Mean and standard deviation of ImageNet's colours in [0, 1].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG19Start(nn.Module):
    """VGG19 up to conv1_2: the feature map before the ReLU (`conv1_2`, as in the paper) or after it (`relu1_2`)."""

    kind = "vgg19"
    mean: Tensor
    std: Tensor

    def __init__(self, layer: str = "conv1_2") -> None:
        super().__init__()
        self.conv1_1 = nn.Conv2d(3, 64, 3, padding=1)
        self.conv1_2 = nn.Conv2d(64, 64, 3, padding=1)
        self.last = nn.ReLU() if layer == "relu1_2" else nn.Identity()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))  # (3,) -> (1, 3, 1, 1)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) in [-1, 1] to features (B, 64, S, S)."""
        unit = (images + 1) / 2
        return self.last(self.conv1_2(torch.relu(self.conv1_1((unit - self.mean) / self.std))))


class JudgeStart(nn.Module):
    """A judge up to its first residual block, whose features respond to edges and textures like VGG19's first layers.

    Args:
        judge: a network with `stem`, `blocks` and `working_size`, such as `fexgan_lit.metrics.judges.affect.JudgeNet`.
    """

    kind = "judge"

    def __init__(self, judge: Any) -> None:
        super().__init__()
        self.working_size = int(judge.working_size)
        self.layers = nn.Sequential(judge.stem, judge.blocks[0])

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) in [-1, 1] to features (B, c, s/4, s/4), where s is the judge's input size."""
        return self.layers(nn.functional.adaptive_avg_pool2d(images, self.working_size))


class Perceptual:
    """The frozen network of equation 6 and its origin.

    This class is not a torch module, so that the weights of another network stay out of a system's checkpoints.

    Args:
        module: maps images (B, 3, S, S) in [-1, 1] to features (B, C, h, w), or is a judge's network; it gets frozen.
        origin: path of the weights, or the judge's description.
    """

    def __init__(self, module: nn.Module, origin: str) -> None:
        judge = hasattr(module, "stem") and hasattr(module, "blocks")
        self.module = (JudgeStart(module) if judge else module).requires_grad_(False).eval()
        self.origin = origin

    @property
    def kind(self) -> str:
        """`vgg19`, `judge` or the name of another class."""
        return str(getattr(self.module, "kind", type(self.module).__name__))

    def describe(self) -> str:
        """Return one line for the terminal and the report."""
        names = {"vgg19": "first layers of VGG19", "judge": "first maps of the judge, in place of VGG19"}
        return f"{names.get(self.kind, self.kind)} ({self.origin})"

    def to(self, device: torch.device | str) -> Perceptual:
        """Move the network to `device` and return `self`."""
        self.module.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) in [-1, 1] to features (B, C, h, w)."""
        return self.module(images)


def find_vgg19(path: str | None) -> Path | None:
    """Return the path of the weights: `path`, else the file in torch hub's cache, else None. Nothing is downloaded.

    Raises:
        UserError: `path` is given but does not exist.
    """
    if path is not None:
        given = Path(path).expanduser()
        if not given.is_file():
            raise UserError(f"model.vgg_weights={path}: there is no such file; {_how_to_get()}")
        return given
    cached = Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE
    return cached if cached.is_file() else None


def load_vgg19(path: Path, layer: str = "conv1_2") -> VGG19Start:
    """Load the first layers of VGG19 from a state dict with torchvision's names.

    Raises:
        UserError: the file is not a state dict, or belongs to another network.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds of exceptions for a damaged or foreign file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"model.vgg_weights={path} does not contain weights: {reason}; {_how_to_get()}") from error
    problem = _not_vgg19(state)
    if problem:
        raise UserError(f"model.vgg_weights={path} holds {_looks_like(state)}, not VGG19: {problem}; {_how_to_get()}")
    network = VGG19Start(layer)
    for place, convolution in ((0, network.conv1_1), (2, network.conv1_2)):
        kernel = {name: state[f"features.{place}.{name}"].float() for name in ("weight", "bias")}
        convolution.load_state_dict(kernel)
    return network


def _not_vgg19(state: Any) -> str | None:
    """Return why a state dict is not VGG19's; all convolutions are compared, since VGG16 has the same first layers."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        return f"it is not a state dict of tensors but a {type(state).__name__}"
    shapes = {str(name): tuple(value.shape) for name, value in state.items() if str(name).startswith("features.")}
    expected: dict[str, tuple[int, ...]] = {}
    expected |= {f"features.{n}.weight": (o, i, 3, 3) for n, (i, o) in VGG19_CONVOLUTIONS.items()}
    expected |= {f"features.{n}.bias": (o,) for n, (_, o) in VGG19_CONVOLUTIONS.items()}
    for name in sorted(set(expected) | set(shapes)):
        if name not in shapes:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is unexpected"
        if shapes[name] != expected[name]:
            return f"{name} is {shapes[name]}, expected {expected[name]}"
    return None


def _looks_like(state: Any) -> str:
    """Return a description of the network that a state dict probably belongs to."""
    if not isinstance(state, Mapping):
        return "no state dict"
    names = [str(name) for name in state]
    kernels = sum(getattr(value, "ndim", 0) == 4 for value in state.values())
    if any(name.startswith("layer1.0.conv1") for name in names):
        return f"a ResNet ({kernels} convolutions)"
    if not any(name.startswith("features.") for name in names):
        return f"another network ({kernels} convolutions, first entry {names[0]})" if names else "nothing"
    norm = " with batch norm" if any("running_mean" in name for name in names) else ""
    # VGG11 to VGG19 are named after their convolutions and three linear layers
    return (
        f"VGG{kernels + 3}{norm}" if kernels in (8, 10, 13, 16) else f"another network ({kernels} convolutions{norm})"
    )


def _how_to_get() -> str:
    return (
        f"expected torchvision's {VGG19_FILE} "
        '(torch.save(torchvision.models.vgg19(weights="IMAGENET1K_V1").state_dict(), FILE) writes one); '
        "model.vgg_weights=null uses the file in torch hub's cache or else the judge"
    )
