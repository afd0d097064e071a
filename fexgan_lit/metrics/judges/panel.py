"""The panel of judges for a data set: affect, geometry and identity, trained or the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.reference import telling_rows
from fexgan_lit.metrics.calibration import Calibration, calibration
from fexgan_lit.metrics.judges.affect import Judge, JudgeRecipe, load_or_train_judge
from fexgan_lit.metrics.judges.external import (
    ExternalJudge,
    ExternalJudgeSettings,
    OwnAffectJudge,
    OwnIdentityJudge,
    OwnUnitJudge,
)
from fexgan_lit.metrics.judges.files import load_own_judge
from fexgan_lit.metrics.judges.fitting import Progress
from fexgan_lit.metrics.judges.geometry import (
    GeometryJudge,
    can_read_geometry,
    load_or_train_geometry_judge,
    unit_errors,
)
from fexgan_lit.metrics.judges.identity import IdentityJudge, can_tell_people, load_or_train_identity_judge, recognise

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet

T = TypeVar("T")

#: Callback with (name of the judge, steps done, total steps).
BenchProgress = Callable[[str, int, int], None]

#: Accuracy below which a judge's results carry a warning.
FLOOR = 0.9
#: Most held-out frames for the evaluation of a judge.
MOST_HELD_OUT = 4096


@dataclass(frozen=True)
class OwnJudges:
    """The user's own judges, which replace the trained ones; None trains a judge."""

    affect: ExternalJudge | None = None
    aus: ExternalJudge | None = None
    identity: ExternalJudge | None = None


def load_own_judges(
    affect: ExternalJudgeSettings | None = None,
    aus: ExternalJudgeSettings | None = None,
    identity: ExternalJudgeSettings | None = None,
) -> OwnJudges:
    """Load the judges whose settings (`metrics.affect_judge`, `metrics.au_judge`, `metrics.identity_judge`) set `path`.

    Raises:
        UserError: a file is missing or not a judge, or its declaration is incomplete.
    """
    named = {"affect": ("affect_judge", affect), "aus": ("au_judge", aus), "identity": ("identity_judge", identity)}
    found = {
        place: load_own_judge(settings, f"metrics.{option}", needs_classes=place != "identity")
        for place, (option, settings) in named.items()
        if settings is not None and settings.path is not None
    }
    return OwnJudges(**found)


@dataclass
class JudgePanel:
    """All judges of a data set.

    Attributes:
        affect: judge of affects.
        geometry: judge of action units and landmarks; None if the training split has neither, or if it has no
            landmarks and the user has an action-unit judge.
        identity: judge of identity; None if the training split shows only one person.
        units: the user's action-unit judge, used in place of `geometry`.
        calibration: calibration of the affect judge on held-out frames, or None.
        absent: affects without a training frame, which a trained judge cannot predict.
        unseen: affects without a held-out frame, which the evaluation does not cover.
    """

    affect: Judge | OwnAffectJudge
    geometry: GeometryJudge | None = None
    identity: IdentityJudge | OwnIdentityJudge | None = None
    units: OwnUnitJudge | None = None
    calibration: Calibration | None = None
    absent: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def affect_logits(self, images: Tensor) -> Tensor:
        """Return affect logits (N, K) of images (N, 3, S, S) in [-1, 1], in the order of the data set's affects."""
        return self.affect.read(images).affect_logits

    def aus(self, images: Tensor) -> Tensor | None:
        """Return action units (N, 17) in [0, 1], NaN for unknown units; None without a judge of action units."""
        if self.units is not None:
            return self.units.read(images)
        return self.geometry.read(images).aus if self.geometry is not None else None

    def landmarks(self, images: Tensor) -> Tensor | None:
        """Return landmarks (N, 68, 2) in [-1, 1]; None without a judge of landmarks."""
        return self.geometry.read(images).landmarks if self.geometry is not None else None

    def embed(self, images: Tensor) -> Tensor | None:
        """Return unit-length embeddings (N, E); None without an identity judge."""
        return self.identity.embed(images) if self.identity is not None else None

    def to(self, device: torch.device | str) -> JudgePanel:
        """Move the judges to `device` and return `self`; files of users stay on the CPU."""
        for judge in (self.affect, self.geometry, self.identity):
            network = judge.judge if isinstance(judge, OwnAffectJudge | OwnIdentityJudge) else judge
            if isinstance(network, Judge | GeometryJudge | IdentityJudge | ExternalJudge):
                network.to(device)
        return self

    def describe(self) -> list[str]:
        """Return one line per judge: its origin, its accuracy, its calibration and seed."""
        sure = f"; {self.calibration.describe()}" if self.calibration is not None else ""
        lines = [f"affect: {self.affect.describe()}{sure}"]
        if self.units is not None:
            lines.append(f"action units: {self.units.describe()}")
        what = "landmarks" if self.units is not None else "geometry"
        if self.geometry is not None:
            lines.append(f"{what}: {self.geometry.describe()}")
        elif self.units is None:
            lines.append("geometry: no judge, the training split has neither action units nor landmarks")
        if self.identity is not None:
            return [*lines, f"identity: {self.identity.describe()}"]
        return [*lines, "identity: no judge, the training split shows only one person"]

    def warnings(self, floor: float = FLOOR) -> list[str]:
        """Return the warnings to print beside the metrics, one sentence each; empty if every judge is good enough.

        Args:
            floor: least accuracy and Rank-1 on held-out real frames.
        """
        return [*self._affect_warnings(floor), *self._geometry_warnings(), *self._identity_warnings(floor)]

    def _affect_warnings(self, floor: float) -> list[str]:
        found = []
        accuracy = self.affect.affect_accuracy
        if accuracy is None:
            found.append("The affect judge was not evaluated on held-out frames: its accuracy is unknown.")
        elif accuracy < floor:
            found.append(
                f"The affect judge classifies {accuracy:.1%} of real held-out frames correctly, less than {floor:.0%}: "
                "accuracy, F1 and confusion of generated faces include its mistakes; compare them only with the "
                "real frames' row."
            )
        if self.absent and isinstance(self.affect, Judge):
            found.append(f"No training frame shows {', '.join(self.absent)}: the affect judge cannot predict it.")
        if self.unseen and accuracy is not None:
            found.append(f"No held-out frame shows {', '.join(self.unseen)}: the judges were not evaluated on it.")
        return found

    def _unit_warnings(self) -> list[str]:
        judge = self.units or self.geometry
        if judge is None or judge.au_error is None or judge.au_error_of_constant is None:
            return []
        if judge.au_error >= judge.au_error_of_constant:
            return [
                f"The judge of action units is off by {judge.au_error:.3f}, a constant by "
                f"{judge.au_error_of_constant:.3f}: its estimates, and every error and strength from them, are "
                "meaningless."
            ]
        unlearnt = judge.unlearnt_units if isinstance(judge, GeometryJudge) else ()
        names = ", ".join(f"AU{unit}" for unit in unlearnt)
        return [f"{names}: the judge is no better than a constant; their errors are meaningless."] * bool(names)

    def _geometry_warnings(self) -> list[str]:
        judge, found = self.geometry, self._unit_warnings()
        if self.units is not None and self.units.au_error is None:
            found.append("Your action-unit judge was not evaluated on held-out frames: its error is unknown.")
        if judge is None:
            return found
        if not judge.n_held_out:
            return [
                *found,
                "The geometry judge was not evaluated on held-out frames: its errors are unknown.",
            ]
        error, constant = judge.landmark_error, judge.landmark_error_of_mean
        if error is not None and constant is not None and error >= constant:
            found.append(
                f"The judge of landmarks is off by {error:.1%} of the eye distance, the training mean by "
                f"{constant:.1%}: landmark errors are meaningless."
            )
        return found

    def _identity_warnings(self, floor: float) -> list[str]:
        if self.identity is None:
            return []
        if self.identity.rank1 is None:
            return ["The identity judge was not evaluated on held-out frames: its Rank-1 is unknown."]
        if self.identity.rank1 < floor:
            return [
                f"The identity judge recognises {self.identity.rank1:.1%} of real held-out frames, less than "
                f"{floor:.0%}: Rank-1, TAR and similarities of generated faces include its mistakes; compare them "
                "only with the real frames' row."
            ]
        return []


def load_or_train_judges(
    train: FrameSet,
    held_out: FrameSet | None,
    *,
    image_size: int,
    cache_dir: str | Path,
    key: str,
    seed: int = 0,
    own: OwnJudges | None = None,
    device: torch.device | str = "cpu",
    progress: BenchProgress | None = None,
) -> JudgePanel:
    """Return every judge that the data allow, from the cache or trained; the user's own judges replace trained ones.

    Args:
        train: the training split, the only data for training.
        held_out: frames for the evaluation of the judges, or None.
        image_size: size in pixels of the frames to judge.
        cache_dir: folder of the cache; created if missing.
        key: identifies the data and its split.
        seed: seed of all trainings.
        own: the user's own judges.
        device: device of the trainings and of the trained judges.
        progress: called after every training step with the judge's name.

    Raises:
        UserError: the cache folder is not writable, or a user's judge does not fit the data.
    """
    own = own or OwnJudges()
    # The user's own judges come first, so that a mismatch is reported before minutes of training.
    affect = _own_affect(own, train, held_out, image_size)
    units, identity = _own_units(own, train, held_out, image_size), _own_identity(own, held_out, image_size)

    def ready(load_or_train: Callable[..., T], name: str) -> T:
        told: Progress | None = None if progress is None else partial(progress, name)
        return load_or_train(
            train,
            held_out,
            image_size=image_size,
            cache_dir=cache_dir,
            key=key,
            seed=seed,
            device=device,
            progress=told,
        )

    panel = JudgePanel(affect or ready(load_or_train_judge, "affect"), identity=identity, units=units)
    if can_read_geometry(train) and (units is None or train.landmarks is not None):
        panel.geometry = ready(load_or_train_geometry_judge, "geometry")
    if identity is None and can_tell_people(train):
        panel.identity = ready(load_or_train_identity_judge, "identity")
    if held_out is not None and len(held_out):
        panel.calibration = judge_calibration(panel.affect, held_out, image_size)
        panel.unseen = _without_frames(held_out)
    panel.absent = _without_frames(train)
    return panel


def held_out_rows(frames: FrameSet, most: int = MOST_HELD_OUT) -> np.ndarray:
    """Return at most `most` rows of `frames`, evenly spaced, that clearly show their affect; see `telling_rows`."""
    rows = telling_rows(frames, JudgeRecipe().held_out_intensity)
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64))]


def judge_probabilities(judge: Judge | OwnAffectJudge, frames: FrameSet, size: int) -> tuple[Tensor, Tensor]:
    """Return the judge's probabilities (n, K) for `held_out_rows` of `frames`, and their true affects (n,) int64."""
    rows = held_out_rows(frames)
    chunks = np.array_split(rows, -(-len(rows) // 256))
    logits = torch.cat([judge.read(frames.floats(chunk, size)).affect_logits for chunk in chunks])
    return logits.double().softmax(dim=1), torch.from_numpy(frames.affect[rows])


def judge_calibration(judge: Judge | OwnAffectJudge, frames: FrameSet, size: int) -> Calibration:
    """Return the calibration of an affect judge on real frames at `size` px."""
    return calibration(*judge_probabilities(judge, frames, size))


def _without_frames(frames: FrameSet) -> tuple[str, ...]:
    return tuple(name for k, name in enumerate(frames.affects) if not (frames.affect == k).any())


def _own_affect(own: OwnJudges, train: FrameSet, held_out: FrameSet | None, size: int) -> OwnAffectJudge | None:
    if own.affect is None:
        return None
    judge = OwnAffectJudge.of(own.affect, train.affects)
    if held_out is not None and len(held_out):
        found = judge_calibration(judge, held_out, size)
        judge.affect_accuracy, judge.n_held_out = found.accuracy, found.n
    return judge


def _own_units(own: OwnJudges, train: FrameSet, held_out: FrameSet | None, size: int) -> OwnUnitJudge | None:
    if own.aus is None:
        return None
    judge = OwnUnitJudge.of(own.aus)
    if held_out is not None and held_out.aus is not None and len(held_out):
        rows = held_out_rows(held_out)
        truth = held_out.aus[rows]
        chunks = np.array_split(rows, -(-len(rows) // 256))
        read = torch.cat([judge.read(held_out.floats(chunk, size)) for chunk in chunks]).numpy()
        judge.au_errors = unit_errors(read, truth)
        judge.n_held_out = len(rows)
        if train.aus is not None:
            answers = (train.aus.mean(axis=0), np.median(train.aus, axis=0))
            judge.au_errors_of_constant = [
                min(pair) for pair in zip(*(unit_errors(a, truth) for a in answers), strict=True)
            ]
    return judge


def _own_identity(own: OwnJudges, held_out: FrameSet | None, size: int) -> OwnIdentityJudge | None:
    if own.identity is None:
        return None
    judge = OwnIdentityJudge.of(own.identity)
    found = recognise(judge, held_out, size) if held_out is not None else None
    if found is not None:
        judge.rank1, judge.n_held_out = found.rank1, found.n_probes
    return judge
