"""Networks whose features stand for faces when distributions are compared: a judge's, and Inception for true FID."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from contextlib import redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.metrics.judges.affect import JudgeNet
from fexgan_lit.metrics.judges.files import Unavailable, read_state
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import from_home

#: The file torch-fidelity keeps in torch.hub's checkpoint folder.
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_OPTION = "metrics.inception_weights"


class Features(NamedTuple):
    """What an extractor sees in a batch.

    Attributes:
        features: (B, F) float32.
        class_probabilities: (B, C) float32, rows sum to 1, or None where the network names no classes.
    """

    features: Tensor
    class_probabilities: Tensor | None


class FeatureExtractor(nn.Module):
    """Base of all extractors: frozen, images in, features out.

    Attributes:
        name: short, ends the names of the metrics; `inception` gives the metrics of the literature.
        title: for reports.
        feature_size: F.
        resizer: in words, how images come to the size the network works at, and how they are quantised.
    """

    name: str
    title: str
    feature_size: int
    resizer: str

    @abstractmethod
    def preprocess(self, images: Tensor) -> Tensor:
        """What the network is given for images (B, 3, S, S) in [-1, 1]."""

    @abstractmethod
    def read(self, prepared: Tensor) -> Features:
        """The features of what `preprocess` gave."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """The features of images (B, 3, S, S) in [-1, 1]."""
        return self.read(self.preprocess(images))

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in evaluation mode, also when a parent module is put in training mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights and recipe, 64 hex digits: features of one fingerprint may be compared."""
        digest = hashlib.sha256(json.dumps([self.name, self.feature_size, self.resizer]).encode())
        for name, tensor in sorted(self.state_dict().items()):
            values = tensor.detach().cpu().contiguous().flatten()
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(values.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        """One line for recipes."""
        return f"{self.title}, {self.feature_size} features, {self.resizer}, weights {self.fingerprint[:8]}"


class JudgeExtractor(FeatureExtractor):
    """The features of a judge and its affects' probabilities.

    Args:
        net: the judge's network; it is frozen.
    """

    name, title = "judge", "judge"

    def __init__(self, net: JudgeNet) -> None:
        super().__init__()
        self.net = net.freeze()
        self.feature_size = net.feature_size
        self.resizer = f"averaged to {net.working_size} px, [-1, 1] floats, no quantisation"

    def preprocess(self, images: Tensor) -> Tensor:
        """Floats; the network resizes by itself."""
        return images.float()

    def read(self, prepared: Tensor) -> Features:
        """Features and the probabilities of the K affects."""
        reading = self.net(prepared)
        return Features(reading.features, reading.affect_logits.softmax(dim=1))


class InceptionExtractor(FeatureExtractor):
    """Inception as published FIDs use it: the graph of torch-fidelity, pool features and the unbiased logits.

    Args:
        net: torch-fidelity's extractor with the features `2048` and `logits_unbiased`.
    """

    name, title = "inception", "Inception (TensorFlow's of 2015)"
    feature_size = 2048
    resizer = "rounded and clamped to uint8, TensorFlow 1's bilinear to 299 px, no antialias"

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 of the same size; the graph itself resizes, in floats."""
        return to_bytes(images.float())

    def read(self, prepared: Tensor) -> Features:
        """Pool features and the probabilities of the 1008 outputs."""
        features, logits = self.net(prepared)
        return Features(features, logits.softmax(dim=1))


def make_inception(weights_path: str | Path | None = None) -> InceptionExtractor | Unavailable:
    """Inception when its graph and weights are on this machine; nothing is downloaded.

    Args:
        weights_path: the weights; None looks in torch.hub's checkpoint folder.

    Raises:
        UserError: `weights_path` is given and is no file, or holds the weights of another network.
    """
    path = find_inception(weights_path)
    if isinstance(path, Unavailable):
        return path
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # torchvision of another build than torch raises RuntimeError
        return Unavailable(
            f"torch-fidelity cannot be used here ({error}); install the extra: pip install fexgan_lit[fid]"
        )
    return InceptionExtractor(_inception_graph(FeatureExtractorInceptionV3, path))


def _inception_graph(graph: Any, path: Path) -> nn.Module:
    """torch-fidelity's network with the weights in `path`."""
    # The library reads the file in a way that could run code in it; having read it safely first rules that out.
    read_state(path, _INCEPTION_OPTION, INCEPTION_FILE)
    try:
        with redirect_stdout(StringIO()):
            return graph("inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path))
    except RuntimeError as error:
        reasons = "; ".join(line.strip()[:200] for line in str(error).splitlines()[1:3])
        raise UserError(
            f"{_INCEPTION_OPTION}={path} holds the weights of another network: {reasons}; expected {INCEPTION_FILE}"
        ) from error


def find_inception(weights_path: str | Path | None = None) -> Path | Unavailable:
    """The file of the Inception weights: `weights_path`, else torch-fidelity's in torch.hub's checkpoint folder.

    Raises:
        UserError: `weights_path` is given and is no file.
    """
    if weights_path is not None:
        given = Path(weights_path).expanduser()
        if not given.is_file():
            raise UserError(
                f"metrics.inception_weights: there is no file {weights_path}. Give the path of {INCEPTION_FILE}."
            )
        return given
    cached = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if cached.is_file():
        return cached
    return Unavailable(f"Inception weights are not at {from_home(cached)}; give metrics.inception_weights=PATH")


def to_bytes(images: Tensor) -> Tensor:
    """[-1, 1] floats to uint8 by rounding and clamping, as FID wants them; the shape stays."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
