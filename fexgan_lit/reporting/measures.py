"""The final numbers of runs: what they are called in a table, which way is better, and which are looked at first."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fexgan_lit.errors import UserError
from fexgan_lit.evaluation.specs import spec

#: Names of the training suite whose label and direction stand under another name in `evaluation.specs`.
_SAME_AS = {"judge_affect_accuracy": "affect_as_asked", "judge_identity_accuracy": "identity_kept"}
#: Numbers of training alone: label, and which way is better.
_OWN: dict[str, tuple[str, bool | None]] = {
    "grid_ssim": ("SSIM of the grid", True),
    "back_ssim": ("there and back: SSIM", True),
    "own_ssim": ("own expression: SSIM", True),
    "change": ("change", None),
    "units_error": ("AUs, critic's error", False),
    "prior_fd_judge": ("fd_judge", False),
    "prior_affect_accuracy": ("affect as asked", True),
    "prior_identities_seen": ("identities seen", True),
    "prior_identity_entropy": ("identity entropy", True),
    "prior_identity_entropy_relative": ("identity evenness", True),
    "prior_largest_identity_share": ("largest share", False),
}
_PLACES = {"train": " (train)", "normal": ", N(0, I)", "fitted": ", fitted prior"}

#: Quality, whether the expression is the one asked for, likeness to the true frame.
OBJECTIVES = ("fd_judge", "judge_affect_accuracy", "ssim")
#: Where no true frame is known.
UNPAIRED_OBJECTIVES = ("fid", "back_ssim", "units_error")
#: Shown behind the objectives where runs have them.
FURTHER = (
    "final/val/psnr", "final/val/fid", "final/val/judge_identity_accuracy", "final/normal/prior_fd_judge",
    "final/fitted/prior_fd_judge",
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One final number of every run.

    Attributes:
        name: in result.json and metrics.csv.
        label: over its column.
        digits: after the point.
        higher_is_better: which way is better; None where neither is.
    """

    name: str
    label: str
    digits: int
    higher_is_better: bool | None

    @property
    def arrow(self) -> str:
        """The label with the way that is better."""
        return self.label + {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]

    @property
    def sign(self) -> int:
        """What a value is multiplied with so that more is better."""
        return -1 if self.higher_is_better is False else 1

    def text(self, value: float) -> str:
        """`value` in the digits of its column."""
        return f"{value:.{self.digits}f}"

    def gap(self, value: float) -> str:
        """A difference: in the digits of the column, or in two of its own where those would show nothing of it."""
        return self.text(value) if value == 0 or abs(value) >= 0.5 * 10**-self.digits else f"{value:.2g}"


def measure(name: str) -> Measure:
    """The measure of that name, such as ``final/val/fd_judge``."""
    *places, last = name.split("/")
    place = _PLACES.get(places[-1] if places else "", "")
    if last in _OWN:
        label, higher = _OWN[last]
        return Measure(name, label + place, 3, higher)
    known = spec(_SAME_AS.get(last, last))
    digits = known.digits if last == "psnr" else max(3, known.digits)
    return Measure(name, known.label + place, digits, known.higher_is_better)


def direction(name: str) -> str | None:
    """Which way the number logged as `name` is better: `maximize`, `minimize`, or None.

    Losses of an adversarial game have no better way, and neither have ceilings: what real frames score says nothing
    about a system.
    """
    higher = None if name.startswith("loss/") else measure(name).higher_is_better
    return None if higher is None else "maximize" if higher else "minimize"


def find_measure(asked: str, there: Collection[str]) -> Measure:
    """The measure that `by=asked` means: its whole name, or the last part of it.

    Raises:
        UserError: no run has it, or neither way is better.
    """
    candidates = (asked, f"final/{asked}", f"final/val/{asked}", f"final/train/{asked}")
    name = next((candidate for candidate in candidates if candidate in there), None)
    if name is None:
        known = sorted(there)
        near = difflib.get_close_matches(f"final/val/{asked}", known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"by={asked}: no run has it.{hint} They have {', '.join(known)}.")
    found = measure(name)
    if found.higher_is_better is None:
        ranked = ", ".join(sorted(other for other in there if measure(other).higher_is_better is not None))
        raise UserError(f"by={asked}: neither way is better, so nothing can be ranked by it; expected one of {ranked}.")
    return found


def objectives(there: Collection[str], asked: str | None, declared: Mapping[str, bool]) -> list[Measure]:
    """What settings are judged by, the first for their order.

    Args:
        there: names that runs have.
        asked: put first; None for the usual.
        declared: what a search was after, True where more is better; empty for the usual.

    Raises:
        UserError: `asked` cannot be used, or the runs have nothing to be ranked by.
    """
    if declared:
        chosen = [
            Measure(name, measure(name).label, measure(name).digits, higher)
            for name, higher in declared.items()
            if name in there
        ]
    else:
        chosen = _usual(there)
    if asked is not None:
        first = find_measure(asked, there)
        first = next((known for known in chosen if known.name == first.name), first)
        chosen = [first, *(known for known in chosen if known.name != first.name)]
    if not chosen:
        raise UserError(f"the runs have no number to rank them by; they have {', '.join(sorted(there)) or 'none'}.")
    return chosen


def _usual(there: Collection[str]) -> list[Measure]:
    """The usual objectives of the validation split, else of the training split."""
    for split in ("val", "train"):
        for names in (OBJECTIVES, UNPAIRED_OBJECTIVES):
            found = [f"final/{split}/{name}" for name in names if f"final/{split}/{name}" in there]
            if found:
                return [measure(name) for name in found]
    return []


def further(there: Collection[str], chosen: Sequence[Measure]) -> list[Measure]:
    """What stands behind the objectives in the tables."""
    taken = {known.name for known in chosen}
    return [measure(name) for name in FURTHER if name in there and name not in taken]
