"""Figures as pure functions from tensors in [-1, 1] to pictures, used by callbacks and commands."""

from fexgan_lit.figures.curves import accuracy_curves, confusion_figure, line_panels, loss_curves
from fexgan_lit.figures.grids import affect_grid, clip_strips, complex_grid, face_sheet, sample_grid, truth_grid
from fexgan_lit.figures.scatter import DotPanel, dot_panels, people_map

__all__ = [
    "DotPanel",
    "accuracy_curves",
    "affect_grid",
    "clip_strips",
    "complex_grid",
    "confusion_figure",
    "dot_panels",
    "face_sheet",
    "line_panels",
    "loss_curves",
    "people_map",
    "sample_grid",
    "truth_grid",
]
