"""The final numbers of runs: what they are called in a table, which way is better, and which are looked at first."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

from fexgan_lit.errors import UserError
from fexgan_lit.metrics.registry import MetricInfo, metric_info

#: Quality, whether the expression is the one asked for, likeness to the true frame.
OBJECTIVES = ("fd_judge", "judge_affect_accuracy", "ssim")
#: Where no true frame is known.
UNPAIRED_OBJECTIVES = ("fid", "back_ssim", "units_error")
#: Shown behind the objectives where runs have them.
FURTHER = (
    "final/val/psnr", "final/val/fid", "final/val/judge_identity_accuracy", "final/normal/prior_fd_judge",
    "final/fitted/prior_fd_judge",
)  # fmt: skip


def find_measure(asked: str, there: Collection[str]) -> MetricInfo:
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
    found = metric_info(name)
    if found.higher_is_better is None:
        ranked = ", ".join(sorted(other for other in there if metric_info(other).higher_is_better is not None))
        raise UserError(f"by={asked}: neither way is better, so nothing can be ranked by it; expected one of {ranked}.")
    return found


def objectives(there: Collection[str], asked: str | None, declared: Mapping[str, bool]) -> list[MetricInfo]:
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
            MetricInfo(name, metric_info(name).label, metric_info(name).digits, higher)
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


def _usual(there: Collection[str]) -> list[MetricInfo]:
    """The usual objectives of the validation split, else of the training split."""
    for split in ("val", "train"):
        for names in (OBJECTIVES, UNPAIRED_OBJECTIVES):
            found = [f"final/{split}/{name}" for name in names if f"final/{split}/{name}" in there]
            if found:
                return [metric_info(name) for name in found]
    return []


def further(there: Collection[str], chosen: Sequence[MetricInfo]) -> list[MetricInfo]:
    """What stands behind the objectives in the tables."""
    taken = {known.name for known in chosen}
    return [metric_info(name) for name in FURTHER if name in there and name not in taken]
