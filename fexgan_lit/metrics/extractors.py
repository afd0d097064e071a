"""Feature extractors for the distribution metrics: a judge's network, and Inception for FID."""

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

#: File name of torch-fidelity's weights in torch.hub's checkpoint folder.
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_OPTION = "metrics.inception_weights"


class Features(NamedTuple):
    """Output of an extractor for a batch.

    Attributes:
        features: (B, F) float32.
        class_probabilities: (B, C) float32, rows sum to 1, or None where the network has no classes.
    """

    features: Tensor
    class_probabilities: Tensor | None


class FeatureExtractor(nn.Module):
    """Base class of the extractors: frozen networks from images to features.

    Attributes:
        name: suffix of the metrics' names; `inception` gives the metrics of the literature.
        title: name in reports.
        feature_size: length F of a feature vector.
        resizer: description of the resizing and quantisation of images.
    """

    name: str
    title: str
    feature_size: int
    resizer: str

    @abstractmethod
    def preprocess(self, images: Tensor) -> Tensor:
        """Convert images (B, 3, S, S) in [-1, 1] to the network's input."""

    @abstractmethod
    def read(self, prepared: Tensor) -> Features:
        """Return the features of the output of `preprocess`."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Return the features of images (B, 3, S, S) in [-1, 1]."""
        return self.read(self.preprocess(images))

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in evaluation mode, even if a parent module enters training mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.parameters()).device

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights and preprocessing, 64 hex digits; only features with equal fingerprints are comparable."""
        digest = hashlib.sha256(json.dumps([self.name, self.feature_size, self.resizer]).encode())
        for name, tensor in sorted(self.state_dict().items()):
            values = tensor.detach().cpu().contiguous().flatten()
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(values.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        """Return one line for the metrics' recipes."""
        return f"{self.title}, {self.feature_size} features, {self.resizer}, weights {self.fingerprint[:8]}"


class JudgeExtractor(FeatureExtractor):
    """The features of a judge, and its affect probabilities.

    Args:
        net: the judge's network; it gets frozen.
    """

    name, title = "judge", "judge"

    def __init__(self, net: JudgeNet) -> None:
        super().__init__()
        self.net = net.freeze()
        self.feature_size = net.feature_size
        self.resizer = f"averaged to {net.working_size} px, [-1, 1] floats, no quantisation"

    def preprocess(self, images: Tensor) -> Tensor:
        """Return float images; the network resizes them itself."""
        return images.float()

    def read(self, prepared: Tensor) -> Features:
        """Return features and the probabilities of the K affects."""
        reading = self.net(prepared)
        return Features(reading.features, reading.affect_logits.softmax(dim=1))


class InceptionExtractor(FeatureExtractor):
    """Inception as in published FIDs: the graph of torch-fidelity with pool features and unbiased logits.

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
        """Return uint8 images of the same size; the network itself resizes them, in floats."""
        return to_bytes(images.float())

    def read(self, prepared: Tensor) -> Features:
        """Return pool features and the probabilities of the 1008 classes."""
        features, logits = self.net(prepared)
        return Features(features, logits.softmax(dim=1))


def make_inception(weights_path: str | Path | None = None) -> InceptionExtractor | Unavailable:
    """Return Inception if its graph and weights are on this machine; nothing is downloaded.

    Args:
        weights_path: path of the weights; None looks in torch.hub's checkpoint folder.

    Raises:
        UserError: `weights_path` does not exist or holds the weights of another network.
    """
    path = find_inception(weights_path)
    if isinstance(path, Unavailable):
        return path
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch raises RuntimeError
        return Unavailable(
            f"torch-fidelity cannot be used here ({error}); install the extra: pip install fexgan_lit[fid]"
        )
    return InceptionExtractor(_inception_graph(FeatureExtractorInceptionV3, path))


def _inception_graph(graph: Any, path: Path) -> nn.Module:
    """Return torch-fidelity's network with the weights in `path`."""
    # torch-fidelity loads the file with full pickle support; reading it in safe mode first excludes code in the file.
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
    """Return the path of the Inception weights: `weights_path`, else the file in torch.hub's checkpoint folder.

    Raises:
        UserError: `weights_path` does not exist.
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
    return Unavailable(f"found no Inception weights at {from_home(cached)}; give metrics.inception_weights=PATH")


def to_bytes(images: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to uint8 by rounding and clamping, as FID requires; the shape stays the same."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
