"""The stream that a run trains from, its frames in the pack or on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fexgan_lit.data.placement import Feed, placed
from fexgan_lit.data.resident import ResidentPairs, gigabytes
from fexgan_lit.trainer import IterationStream, training_device

if TYPE_CHECKING:
    from fexgan_lit.config import TrainerSettings
    from fexgan_lit.data.datamodule import FrameData
    from fexgan_lit.data.pairs import PairLoader
    from fexgan_lit.distributed.team import Team
    from fexgan_lit.systems.base import ExpressionSystem


def open_stream(
    system: ExpressionSystem, data: FrameData, settings: TrainerSettings, team: Team | None
) -> tuple[IterationStream, str | None]:
    """The iterations to come, and a line on where their frames lie; None where it is not worth one.

    For a finished run nothing is moved anywhere.

    Raises:
        UserError: `trainer.data_on_device=true`, and the frames cannot be held on the device.
    """
    feed = Feed(data.train_dataloader(), None)
    if system.iteration < settings.max_steps:
        device = training_device(settings, None if team is None else team.place)
        feed = placed(feed.loader, settings.data_on_device, device)
    return IterationStream(feed.loader, system, settings.max_steps, settings.iterations_per_call), feed.line


def other_room(loader: PairLoader) -> str:
    """What may be given up besides the size of a batch where a device's memory is full: a clause, or nothing."""
    if not isinstance(loader, ResidentPairs):
        return ""
    return f", or trainer.data_on_device=false, which frees {gigabytes(loader.pixels.nbytes)}"
