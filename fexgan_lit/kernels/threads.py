"""Compiled loops in torch's own threads.

One team of OpenMP threads does torch's operations, each of which waits actively for the next one. Threads of another
pool would compete with them for the cores; a loop that the team itself runs starts within microseconds.
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

#: Longer than any array: loops know how far they may go.
_LENGTH = 1 << 40

_LIBRARY = ctypes.CDLL(str(gnu_openmp()))  # which torch has loaded already
_LIBRARY.GOMP_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_LIBRARY.GOMP_parallel.restype = None


def _function(name: str, result: Any = types.int32) -> Any:
    """An argumentless function of the library for compiled code, under a name that cached code finds again."""
    symbol = f"fexgan_lit_{name}"
    binding.add_symbol(symbol, ctypes.cast(getattr(_LIBRARY, name), ctypes.c_void_p).value)
    return types.ExternalFunction(symbol, result())


#: Number of the calling thread in its team, and of threads in it.
_THREAD, _THREADS = _function("omp_get_thread_num"), _function("omp_get_num_threads")
#: Wait for every thread of the team.
barrier = _function("GOMP_barrier", types.void)


def jit(*signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: machine code for functions that loops call."""
    return lambda function: kept(
        numba.njit, function, void(*signature), nogil=True, error_model="numpy", boundscheck=False
    )  # fmt: skip


def parallel(loop: Callable[[Any], None]) -> Any:
    """A decorator: machine code that every thread of a team runs, given the addresses that `run` was given."""
    return kept(numba.cfunc, loop, void(types.CPointer(types.voidptr)))


@numba.njit(inline="always")
def thread_range(count: int) -> Any:
    """The calling thread's range of `count` items: the first, and the one after the last."""
    number, threads = np.int64(_THREAD()), np.int64(_THREADS())
    return count * number // threads, count * (number + 1) // threads


@numba.njit(inline="always")
def is_first_thread() -> bool:
    """Whether the calling thread is the first of its team."""
    return _THREAD() == 0


@numba.njit(inline="always")
def sizes(addresses: Any) -> np.ndarray:
    """The numbers that `run` was given, as eight int64."""
    return carray(addresses[0], (8,), np.int64)


@numba.njit(inline="always")
def uints(addresses: Any, place: int) -> np.ndarray:
    """A tensor that `run` was given, from 1 on, as uint32."""
    return carray(addresses[place], (_LENGTH,), np.uint32)


@numba.njit(inline="always")
def floats(addresses: Any, place: int) -> np.ndarray:
    """The same as float32."""
    return carray(addresses[place], (_LENGTH,), np.float32)


def run(loop: Any, tensors: tuple[Tensor, ...], *numbers: int) -> None:
    """Let every thread of the team run a `parallel` loop on tensors, as they lie in memory, and up to eight numbers."""
    addresses = (ctypes.c_void_p * (1 + len(tensors)))(
        ctypes.addressof(_eight_numbers(numbers)), *(tensor.data_ptr() for tensor in tensors)
    )
    _LIBRARY.GOMP_parallel(loop.address, addresses, torch.get_num_threads(), 0)


@functools.cache
def _eight_numbers(numbers: tuple[int, ...]) -> ctypes.Array[ctypes.c_int64]:
    """A network asks for few sizes, again and again."""
    return (ctypes.c_int64 * 8)(*numbers)
