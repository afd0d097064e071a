"""Drop-in replacements of torch modules that train FExGAN's networks faster on a CPU.

The kernels are independent of the systems: each replaces a torch module by type and options, keeps its parameters and
state dict keys, and computes the same function. `fexgan_lit.training.accelerate` installs them. Without this package
everything works, but slower. Where a kernel cannot run (other device, precision, memory format or torch version), the
module falls back to torch.

=============== ======================================================================================
`conv`          4x4 convolutions of stride 2, up and down: matrix products on small maps, Winograd filtering
`winograd`      Winograd's minimal filtering (bf16)
`blocks`        batch norm and its activation in one operation (bf16), cheaper dropout
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

#: The compiled loops need a multiple of this number of channels: sixteen pairs of bf16.
CHANNELS = 32


def compiled_loops() -> ModuleType | None:
    """Return the module `fexgan_lit.kernels.loops`, or None where it is not available.

    The call blocks until the module is loaded: half a second, or up to seven on the first use, when numba compiles.
    """
    return start_loading_loops().result()


@functools.cache
def start_loading_loops() -> Future[ModuleType | None]:
    """Load the compiled loops in a background thread."""
    if gnu_openmp() is not None:
        return in_a_thread(_load_loops)
    missing: Future[ModuleType | None] = Future()
    missing.set_result(None)
    return missing


@functools.cache
def gnu_openmp() -> Path | None:
    """Return the path of torch's own OpenMP library if it is GNU's, as in torch's wheels for Linux."""
    home = Path(torch.__file__).parent
    found = [path for folder in (home / "lib", home.parent / "torch.libs") for path in folder.glob("libgomp*")]
    return found[0] if found else None


def _load_loops() -> ModuleType | None:
    try:
        return importlib.import_module(f"{__name__}.loops")
    except Exception as error:  # an incomplete numba or OpenMP must not end a run
        logging.getLogger(__name__).warning("training continues without compiled loops: %s", error)
        return None
