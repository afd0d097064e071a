"""Standings as tables: Markdown and terminal, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from fexgan_lit.evaluation.standing import Difference, Figure, Row, best
from fexgan_lit.metrics.registry import in_order, metric_info
from fexgan_lit.tables import ABSENT, TextTable


def standings_table(rows: Sequence[Row], metrics: Sequence[str], title: str, notes: Sequence[str] = ()) -> TextTable:
    """A row a contender, a column a metric: mean, deviation between seeds, interval over the pairs.

    The best system of a column is in bold.
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
    """Whether no system stands better than this one in the digits that are shown; never where there is only one."""
    leader = best(rows, metric)
    if leader is None or not row.runs or metric not in row.figures or sum(bool(other.runs) for other in rows) < 2:
        return False
    digits = metric_info(metric).digits
    first = next(other for other in rows if other.name == leader)
    return round(row.figures[metric].mean, digits) == round(first.figures[metric].mean, digits)


def _name(row: Row) -> str:
    return f"{row.name}, {len(row.seeds)} seeds" if len(row.seeds) > 1 else row.name


def cell(metric: str, figure: Figure | None) -> str:
    """``0.951 ± 0.003 [0.948, 0.954]``, or a dash."""
    if figure is None:
        return ABSENT
    digits = metric_info(metric).digits
    text = f"{figure.mean:.{digits}f}"
    if figure.deviation is not None:
        text += f" ± {figure.deviation:.{digits}f}"
    # an interval of no width says nothing: every pair has the same value
    if figure.interval is not None and figure.interval.high > figure.interval.low:
        text += f" [{figure.interval.low:.{digits}f}, {figure.interval.high:.{digits}f}]"
    return text


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Every metric that some row has, in the order of the tables."""
    return in_order({name for row in rows for name in row.figures})


def differences_table(found: Sequence[Difference], metrics: Sequence[str]) -> TextTable:
    """First minus second, pair by pair; what could as well be nothing stands in brackets."""
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
    note = "Differences on the same pairs; in brackets where the 95% interval holds zero."
    return TextTable("Paired differences", ("", *(metric_info(m).arrow for m in metrics)), tuple(body), 0, (note,))


def as_csv(rows: Sequence[Row]) -> str:
    """One line a contender and metric."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["contender", "metric", "mean", "deviation", "low", "high", "pairs", "seeds"])
    for row in rows:
        for metric in in_order(row.figures):
            figure = row.figures[metric]
            ends = figure.interval
            bounds = ["", "", ""] if ends is None else [f"{ends.low:.6g}", f"{ends.high:.6g}", ends.n]
            deviation = "" if figure.deviation is None else f"{figure.deviation:.6g}"
            writer.writerow([row.name, metric, f"{figure.mean:.6g}", deviation, *bounds, len(figure.seeds)])
    return out.getvalue()


_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$"}


def as_latex(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """A booktabs table: mean and deviation, without intervals, the best system of a column in bold."""
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
