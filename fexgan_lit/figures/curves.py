"""Curves of losses, accuracies and other values, and confusion matrices, by matplotlib without its global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Curves by name: iterations and values of equal length.
Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]


COLOURS = ("#1f77b4", "#d1622b", "#3a8f5c", "#8a5fb0", "#b0893a", "#c2477f", "#5b6470", "#2aa3a8")


INK, FAINT = "#1f2328", "#d9dde3"


def loss_curves(history: pd.DataFrame | Curves, *, title: str | None = None) -> Image.Image:
    """Plot generator and discriminator losses against iterations, smoothed lines over the raw values.

    Args:
        history: name -> (iterations, values), or a table with a column ``step`` (or ``iteration``) and one column per
            loss, empty where a row has no value. Losses of the discriminator are named ``discriminator`` or ``d``, or
            the last part of their names starts with ``d_``, ``d/``, ``real_`` or ``fake_``.
        title: title above both panels.
    """
    curves = _curves(history)
    panels = {
        "generator": {name: curve for name, curve in curves.items() if not _of_discriminator(name)},
        "discriminator": {name: curve for name, curve in curves.items() if _of_discriminator(name)},
    }
    figure = _figure(11.0, 4.6)
    for index, (name, members) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 2, index + 1)
        _style(axes, name, "iteration", "loss" if index == 0 else "")
        _draw_curves(axes, members)
    if title is not None:
        figure.suptitle(title, fontsize=13, color=INK)
    return _picture(figure)


def confusion_figure(matrix: Any, affects: Sequence[str], *, title: str | None = None) -> Image.Image:
    """Plot a confusion matrix of target affects (rows) and the judge's predictions (columns).

    Colours show the fractions of a row, numbers the counts.

    Args:
        matrix: (K, K) counts, a tensor or an array.
        affects: K names.
        title: title above the matrix.
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(affects), len(affects)):
        raise ValueError(f"matrix must be {(len(affects), len(affects))}, got {counts.shape}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.62 * len(affects)
    figure = _figure(side, side)
    axes = figure.add_subplot(1, 1, 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(affects)), affects, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(affects)), affects)
    axes.set(xlabel="judge's prediction", ylabel="target")
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "#ffffff" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{int(count)}", ha="center", va="center", color=colour, fontsize=9)
    accuracy = np.trace(counts) / max(1, counts.sum())
    axes.set_title(title or f"{accuracy:.1%} of {int(counts.sum())} classified as the target", fontsize=11, color=INK)
    return _picture(figure)


def _curves(history: pd.DataFrame | Curves) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the finite points of every curve that has any."""
    if isinstance(history, Mapping):
        raw = {name: (np.asarray(x, float), np.asarray(y, float)) for name, (x, y) in history.items()}
    else:
        axis = "step" if "step" in history.columns else "iteration"
        steps = history[axis].to_numpy(float)
        names = [name for name in history.columns if name not in {"step", "iteration", "epoch"}]
        raw = {str(name): (steps, history[name].to_numpy(float)) for name in names}
    kept = {name: np.isfinite(x) & np.isfinite(y) for name, (x, y) in raw.items()}
    return {name: (x[kept[name]], y[kept[name]]) for name, (x, y) in raw.items() if kept[name].any()}


def _of_discriminator(name: str) -> bool:
    parts = name.lower().split("/")
    own_words = "d" in parts[:-1] or any("discriminator" in part for part in parts)
    return own_words or parts[-1] == "d" or parts[-1].startswith(("d_", "real_", "fake_"))


def _label(name: str) -> str:
    """Return the last part of a name without the prefix in the panel's title; the sum of a panel is "total"."""
    last = name.split("/")[-1]
    if last in {"generator", "discriminator", "g", "d"}:
        return "total"
    for prefix in ("g_", "d_", "generator_", "discriminator_"):
        last = last.removeprefix(prefix)
    return last.replace("_", " ")


def _thinned(steps: np.ndarray, values: np.ndarray, most: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Reduce to at most `most` points, each the mean of its neighbours; a figure cannot show more."""
    if len(values) <= most:
        return steps, values
    edges = np.linspace(0, len(values), most + 1).astype(int)[:-1]
    counts = np.diff(np.append(edges, len(values)))
    return np.add.reduceat(steps, edges) / counts, np.add.reduceat(values, edges) / counts


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Return the centred moving mean over `width` points, narrower at both ends, with the same length."""
    if width < 2:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - width // 2, 0), np.minimum(index + width // 2 + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _draw_curves(axes: Axes, members: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    for index, (name, curve) in enumerate(members.items()):
        steps, values = _thinned(*curve)
        colour = COLOURS[index % len(COLOURS)]
        smooth = smoothed(values, len(values) // 40)
        if smooth is not values:
            axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
        axes.plot(steps, smooth, color=colour, linewidth=1.6, label=_label(name))
    if members:
        axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4)
        everything = np.concatenate([values for _, values in members.values()])
        if everything.min() > 0 and everything.max() > 30 * np.percentile(everything, 5):
            axes.set_yscale("log")
    else:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color=INK)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=140, layout="constrained", facecolor="white")


def _style(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.grid(True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa1ab")
    axes.tick_params(colors=INK, labelsize=9)


def _picture(figure: Figure) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once, where `savefig` draws twice and encodes a PNG
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def accuracy_curves(times: Sequence[int], by_run: Mapping[str, np.ndarray]) -> Image.Image:
    """Plot mean, deviation and every seed of each run at equal distances for the T multiples.

    Args:
        times: T multiples of the real frames, ascending.
        by_run: accuracies (seeds, T) in 0..1 by name of the run.

    Raises:
        ValueError: there is no run, or an array has another shape.
    """
    if not by_run or any(values.ndim != 2 or values.shape[1] != len(times) for values in by_run.values()):
        raise ValueError(f"accuracies must be (seeds, {len(times)}) for at least one run")
    figure = _figure(6.6, 4.2 + 0.2 * len(by_run))
    axes = figure.add_subplot(1, 1, 1)
    _style(axes, "accuracy on held-out real frames", "generated frames per real frame", "")
    for number, (name, values) in enumerate(by_run.items()):
        nudge = 0.12 * (number - (len(by_run) - 1) / 2)  # keeps the seeds of two runs from covering one another
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


def line_panels(
    x: Sequence[float], panels: Mapping[str, Mapping[str, np.ndarray]], x_label: str, y_label: str = "",
    diagonal: bool = False, equal_steps: bool = False,
) -> Image.Image:  # fmt: skip
    """Plot one panel per title, three in a row, with a line per name; a name has one colour in all panels.

    Args:
        x: L values of the horizontal axis, ascending.
        panels: by title, values (L,) by name.
        x_label: label of the horizontal axes.
        y_label: label of the vertical axes of the first column.
        diagonal: whether to draw the line on which both axes are equal.
        equal_steps: whether to draw the values of `x` at equal distances.

    Raises:
        ValueError: there is no panel, or a line has another length than `x`.
    """
    if not panels or any(len(line) != len(x) for lines in panels.values() for line in lines.values()):
        raise ValueError(f"lines must have {len(x)} values each, in at least one panel")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.4 * columns + 0.4, 2.7 * rows + 0.4 + 0.2 * len(names))
    places = np.arange(len(x)) if equal_steps else np.asarray(x, float)
    for number, (title, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        _style(
            axes, title, x_label if number >= len(panels) - columns else "", y_label if number % columns == 0 else ""
        )
        if diagonal:
            axes.plot(x, x, ":", color="#9aa1ab", linewidth=1.2)
        for name, values in lines.items():
            axes.plot(
                places, values, "o-", color=COLOURS[names.index(name) % len(COLOURS)], markersize=3, linewidth=1.4
            )
        if equal_steps:
            axes.set_xticks(places, [f"{value:g}" for value in x])
    handles = [(figure.axes[0].plot([], [], color=COLOURS[k % len(COLOURS)])[0], name) for k, name in enumerate(names)]
    figure.legend(*zip(*handles, strict=True), frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    return _picture(figure)
