"""What every place for numbers, pictures and tables can be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger

if TYPE_CHECKING:
    from PIL import Image

    from fexgan_lit.runfolder import RunFolder


@dataclass(frozen=True)
class Ending:
    """What a training run came to, for the trackers that keep models and settings.

    Attributes:
        run: its folder, with the portable weights in it.
        config: the resolved configuration, as in config.yaml.
        iteration: the last one.
        metrics: the final numbers by name.
        data_key: what identifies the frames and their split.
    """

    run: RunFolder
    config: Mapping[str, Any]
    iteration: int
    metrics: Mapping[str, float]
    data_key: str


class Tracker(Logger):
    """A Lightning logger that also takes pictures, tables and the end of a run; what it cannot show it leaves out."""

    def picture(self, key: str, picture: Image.Image, iteration: int, caption: str) -> None:
        """Show a picture under `key`; the same key over iterations is one slider."""

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], iteration: int) -> None:
        """Show a table."""

    def confusion(self, key: str, counts: Sequence[Sequence[int]], names: Sequence[str], iteration: int) -> None:
        """Show a confusion matrix: row the asked class, column the judged one."""

    def ended(self, ending: Ending) -> None:
        """Keep what a training run came to."""

    def close(self, failed: bool) -> str | None:
        """Write what is still held back, and say in one line what is left to do; None where nothing is."""
        self.finalize("failed" if failed else "success")
        return None
