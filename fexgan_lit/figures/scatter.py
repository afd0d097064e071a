"""Dot plots with intervals for several methods and seeds, and maps of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fexgan_lit.figures.curves import COLOURS, FAINT, INK, _figure, _picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_COLUMNS = 3


@dataclass(frozen=True)
class DotPanel:
    """Data of one panel, which shows one metric.

    Attributes:
        dots: values of the seeds by method.
        bars: ends of an interval by method.
        lines: reference values by name.
    """

    dots: Mapping[str, Sequence[float]]
    bars: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    lines: Mapping[str, float] = field(default_factory=dict)


def dot_panels(panels: Mapping[str, DotPanel]) -> Image.Image:
    """Plot one panel per metric, three in a row; methods run from top to bottom in the order of the first panel.

    Args:
        panels: panels by title.

    Raises:
        ValueError: there is no panel.
    """
    if not panels:
        raise ValueError("nothing to draw: no metric has a value")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel.dots))
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(4.4 * columns + 1.0, (1.0 + 0.34 * len(names)) * rows + 0.2)
    for number, (title, panel) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        _draw(axes, panel, names, labelled=number % columns == 0)
        axes.set_title(title, fontsize=11, color=INK, loc="left")
    return _picture(figure)


def _draw(axes: Axes, panel: DotPanel, names: Sequence[str], labelled: bool) -> None:
    for name, value in panel.lines.items():
        ceiling = "ceiling" in name
        axes.axvline(value, color="#3a8f5c" if ceiling else "#9aa1ab", linewidth=1.2, linestyle="-" if ceiling else ":")
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)]
        if name in panel.bars:
            axes.plot(panel.bars[name], (index, index), color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
        seeds = list(panel.dots.get(name, ()))
        axes.plot(seeds, [index] * len(seeds), "o", color=colour, markersize=4.5, alpha=0.85, markeredgewidth=0)
    axes.set_yticks(range(len(names)), names if labelled else [""] * len(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(True, axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9, length=0)


def people_map(
    points: np.ndarray, people: np.ndarray, names: Sequence[str], groups: np.ndarray, group_names: Sequence[str]
) -> Image.Image:
    """Plot identity features with one colour per person and one panel per group, real frames pale in every panel.

    Args:
        points: (n, 2).
        people: (n,) int, index of the person on each face.
        names: names of the people.
        groups: (n,) int; 0 for real frames, from 1 on the index of a system.
        group_names: names of the groups from 1 on.
    """
    columns = min(len(group_names), 5)
    rows = -(-len(group_names) // columns)
    figure = _figure(4.2 * columns + 0.6, 4.2 * rows + 0.4)
    reach = np.abs(points).max() * 1.08
    for number, title in enumerate(group_names):
        axes = figure.add_subplot(rows, columns, number + 1)
        _panel(axes, points, people, groups, number + 1, labels=names if number == 0 else None)
        axes.set_title(title, fontsize=11, color=INK, loc="left")
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    figure.legend(loc="outside lower center", ncols=min(10, len(names)), frameon=False, fontsize=8)
    return _picture(figure)


def _panel(
    axes: Axes, points: np.ndarray, people: np.ndarray, groups: np.ndarray, group: int, labels: Sequence[str] | None
) -> None:
    for person in np.unique(people):
        colour = COLOURS[person % len(COLOURS)]
        shape = "ovs^D"[person // len(COLOURS) % 5]  # marker shapes distinguish more people than colours
        real = points[(groups == 0) & (people == person)]
        made = points[(groups == group) & (people == person)]
        axes.plot(*real.T, shape, color=colour, alpha=0.18, markersize=7, markeredgewidth=0)
        label = None if labels is None else labels[person]
        axes.plot(*made.T, shape, color=colour, alpha=0.9, markersize=3.5, markeredgewidth=0, label=label)
    axes.spines[:].set_color("#c9ced6")
