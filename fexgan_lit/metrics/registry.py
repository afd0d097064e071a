"""Registry of all metrics: label, digits and direction of each metric in tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.utils.errors import UserError, did_you_mean


@dataclass(frozen=True)
class MetricInfo:
    """One metric.

    Attributes:
        name: name in files and logs, such as `ssim` or `final/val/ssim`.
        label: column header in tables.
        digits: number of decimal places.
        higher_is_better: direction of the metric; None where no direction is better.
        best_at: best value of a ratio, for metrics that can be too small and too large; None for others.
        group: one of `GROUPS`; empty for metrics that appear only in files, such as deviations of subsets.
    """

    name: str
    label: str
    digits: int = 3
    higher_is_better: bool | None = True
    group: str = ""
    best_at: float | None = None

    @property
    def arrow(self) -> str:
        """The label with an arrow in the better direction, or with the best value."""
        if self.best_at is not None:
            return f"{self.label} → {self.best_at:g}"
        return self.label + {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]

    @property
    def sign(self) -> int:
        """The factor that makes larger values better: -1 or 1."""
        return -1 if self.higher_is_better is False else 1

    def text(self, value: float) -> str:
        """Format `value` with the digits of the column."""
        return f"{value:.{self.digits}f}"

    def gap(self, value: float) -> str:
        """Format a difference with the column's digits, or two significant digits where it would round to zero."""
        return self.text(value) if value == 0 or abs(value) >= 0.5 * 10**-self.digits else f"{value:.2g}"


#: Groups of metrics in the order of the tables.
GROUPS = (
    "distance to the true frame", "distributions", "expression", "identity", "discriminator", "action units", "clips",
    "accuracy by augmentation", "F1 by affect",
)  # fmt: skip


_PIXELS, _SETS, _EXPRESSION, _IDENTITY, _TABLE1, _UNITS, _CLIPS, AUGMENTATION, _F1 = GROUPS


#: Prefix of accuracies with augmentation, followed by the number of generated frames per real frame.
_ENLARGED = "accuracy_times_"


#: The four columns of the papers' Table 1, in their order.
DISCRIMINATOR_METRICS = ("d_real_binary", "d_real_affect", "d_fake_binary", "d_fake_affect")


#: All metrics in the order of the tables.
METRICS = (
    MetricInfo("ssim", "SSIM", group=_PIXELS),
    MetricInfo("ms_ssim", "MS-SSIM", group=_PIXELS),
    MetricInfo("psnr", "PSNR (dB)", 2, group=_PIXELS),
    MetricInfo("mouth_psnr", "PSNR of the mouth (dB)", 2, group=_PIXELS),
    MetricInfo("lpips", "LPIPS", 3, False, _PIXELS),
    MetricInfo("effnet_distance", "EffNet distance", 3, False, _PIXELS),
    MetricInfo("sharpness", "sharpness", 2, None, _PIXELS, best_at=1.0),
    MetricInfo("mouth_sharpness", "sharpness of the mouth", 2, None, _PIXELS, best_at=1.0),
    MetricInfo("fid", "FID", 2, False, _SETS),
    MetricInfo("kid", "KID", 4, False, _SETS),
    MetricInfo("inception_score", "IS", 2, True, _SETS),
    MetricInfo("fd_effnet", "fd_effnet", 2, False, _SETS),
    MetricInfo("kid_effnet", "kid_effnet", 4, False, _SETS),
    MetricInfo("fd_judge", "fd_judge", 3, False, _SETS),
    MetricInfo("kid_judge", "kid_judge", 4, False, _SETS),
    MetricInfo("is_judge", "is_judge", 2, True, _SETS),
    *(
        MetricInfo(f"{name}{suffix}", f"{name}{words}", group=_SETS)
        for suffix, words in (("", ""), ("_effnet", " (EffNet)"), ("_judge", " (judge)"))
        for name in ("precision", "recall", "density", "coverage")
    ),
    MetricInfo("judge_affect_accuracy", "affect as asked", group=_EXPRESSION),
    MetricInfo("trained_judge_affect_accuracy", "affect, trained judge", group=_EXPRESSION),
    MetricInfo("macro_f1", "macro F1", group=_EXPRESSION),
    MetricInfo("structural_confusion", "structural confusion", 3, False, _EXPRESSION),
    MetricInfo("au_error", "AU error", 3, False, _EXPRESSION),
    MetricInfo("landmark_error", "landmark error", 3, False, _EXPRESSION),
    MetricInfo("strength_rho", "strength rho", group=_EXPRESSION),
    MetricInfo("control_linearity", "control linearity", group=_EXPRESSION),
    MetricInfo("intensity_error", "intensity error", 3, False, _EXPRESSION),
    MetricInfo("mixture_seen", "mixture seen", group=_EXPRESSION),
    MetricInfo("mixture_share_error", "share error", 3, False, _EXPRESSION),
    MetricInfo("harmonic_mean", "harmonic mean", group=_EXPRESSION),
    MetricInfo("judge_identity_accuracy", "identity kept", group=_IDENTITY),
    MetricInfo("trained_judge_identity_accuracy", "identity, trained judge", group=_IDENTITY),
    MetricInfo("identity_cosine", "identity cosine", group=_IDENTITY),
    MetricInfo("rank1", "Rank-1", group=_IDENTITY),
    MetricInfo("tar_far1", "TAR at FAR 1%", group=_IDENTITY),
    MetricInfo("tar_far01", "TAR at FAR 0.1%", group=_IDENTITY),
    *(MetricInfo(name, name.replace("_", " ").replace("d ", "D "), 3, None, _TABLE1) for name in DISCRIMINATOR_METRICS),
    *(MetricInfo(f"au_error_au{unit:02d}", f"AU{unit}", 3, False, _UNITS) for unit in ACTION_UNITS),
    MetricInfo("acd", "ACD", 3, False, _CLIPS),
    MetricInfo("acd_i", "ACD-I", 3, False, _CLIPS),
    # metrics of training runs only
    MetricInfo("grid_ssim", "SSIM of the grid"),
    MetricInfo("reconstruction_limit", "reconstruction limit", 2, None),
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


#: Metric names of evaluations by version 0.1.
_FORMER = {"affect_as_asked": "judge_affect_accuracy", "identity_kept": "judge_identity_accuracy"}


#: Suffixes of labels for metrics logged under a prefix.
_PLACES = {"train": " (train)", "normal": ", N(0, I)", "fitted": ", fitted prior"}


def metric_info(name: str) -> MetricInfo:
    """Return the metric `name`, with or without the prefix of its log entry (`final/val/fd_judge`).

    A name outside the registry becomes its own label and has no direction.
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
    """Return the direction of the metric logged as `name`: `maximize`, `minimize` or None.

    Losses of an adversarial game have no direction. Ceilings have none either, since the score of real frames says
    nothing about a system.
    """
    higher = None if name.startswith("loss/") else metric_info(name).higher_is_better
    return None if higher is None else "maximize" if higher else "minimize"


def augmented(times: int) -> str:
    """Return the name of the accuracy with `times` generated frames per real frame."""
    return f"{_ENLARGED}{times}"


def _times(name: str) -> int | None:
    number = name.removeprefix(_ENLARGED)
    return int(number) if number != name and number.isdigit() else None


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names in the order of the tables, followed by names outside the registry."""
    found = set(names)
    known = [metric.name for metric in METRICS if metric.name in found]
    enlarged = sorted((name for name in found if _times(name) is not None), key=lambda name: _times(name) or 0)
    return [*known, *enlarged, *sorted(found - {*known, *enlarged})]


#: Objectives: quality, target affect, similarity to the real frame.
OBJECTIVES = ("fd_judge", "judge_affect_accuracy", "ssim")


#: Objectives where no real frames of the target exist.
UNPAIRED_OBJECTIVES = ("fid", "back_ssim", "units_error")


#: Columns after the objectives, where runs have them.
FURTHER = (
    "final/val/psnr", "final/val/fid", "final/val/judge_identity_accuracy", "final/normal/prior_fd_judge",
    "final/fitted/prior_fd_judge",
)  # fmt: skip


def find_measure(asked: str, there: Collection[str]) -> MetricInfo:
    """Return the metric that `by=asked` means: its full name or the last part of it.

    Raises:
        UserError: no run has the metric, or the metric has no direction.
    """
    candidates = (asked, f"final/{asked}", f"final/val/{asked}", f"final/train/{asked}")
    name = next((candidate for candidate in candidates if candidate in there), None)
    if name is None:
        known = sorted(there)
        hint = did_you_mean(f"final/val/{asked}", known)
        raise UserError(f"by={asked}: no run has this metric.{hint} The runs have {', '.join(known)}.")
    found = metric_info(name)
    if found.higher_is_better is None:
        ranked = ", ".join(sorted(other for other in there if metric_info(other).higher_is_better is not None))
        raise UserError(f"by={asked}: this metric cannot rank runs: no direction is better; expected one of {ranked}.")
    return found


def objectives(there: Collection[str], asked: str | None, declared: Mapping[str, bool]) -> list[MetricInfo]:
    """Return the metrics that rank the runs; the first one sorts them.

    Args:
        there: names of the runs' metrics.
        asked: name of the first metric, or None for the default.
        declared: objectives of a search, True for maximisation; empty for the default.

    Raises:
        UserError: `asked` cannot rank runs, or the runs have no metric to rank by.
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
        raise UserError(f"the runs have no metric to rank them by; they have {', '.join(sorted(there)) or 'none'}.")
    return chosen


def _usual(there: Collection[str]) -> list[MetricInfo]:
    """Return the default objectives of the validation split, else of the training split."""
    for split in ("val", "train"):
        for names in (OBJECTIVES, UNPAIRED_OBJECTIVES):
            found = [f"final/{split}/{name}" for name in names if f"final/{split}/{name}" in there]
            if found:
                return [metric_info(name) for name in found]
    return []


def further(there: Collection[str], chosen: Sequence[MetricInfo]) -> list[MetricInfo]:
    """Return the columns after the objectives in tables."""
    taken = {known.name for known in chosen}
    return [metric_info(name) for name in FURTHER if name in there and name not in taken]
