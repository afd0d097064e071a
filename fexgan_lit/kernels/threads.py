"""Compiled loops in torch's own OpenMP threads.

One team of OpenMP threads runs torch's operations and waits actively between them. Threads of another pool would
compete with the team for the cores; a loop that the team itself runs starts within microseconds.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding
from numba import carray, types, void
from torch import Tensor

from fexgan_lit.kernels import gnu_openmp
from fexgan_lit.utils.jit import kept

#: Larger than any array; loops compute their own bounds.
_LENGTH = 1 << 40

_LIBRARY = ctypes.CDLL(str(gnu_openmp()))  # torch has loaded this library already
_LIBRARY.GOMP_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_LIBRARY.GOMP_parallel.restype = None


def _function(name: str, result: Any = types.int32) -> Any:
    """Return an argumentless library function for compiled code, under a name that cached code can resolve."""
    symbol = f"fexgan_lit_{name}"
    binding.add_symbol(symbol, ctypes.cast(getattr(_LIBRARY, name), ctypes.c_void_p).value)
    return types.ExternalFunction(symbol, result())


#: Index of the calling thread in its team, and number of threads in the team.
_THREAD, _THREADS = _function("omp_get_thread_num"), _function("omp_get_num_threads")
#: Wait for every thread of the team.
barrier = _function("GOMP_barrier", types.void)


def jit(*signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate functions that loops call, to compile them."""
    return lambda function: kept(
        numba.njit, function, void(*signature), nogil=True, error_model="numpy", boundscheck=False
    )  # fmt: skip


def parallel(loop: Callable[[Any], None]) -> Any:
    """Decorate a function that every thread of a team runs on the addresses passed to `run`, to compile it."""
    return kept(numba.cfunc, loop, void(types.CPointer(types.voidptr)))


@numba.njit(inline="always")
def thread_range(count: int) -> Any:
    """Return the calling thread's range of `count` items: the first index, and the index after the last."""
    number, threads = np.int64(_THREAD()), np.int64(_THREADS())
    return count * number // threads, count * (number + 1) // threads


@numba.njit(inline="always")
def is_first_thread() -> bool:
    """Return whether the calling thread is the first of its team."""
    return _THREAD() == 0


@numba.njit(inline="always")
def sizes(addresses: Any) -> np.ndarray:
    """Return the numbers passed to `run`, as eight int64."""
    return carray(addresses[0], (8,), np.int64)


@numba.njit(inline="always")
def uints(addresses: Any, place: int) -> np.ndarray:
    """Return a tensor passed to `run`, counted from 1, as uint32."""
    return carray(addresses[place], (_LENGTH,), np.uint32)


@numba.njit(inline="always")
def floats(addresses: Any, place: int) -> np.ndarray:
    """Return a tensor passed to `run`, counted from 1, as float32."""
    return carray(addresses[place], (_LENGTH,), np.float32)


def run(loop: Any, tensors: tuple[Tensor, ...], *numbers: int) -> None:
    """Run a `parallel` loop in every thread of the team on the memory of `tensors` and up to eight numbers."""
    addresses = (ctypes.c_void_p * (1 + len(tensors)))(
        ctypes.addressof(_eight_numbers(numbers)), *(tensor.data_ptr() for tensor in tensors)
    )
    _LIBRARY.GOMP_parallel(loop.address, addresses, torch.get_num_threads(), 0)


@functools.cache
def _eight_numbers(numbers: tuple[int, ...]) -> ctypes.Array[ctypes.c_int64]:
    """Return the numbers as an array, cached since a network has few different sizes."""
    return (ctypes.c_int64 * 8)(*numbers)
