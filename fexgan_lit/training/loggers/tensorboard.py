"""TensorBoard: scalars, pictures, tables as Markdown, and the options beside the final numbers."""

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
    """Lightning's `TensorBoardLogger` that writes into `tensorboard/` of a run folder and takes pictures and tables.

    Args:
        folder: of the run.
        resume_at: iteration of the checkpoint that a resumed run goes on from; what came after it is hidden.
    """

    def __init__(self, folder: Path, resume_at: int | None = None) -> None:
        purge = None if resume_at is None else resume_at + 1
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False, purge_step=purge)

    @rank_zero_only
    def log_image(self, key: str, images: list[Image.Image], step: int | None = None, **kwargs: Any) -> None:
        """Images under `key`; TensorBoard has no captions."""
        for image in images:
            self.experiment.add_image(key, np.asarray(image.convert("RGB")), step, dataformats="HWC")  # (H, W, 3)

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: Sequence[Sequence[Any]], step: int | None = None) -> None:
        """A Markdown table among the texts."""
        cells = tuple(tuple("-" if cell is None else str(cell) for cell in row) for row in data)
        self.experiment.add_text(key, TextTable(key, tuple(columns), cells).markdown(), step)

    @rank_zero_only
    def log_summary(
        self, run: RunFolder, config: Mapping[str, Any], iteration: int, metrics: Mapping[str, float], data_key: str
    ) -> None:
        """The options and the final numbers, for the page HPARAMS."""
        options = plain_options(config)
        self.experiment.add_hparams(options, dict(metrics), run_name=".", global_step=iteration)


def plain_options(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every option by its full name, as a number, a truth value or text."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= plain_options(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
