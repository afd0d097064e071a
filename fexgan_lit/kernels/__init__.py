"""Drop-in replacements of torch modules that train FExGAN's networks faster on a CPU.

No kernel knows a system: each replaces a module of torch by its type and its options, keeps its parameters and the
keys of its state dict, and computes the same function. `fexgan_lit.training.accelerate` swaps them in. Without this
package everything works, slower; where a kernel cannot run (another device, precision, memory format or torch), the
module computes what torch's computes.

=============== ======================================================================================
`conv`          4x4 convolutions of stride 2, up and down: matrix products on small maps, minimal filtering
`winograd`      the minimal filtering (bf16)
`blocks`        batch norm with its activation in one operation (bf16), cheaper dropout
`memory`        freed memory kept by the process, linear layers and Adam for tensors in channels-last format
`loops`         the compiled loops of `winograd` and `blocks`, written with `simd` and `threads`
=============== ======================================================================================
"""

from __future__ import annotations

import functools
import importlib
import logging
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType

import torch

from fexgan_lit.utils.jit import in_a_thread

#: Channels of a map must be a multiple of this for the compiled loops: sixteen pairs of bf16.
CHANNELS = 32


def compiled_loops() -> ModuleType | None:
    """The module `fexgan_lit.kernels.loops`, or None where it cannot be had.

    Waits until it is loaded: half a second, on its first day on a machine, when numba compiles, up to seven.
    """
    return start_loading_loops().result()


@functools.cache
def start_loading_loops() -> Future[ModuleType | None]:
    """Load the compiled loops in a thread, so that a caller can do something else meanwhile."""
    if gnu_openmp() is not None:
        return in_a_thread(_load_loops)
    missing: Future[ModuleType | None] = Future()
    missing.set_result(None)
    return missing


@functools.cache
def gnu_openmp() -> Path | None:
    """The OpenMP library that the installed torch brings along, if it is GNU's, as in torch's wheels for Linux."""
    home = Path(torch.__file__).parent
    found = [path for folder in (home / "lib", home.parent / "torch.libs") for path in folder.glob("libgomp*")]
    return found[0] if found else None


def _load_loops() -> ModuleType | None:
    try:
        return importlib.import_module(f"{__name__}.loops")
    except Exception as error:  # a numba or an OpenMP that lacks something: no reason to end a run
        logging.getLogger(__name__).warning("training goes on without compiled loops: %s", error)
        return None
