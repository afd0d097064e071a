"""A map of faces in the plane: who lies where, untouched and generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fexgan_lit.figures.charts import COLOURS, INK, _figure, _picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def people_map(
    points: np.ndarray, people: np.ndarray, names: Sequence[str], groups: np.ndarray, group_names: Sequence[str]
) -> Image.Image:
    """Identity features in the plane: a colour a person, a panel a group, the untouched frames faint in every panel.

    Args:
        points: (n, 2).
        people: (n,) int, who each face shows.
        names: of the people.
        groups: (n,) int; 0 the untouched frames, 1 up those of each system.
        group_names: of the groups from 1 on.
    """
    figure = _figure(4.2 * len(group_names) + 0.6, 4.6)
    reach = np.abs(points).max() * 1.08
    for number, title in enumerate(group_names):
        axes = figure.add_subplot(1, len(group_names), number + 1)
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
        shape = "ovs^D"[person // len(COLOURS) % 5]  # more people than colours
        real = points[(groups == 0) & (people == person)]
        made = points[(groups == group) & (people == person)]
        axes.plot(*real.T, shape, color=colour, alpha=0.18, markersize=7, markeredgewidth=0)
        label = None if labels is None else labels[person]
        axes.plot(*made.T, shape, color=colour, alpha=0.9, markersize=3.5, markeredgewidth=0, label=label)
    axes.spines[:].set_color("#c9ced6")
