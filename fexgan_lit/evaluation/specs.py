"""Every number a table can show: its label, its digits and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fexgan_lit.expression import ACTION_UNITS


@dataclass(frozen=True)
class Spec:
    """One metric.

    Attributes:
        name: in files.
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
        ways = {True: " ↑", False: " ↓", None: ""}
        return self.label + ways[self.higher_is_better]


#: Groups of metrics, in the order of the tables.
GROUPS = (
    "distance to the true frame", "distributions", "expression", "identity", "discriminator", "action units", "clips",
    "accuracy by augmentation", "F1 by affect",
)  # fmt: skip

_PIXELS, _SETS, _EXPRESSION, _IDENTITY, _TABLE1, _UNITS, _CLIPS, AUGMENTATION, _F1 = GROUPS
#: Begins the names of accuracies after augmentation; what follows is how many generated frames for every real one.
_ENLARGED = "accuracy_times_"

#: In the order of the tables.
SPECS = (
    Spec("ssim", "SSIM", group=_PIXELS),
    Spec("ms_ssim", "MS-SSIM", group=_PIXELS),
    Spec("psnr", "PSNR (dB)", 2, group=_PIXELS),
    Spec("lpips", "LPIPS", 3, False, _PIXELS),
    *(
        Spec(f"{name}{suffix}", f"{label}{words}", digits, higher, _SETS)
        for suffix, words, names in (
            ("", "", (("fid", "FID"), ("kid", "KID"), ("inception_score", "IS"))),
            ("_judge", "_judge", (("fd", "fd"), ("kid", "kid"), ("is", "is"))),
        )
        for (name, label), digits, higher in zip(names, (2, 4, 2), (False, False, True), strict=True)
    ),
    *(
        Spec(f"{name}{suffix}", f"{name}{words}", group=_SETS)
        for suffix, words in (("", ""), ("_judge", " (judge)"))
        for name in ("precision", "recall", "density", "coverage")
    ),
    Spec("affect_as_asked", "affect as asked", group=_EXPRESSION),
    Spec("macro_f1", "macro F1", group=_EXPRESSION),
    Spec("au_error", "AU error", 3, False, _EXPRESSION),
    Spec("landmark_error", "landmark error", 3, False, _EXPRESSION),
    Spec("strength_rho", "strength rho", group=_EXPRESSION),
    Spec("identity_kept", "identity kept", group=_IDENTITY),
    Spec("identity_cosine", "identity cosine", group=_IDENTITY),
    Spec("rank1", "Rank-1", group=_IDENTITY),
    Spec("tar_far1", "TAR at FAR 1%", group=_IDENTITY),
    Spec("tar_far01", "TAR at FAR 0.1%", group=_IDENTITY),
    Spec("d_real_binary", "D real binary", 3, None, _TABLE1),
    Spec("d_real_affect", "D real affect", 3, None, _TABLE1),
    Spec("d_fake_binary", "D fake binary", 3, None, _TABLE1),
    Spec("d_fake_affect", "D fake affect", 3, None, _TABLE1),
    *(Spec(f"au_error_au{unit:02d}", f"AU{unit}", 3, False, _UNITS) for unit in ACTION_UNITS),
    Spec("acd", "ACD", 3, False, _CLIPS),
    Spec("acd_i", "ACD-I", 3, False, _CLIPS),
)
_BY_NAME = {spec.name: spec for spec in SPECS}


def spec(name: str) -> Spec:
    """The metric of that name; one of its own making for a name that is not listed."""
    if _times(name) is not None:
        return Spec(name, f"×{_times(name)}", 3, True, AUGMENTATION)
    if name.startswith("f1_"):
        return Spec(name, name.removeprefix("f1_"), 3, True, _F1)
    return _BY_NAME.get(name, Spec(name, name.replace("_", " "), 3, None))


def augmented(times: int) -> str:
    """The name of the accuracy with `times` generated frames for every real one."""
    return f"{_ENLARGED}{times}"


def _times(name: str) -> int | None:
    """How many generated frames for every real one the accuracy `name` is of; None for other metrics."""
    number = name.removeprefix(_ENLARGED)
    return int(number) if number != name and number.isdigit() else None


def in_order(names: Iterable[str]) -> list[str]:
    """The names in the order of the tables, those not listed behind them."""
    found = set(names)
    known = [s.name for s in SPECS if s.name in found]
    enlarged = sorted((name for name in found if _times(name) is not None), key=lambda name: _times(name) or 0)
    return [*known, *enlarged, *sorted(found - {*known, *enlarged})]
