"""torch's own team of threads for loops that are not torch's.

One team of OpenMP threads does torch's operations, each of which waits actively for the next one. Threads of another
pool would compete with them for the cores; a loop that the team itself runs starts within microseconds.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import binding
from numba import types


def _team() -> ctypes.CDLL:
    """The OpenMP library of the installed torch, which has loaded it already.

    Raises:
        OSError: it is none that is known here: only the GNU one is, which torch's wheels for Linux bring along.
    """
    home = Path(torch.__file__).parent
    found = [path for folder in (home / "lib", home.parent / "torch.libs") for path in folder.glob("libgomp*")]
    if not found:
        raise OSError(f"no libgomp in {home}")
    return ctypes.CDLL(str(found[0]))


_LIBRARY = _team()
_LIBRARY.GOMP_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_LIBRARY.GOMP_parallel.restype = None


def _function(name: str) -> Any:
    """An argumentless function of the library for compiled code, under a name that cached code finds again."""
    ours = f"fexgan_lit_{name}"
    binding.add_symbol(ours, ctypes.cast(getattr(_LIBRARY, name), ctypes.c_void_p).value)
    return types.ExternalFunction(ours, types.int32())


#: Number of the calling thread in its team, and of threads in it.
THREAD, THREADS = _function("omp_get_thread_num"), _function("omp_get_num_threads")


def run(entry: Any, x: np.ndarray, out: np.ndarray, *sizes: int) -> None:
    """Let every thread of the team do its share of an entry of `fexgan_lit.winograd.loops`."""
    numbers = np.zeros(8, np.int64)
    numbers[: len(sizes)] = sizes
    arguments = np.array([x.ctypes.data, out.ctypes.data, numbers.ctypes.data], np.uint64)
    _LIBRARY.GOMP_parallel(entry.address, arguments.ctypes.data, torch.get_num_threads(), 0)
