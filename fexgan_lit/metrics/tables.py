"""Table 1 of the FExGAN papers, and the table of image quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fexgan_lit.metrics.registry import DISCRIMINATOR_METRICS, metric_info
from fexgan_lit.utils.tables import TextTable

if TYPE_CHECKING:
    from fexgan_lit.metrics.judges.affect import Judge


#: Table 1 of both papers, in the order of `DISCRIMINATOR_METRICS`: reference values, never thresholds.
PAPERS_TABLE1 = {
    "FExGAN, FERG-DB, Train": (0.981, 1.0, 0.998, 0.994),
    "FExGAN, FERG-DB, Validation": (0.913, 0.997, 1.0, 0.995),
    "FExGAN-Meta, MH-FED, Train": (1.0, 0.995, 1.0, 0.997),
    "FExGAN-Meta, MH-FED, Validation": (1.0, 0.996, 1.0, 0.998),
}


ABSENT = "-"


def table1(train: Mapping[str, float] | None, val: Mapping[str, float] | None, *, classes: int = 7) -> TextTable:
    """Return Table 1 of the papers: the discriminator's accuracy on real and generated frames.

    Args:
        train: result of `MetricSuite.compute` for the training split, or None.
        val: the same for the validation split, or None where there is none.
        classes: number of affects K.
    """
    header = ("", "Real binary", f"Real {classes}-way", "Fake binary", f"Fake {classes}-way")
    rows = [
        (name, *(_number(values, metric) for metric in DISCRIMINATOR_METRICS))
        for name, values in (("Train", train), ("Validation", val))
        if values is not None
    ]
    papers = [(f"{name} (paper)", *(f"{value:.3f}" for value in row)) for name, row in PAPERS_TABLE1.items()]
    notes = ["Rows in italics are the papers' results on their own data."]
    if any("d_fake_affect" in (values or {}) for values in (train, val)):
        flattery = (
            "The discriminator is trained to classify generated frames as their target (equation 6), so its own "
            f"{classes}-way accuracy on them is too high; the next table has the judge's accuracy."
        )
        notes.insert(0, flattery)
    if val is None:
        notes.insert(0, "There are no validation frames, so the validation row is missing.")
    title = "Discriminator accuracy (Table 1 of the FExGAN papers)"
    return TextTable(title, header, (*rows, *papers), len(papers), tuple(notes))


def quality_table(
    train: Mapping[str, float] | None,
    val: Mapping[str, float] | None,
    judge: Judge | None,
    *,
    notes: Mapping[str, str] | None = None,
) -> TextTable:
    """Return image quality and the judge's results, generated frames above real frames (the ceiling).

    Args:
        train: result of `MetricSuite.compute` for the training split, or None.
        val: the same for the validation split, or None.
        judge: the judge, or None.
        notes: result of `MetricSuite.notes`.
    """
    names = ["ssim", "psnr", "fd_judge", "judge_affect_accuracy", "judge_identity_accuracy"]
    if any("fid" in (values or {}) for values in (train, val)):
        names.insert(2, "fid")
    columns = [metric_info(name) for name in names]
    rows = []
    for name, values in (("Train", train), ("Validation", val)):
        if values is None:
            continue
        rows.append((f"{name}, generated", *(_number(values, column.name, column.digits) for column in columns)))
        if "real_judge_affect_accuracy" in values:
            ceiling = (_number(values, f"real_{column.name}", column.digits) for column in columns)
            rows.append((f"{name}, real frames (ceiling)", *ceiling))
    lines = [judge.describe() if judge is not None else "no judge"]
    lines += [f"{name}: {note}" for name, note in (notes or {}).items()]
    return TextTable(
        "Image quality and the judge's verdict",
        ("", *(column.label for column in columns)),
        tuple(rows),
        0,
        tuple(lines),
    )


def _number(values: Mapping[str, float], metric: str, digits: int = 3) -> str:
    return f"{values[metric]:.{digits}f}" if metric in values else ABSENT
