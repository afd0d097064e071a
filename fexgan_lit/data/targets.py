"""Which frames may be targets: those of a cell, one (identity, affect), a studio's exact counterparts, or any."""

from __future__ import annotations

import copy

import numpy as np

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.utils.errors import UserError

#: Where no frame of a cell is strong enough, those within this share of its strongest one stand in.
_NEAR_STRONGEST = 0.95


class TargetCells:
    """Frames eligible as targets, addressable by (identity, affect).

    Args:
        frames: a split.
        min_intensity: weaker frames (0..1) are not eligible; neutral frames always are.

    Attributes:
        relaxed: cells without a frame that strong, as "identity/affect (strongest 0.31)"; their strongest frames
            stand in.

    Raises:
        UserError: a minimum where the data set knows no intensities.
    """

    def __init__(self, frames: FrameSet, min_intensity: float = 0.0) -> None:
        self._identity = frames.identity
        self._shape = (len(frames.identities), len(frames.affects))
        self._cell = frames.identity * self._shape[1] + frames.affect  # (n,)
        eligible, self.relaxed = _eligible(frames, self._cell, min_intensity)
        self._arrange(np.arange(len(frames)), np.flatnonzero(eligible))

    def within(self, rows: np.ndarray) -> TargetCells:
        """The same rule with no other targets than those among `rows` (m,) of the split, ascending.

        An affect of which none of an identity's targets are among them is not drawn for that identity; and where no
        target of an identity is among them, its frames that are, whatever their intensity, stand in.
        """
        eligible = self._eligible_of(rows)
        shown = np.zeros(self.frames_per_cell.size, bool)
        shown[self._cell[eligible]] = True
        alone = ~np.isin(self._identity[rows], self._identity[eligible])
        some = copy.copy(self)
        some._arrange(rows[shown[self._cell[rows]] | alone], np.concatenate([eligible, rows[alone]]))
        return some

    def _eligible_of(self, rows: np.ndarray) -> np.ndarray:
        """Those of `rows` (m,) that may be targets, in order."""
        eligible = np.zeros(len(self._cell), bool)
        eligible[self._rows] = True
        return rows[eligible[rows]]

    def _arrange(self, rows: np.ndarray, eligible: np.ndarray) -> None:
        """Draw affects as the frames `rows` (m,) show them, and targets from the rows `eligible` (e,)."""
        shape = self._shape
        self.frames_per_cell = np.bincount(self._cell[rows], minlength=shape[0] * shape[1]).reshape(shape)
        cell = self._cell[eligible]
        self._rows = eligible[np.argsort(cell, kind="stable")]  # eligible rows, cell after cell
        self._count = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
        self._start = (np.cumsum(self._count) - self._count.ravel()).reshape(shape)
        self._cumulative = np.cumsum(self.frames_per_cell, axis=1)  # (I, K)
        has = self.frames_per_cell > 0
        self._affects = has.sum(1)  # (I,) affects an identity has
        self._affect_list = np.argsort(~has, axis=1, kind="stable")  # (I, K) those first, in order
        self._rank = np.cumsum(has, axis=1) - 1  # (I, K) place of an affect in that list

    @property
    def eligible(self) -> np.ndarray:
        """Rows of the split that may be targets, ascending, int64."""
        return np.sort(self._rows)

    def uniform_affect(self, rng: np.random.Generator, identity: np.ndarray) -> np.ndarray:
        """(B,) an affect of each identity (B,), all equally likely."""
        return self._affect_list[identity, _below(rng, self._affects[identity])]

    def frequent_affect(self, rng: np.random.Generator, identity: np.ndarray) -> np.ndarray:
        """(B,) an affect of each identity, as likely as it has frames of it."""
        ticket = _below(rng, self._cumulative[identity, -1])
        return (self._cumulative[identity] <= ticket[:, None]).sum(1)

    def has_other(self, identity: np.ndarray, affect: np.ndarray) -> np.ndarray:
        """(B,) bool: whether the identity has an affect besides `affect`."""
        return self._affects[identity] - (self.frames_per_cell[identity, affect] > 0) > 0

    def other_affect(self, rng: np.random.Generator, identity: np.ndarray, affect: np.ndarray) -> np.ndarray:
        """(B,) an affect of each identity besides `affect`, which it has too; all equally likely."""
        step = 1 + _below(rng, self._affects[identity] - 1)
        return self._affect_list[identity, (self._rank[identity, affect] + step) % self._affects[identity]]

    def sample(self, rng: np.random.Generator, source: np.ndarray, uniform: bool) -> np.ndarray:
        """(B,) int64 rows: a target for each row `source`, its affect uniform or as likely as it has frames."""
        draw_affect = self.uniform_affect if uniform else self.frequent_affect
        return self.draw(rng, source, draw_affect(rng, self._identity[source]))

    def draw(self, rng: np.random.Generator, source: np.ndarray, affect: np.ndarray) -> np.ndarray:
        """(B,) int64 rows: for each row `source`, one eligible frame of its identity, all equally likely."""
        identity = self._identity[source]
        return self._rows[self._start[identity, affect] + _below(rng, self._count[identity, affect])]


class ExactTargets(TargetCells):
    """The source's own character, pose, gaze and light with the wanted affect, as a studio films every moment.

    Args:
        frames: a split with `moment`.
        min_intensity: where a moment has several frames of an affect, those of at least this strength (0..1) count.

    Raises:
        UserError: the frames have no moments, or a moment lacks an affect that its identity has.
    """

    def __init__(self, frames: FrameSet, min_intensity: float = 0.0) -> None:
        super().__init__(frames, min_intensity)
        if frames.moment is None:
            raise UserError(
                "dataset.targets=exact: these frames have no counterpart that differs in the expression alone; "
                "only the studios draw one. Use dataset=studio_cartoon or studio_human, or dataset.targets=random."
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
                "some affect, because the split tore their moments apart; use dataset.split=take or identity."
            )

    def draw(self, rng: np.random.Generator, source: np.ndarray, affect: np.ndarray) -> np.ndarray:
        """(B,) int64 rows: the strongest frame of `affect` at the moment of each row `source`; draws nothing."""
        return self._row[self._moment[source], affect]


class AnyTargets(TargetCells):
    """Any eligible frame, whoever it shows: for systems that read no more of a target than its expression."""

    def within(self, rows: np.ndarray) -> TargetCells:
        """The same rule with no other targets than those among `rows` (m,) of the split, or all of these."""
        eligible = self._eligible_of(rows)
        some = copy.copy(self)
        some._arrange(rows, eligible if len(eligible) else rows)
        return some

    def sample(self, rng: np.random.Generator, source: np.ndarray, uniform: bool) -> np.ndarray:
        """(B,) int64 rows, all eligible frames equally likely, as the papers of unpaired systems draw them."""
        return self._rows[_below(rng, np.full(len(source), len(self._rows)))]


def _below(rng: np.random.Generator, count: np.ndarray) -> np.ndarray:
    """(B,) int64 with 0 <= value < count."""
    return (rng.random(len(count)) * count).astype(np.int64)


def _eligible(frames: FrameSet, cell: np.ndarray, minimum: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """(n,) bool, and the cells where frames weaker than `minimum` had to do."""
    if minimum <= 0:
        return np.ones(len(frames), bool), ()
    if frames.intensity is None:
        raise UserError(
            f"dataset.min_target_intensity={minimum}: this data set does not say how strong its frames are; "
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
