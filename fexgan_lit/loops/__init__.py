"""Compiled loops in bf16 for what torch does in many passes through memory: torch's threads run them, in vectors.

`vectors` has the arithmetic, sixteen lanes at once whatever the processor's width; `team` has the threads. The loops:
`minimal` (parts and sums of `fexgan_lit.winograd`), `patches` and `norm`. Maps lie channels last, two values of bf16 in
one uint32. Every loop gives the bits that torch's operations give for the same formula, however many threads share it.

Importing one of these compiles it, or loads what an earlier process compiled. numba compares what it kept with the file
of the loop alone: whoever changes `vectors` or `team` removes `__pycache__/*.nb*`.
"""

from __future__ import annotations

import functools
import importlib
import logging
from concurrent.futures import Future
from pathlib import Path

from fexgan_lit.machine_code import in_a_thread

#: Channels that a loop takes at a time: sixteen pairs.
CHANNELS = 32
_LOOPS = ("minimal", "patches", "norm")


def are_ready() -> bool:
    """Whether loops can be called now.

    Loading them takes half a second, on their first day on a machine some more. Nobody waits for it: torch's operations
    give the same bits until a thread has loaded them, and for good where they cannot be had.
    """
    return loading().done() and loading().result()


def are_coming() -> bool:
    """Whether loops can be called now or will be."""
    return not loading().done() or loading().result()


@functools.cache
def loading() -> Future[bool]:
    """Whether they can be had, in time."""
    if openmp() is not None:
        return in_a_thread(_load)
    known: Future[bool] = Future()
    known.set_result(False)
    return known


@functools.cache
def openmp() -> Path | None:
    """The OpenMP library that the installed torch brings along, where it is the GNU one: so do its wheels for Linux."""
    import torch

    home = Path(torch.__file__).parent
    found = [path for folder in (home / "lib", home.parent / "torch.libs") for path in folder.glob("libgomp*")]
    return found[0] if found else None


def _load() -> bool:
    try:
        for name in _LOOPS:
            importlib.import_module(f"{__name__}.{name}")
    except Exception as error:  # a numba that cannot compile this: slower, but nothing to end a run for
        logging.getLogger(__name__).warning("training goes on without compiled loops: %s", error)
        return False
    return True
