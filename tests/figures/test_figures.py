from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from fexgan_lit.figures import affect_grid, complex_grid, confusion_figure, loss_curves, sample_grid, truth_grid
from fexgan_lit.figures.curves import smoothed
from fexgan_lit.figures.layout import GAP, MAX_CELL, MIN_CELL, RULE_GAP, font, plan, wrap

AFFECTS = ("anger", "contempt", "joy", "neutral")


def flat(value: float, size: int = 16) -> torch.Tensor:
    """A uniform image with level `value` in red, 0 elsewhere."""
    image = torch.full((3, size, size), -1.0)
    image[0] = value / 127.5 - 1
    return image


def cells(rows: int, columns: int, size: int = 16) -> torch.Tensor:
    """Cell (r, c) has red level 10 * (1 + r) + c."""
    return torch.stack([torch.stack([flat(10 * (1 + r) + c, size) for c in range(columns)]) for r in range(rows)])


def red_runs(picture, y: int) -> list[tuple[int, int, int]]:
    """Runs (level, first x, last x) of pure-red-channel pixels along row `y`."""
    row = np.asarray(picture)[y]
    pure = (row[:, 1] == 0) & (row[:, 2] == 0)
    levels = np.where(pure, row[:, 0].astype(int), -1)
    edges = np.flatnonzero(np.diff(levels)) + 1
    starts, ends = [0, *edges], [*edges, len(levels)]
    return [(int(levels[a]), a, b - 1) for a, b in zip(starts, ends, strict=True) if levels[a] >= 0]


@pytest.mark.parametrize(("size", "side"), [(16, MIN_CELL), (128, 128), (200, 200), (512, MAX_CELL)])
def test_affect_grid_puts_each_image_in_its_cell(size, side):
    references = torch.stack([flat(200, size), flat(210, size)])
    picture = affect_grid(references, cells(2, 4, size), ("ada", "ben"), AFFECTS)
    layout = plan(side, 5, ("ada", "ben"), 1, reference=True, title=False, footnote=False)
    assert picture.size == layout.size
    for row, reference in enumerate((200, 210)):
        runs = red_runs(picture, layout.rows[row] + side // 2)
        assert [level for level, _, _ in runs] == [reference, *(10 * (1 + row) + c for c in range(4))]
        assert all(last - first + 1 == side for _, first, last in runs)
        gaps = [after[1] - before[2] - 1 for before, after in pairwise(runs)]
        assert gaps == [RULE_GAP, GAP, GAP, GAP]


def test_marks_stand_where_the_judge_disagrees():
    references = torch.stack([flat(200), flat(210)])
    verdicts = torch.arange(4).repeat(2, 1)
    plain = affect_grid(references, cells(2, 4), ("ada", "ben"), AFFECTS, verdicts=verdicts)
    verdicts[1, 2] = 0
    marked = affect_grid(references, cells(2, 4), ("ada", "ben"), AFFECTS, verdicts=verdicts)
    layout = plan(MIN_CELL, 5, ("ada", "ben"), 1, reference=True, title=False, footnote=True)
    assert plain.size == marked.size == layout.size
    changed = (np.asarray(plain) != np.asarray(marked)).any(axis=2)
    left, top, right, bottom = layout.box(1, 3)
    assert changed[top:bottom, left:right].any()
    changed[top:bottom, left:right] = False
    assert not changed[: layout.rows[-1] + MIN_CELL].any()  # only the footnote below changes besides


def test_sample_grid_has_no_reference_column():
    picture = sample_grid(cells(3, 4), AFFECTS, title="Samples")
    layout = plan(MIN_CELL, 4, ("", "", ""), 1, reference=False, title=True, footnote=False)
    assert picture.size == layout.size
    levels = [level for level, _, _ in red_runs(picture, layout.rows[2] + 64)]
    assert levels == [30, 31, 32, 33]


def test_complex_grid_wraps_long_names_and_keeps_order():
    names = ("anger + sadness", "a rather long complex expression + another")
    picture = complex_grid(torch.stack([flat(200)]), cells(1, 2), ("ada",), names)
    runs = red_runs(picture, picture.height - 20 - MIN_CELL // 2)
    assert [level for level, _, _ in runs] == [200, 10, 11]
    assert all(font(16).getlength(line) <= MIN_CELL for line in wrap(names[1], MIN_CELL, 16))
    assert wrap("motion_texture_paired x", 96, 14) == ["motion_", "texture_paired", "x"]
    assert wrap("a_b c_d", 96, 14) == ["a_b c_d"]


def test_truth_stands_below_and_missing_truth_is_blank():
    generated, truth = cells(2, 4), cells(2, 4) + 0.5
    truth[1, 2] = float("nan")
    references = torch.stack([flat(200), flat(210)])
    picture = truth_grid(references, generated, truth, ("ada", "ben"), AFFECTS)
    labels = ("ada", "true frame", "ben", "true frame")
    layout = plan(MIN_CELL, 5, labels, 1, reference=True, title=False, footnote=False, group=2)
    assert picture.size == layout.size
    pixels = np.asarray(picture)
    for row in range(4):
        levels = [int(pixels[layout.rows[row] + 64, layout.columns[c] + 64, 0]) for c in range(5)]
        base, lift = 10 * (1 + row // 2), 64 * (row % 2)
        expected = [base + c + lift for c in range(4)]
        if row == 3:
            expected[2] = 238  # blank
        assert levels[1:] == pytest.approx(expected, abs=1)
        assert levels[0] == (255 if row % 2 else (200, 210)[row // 2])


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="generated must be"):
        affect_grid(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 3, 8, 8), ("a", "b"), AFFECTS)
    with pytest.raises(ValueError, match="matrix must be"):
        confusion_figure(np.zeros((3, 3)), AFFECTS)


def test_labels_of_any_number_of_affects_fit():
    for count in (2, 11):
        names = tuple(f"affect{k}" for k in range(count))
        picture = affect_grid(torch.stack([flat(200)]), cells(1, count), ("x",), names)
        assert len(red_runs(picture, picture.height - 20 - 64)) == count + 1
        assert confusion_figure(torch.eye(count), names).mode == "RGB"


def test_confusion_is_dark_on_the_diagonal_only():
    pixels = np.asarray(confusion_figure(np.eye(4) * 9, AFFECTS)).astype(int)
    dark_blue = (pixels[..., 0] < 40) & (pixels[..., 2] > 80)
    rows, columns = np.nonzero(dark_blue)
    assert np.corrcoef(rows, columns)[0, 1] > 0.9
    off = np.asarray(confusion_figure(np.eye(4)[::-1] * 9, AFFECTS)).astype(int)
    rows, columns = np.nonzero((off[..., 0] < 40) & (off[..., 2] > 80))
    assert np.corrcoef(rows, columns)[0, 1] < -0.9


def test_loss_curves_take_mappings_and_tables_and_leave_pyplot_alone():
    steps = list(range(100))
    curves = {name: (steps, [1.0 / (1 + s) for s in steps]) for name in ("loss/generator", "loss/discriminator")}
    picture = loss_curves(curves)
    pixels = np.asarray(picture).reshape(-1, 3)
    blue = (pixels == (0x1F, 0x77, 0xB4)).all(axis=1).reshape(picture.height, picture.width)
    halves = blue[:, : picture.width // 2].sum(), blue[:, picture.width // 2 :].sum()
    assert min(halves) > 100  # one curve in each panel
    table = pd.DataFrame({"step": steps, "loss/generator": np.nan, "loss/discriminator": 1.0})
    only_d = np.asarray(loss_curves(table)).reshape(-1, 3)
    blue = (only_d == (0x1F, 0x77, 0xB4)).all(axis=1).reshape(picture.height, -1)
    assert blue[:, : blue.shape[1] // 2].sum() == 0
    assert blue[:, blue.shape[1] // 2 :].sum() > 100
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_smoothing_keeps_length_and_constants():
    assert smoothed(np.full(50, 3.0), 9) == pytest.approx(np.full(50, 3.0))
    assert smoothed(np.arange(11.0), 3)[5] == pytest.approx(5.0)
    assert len(smoothed(np.arange(10.0), 4)) == 10
