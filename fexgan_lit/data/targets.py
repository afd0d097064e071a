"""Selection of target frames: by (identity, affect), by the exact counterpart of a source, or any frame."""

from __future__ import annotations

import copy

import numpy as np

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.utils.errors import UserError

#: If no frame of a cell reaches the minimum intensity, frames within this share of the strongest one are used.
_NEAR_STRONGEST = 0.95


class TargetCells:
    """Frames eligible as targets, indexed by cell; a cell is one (identity, affect).

    Args:
        frames: a split.
        min_intensity: minimum intensity (0..1) of a target; neutral frames are always eligible.

    Attributes:
        relaxed: cells without a frame of that intensity, as "identity/affect (strongest 0.31)"; their strongest frames
            are used instead.

    Raises:
        UserError: `min_intensity` is positive and the data set has no intensities.
    """

    def __init__(self, frames: FrameSet, min_intensity: float = 0.0) -> None:
        self._identity = frames.identity
        self._shape = (len(frames.identities), len(frames.affects))
        self._cell = frames.identity * self._shape[1] + frames.affect  # (n,)
        eligible, self.relaxed = _eligible(frames, self._cell, min_intensity)
        self._arrange(np.arange(len(frames)), np.flatnonzero(eligible))

    def within(self, rows: np.ndarray) -> TargetCells:
        """Return the same rule restricted to targets among `rows` (m,) of the split, ascending.

        An affect is not drawn for an identity if none of its targets is in `rows`. If `rows` holds no target of an
        identity at all, all of its frames in `rows` are used, whatever their intensity.
        """
        eligible = self._eligible_of(rows)
        shown = np.zeros(self.frames_per_cell.size, bool)
        shown[self._cell[eligible]] = True
        alone = ~np.isin(self._identity[rows], self._identity[eligible])
        some = copy.copy(self)
        some._arrange(rows[shown[self._cell[rows]] | alone], np.concatenate([eligible, rows[alone]]))
        return some

    def _eligible_of(self, rows: np.ndarray) -> np.ndarray:
        """Return those of `rows` (m,) that are eligible, in order."""
        eligible = np.zeros(len(self._cell), bool)
        eligible[self._rows] = True
        return rows[eligible[rows]]

    def _arrange(self, rows: np.ndarray, eligible: np.ndarray) -> None:
        """Set up sampling: affects by their frequency in `rows` (m,), targets from the rows `eligible` (e,)."""
        shape = self._shape
        self.frames_per_cell = np.bincount(self._cell[rows], minlength=shape[0] * shape[1]).reshape(shape)
        cell = self._cell[eligible]
        self._rows = eligible[np.argsort(cell, kind="stable")]  # eligible rows, sorted by cell
        self._count = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
        self._start = (np.cumsum(self._count) - self._count.ravel()).reshape(shape)
        self._cumulative = np.cumsum(self.frames_per_cell, axis=1)  # (I, K)
        has = self.frames_per_cell > 0
        self._affects = has.sum(1)  # (I,) number of affects of an identity
        self._affect_list = np.argsort(~has, axis=1, kind="stable")  # (I, K) the affects it has come first, in order
        self._rank = np.cumsum(has, axis=1) - 1  # (I, K) position of an affect in that list

    @property
    def eligible(self) -> np.ndarray:
        """Eligible rows of the split, int64, ascending."""
        return np.sort(self._rows)

    def uniform_affect(self, rng: np.random.Generator, identity: np.ndarray) -> np.ndarray:
        """Draw an affect for each identity (B,), uniformly from the affects it has; (B,)."""
        return self._affect_list[identity, _below(rng, self._affects[identity])]

    def frequent_affect(self, rng: np.random.Generator, identity: np.ndarray) -> np.ndarray:
        """Draw an affect for each identity (B,), in proportion to its number of frames; (B,)."""
        ticket = _below(rng, self._cumulative[identity, -1])
        return (self._cumulative[identity] <= ticket[:, None]).sum(1)

    def has_other(self, identity: np.ndarray, affect: np.ndarray) -> np.ndarray:
        """Return a (B,) bool: whether the identity has an affect besides `affect`."""
        return self._affects[identity] - (self.frames_per_cell[identity, affect] > 0) > 0

    def other_affect(self, rng: np.random.Generator, identity: np.ndarray, affect: np.ndarray) -> np.ndarray:
        """Draw an affect other than `affect` for each identity, uniformly; the identity must have `affect`; (B,)."""
        step = 1 + _below(rng, self._affects[identity] - 1)
        return self._affect_list[identity, (self._rank[identity, affect] + step) % self._affects[identity]]

    def sample(self, rng: np.random.Generator, source: np.ndarray, uniform: bool) -> np.ndarray:
        """Draw a target row (B,) int64 for each row `source`, its affect drawn uniformly or by frequency."""
        draw_affect = self.uniform_affect if uniform else self.frequent_affect
        return self.draw(rng, source, draw_affect(rng, self._identity[source]))

    def draw(self, rng: np.random.Generator, source: np.ndarray, affect: np.ndarray) -> np.ndarray:
        """Draw an eligible frame of the source's identity and of `affect`, uniformly; (B,) int64 rows."""
        identity = self._identity[source]
        return self._rows[self._start[identity, affect] + _below(rng, self._count[identity, affect])]


class ExactTargets(TargetCells):
    """Targets that share the source's character, pose, gaze and light; the studios draw each moment with every affect.

    Args:
        frames: a split with `moment`.
        min_intensity: minimum intensity (0..1), where a moment has several frames of an affect.

    Raises:
        UserError: the frames have no moments, or a moment lacks an affect that its identity has.
    """

    def __init__(self, frames: FrameSet, min_intensity: float = 0.0) -> None:
        super().__init__(frames, min_intensity)
        if frames.moment is None:
            raise UserError(
                "dataset.targets=exact: these frames have no counterparts that differ only in the expression; "
                "only the studios draw them. Use dataset=studio_cartoon (or _human, _mixed), or dataset.targets=random."
            )
        moments, self._moment = np.unique(frames.moment, return_inverse=True)
        self._row = np.full((len(moments), len(frames.affects)), -1, np.int64)  # (M, K)
        strength = np.zeros(len(frames)) if frames.intensity is None else frames.intensity
        weakest_first = np.argsort(strength, kind="stable")  # later rows overwrite earlier ones
        self._row[self._moment[weakest_first], frames.affect[weakest_first]] = weakest_first
        torn = (self._row[self._moment] < 0) & (self.frames_per_cell[frames.identity] > 0)
        if torn.any():
            raise UserError(
                f"dataset.targets=exact: {int(torn.any(1).sum())} of {len(frames)} frames lack the counterpart of "
                "some affect, because the split divided their moments; use dataset.split=take or identity."
            )

    def draw(self, rng: np.random.Generator, source: np.ndarray, affect: np.ndarray) -> np.ndarray:
        """Return the strongest frame of `affect` at the moment of each row `source`, (B,) int64; nothing is random."""
        return self._row[self._moment[source], affect]


class AnyTargets(TargetCells):
    """Any eligible frame, whatever its identity: for systems that use only the expression of a target."""

    def within(self, rows: np.ndarray) -> TargetCells:
        """Return the same rule restricted to targets among `rows` (m,); if none is eligible, all of `rows` are used."""
        eligible = self._eligible_of(rows)
        some = copy.copy(self)
        some._arrange(rows, eligible if len(eligible) else rows)
        return some

    def sample(self, rng: np.random.Generator, source: np.ndarray, uniform: bool) -> np.ndarray:
        """Draw (B,) int64 rows uniformly from all eligible frames, as the papers of unpaired systems do."""
        return self._rows[_below(rng, np.full(len(source), len(self._rows)))]


def _below(rng: np.random.Generator, count: np.ndarray) -> np.ndarray:
    """Draw (B,) int64 values uniformly from 0 <= value < count."""
    return (rng.random(len(count)) * count).astype(np.int64)


def _eligible(frames: FrameSet, cell: np.ndarray, minimum: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the eligible rows as (n,) bool, and the cells whose frames are all weaker than `minimum`."""
    if minimum <= 0:
        return np.ones(len(frames), bool), ()
    if frames.intensity is None:
        raise UserError(
            f"dataset.min_target_intensity={minimum}: this data set has no intensities; "
            "give dataset.annotations=FILE.csv with a column 'intensity' (0..1), or set it to 0."
        )
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else -1
    strength = np.nan_to_num(frames.intensity, nan=0.0)
    eligible = (frames.affect == neutral) | (strength >= minimum)
    relaxed = []
    for number in np.setdiff1d(cell, cell[eligible]):
        rows = np.flatnonzero(cell == number)
        strongest = float(strength[rows].max())
        eligible[rows[strength[rows] >= _NEAR_STRONGEST * strongest]] = True
        identity, affect = divmod(int(number), len(frames.affects))
        relaxed.append(f"{frames.identities[identity]}/{frames.affects[affect]} (strongest {strongest:.2f})")
    return eligible, tuple(relaxed)
