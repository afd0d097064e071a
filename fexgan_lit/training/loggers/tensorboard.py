"""TensorBoard: scalars, pictures, tables as Markdown, and options with the final metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from fexgan_lit.utils.tables import TextTable

if TYPE_CHECKING:
    from PIL import Image

    from fexgan_lit.runs.folder import RunFolder


class RunTensorBoard(TensorBoardLogger):
    """Lightning's `TensorBoardLogger` with pictures and tables; it writes to `tensorboard/` in the run folder.

    Args:
        folder: the run folder.
        resume_at: iteration of the checkpoint that the run resumes from; values of later iterations are hidden.
    """

    def __init__(self, folder: Path, resume_at: int | None = None) -> None:
        purge = None if resume_at is None else resume_at + 1
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False, purge_step=purge)

    @rank_zero_only
    def log_image(self, key: str, images: list[Image.Image], step: int | None = None, **kwargs: Any) -> None:
        """Log images under `key`; TensorBoard has no captions."""
        for image in images:
            self.experiment.add_image(key, np.asarray(image.convert("RGB")), step, dataformats="HWC")  # (H, W, 3)

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: Sequence[Sequence[Any]], step: int | None = None) -> None:
        """Log a table as Markdown text."""
        cells = tuple(tuple("-" if cell is None else str(cell) for cell in row) for row in data)
        self.experiment.add_text(key, TextTable(key, tuple(columns), cells).markdown(), step)

    @rank_zero_only
    def log_summary(
        self, run: RunFolder, config: Mapping[str, Any], iteration: int, metrics: Mapping[str, float], data_key: str
    ) -> None:
        """Log the options and the final metrics for the page HPARAMS."""
        options = plain_options(config)
        self.experiment.add_hparams(options, dict(metrics), run_name=".", global_step=iteration)


def plain_options(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every option by its dotted name, as a number, a bool or text."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= plain_options(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
