"""Every number that a table can show: its label, its digits and which way is better."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.utils.errors import UserError


@dataclass(frozen=True)
class MetricInfo:
    """One metric.

    Attributes:
        name: in files and logs, such as `ssim` or `final/val/ssim`.
        label: over its column.
        digits: after the point.
        higher_is_better: which way is better; None where neither is.
        group: of `GROUPS`; empty for what stands in the files alone, such as deviations of subsets.
    """

    name: str
    label: str
    digits: int = 3
    higher_is_better: bool | None = True
    group: str = ""

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


#: Groups of metrics, in the order of the tables.
GROUPS = (
    "distance to the true frame", "distributions", "expression", "identity", "discriminator", "action units", "clips",
    "accuracy by augmentation", "F1 by affect",
)  # fmt: skip


_PIXELS, _SETS, _EXPRESSION, _IDENTITY, _TABLE1, _UNITS, _CLIPS, AUGMENTATION, _F1 = GROUPS


#: Begins the names of accuracies after augmentation; what follows is how many generated frames for every real one.
_ENLARGED = "accuracy_times_"


#: The four columns of the papers' Table 1, in their order.
DISCRIMINATOR_METRICS = ("d_real_binary", "d_real_affect", "d_fake_binary", "d_fake_affect")


#: In the order of the tables.
METRICS = (
    MetricInfo("ssim", "SSIM", group=_PIXELS),
    MetricInfo("ms_ssim", "MS-SSIM", group=_PIXELS),
    MetricInfo("psnr", "PSNR (dB)", 2, group=_PIXELS),
    MetricInfo("lpips", "LPIPS", 3, False, _PIXELS),
    MetricInfo("fid", "FID", 2, False, _SETS),
    MetricInfo("kid", "KID", 4, False, _SETS),
    MetricInfo("inception_score", "IS", 2, True, _SETS),
    MetricInfo("fd_judge", "fd_judge", 3, False, _SETS),
    MetricInfo("kid_judge", "kid_judge", 4, False, _SETS),
    MetricInfo("is_judge", "is_judge", 2, True, _SETS),
    *(
        MetricInfo(f"{name}{suffix}", f"{name}{words}", group=_SETS)
        for suffix, words in (("", ""), ("_judge", " (judge)"))
        for name in ("precision", "recall", "density", "coverage")
    ),
    MetricInfo("judge_affect_accuracy", "affect as asked", group=_EXPRESSION),
    MetricInfo("macro_f1", "macro F1", group=_EXPRESSION),
    MetricInfo("au_error", "AU error", 3, False, _EXPRESSION),
    MetricInfo("landmark_error", "landmark error", 3, False, _EXPRESSION),
    MetricInfo("strength_rho", "strength rho", group=_EXPRESSION),
    MetricInfo("judge_identity_accuracy", "identity kept", group=_IDENTITY),
    MetricInfo("identity_cosine", "identity cosine", group=_IDENTITY),
    MetricInfo("rank1", "Rank-1", group=_IDENTITY),
    MetricInfo("tar_far1", "TAR at FAR 1%", group=_IDENTITY),
    MetricInfo("tar_far01", "TAR at FAR 0.1%", group=_IDENTITY),
    *(MetricInfo(name, name.replace("_", " ").replace("d ", "D "), 3, None, _TABLE1) for name in DISCRIMINATOR_METRICS),
    *(MetricInfo(f"au_error_au{unit:02d}", f"AU{unit}", 3, False, _UNITS) for unit in ACTION_UNITS),
    MetricInfo("acd", "ACD", 3, False, _CLIPS),
    MetricInfo("acd_i", "ACD-I", 3, False, _CLIPS),
    # of training alone
    MetricInfo("grid_ssim", "SSIM of the grid"),
    MetricInfo("back_ssim", "there and back: SSIM"),
    MetricInfo("own_ssim", "own expression: SSIM"),
    MetricInfo("change", "change", 3, None),
    MetricInfo("units_error", "AUs, critic's error", 3, False),
    MetricInfo("prior_fd_judge", "fd_judge", 3, False),
    MetricInfo("prior_affect_accuracy", "affect as asked"),
    MetricInfo("prior_identities_seen", "identities seen"),
    MetricInfo("prior_identity_entropy", "identity entropy"),
    MetricInfo("prior_identity_entropy_relative", "identity evenness"),
    MetricInfo("prior_largest_identity_share", "largest share", 3, False),
)


_BY_NAME = {metric.name: metric for metric in METRICS}


#: Names of evaluations of version 0.1.
_FORMER = {"affect_as_asked": "judge_affect_accuracy", "identity_kept": "judge_identity_accuracy"}


#: What is said behind the label of a number that was logged under a place.
_PLACES = {"train": " (train)", "normal": ", N(0, I)", "fitted": ", fitted prior"}


def metric_info(name: str) -> MetricInfo:
    """The metric of that name, with or without the places it was logged under (`final/val/fd_judge`).

    A name that is not listed is its own label and has no better way.
    """
    *places, last = name.split("/")
    last = _FORMER.get(last, last)
    if (times := _times(last)) is not None:
        found = MetricInfo(last, f"×{times}", group=AUGMENTATION)
    elif last.startswith("f1_"):
        found = MetricInfo(last, last.removeprefix("f1_"), group=_F1)
    else:
        found = _BY_NAME.get(last, MetricInfo(last, last.replace("_", " "), 3, None))
    return replace(found, name=name, label=found.label + _PLACES.get(places[-1] if places else "", ""))


def direction(name: str) -> str | None:
    """Which way the number logged as `name` is better: `maximize`, `minimize`, or None.

    Losses of an adversarial game have no better way, and neither have ceilings: what real frames score says nothing
    about a system.
    """
    higher = None if name.startswith("loss/") else metric_info(name).higher_is_better
    return None if higher is None else "maximize" if higher else "minimize"


def augmented(times: int) -> str:
    """The name of the accuracy with `times` generated frames for every real one."""
    return f"{_ENLARGED}{times}"


def _times(name: str) -> int | None:
    number = name.removeprefix(_ENLARGED)
    return int(number) if number != name and number.isdigit() else None


def in_order(names: Iterable[str]) -> list[str]:
    """The names in the order of the tables, those not listed behind them."""
    found = set(names)
    known = [metric.name for metric in METRICS if metric.name in found]
    enlarged = sorted((name for name in found if _times(name) is not None), key=lambda name: _times(name) or 0)
    return [*known, *enlarged, *sorted(found - {*known, *enlarged})]


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
