"""Accuracy of a classifier against how much its training set was enlarged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fexgan_lit.figures.charts import COLOURS, _figure, _picture, _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy_curves(times: Sequence[int], by_run: Mapping[str, np.ndarray]) -> Image.Image:
    """Mean, deviation and every seed of each run, at even distances for the T multiples.

    Args:
        times: T multiples of the true frames, ascending.
        by_run: accuracies (seeds, T) in 0..1 by the name of a run.

    Raises:
        ValueError: an array of another shape than the multiples ask for, or no run.
    """
    if not by_run or any(values.ndim != 2 or values.shape[1] != len(times) for values in by_run.values()):
        raise ValueError(f"accuracies must be (seeds, {len(times)}) for one run at least")
    figure = _figure(6.6, 4.2 + 0.2 * len(by_run))
    axes = figure.add_subplot(1, 1, 1)
    _style(axes, "accuracy on held-out true frames", "generated frames for every true one", "")
    for number, (name, values) in enumerate(by_run.items()):
        nudge = 0.12 * (number - (len(by_run) - 1) / 2)  # the seeds of two runs do not cover one another
        _draw(axes, np.arange(len(times)) + nudge, values, COLOURS[number % len(COLOURS)], name)
    axes.set_xticks(range(len(times)), [f"×{k}" for k in times])
    axes.set_xlim(-0.5, len(times) - 0.5)
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return _picture(figure)


def _draw(axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, name: str) -> None:
    mean = values.mean(0)
    if len(values) > 1:
        spread = values.std(0, ddof=1)
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, mean, "-", color=colour, linewidth=1.6, label=name)
    for row in values:
        axes.plot(x, row, "o", color=colour, markersize=4, alpha=0.7, markeredgewidth=0)
