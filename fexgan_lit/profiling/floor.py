"""The time that the FLOP of an iteration would take at the rate at which the device multiplies matrices just now."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from fexgan_lit.benchmarks.flops import PRODUCT_EDGE, floor_seconds, matrix_product, product_flops

#: Products that are timed, after one that is not.
_ROUNDS = 5


def floor_of(flops: Mapping[torch.dtype, float], device: torch.device) -> float | None:
    """Seconds for `flops`, each precision at the median rate of its own; None where there are none or no rate is known.

    Args:
        flops: by precision.
        device: where they would be computed.
    """
    edge = PRODUCT_EDGE.get(device.type)
    if edge is None or not flops:
        return None
    return float(floor_seconds(flops, {kind: product_rate(kind, device, edge) for kind in flops}))


def product_rate(kind: torch.dtype, device: torch.device, edge: int) -> float:
    """FLOP/s of square matrix products, the median of a few."""
    multiply = matrix_product(kind, device, edge)
    seconds = []
    for _ in range(_ROUNDS + 1):
        started = _now(device)
        multiply()
        seconds.append(_now(device) - started)
    return product_flops(edge) / sorted(seconds[1:])[_ROUNDS // 2]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
