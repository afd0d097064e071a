"""Scorers on the judge's verdict and on the discriminator's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.metrics.expression_scores import f1_per_affect, landmark_distances
from fexgan_lit.metrics.judge import JudgeReading
from fexgan_lit.systems.base import Outcome

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.judge import Judge
    from fexgan_lit.metrics.judges import JudgeBench
    from fexgan_lit.metrics.own_judges import OwnAffectJudge


class Verdicts:
    """What the judge reads: the affect against the asked one, and the identity where it knows the people.

    Args:
        judge: ours, trained on the training split only, or the user's own.
        where: what the recipes say of the frames.
    """

    def __init__(self, judge: Judge | OwnAffectJudge, where: str) -> None:
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
        if isinstance(reading, JudgeReading):  # a judge of the user's own knows no identities
            self._identity.append(reading.identity.numpy() == batch.identity.cpu().numpy())

    def columns(self) -> dict[str, np.ndarray]:
        """Whether the judge reads each pair as it should, 0 or 1."""
        found = {"affect_as_asked": _joined(self._affect)}
        return found | ({"identity_kept": _joined(self._identity)} if self._identity else {})

    def numbers(self) -> dict[str, float]:
        """F1 of every affect that was asked for, and their mean."""
        if not self.confusion.sum():
            return {}
        scores = f1_per_affect(torch.from_numpy(self.confusion))
        found = {f"f1_{name}": score for name, score in zip(self.judge.affects, scores.tolist(), strict=True)}
        return {"macro_f1": float(scores.nanmean())} | {k: v for k, v in found.items() if not np.isnan(v)}

    def recipes(self) -> dict[str, str]:
        """See `Scorer`."""
        seen = f"{self.judge.describe()}; {self.where}"
        lines = {
            "affect_as_asked": f"share of faces whose affect the judge reads as asked; {seen}",
            "macro_f1": f"F1 of the judge's verdicts, mean over the affects asked for (f1_*: each affect); {seen}",
            "identity_kept": f"share of faces whose identity the judge's class head reads as the source's; {seen}",
        }
        return lines if self._identity else {name: line for name, line in lines.items() if name != "identity_kept"}

    def notes(self) -> dict[str, str]:
        """None."""
        return {}


class Geometry:
    """Action units and landmarks read from the generated face, against those of the true frame."""

    def __init__(self, judges: JudgeBench, where: str) -> None:
        self.judges = judges
        self.where = where
        self._units: list[np.ndarray] = []
        self._points: list[np.ndarray] = []

    def update(self, batch: PairBatch, generated: Tensor, outcome: Outcome | None) -> None:
        """See `Scorer`."""
        if batch.target_aus is not None and (aus := self.judges.aus(generated)) is not None:
            self._units.append((aus.double() - batch.target_aus.cpu().double()).abs().numpy())  # (B, 17)
        if batch.target_landmarks is not None and (points := self.judges.landmarks(generated)) is not None:
            self._points.append(landmark_distances(points, batch.target_landmarks.cpu()).numpy())

    def columns(self) -> dict[str, np.ndarray]:
        """Mean error of the action units, and of the landmarks, of every pair."""
        found = {}
        if self._units:
            errors = np.concatenate(self._units)  # (N, 17)
            known = ~np.isnan(errors).all(1)
            found["au_error"] = np.full(len(errors), np.nan)
            found["au_error"][known] = np.nanmean(errors[known], axis=1)
        if self._points:
            found["landmark_error"] = np.concatenate(self._points)
        return found

    @property
    def unit_errors(self) -> dict[int, float]:
        """Mean absolute error by action unit; empty where they were not measured."""
        if not self._units:
            return {}
        return dict(zip(ACTION_UNITS, np.nanmean(np.concatenate(self._units), axis=0).tolist(), strict=True))

    def numbers(self) -> dict[str, float]:
        """Error of every action unit."""
        return {f"au_error_au{unit:02d}": error for unit, error in self.unit_errors.items() if not np.isnan(error)}

    def recipes(self) -> dict[str, str]:
        """See `Scorer`."""
        lines = {}
        geometry = self.judges.units or self.judges.geometry
        if self._units and geometry is not None:
            lines["au_error"] = (
                "mean absolute difference of 17 action units in 0..1, read from the generated face, to those of the "
                f"true frame; {geometry.describe()}; {self.where}"
            )
        if self._points and self.judges.geometry is not None:
            lines["landmark_error"] = (
                "mean distance of 68 landmarks read from the generated face to those of the true frame, by the "
                f"distance of the outer eye corners; {self.judges.geometry.describe()}; {self.where}"
            )
        return lines

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
