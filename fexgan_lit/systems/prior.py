"""Ex-post density estimation: a Gaussian mixture fitted to the training codes (Ghosh et al. 2020, RAE)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fexgan_lit.utils.errors import UserError


class FittedPrior(nn.Module):
    """A mixture of M Gaussians with full covariances over codes of length n; M is 0 before `fit`.

    Buffers:
        shares: (M,) mixture weights.
        means: (M, n).
        factors: (M, n, n) lower Cholesky factors of the covariances.
    """

    shares: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self._resize(0)

    def _resize(self, components: int) -> None:
        n = self.latent_size
        self.register_buffer("shares", torch.zeros(components))
        self.register_buffer("means", torch.zeros(components, n))
        self.register_buffer("factors", torch.zeros(components, n, n))

    def resize_as(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Resize the buffers to the number of components in a state dict, so that it can be loaded."""
        if f"{prefix}shares" in state:
            self._resize(len(state[f"{prefix}shares"]))

    @property
    def fitted(self) -> bool:
        """Return whether the mixture is fitted."""
        return len(self.shares) > 0

    def fit(self, codes: Tensor, components: int = 10, seed: int = 0) -> None:
        """Fit at most `components` Gaussians, one per four codes, to codes (N, n) by expectation maximisation."""
        from sklearn.mixture import GaussianMixture

        components = max(1, min(components, len(codes) // 4))
        spread = float(codes.var(0).mean())
        mixture = GaussianMixture(components, reg_covar=1e-2 * spread + 1e-6, random_state=seed, max_iter=50)
        mixture.fit(codes.double().cpu().numpy())
        self._resize(components)
        self.shares.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(mixture.covariances_)))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `n` codes (n, latent_size).

        Raises:
            UserError: the mixture is not fitted.
        """
        if not self.fitted:
            raise UserError("prior=fitted: this model has no fitted prior; training fits one at its end")
        component = torch.multinomial(self.shares.cpu(), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.latent_size, 1, generator=generator)
        # (n, L, L) @ (n, L, 1) -> (n, L)
        return self.means.cpu()[component] + (self.factors.cpu()[component] @ noise).squeeze(2)
