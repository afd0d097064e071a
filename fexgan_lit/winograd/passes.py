"""Both layers between (B, C, 2h, 2w) and (B, O, h, w), forward and back, with nine products for sixteen."""

from __future__ import annotations

import functools
import logging
from concurrent.futures import Future
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fexgan_lit.machine_code import in_a_thread
from fexgan_lit.winograd import operations


def halve(large: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, 2h, 2w) and weights (O, C, 4, 4) -> (B, O, h, w), and the parts of what came in, for `gradients`."""
    do = operations_for(large, weight)
    b, _, height, width = large.shape
    s = do.parts_of_large(large)  # (9, T, 4C)
    out = do.small_of(s @ do.parts_of_weight(weight).mT, torch.Size((b, len(weight), height // 2, width // 2)))
    return out, s


def double(small: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(B, O, h, w) and weights (O, C, 4, 4) -> (B, C, 2h, 2w), the transpose of `halve`, and parts as there."""
    do = operations_for(small, weight)
    b, _, h, w = small.shape
    y = do.parts_of_small(small)  # (9, T, O)
    return do.large_of(y @ do.parts_of_weight(weight), torch.Size((b, weight.shape[1], 2 * h, 2 * w))), y


def gradients(
    grad: Tensor, parts: Tensor, weight: Tensor, shape: torch.Size, halving: bool, to_x: bool, to_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a layer's input and weights, where asked for.

    Args:
        grad: of what came out, a map.
        parts: of what came in.
        weight: (O, C, 4, 4).
        shape: of what came in.
        halving: whether the layer is `halve`, not `double`.
        to_x: whether the gradient of the input is asked for.
        to_weight: whether that of the weights is; it comes in float32 or finer.
    """
    do = operations_for(grad, weight)
    y = do.parts_of_small(grad) if halving else parts  # (9, T, O)
    s = parts if halving else do.parts_of_large(grad)  # (9, T, 4C)
    back = None
    if to_x:
        w = do.parts_of_weight(weight)  # (9, O, 4C)
        back = do.large_of(y @ w, shape) if halving else do.small_of(s @ w.mT, shape)
    return back, do.weight_of(y.mT @ s, weight.shape) if to_weight else None


def operations_for(x: Tensor, weight: Tensor) -> Any:
    """The module with the six functions that a layer computes with: `compiled` where it suits, else `operations`.

    Loading `compiled` takes half a second, on its first day on a machine seven. Nobody waits for it: as both give the
    same bits, torch's operations serve until a thread has loaded it, and for good where it cannot be had.
    """
    suits = x.dtype == torch.bfloat16 and x.device.type == "cpu" and not any(size % 2 for size in weight.shape[:2])
    return loading().result() if suits and loading().done() else operations


@functools.cache
def loading() -> Future[ModuleType]:
    """`compiled`, in time."""
    return in_a_thread(_load)


def _load() -> ModuleType:
    try:
        from fexgan_lit.winograd import compiled
    except (ImportError, OSError):  # no GNU OpenMP
        return operations
    except Exception as error:  # a numba that cannot compile this: slower, but nothing to end a run for
        logging.getLogger(__name__).warning("training goes on without compiled sums of minimal filtering: %s", error)
        return operations
    return compiled
