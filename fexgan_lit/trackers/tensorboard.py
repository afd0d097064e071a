"""TensorBoard: scalars, pictures, tables as Markdown, and the options beside the final numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from fexgan_lit.runfolder import RunFolder
from fexgan_lit.tables import TextTable
from fexgan_lit.trackers.tracker import Ending, Tracker

if TYPE_CHECKING:
    from PIL import Image


class RunTensorBoard(TensorBoardLogger, Tracker):
    """Event files in `tensorboard/` of the run folder.

    Args:
        run: the run folder.
        resume_at: iteration of the checkpoint that a resumed run goes on from; what came after it is hidden.
    """

    def __init__(self, run: RunFolder, resume_at: int | None = None) -> None:
        purge = None if resume_at is None else resume_at + 1
        super().__init__(run.path, name="", version="tensorboard", default_hp_metric=False, purge_step=purge)

    @rank_zero_only
    def picture(self, key: str, picture: Image.Image, iteration: int, caption: str) -> None:
        """An image under `key`; TensorBoard has no captions."""
        import numpy as np

        self.experiment.add_image(key, np.asarray(picture.convert("RGB")), iteration, dataformats="HWC")  # (H, W, 3)

    @rank_zero_only
    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], iteration: int) -> None:
        """A Markdown table among the texts."""
        cells = tuple(tuple("-" if cell is None else str(cell) for cell in row) for row in rows)
        self.experiment.add_text(key, TextTable(key, tuple(columns), cells).markdown(), iteration)

    def confusion(self, key: str, counts: Sequence[Sequence[int]], names: Sequence[str], iteration: int) -> None:
        """The counts as a table; the figure of the run shows them in colour."""
        self.table(
            key, ["asked / judged", *names], [[n, *row] for n, row in zip(names, counts, strict=True)], iteration
        )

    @rank_zero_only
    def ended(self, ending: Ending) -> None:
        """The options and the final numbers, for the page HPARAMS; the numbers are logged as scalars already."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(plain_options(ending.config), dict(ending.metrics)):
            self.experiment._get_file_writer().add_summary(summary)


def plain_options(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every option by its full name, as a number, a truth value or text."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= plain_options(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
