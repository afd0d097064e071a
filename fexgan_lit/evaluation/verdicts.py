"""Scorers on the judge's verdict and on the discriminator's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from fexgan_lit.systems.base import Outcome

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judge import Judge


class Verdicts:
    """What the judge reads: the affect against the asked one, the identity against the source's.

    Args:
        judge: trained on the training split only.
        where: what the recipes say of the frames.
    """

    def __init__(self, judge: Judge, where: str) -> None:
        self.judge = judge
        self.where = where
        K = len(judge.affects)
        self.confusion = np.zeros((K, K), np.int64)
        self._affect: list[np.ndarray] = []
        self._identity: list[np.ndarray] = []

    def update(self, batch: PairBatch, generated: Tensor, outcome: Outcome | None) -> None:
        """See `Scorer`."""
        reading = self.judge.read(generated)
        asked, seen = batch.target_affect.cpu().numpy(), reading.affect.numpy()
        np.add.at(self.confusion, (asked, seen), 1)
        self._affect.append(seen == asked)
        self._identity.append(reading.identity.numpy() == batch.identity.cpu().numpy())

    def columns(self) -> dict[str, np.ndarray]:
        """Whether the judge reads each pair as it should, 0 or 1."""
        return {"affect_as_asked": _joined(self._affect), "identity_kept": _joined(self._identity)}

    def numbers(self) -> dict[str, float]:
        """None."""
        return {}

    def recipes(self) -> dict[str, str]:
        """See `Scorer`."""
        seen = f"images averaged to {self.judge.net.working_size} px; {self.judge.describe()}; {self.where}"
        return {
            "affect_as_asked": f"share of faces whose affect the judge reads as asked; {seen}",
            "identity_kept": f"share of faces whose identity the judge reads as the source's; {seen}",
        }

    def notes(self) -> dict[str, str]:
        """None."""
        return {}


class Discriminator:
    """The columns of the papers' Table 1, where the system's discriminator has them."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._right: dict[str, list[np.ndarray]] = {}

    def update(self, batch: PairBatch, generated: Tensor, outcome: Outcome | None) -> None:
        """See `Scorer`."""
        if outcome is None:
            return
        if outcome.calibrated:
            self._add("d_real_binary", outcome.real_realness > 0)
            self._add("d_fake_binary", outcome.fake_realness <= 0)
        for name, logits, affect in (
            ("d_real_affect", outcome.real_affect, batch.source_affect),
            ("d_fake_affect", outcome.fake_affect, batch.target_affect),
        ):
            if logits is not None:
                self._add(name, logits.argmax(1) == affect)

    def _add(self, name: str, right: Tensor) -> None:
        self._right.setdefault(name, []).append(right.flatten().cpu().numpy())

    def columns(self) -> dict[str, np.ndarray]:
        """Whether the discriminator is right, 0 or 1."""
        return {name: _joined(parts) for name, parts in self._right.items()}

    def numbers(self) -> dict[str, float]:
        """None."""
        return {}

    def recipes(self) -> dict[str, str]:
        """See `Scorer`."""
        told = "argmax of the discriminator's class head"
        lines = {
            "d_real_binary": "share of sources the discriminator takes for real (logit above 0)",
            "d_fake_binary": "share of generated faces it takes for generated (logit 0 or less)",
            "d_real_affect": f"share of sources whose affect it names; {told}",
            "d_fake_affect": f"share of generated faces it names as asked, as equation 6 trains it to; {told}",
        }
        return {name: f"{lines[name]}; {self.where}" for name in self._right}

    def notes(self) -> dict[str, str]:
        """Why columns are missing."""
        if self._right and "d_real_binary" not in self._right:
            return {"discriminator": "a critic's score has no threshold, so it takes no share of faces for real"}
        return {}


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One value a pair, as float."""
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)
