"""Fréchet distances of image features: on a judge (`fd_judge`) and, where its weights are, on Inception (FID)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from fexgan_lit.errors import UserError
from fexgan_lit.files import from_home
from fexgan_lit.metrics.availability import Unavailable
from fexgan_lit.metrics.judge import JudgeNet

#: The file torch-fidelity keeps in torch.hub's checkpoint folder.
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_FEATURES = 2048


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> Tensor:
    """|mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), in double precision.

    The trace of the root is the sum of the singular values of C1^(1/2) C2^(1/2): no matrix square root is taken, and
    singular covariances (fewer images than features) lose no accuracy.

    Args:
        mu1: mean of the first Gaussian, (F,).
        cov1: its covariance, (F, F).
        mu2: mean of the second, (F,).
        cov2: its covariance, (F, F).

    Returns:
        A float64 scalar, zero or more.
    """
    mu1, cov1, mu2, cov2 = (tensor.double() for tensor in (mu1, cov1, mu2, cov2))
    trace_of_root = torch.linalg.svdvals(_root(cov1) @ _root(cov2)).sum()
    distance = (mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * trace_of_root
    return distance.clamp_min(0.0)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root; eigenvalues below rounding error count as the zeros they are."""
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    floor = values.abs().max() * values.numel() * torch.finfo(values.dtype).eps
    return (vectors * torch.where(values > floor, values, 0.0).sqrt()) @ vectors.mT


def feature_frechet_distance(features1: Tensor, features2: Tensor) -> float:
    """Fréchet distance of two sets of feature vectors, (N, F) and (M, F), N and M at least 2."""
    first, second = features1.double(), features2.double()
    return float(frechet_distance(first.mean(0), torch.cov(first.mT), second.mean(0), torch.cov(second.mT)))


class JudgeFrechetDistance(Metric):
    """Fréchet distance on the features of a judge; never to be reported as FID.

    Sums are kept in double precision, so memory does not grow with the number of images and ranks can be added up.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    real_n: Tensor
    real_sum: Tensor
    real_outer: Tensor
    fake_n: Tensor
    fake_sum: Tensor
    fake_outer: Tensor

    def __init__(self, net: JudgeNet, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.net = net
        size = net.feature_size
        for side in ("real", "fake"):
            self.add_state(f"{side}_n", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{side}_sum", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{side}_outer", torch.zeros(size, size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool, features: Tensor | None = None) -> None:
        """Add images (B, 3, S, S) in [-1, 1] to the real or to the generated side.

        Args:
            images: the images.
            real: which side.
            features: (B, F), when the judge has read these images already.
        """
        if features is None:
            with torch.no_grad():
                features = self.net(images).features
        features = features.detach().double()
        if real:
            self.real_n += features.shape[0]
            self.real_sum += features.sum(dim=0)
            self.real_outer += features.mT @ features
        else:
            self.fake_n += features.shape[0]
            self.fake_sum += features.sum(dim=0)
            self.fake_outer += features.mT @ features

    def compute(self) -> Tensor:
        """The distance, float64.

        Raises:
            ValueError: one side has fewer than two images, so that it has no covariance.
        """
        if self.count < 2:
            raise ValueError(
                f"a Fréchet distance needs two images a side; got {int(self.real_n)} real, {int(self.fake_n)} generated"
            )
        real = _moments(self.real_n, self.real_sum, self.real_outer)
        fake = _moments(self.fake_n, self.fake_sum, self.fake_outer)
        return frechet_distance(*real, *fake)

    @property
    def count(self) -> int:
        """Images on the smaller side."""
        return int(min(self.real_n, self.fake_n))

    @property
    def note(self) -> str | None:
        """A warning to print beside the figure, or None."""
        return small_sample_note(self.count, self.net.feature_size)


def _moments(n: Tensor, total: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased covariance from the sums of x and of x x^T."""
    mean = total / n
    return mean, (outer - n * torch.outer(mean, mean)) / (n - 1)


def small_sample_note(n: int, features: int) -> str | None:
    """What to say when a covariance of `features` dimensions was estimated from `n` images, or None when it is fine."""
    if n > features:
        return None
    return f"only {n} images for {features} feature dimensions: the distance is biased upwards, compare at equal n only"


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


def make_fid(weights_path: str | Path | None = None) -> Metric | Unavailable:
    """True FID (Inception 2048, no antialias) when its graph and weights are on this machine; nothing is downloaded.

    Args:
        weights_path: the Inception weights of torch-fidelity; None looks in torch.hub's checkpoint folder.

    Raises:
        UserError: `weights_path` is given and is no file.
    """
    path = find_inception(weights_path)
    if isinstance(path, Unavailable):
        return path
    try:
        import torch_fidelity  # noqa: F401
        from torchmetrics.image.fid import FrechetInceptionDistance

        # antialias=False: the resizing of torch-fidelity and of published FIDs, not torchmetrics' default since 1.8.
        return FrechetInceptionDistance(
            feature=INCEPTION_FEATURES, normalize=False, antialias=False, feature_extractor_weights_path=str(path)
        )
    except (ImportError, RuntimeError) as error:  # torchvision of another build than torch raises RuntimeError
        return without_fidelity(error)


def without_fidelity(error: Exception) -> Unavailable:
    """What to report where torch-fidelity, which holds the Inception graph, cannot be imported."""
    return Unavailable(f"torch-fidelity cannot be used here ({error}); install the extra: pip install fexgan_lit[fid]")


def to_bytes(images: Tensor) -> Tensor:
    """[-1, 1] floats to uint8 by rounding and clamping, as FID wants them; the shape stays."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
