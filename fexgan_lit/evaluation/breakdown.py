"""The same metrics for every affect and every identity alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fexgan_lit.evaluation.ground import Ground
from fexgan_lit.evaluation.standing import Row
from fexgan_lit.metrics.registry import DISCRIMINATOR_METRICS, in_order, metric_info
from fexgan_lit.tables import ABSENT, TextTable


def breakdown_tables(row: Row, ground: Ground) -> list[TextTable]:
    """One table by the asked affect, one by the identity; a class without pairs says so instead of a number."""
    frames, pairs = ground.frames, ground.pairs
    groups = {
        "asked affect": (frames.affects, frames.affect[pairs.target]),
        "identity": (frames.identities, frames.identity[pairs.source]),
    }
    return [class_table(row, name, classes, index) for name, (classes, index) in groups.items()]


def class_table(row: Row, name: str, classes: Sequence[str], index: np.ndarray, counted: str = "pairs") -> TextTable:
    """The means of one row for every class alone.

    Args:
        row: whose columns hold N values each.
        name: what the classes are, such as `identity`.
        classes: their names.
        index: (N,) the class of each value.
        counted: what the N values belong to.
    """
    # what the discriminator says of sources has no asked affect
    metrics = [metric for metric in in_order(row.columns) if metric not in DISCRIMINATOR_METRICS]
    rows = []
    for number, label in enumerate(classes):
        chosen = index == number
        cells = [_mean(row.columns[metric][chosen], metric_info(metric).digits) for metric in metrics]
        rows.append((label, str(int(chosen.sum())), *cells))
    empty = [label for number, label in enumerate(classes) if not (index == number).any()]
    notes = (f"no {counted}, so nothing to measure: {', '.join(empty)}",) if empty else ()
    header = (name, counted, *(metric_info(metric).arrow for metric in metrics))
    return TextTable(f"{row.name} by {name}", header, tuple(rows), 0, notes)


def _mean(values: np.ndarray, digits: int) -> str:
    known = values[~np.isnan(values)]
    return f"{known.mean():.{digits}f}" if len(known) else ABSENT
