"""`trainer.data_on_device`: whether the training frames lie on the device, and the line that says so."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from fexgan_lit.data.pairs import PairLoader
from fexgan_lit.data.resident import ResidentPairs, gigabytes, obstacle, resident_bytes
from fexgan_lit.errors import UserError

#: The share of a device's free memory that frames may take unasked; the rest is for the networks.
_SHARE = 0.5


class Feed(NamedTuple):
    """The loader to train from, and what the terminal says of where its frames lie; None: nothing worth a line."""

    loader: PairLoader
    line: str | None


def placed(pairs: PairLoader, wanted: str, device: torch.device) -> Feed:
    """`pairs`, or the same batches made on `device`, as `wanted` (auto, true, false) and the free memory say.

    Raises:
        UserError: `true`, and the frames do not fit or cannot be held there.
    """
    if wanted == "false" or (wanted == "auto" and device.type != "cuda"):
        return Feed(pairs, None)
    if reason := reason_against(pairs, wanted, device, free_bytes(device)):
        if wanted == "true":
            raise UserError(f"trainer.data_on_device=true: {reason}. Give trainer.data_on_device=false or auto")
        return Feed(pairs, f"data       read from the pack: {reason}")
    return Feed(ResidentPairs(pairs, device), f"data       on {device}, {gigabytes(resident_bytes(pairs))}")


def reason_against(pairs: PairLoader, wanted: str, device: torch.device, free: int | None) -> str | None:
    """Why the frames stay where they are, or None.

    Args:
        pairs: the loader.
        wanted: `auto` leaves half of the free memory to the networks; `true` takes what there is.
        device: that would hold them.
        free: its free bytes; None where it does not tell, then only `true` asks, and is believed.
    """
    if reason := obstacle(pairs):
        return reason
    needed = resident_bytes(pairs)
    if free is None or needed <= free * (1 if wanted == "true" else _SHARE):
        return None
    least = "" if wanted == "true" else "; unasked they take half of it at most"
    return f"the training frames take {gigabytes(needed)}, {device} has {gigabytes(free)} free{least}"


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be had of a device's memory, or None where it does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
