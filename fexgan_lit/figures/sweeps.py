"""Figures of a sweep: parallel coordinates and main effects, with their scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fexgan_lit.figures.curves import COLOURS, FAINT, INK, _figure, _picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Largest number of different values that each get a tick.
MOST_TICKS = 8


#: Ratio of the largest to the smallest value above which an axis is logarithmic.
_DECADE = 9.9


@dataclass(frozen=True)
class Scale:
    """Positions of values on an axis from 0 to 1.

    Attributes:
        places: (N,), NaN where there is no value.
        ticks: positions and labels of the ticks.
        logarithmic: whether the axis is logarithmic.
        named: whether the values are names without an order.
    """

    places: np.ndarray
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False
    named: bool = False


def scale(values: Sequence[Any], flip: bool = False, most_ticks: int = MOST_TICKS) -> Scale:
    """Return the scale of `values`: numbers by size, anything else by name in order of appearance.

    Args:
        values: N values; among numbers, None and NaN are missing values.
        flip: whether the smallest number is at 1.
        most_ticks: largest number of different values that each get a tick; more values get a few round ticks.
    """
    if not all(value is None or _is_number(value) for value in values) or not any(map(_is_number, values)):
        return _by_name(values)
    numbers = np.array([float(value) if _is_number(value) else math.nan for value in values])
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return Scale(numbers, ())
    powers = bool(known.min() > 0 and known.max() / known.min() > _DECADE)
    size = np.log10 if powers else np.asarray
    low, high = float(size(known.min())), float(size(known.max()))

    def place(number: Any) -> Any:
        share = (size(number) - low) / (high - low) if high > low else np.full(np.shape(number), 0.5)
        return 1 - share if flip else share

    with np.errstate(invalid="ignore", divide="ignore"):
        places = np.where(np.isfinite(numbers), place(np.where(np.isfinite(numbers), numbers, known[0])), math.nan)
    few = len(np.unique(known)) <= most_ticks
    chosen = np.unique(known).tolist() if few else _round_ticks(float(known.min()), float(known.max()), powers)
    ticks = tuple((float(place(tick)), f"{tick:.4g}" if few or not powers else f"{tick:.2g}") for tick in chosen)
    return Scale(places, ticks, powers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _by_name(values: Sequence[Any]) -> Scale:
    names = [_name(value) for value in values]
    order = list(dict.fromkeys(names))
    step = 1 / (len(order) - 1) if len(order) > 1 else 0.0
    at = {name: index * step if step else 0.5 for index, name in enumerate(order)}
    return Scale(np.array([at[name] for name in names]), tuple((at[name], name) for name in order), named=True)


def _name(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else "null" if value is None else str(value)


def _round_ticks(low: float, high: float, powers: bool) -> list[float]:
    """Return the ends, and between them the powers of ten or three more ticks at equal distances."""
    if powers:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        inner = [10.0**power for power in range(first, last + 1)]
        # the label of a power close to an end would cover the end's label
        return [low, *(tick for tick in inner if tick / low > 2 and high / tick > 2), high]
    return [float(value) for value in np.linspace(low, high, 5)]


#: Panels per row.
_COLUMNS = 4


def main_effects(choices: Mapping[str, Sequence[Any]], scores: Mapping[str, Sequence[float]]) -> Image.Image:
    """Plot one panel per score and axis: one dot per run, and a line through the means of runs with equal values.

    If few runs have equal values, the line connects the means of groups of neighbours.

    Args:
        choices: values of N runs by name of the axis.
        scores: N numbers by label of the score, NaN where a run has none.

    Raises:
        ValueError: there is no axis or no score, or the lengths differ.
    """
    lengths = {len(values) for values in (*choices.values(), *scores.values())}
    if not choices or not scores or len(lengths) != 1:
        raise ValueError("expected at least one axis and one score, with a value for every run")
    columns = min(_COLUMNS, len(choices))
    lines = math.ceil(len(choices) / columns)  # rows of panels per score
    figure = _figure(2.5 * columns + 0.8, 2.15 * lines * len(scores) + 0.2)
    for row, (score, numbers) in enumerate(scores.items()):
        for number, (axis, values) in enumerate(choices.items()):
            position = (row * lines + number // columns) * columns + number % columns + 1
            axes = figure.add_subplot(lines * len(scores), columns, position)
            _draw(axes, values, np.asarray(numbers, float), COLOURS[number % len(COLOURS)])
            _label_axes(axes, axis, score if number % columns == 0 else None)
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
    """Return positions and mean scores of groups: runs with equal values, or neighbours if there are many values."""
    usable = np.isfinite(known.places) & np.isfinite(scores)
    places, scores = known.places[usable], scores[usable]
    distinct = np.unique(places)
    if len(distinct) <= MOST_TICKS:
        return distinct, np.array([scores[places == place].mean() for place in distinct])
    groups = np.array_split(np.argsort(places), max(2, round(len(places) ** 0.5)))
    return np.array([places[g].mean() for g in groups]), np.array([scores[g].mean() for g in groups])


def _cut(label: str, most: int = 14) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _label_axes(axes: Axes, axis: str, score: str | None) -> None:
    axes.set_xlabel(axis, color=INK, fontsize=10)
    if score is not None:
        axes.set_ylabel(score, color=INK, fontsize=10)
    axes.grid(True, axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa1ab")
    axes.tick_params(colors=INK, labelsize=9)


def _same_heights(figure: Figure, scores: Mapping[str, Sequence[float]], axes_a_score: int) -> None:
    """Give all panels of a score the same range, so that slopes are comparable; only the first shows numbers."""
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


#: A colour map for colour-blind readers and grey print.
_COLOURS = "cividis_r"


#: Width, as a fraction of the axis, over which lines through one value are spread apart.
_SPREAD = 0.05


_BEHIND_TEXT = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0}


@dataclass(frozen=True)
class Coordinate:
    """One vertical axis.

    Attributes:
        label: label below the axis.
        values: numbers or names of N settings; None where a setting has none.
        flip: whether the smallest value is at the top, for scores where smaller is better.
        score: whether the axis is a result and not a choice.
    """

    label: str
    values: Sequence[Any]
    flip: bool = False
    score: bool = False


def parallel_coordinates(coordinates: Sequence[Coordinate], by: int, best: int | None = None) -> Image.Image:
    """Plot one line per setting, coloured by one of the axes, with the best setting thick and on top.

    Args:
        coordinates: the axes from left to right, with N values each.
        by: index of the axis for the colour; its values must be numbers.
        best: index of the highlighted setting, or None.

    Raises:
        ValueError: there are fewer than two axes, or their lengths differ.
    """
    if len(coordinates) < 2 or len({len(axis.values) for axis in coordinates}) != 1:
        raise ValueError("expected at least two axes, with a value for every setting")
    scales = [scale(axis.values, axis.flip, 1 if axis.score else MOST_TICKS) for axis in coordinates]
    figure = _figure(max(6.0, 1.5 * len(coordinates) + 1.2), 4.4)
    axes = figure.add_subplot(1, 1, 1)
    heights = np.stack([_spread(s) if not c.score else s.places for c, s in zip(coordinates, scales, strict=True)])
    _draw_lines(axes, heights, scales[by].places, best)
    _draw_axes(axes, coordinates, scales)
    _draw_colours(axes, coordinates[by], scales[by])
    return _picture(figure)


def _spread(known: Scale) -> np.ndarray:
    """Return the positions, with coinciding ones moved slightly apart in the order of their settings."""
    places = known.places.copy()
    for place in np.unique(places[np.isfinite(places)]):
        same = np.flatnonzero(places == place)
        if len(same) > 1:
            places[same] += np.linspace(-_SPREAD / 2, _SPREAD / 2, len(same))
    return places


def _draw_lines(axes: Axes, heights: np.ndarray, shares: np.ndarray, best: int | None) -> None:
    """Draw lines (A, N) from worst to best, so that good ones are on top; `shares` (N,) in 0..1, 1 is best."""
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
    axes.set_title(
        "one line per setting; the better end of the scores (bold) is on top", fontsize=10, color=INK, loc="left"
    )


def _draw_colours(axes: Axes, coordinate: Coordinate, known: Scale) -> None:
    """Draw the colour bar with the ticks of its axis."""
    from matplotlib.cm import ScalarMappable

    bar = axes.figure.colorbar(ScalarMappable(cmap=_COLOURS), ax=axes, pad=0.02, aspect=30)
    ends = [tick for tick in known.ticks if tick[0] in (min(p for p, _ in known.ticks), max(p for p, _ in known.ticks))]
    bar.set_ticks([place for place, _ in ends], labels=[label for _, label in ends])
    bar.set_label(coordinate.label, color=INK, fontsize=9)
    bar.ax.tick_params(colors=INK, labelsize=9, length=0)
    bar.outline.set_visible(False)
