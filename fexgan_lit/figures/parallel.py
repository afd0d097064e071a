"""Parallel coordinates: a line a setting through its values and its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fexgan_lit.figures.charts import INK, _figure, _picture
from fexgan_lit.figures.scales import MOST_TICKS, Scale, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Readable without telling red from green, and in grey.
_COLOURS = "cividis_r"
#: Share of an axis over which lines through one value are spread, so that they can be told apart.
_SPREAD = 0.05
_BEHIND_TEXT = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0}


@dataclass(frozen=True)
class Coordinate:
    """One upright axis.

    Attributes:
        label: below it.
        values: of N settings, numbers or names; None where a setting has none.
        flip: smallest at the top, for scores of which less is better.
        score: whether it is a result, not a choice.
    """

    label: str
    values: Sequence[Any]
    flip: bool = False
    score: bool = False


def parallel_coordinates(coordinates: Sequence[Coordinate], by: int, best: int | None = None) -> Image.Image:
    """A line a setting, coloured by one of the axes; the best one drawn thick and last.

    Args:
        coordinates: the axes from left to right, of N values each.
        by: which of them gives the colour; it holds numbers.
        best: the setting to stress; None stresses none.

    Raises:
        ValueError: fewer than two axes, or axes of different length.
    """
    if len(coordinates) < 2 or len({len(axis.values) for axis in coordinates}) != 1:
        raise ValueError("expected two axes or more, with a value for every setting")
    scales = [scale(axis.values, axis.flip, 1 if axis.score else MOST_TICKS) for axis in coordinates]
    figure = _figure(max(6.0, 1.5 * len(coordinates) + 1.2), 4.4)
    axes = figure.add_subplot(1, 1, 1)
    heights = np.stack([_spread(s) if not c.score else s.places for c, s in zip(coordinates, scales, strict=True)])
    _draw_lines(axes, heights, scales[by].places, best)
    _draw_axes(axes, coordinates, scales)
    _draw_colours(axes, coordinates[by], scales[by])
    return _picture(figure)


def _spread(known: Scale) -> np.ndarray:
    """Places with those that coincide moved apart a little, in order of their settings."""
    places = known.places.copy()
    for place in np.unique(places[np.isfinite(places)]):
        same = np.flatnonzero(places == place)
        if len(same) > 1:
            places[same] += np.linspace(-_SPREAD / 2, _SPREAD / 2, len(same))
    return places


def _draw_lines(axes: Axes, heights: np.ndarray, shares: np.ndarray, best: int | None) -> None:
    """Lines (A, N) from worst to best, so that the good ones lie on top; `shares` (N,) in 0..1, 1 is best."""
    import matplotlib as mpl

    colours = mpl.colormaps[_COLOURS]
    x = np.arange(len(heights))
    for setting in np.argsort(np.nan_to_num(shares, nan=-1.0)):
        share = shares[setting]
        colour = colours(float(share)) if np.isfinite(share) else "#c9ced6"
        if setting == best:
            axes.plot(x, heights[:, setting], color=INK, linewidth=5.0, zorder=3, solid_capstyle="round")
        axes.plot(
            x, heights[:, setting], color=colour, linewidth=2.6 if setting == best else 1.5,
            alpha=1.0 if setting == best else 0.85, zorder=4 if setting == best else 2, marker="o", markersize=3.5,
        )  # fmt: skip


def _draw_axes(axes: Axes, coordinates: Sequence[Coordinate], scales: Sequence[Scale]) -> None:
    for index, known in enumerate(scales):
        axes.axvline(index, color="#9aa1ab", linewidth=1.0, zorder=1)
        for place, label in known.ticks:
            axes.annotate(
                label, (index, place), (-6, 0), textcoords="offset points", ha="right", va="center", fontsize=9,
                color=INK, zorder=5, bbox=_BEHIND_TEXT,
            )  # fmt: skip
    axes.set_xticks(range(len(coordinates)), [axis.label for axis in coordinates])
    for name, axis in zip(axes.get_xticklabels(), coordinates, strict=True):
        name.set_fontweight("bold" if axis.score else "normal")
    axes.set(xlim=(-0.55, len(coordinates) - 0.85), ylim=(-0.07, 1.07), yticks=[])
    axes.tick_params(length=0, colors=INK, labelsize=10)
    axes.spines[:].set_visible(False)
    axes.set_title("a line a setting; of scores (bold) the better end is on top", fontsize=10, color=INK, loc="left")


def _draw_colours(axes: Axes, coordinate: Coordinate, known: Scale) -> None:
    """The bar that says which colour is which score, with the ticks of its axis."""
    from matplotlib.cm import ScalarMappable

    bar = axes.figure.colorbar(ScalarMappable(cmap=_COLOURS), ax=axes, pad=0.02, aspect=30)
    ends = [tick for tick in known.ticks if tick[0] in (min(p for p, _ in known.ticks), max(p for p, _ in known.ticks))]
    bar.set_ticks([place for place, _ in ends], labels=[label for _, label in ends])
    bar.set_label(coordinate.label, color=INK, fontsize=9)
    bar.ax.tick_params(colors=INK, labelsize=9, length=0)
    bar.outline.set_visible(False)
