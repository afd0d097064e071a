"""Every number a table can show: its label, its digits and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """One metric.

    Attributes:
        name: in files.
        label: over its column.
        digits: after the point.
        higher_is_better: which way is better; None where neither is.
    """

    name: str
    label: str
    digits: int = 3
    higher_is_better: bool | None = True

    @property
    def arrow(self) -> str:
        """The label with the way that is better."""
        ways = {True: " ↑", False: " ↓", None: ""}
        return self.label + ways[self.higher_is_better]


#: In the order of the tables: distance to the true frame, distributions, expression, identity, discriminator.
SPECS = (
    Spec("ssim", "SSIM"),
    Spec("ms_ssim", "MS-SSIM"),
    Spec("psnr", "PSNR (dB)", 2),
    Spec("lpips", "LPIPS", 3, False),
    Spec("fid", "FID", 2, False),
    Spec("fd_judge", "fd_judge", 2, False),
    Spec("kid", "KID", 4, False),
    Spec("kid_judge", "kid_judge", 4, False),
    Spec("inception_score", "IS", 2),
    Spec("precision", "precision"),
    Spec("recall", "recall"),
    Spec("density", "density"),
    Spec("coverage", "coverage"),
    Spec("affect_as_asked", "affect as asked"),
    Spec("au_error", "AU error", 3, False),
    Spec("landmark_error", "landmark error", 3, False),
    Spec("strength_rho", "strength rho"),
    Spec("identity_kept", "identity kept"),
    Spec("identity_cosine", "identity cosine"),
    Spec("rank1", "Rank-1"),
    Spec("tar_far1", "TAR at FAR 1%"),
    Spec("tar_far01", "TAR at FAR 0.1%"),
    Spec("d_real_binary", "D real binary", 3, None),
    Spec("d_real_affect", "D real affect", 3, None),
    Spec("d_fake_binary", "D fake binary", 3, None),
    Spec("d_fake_affect", "D fake affect", 3, None),
)
_BY_NAME = {spec.name: spec for spec in SPECS}


def spec(name: str) -> Spec:
    """The metric of that name; one of its own making for a name that is not listed."""
    return _BY_NAME.get(name, Spec(name, name.replace("_", " "), 3, None))


def in_order(names: Iterable[str]) -> list[str]:
    """The names in the order of the tables, those not listed behind them."""
    found = set(names)
    known = [s.name for s in SPECS if s.name in found]
    return [*known, *sorted(found - set(known))]
