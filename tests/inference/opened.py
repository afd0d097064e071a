"""The data of a run, as the command opens them."""

from __future__ import annotations

from pathlib import Path

from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.frames import FrameSet
from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.folder import RunFolder


def open_data(run: Path) -> FrameDataModule:
    data = FrameDataModule(train_settings(RunFolder.at(run).read_config()).dataset)
    data.setup()
    return data


def shown_frames(run: Path) -> FrameSet:
    """The split that references come from."""
    data = open_data(run)
    complete = data.val is not None and len(set(data.val.identity.tolist())) == len(data.identities)
    return data.val if complete else data.train
