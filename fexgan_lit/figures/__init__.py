"""Pure functions: tensors in [-1, 1] in, pictures out; used by callbacks and by doors alike."""

from fexgan_lit.figures.charts import confusion_figure, loss_curves
from fexgan_lit.figures.dots import DotPanel, dot_panels
from fexgan_lit.figures.grids import affect_grid, complex_grid, sample_grid, truth_grid

__all__ = [
    "DotPanel",
    "affect_grid",
    "complex_grid",
    "confusion_figure",
    "dot_panels",
    "loss_curves",
    "sample_grid",
    "truth_grid",
]
