"""The tables of an evaluation in Markdown, CSV and LaTeX: metrics, Table 1, breakdowns, published results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fexgan_lit.evaluation.measure import Scores, score
from fexgan_lit.evaluation.summary import Difference, Figure, Row, best
from fexgan_lit.evaluation.test_set import TestSet
from fexgan_lit.metrics.groups import DiscriminatorMetrics, JudgeMetrics
from fexgan_lit.metrics.registry import DISCRIMINATOR_METRICS, in_order, metric_info
from fexgan_lit.metrics.suite import MetricSuite
from fexgan_lit.metrics.tables import ABSENT, PAPERS_TABLE1
from fexgan_lit.utils.tables import TextTable

if TYPE_CHECKING:
    from fexgan_lit.evaluation.methods import Trained
    from fexgan_lit.metrics.judges.affect import Judge
    from fexgan_lit.metrics.judges.external import OwnAffectJudge


def standings_table(rows: Sequence[Row], metrics: Sequence[str], title: str, notes: Sequence[str] = ()) -> TextTable:
    """Build a table with a row per method and a column per metric.

    A cell holds the mean, the deviation between seeds and the interval over the pairs. The best system of a column is
    in bold.
    """
    header = ("", *(metric_info(metric).arrow for metric in metrics))
    body = []
    for row in rows:
        cells = [_name(row)]
        for metric in metrics:
            text = cell(metric, row.figures.get(metric))
            cells.append(f"**{text}**" if leads(rows, row, metric) else text)
        body.append(tuple(cells))
    return TextTable(title, header, tuple(body), 0, tuple(notes))


def leads(rows: Sequence[Row], row: Row, metric: str) -> bool:
    """Return whether `row` is best or ties with the best in the digits shown; False if there is only one system."""
    leader = best(rows, metric)
    if leader is None or not row.runs or metric not in row.figures or sum(bool(other.runs) for other in rows) < 2:
        return False
    digits = metric_info(metric).digits
    first = next(other for other in rows if other.name == leader)
    return round(row.figures[metric].mean, digits) == round(first.figures[metric].mean, digits)


def _name(row: Row) -> str:
    return f"{row.name}, {len(row.seeds)} seeds" if len(row.seeds) > 1 else row.name


def cell(metric: str, figure: Figure | None) -> str:
    """Format a figure, such as ``0.951 ± 0.003 [0.948, 0.954]``; a dash if it was not measured."""
    if figure is None:
        return ABSENT
    digits = metric_info(metric).digits
    text = f"{figure.mean:.{digits}f}"
    if figure.deviation is not None:
        text += f" ± {figure.deviation:.{digits}f}"
    # an interval of width 0 is omitted: every pair has the same value
    if figure.interval is not None and figure.interval.high > figure.interval.low:
        text += f" [{figure.interval.low:.{digits}f}, {figure.interval.high:.{digits}f}]"
    return text


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Return every metric that at least one row has, in table order."""
    return in_order({name for row in rows for name in row.figures})


def differences_table(found: Sequence[Difference], metrics: Sequence[str]) -> TextTable:
    """Build the table of paired differences, first minus second; differences that may be zero are in brackets."""
    pairs = list(dict.fromkeys((d.first, d.second) for d in found))
    by_key = {(d.first, d.second, d.metric): d.interval for d in found}
    body = []
    for first, second in pairs:
        cells = []
        for metric in metrics:
            interval = by_key.get((first, second, metric))
            digits = metric_info(metric).digits
            text = ABSENT if interval is None else f"{interval.mean:+.{digits}f}"
            cells.append(text if interval is None or interval.excludes_zero else f"({text})")
        body.append((f"{first} - {second}", *cells))
    note = "Mean differences on the same pairs; in brackets if the 95% interval contains zero."
    return TextTable("Paired differences", ("", *(metric_info(m).arrow for m in metrics)), tuple(body), 0, (note,))


def long_form(rows: Sequence[Row]) -> pd.DataFrame:
    """Return a line per method and metric; a figure without deviation or interval has NaN there."""
    lines = []
    for row in rows:
        for metric in in_order(row.figures):
            figure = row.figures[metric]
            ends = figure.interval
            bounds = (None, None, None) if ends is None else (ends.low, ends.high, ends.n)
            lines.append((row.name, metric, figure.mean, figure.deviation, *bounds, len(figure.seeds)))
    names = ["method", "metric", "mean", "deviation", "low", "high", "pairs", "seeds"]
    return pd.DataFrame(lines, columns=names).astype({"pairs": "Int64"})


_LATEX = {"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}",
          "^": r"\textasciicircum{}", **{sign: f"\\{sign}" for sign in "&%_#${}"}}  # fmt: skip


def as_latex(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Return a LaTeX booktabs table of means and deviations, the best system of a column in bold."""
    lines = [rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}", r"\toprule"]
    lines.append(" & ".join(["", *(_tex(metric_info(metric).arrow) for metric in metrics)]) + r" \\")
    lines.append(r"\midrule")
    for row in rows:
        cells = [_tex(row.name)]
        for metric in metrics:
            figure = row.figures.get(metric)
            text = "--" if figure is None else f"{figure.mean:.{metric_info(metric).digits}f}"
            if figure is not None and figure.deviation is not None:
                text += rf" $\pm$ {figure.deviation:.{metric_info(metric).digits}f}"
            cells.append(rf"\textbf{{{text}}}" if leads(rows, row, metric) else text)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def breakdown_tables(row: Row, test_set: TestSet, ceiling: Row | None = None) -> list[TextTable]:
    """Build one table by target affect and one by identity; a note names classes without pairs.

    Args:
        row: the row.
        test_set: the pairs of the row.
        ceiling: the row of the true frames, whose results by a judge are shown beside those of `row`.
    """
    frames, pairs = test_set.frames, test_set.pairs
    groups = {
        "target affect": (frames.affects, frames.affect[pairs.target]),
        "identity": (frames.identities, frames.identity[pairs.source]),
    }
    return [class_table(row, name, classes, index, ceiling=ceiling) for name, (classes, index) in groups.items()]


#: Groups of metrics that a judge decides, with a ceiling that its mistakes keep from the best value.
_JUDGED = ("expression", "identity")


def class_table(
    row: Row, name: str, classes: Sequence[str], index: np.ndarray, counted: str = "pairs", ceiling: Row | None = None
) -> TextTable:
    """Build a table of the means of one row for each class.

    Args:
        row: the row, whose columns hold N values each.
        name: what the classes are, such as `identity`.
        classes: names of the classes.
        index: (N,) class index of each value.
        counted: what the N values belong to, such as `pairs`.
        ceiling: the row of the true frames; its results by a judge follow those of `row` after a slash.
    """
    # some discriminator metrics are of sources, which have no target affect
    metrics = [metric for metric in in_order(row.columns) if metric not in DISCRIMINATOR_METRICS]
    rows = []
    for number, label in enumerate(classes):
        chosen = index == number
        cells = []
        for metric in metrics:
            info = metric_info(metric)
            true = ceiling.columns.get(metric) if ceiling is not None and info.group in _JUDGED else None
            best = "" if true is None else f" / {_mean(true[chosen], info.digits)}"
            cells.append(_mean(row.columns[metric][chosen], info.digits) + best)
        rows.append((label, str(int(chosen.sum())), *cells))
    empty = [label for number, label in enumerate(classes) if not (index == number).any()]
    notes = [f"not measured, since there are no {counted}: {', '.join(empty)}"] if empty else []
    notes += [f"After a slash: {ceiling.name}, by the same judge."] if ceiling is not None else []
    header = (name, counted, *(metric_info(metric).arrow for metric in metrics))
    return TextTable(f"{row.name} by {name}", header, tuple(rows), 0, tuple(notes))


def group_table(
    rows: Sequence[Row], groups: Mapping[str, np.ndarray], name: str, title: str, metrics: Sequence[str] = ()
) -> TextTable:
    """Build a table of means over groups of pairs: a line per group and method, or with one metric a line per group.

    Args:
        rows: the methods, whose columns hold N values each.
        groups: (N,) bool by name of the group; groups without pairs are left out.
        name: what the groups are, such as `mixture`.
        title: title of the table.
        metrics: the metrics; by default all that have values per pair.
    """
    groups = {label: chosen for label, chosen in groups.items() if chosen.any()}
    metrics = metrics or in_order({metric for row in rows for metric in row.columns})

    def means(row: Row, chosen: np.ndarray) -> tuple[str, ...]:
        cells = (_mean(row.columns[m][chosen], metric_info(m).digits) if m in row.columns else ABSENT for m in metrics)
        return tuple(cells)

    if len(metrics) == 1:
        header = (name, *(row.name for row in rows))
        lines = [(label, *(means(row, chosen)[0] for row in rows)) for label, chosen in groups.items()]
    else:
        header = (name, "", *(metric_info(metric).arrow for metric in metrics))
        lines = [(label, row.name, *means(row, chosen)) for label, chosen in groups.items() for row in rows]
    return TextTable(title, header, tuple(lines))


def _mean(values: np.ndarray, digits: int) -> str:
    known = values[~np.isnan(values)]
    return f"{known.mean():.{digits}f}" if len(known) else ABSENT


#: Li et al., Table 5, CK+: PSNR (dB), SSIM, FID.
LI_TABLE5 = {
    "GAFP-GAN": (20.123, 0.653, 73.65),
    "GC-GAN": (27.665, 0.769, 68.36),
    "CDAAE": (26.973, 0.765, 81.48),
    "Li et al.": (23.004, 0.775, 67.69),
}


#: Li et al., Table 6: Rank-1, TAR at FAR 1%, TAR at FAR 0.1%, in percent, by VGG-Face.
LI_TABLE6_VGG = {
    "untouched images": (100.0, 75.54, 48.30),
    "C-GAN": (71.33, 52.50, 19.97),
    "ExprGAN": (62.31, 44.69, 13.27),
    "Li et al.": (82.13, 58.45, 21.64),
}


#: The same metrics by Light CNN.
LI_TABLE6_LIGHT = {
    "untouched images": (100.0, 79.86, 59.57),
    "C-GAN": (75.21, 48.45, 36.91),
    "ExprGAN": (67.49, 49.31, 26.40),
    "Li et al.": (84.62, 63.86, 44.17),
}


#: Li et al., Table 4, Oulu-CASIA: accuracy in percent by how many times the training set was enlarged.
LI_TABLE4 = {0: 67.3, 1: 68.6, 5: 71.4, 10: 76.2, 100: 76.2}


#: Li et al., Table 7: FID without the initialise networks, without label maps, and of the full system.
LI_TABLE7 = {"no initialise network": 76.85, "no label maps": 69.48, "full": 67.69}


#: Tulyakov et al., MoCoGAN, Table 1, MUG: ACD on OpenFace features, of real clips and of clips generated from noise.
MOCOGAN_ACD = {"true clips": 0.116, "VGAN": 0.322, "TGAN": 0.305, "MoCoGAN": 0.201}


def reference_table() -> TextTable:
    """Return image quality and identity as published by Li et al. (Tables 5 and 6)."""
    header = ("", "PSNR (dB)", "SSIM", "FID", "Rank-1", "TAR at FAR 1%", "TAR at FAR 0.1%")
    rows: list[tuple[str, ...]] = [
        (f"{name}, CK+", f"{p:.3f}", f"{s:.3f}", f"{f:.2f}", "-", "-", "-") for name, (p, s, f) in LI_TABLE5.items()
    ]
    for judge, table in (("VGG-Face", LI_TABLE6_VGG), ("Light CNN", LI_TABLE6_LIGHT)):
        for name, values in table.items():
            rows.append((f"{name}, by {judge}", "-", "-", "-", *(f"{value / 100:.4f}" for value in values)))
    note = "Published by Li et al. (Tables 5 and 6) on their own data and splits, so not directly comparable with ours."
    return TextTable("The papers' own figures", header, tuple(rows), len(rows), (note,))


def augmentation_reference() -> TextTable:
    """Return the accuracies with augmentation as published by Li et al. (Table 4)."""
    row = ("Li et al., Oulu-CASIA", *(f"{value / 100:.3f}" for value in LI_TABLE4.values()))
    note = "Published by Li et al. (Table 4), who do not describe their classifier and its training."
    return TextTable("The paper's own figures", ("", *(f"×{times}" for times in LI_TABLE4)), (row,), 1, (note,))


def clips_reference() -> TextTable:
    """Return ACD as published for MoCoGAN (Tulyakov et al., Table 1)."""
    rows = tuple((f"{name}, MUG", f"{value:.3f}") for name, value in MOCOGAN_ACD.items())
    note = (
        "Published by Tulyakov et al. (MoCoGAN, Table 1): clips generated from noise, measured with another face "
        "recogniser (OpenFace), so the scale differs from ours."
    )
    return TextTable("The paper's own figures", ("", "ACD"), rows, len(rows), (note,))


#: Number of training pairs on which the discriminator is measured.
TRAIN_PAIRS = 512


def discriminator_table(
    methods: Sequence[Trained], scores: Sequence[Scores], test_set: TestSet, judge: Judge | OwnAffectJudge,
    progress: Callable[[int, int], None],
) -> list[TextTable]:  # fmt: skip
    """Build the table of discriminator accuracies on training and validation pairs (Table 1 of the paper).

    Args:
        methods: the systems.
        scores: scores on the measured split: those of the true frames first, and one of each method.
        test_set: the test set of the scores.
        judge: the affect judge, whose accuracy is shown for comparison.
        progress: called with the number of methods done and their total.

    Returns:
        One table; an empty list if no system has discriminator metrics.
    """
    rows = []
    there = {s.run: s for s in scores}
    for number, method in enumerate(methods):
        progress(number, len(methods))
        measured = there[str(method.loaded.folder)]
        if not any(name in measured.columns for name in DISCRIMINATOR_METRICS):
            continue
        label = method.name if len(methods) == 1 else f"{method.name}, seed {method.loaded.run.seed}"
        splits = {"train": measured} if test_set.split == "train" else {
            "train": train_scores(method, test_set, judge), test_set.split: measured,
        }  # fmt: skip
        words = {"train": "Train", "val": "Validation"}
        rows += [(f"{label}, {words[split]}", *_cells(found, scores[0])) for split, found in splits.items()]
    if not rows:
        return []
    papers = [(f"{name} (paper)", *(f"{v:.3f}" for v in values), ABSENT) for name, values in PAPERS_TABLE1.items()]
    K = len(judge.affects)
    header = ("", "Real binary", f"Real {K}-way", "Fake binary", f"Fake {K}-way", "Judge, same fakes / true frames")
    notes = (
        "The discriminator is trained to classify generated frames as their target affect (equation 6), so its own "
        "accuracy on them is too high; the judge never saw a generated frame.",
        "Rows in italics are the figures published in the papers, on their own data.",
    )
    title = "Discriminator accuracy (Table 1 of the FExGAN papers), and the judge"
    return [TextTable(title, header, (*rows, *papers), len(papers), notes)]


def train_scores(method: Trained, test_set: TestSet, judge: Judge | OwnAffectJudge) -> Scores:
    """Score judge and discriminator on pairs of the training split."""
    train = test_set.data.train
    pairs = test_set.data.measured_pairs(train, TRAIN_PAIRS)
    there = replace(test_set, frames=train, pairs=pairs, split="train")
    return score(
        method, there.loader(), MetricSuite([JudgeMetrics(judge, ceiling=True), DiscriminatorMetrics()], there.where)
    )


def _cells(found: Scores, true_frames: Scores) -> tuple[str, ...]:
    """Return the metrics of Table 1 and the judge's accuracy; that on true frames is in `found` or `true_frames`."""
    values = {"real_judge_affect_accuracy": true_frames.value("judge_affect_accuracy"), **found.metrics()}
    cells = {name: ABSENT if value is None else f"{value:.3f}" for name, value in values.items()}
    judged, ceiling = (cells.get(f"{prefix}judge_affect_accuracy", ABSENT) for prefix in ("", "real_"))
    return (*(cells.get(name, ABSENT) for name in DISCRIMINATOR_METRICS), f"{judged} / {ceiling}")
