"""Main effects: what every axis of a sweep does to every score, all else averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fexgan_lit.figures.charts import COLOURS, FAINT, INK, _figure, _picture
from fexgan_lit.figures.scales import MOST_TICKS, Scale, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panels in a row; more axes go on in the next.
_COLUMNS = 4


def main_effects(choices: Mapping[str, Sequence[Any]], scores: Mapping[str, Sequence[float]]) -> Image.Image:
    """A panel a score and axis: a dot a run, a line through the means of the runs that share a value.

    Where hardly two runs share one, the line goes through the means of groups of neighbours.

    Args:
        choices: by the name of the axis, the values of N runs.
        scores: by the label of the score, N numbers, NaN where a run has none.

    Raises:
        ValueError: no axis, no score, or lists of different length.
    """
    lengths = {len(values) for values in (*choices.values(), *scores.values())}
    if not choices or not scores or len(lengths) != 1:
        raise ValueError("expected one axis and one score or more, with a value for every run")
    columns = min(_COLUMNS, len(choices))
    lines = math.ceil(len(choices) / columns)  # rows of panels a score
    figure = _figure(2.5 * columns + 0.8, 2.15 * lines * len(scores) + 0.2)
    for row, (score, numbers) in enumerate(scores.items()):
        for number, (axis, values) in enumerate(choices.items()):
            position = (row * lines + number // columns) * columns + number % columns + 1
            axes = figure.add_subplot(lines * len(scores), columns, position)
            _draw(axes, values, np.asarray(numbers, float), COLOURS[number % len(COLOURS)])
            _name(axes, axis, score if number % columns == 0 else None)
    _same_heights(figure, scores, len(choices))
    return _picture(figure)


def _draw(axes: Axes, values: Sequence[Any], scores: np.ndarray, colour: str) -> None:
    known = scale(values)
    centre, mean = _means(known, scores)
    few = len(known.ticks) and len({place for place, _ in known.ticks}) >= len(np.unique(known.places))
    nudge = np.linspace(-0.03, 0.03, len(scores)) if few else np.zeros(len(scores))
    axes.plot(known.places + nudge, scores, "o", color=colour, alpha=0.45, markersize=4, markeredgewidth=0)
    axes.plot(centre, mean, "-" if not known.named else ":", color=colour, linewidth=1.8)
    axes.plot(centre, mean, "D", color=colour, markersize=5.5, markeredgecolor="white", markeredgewidth=0.8)
    axes.set_xticks([place for place, _ in known.ticks], [_cut(label) for _, label in known.ticks])
    if known.named and any(len(label) > 6 for _, label in known.ticks):
        axes.tick_params(axis="x", rotation=25)
    axes.set_xlim(-0.12, 1.12)


def _means(known: Scale, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and mean scores of groups: runs that share a value, or neighbours where the values are many."""
    usable = np.isfinite(known.places) & np.isfinite(scores)
    places, scores = known.places[usable], scores[usable]
    distinct = np.unique(places)
    if len(distinct) <= MOST_TICKS:
        return distinct, np.array([scores[places == place].mean() for place in distinct])
    groups = np.array_split(np.argsort(places), max(2, round(len(places) ** 0.5)))
    return np.array([places[g].mean() for g in groups]), np.array([scores[g].mean() for g in groups])


def _cut(label: str, most: int = 14) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _name(axes: Axes, axis: str, score: str | None) -> None:
    axes.set_xlabel(axis, color=INK, fontsize=10)
    if score is not None:
        axes.set_ylabel(score, color=INK, fontsize=10)
    axes.grid(True, axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa1ab")
    axes.tick_params(colors=INK, labelsize=9)


def _same_heights(figure: Figure, scores: Mapping[str, Sequence[float]], axes_a_score: int) -> None:
    """Panels of one score share their range, so that slopes can be compared; the numbers stand on the first."""
    for row, numbers in enumerate(scores.values()):
        panels = figure.axes[row * axes_a_score : (row + 1) * axes_a_score]
        finite = [number for number in numbers if math.isfinite(number)]
        if not finite:
            continue
        margin = 0.08 * (max(finite) - min(finite)) or 0.05 * abs(max(finite)) or 0.05
        for index, panel in enumerate(panels):
            panel.set_ylim(min(finite) - margin, max(finite) + margin)
            if index % _COLUMNS:
                panel.tick_params(labelleft=False)
