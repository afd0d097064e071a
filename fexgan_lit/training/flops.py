"""Count FLOP by precision and bytes of an iteration, and provide tasks that measure the rates of this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

#: Operations that overwrite their first tensor without reading it.
OVERWRITING = frozenset({"copy_", "fill_", "zero_", "bernoulli_", "normal_", "uniform_", "random_"})


class Operation(NamedTuple):
    """One torch operation: precision, FLOP (0 if not counted) and the bytes that it must move."""

    precision: torch.dtype
    flops: int
    bytes: int


class FlopsByPrecision(TorchDispatchMode):
    """Counts the FLOP of convolutions and matrix products in its context: forward, backward and double backward.

    It uses the formulas of `torch.utils.flop_counter` (a multiplication and an addition count as two). Unlike
    `FlopCounterMode`, it counts bf16 and float32 separately, since a mixed-precision iteration has both, and counts
    bytes. All other operations have no FLOP but move bytes: each reads its inputs and writes its outputs once.

    Attributes:
        counts: FLOP by the precision of the operands.
        operations: every operation that computes or moves data.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[torch.dtype] = Counter()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        formula, flops = flop_registry.get(func._overloadpacket), 0
        precision = read[0].dtype if read else torch.float32
        if formula is not None:
            flops = int(formula(*args, **kwargs, out_val=out))
            self.counts[precision] += flops
        if flops or computes(func):
            written = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
            read = read[1:] if func._schema.name.removeprefix("aten::") in OVERWRITING else read
            self.operations.append(Operation(precision, flops, sum(map(extent, read + written))))
        return out


def computes(func: Any) -> bool:
    """Return whether an operation does more than make a view or allocate memory."""
    aliases = [value.alias_info for value in func._schema.returns]
    is_view = any(alias is not None and not alias.is_write for alias in aliases)
    return not (is_view or any(word in func._schema.name for word in ("empty", "_unsafe_view")))


def extent(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor occupies in memory; for an expanded tensor, those of its storage."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def roofline_seconds(operations: list[Operation], rates: Mapping[torch.dtype, Any], copies: np.ndarray) -> np.ndarray:
    """Return the roofline time of an iteration: each operation takes the longer of its compute and memory times.

    Args:
        operations: operations of the iteration.
        rates: FLOP/s of matrix products by precision, (rounds,) each.
        copies: bytes/s of copies, (rounds,).

    Returns:
        (rounds,) seconds, summed over the operations.
    """
    seconds = np.zeros_like(copies)
    for each in operations:
        computed = each.flops / rates[each.precision] if each.flops else 0.0
        seconds += np.maximum(each.bytes / copies, computed)
    return seconds


def copy_block(device: torch.device, size: int) -> Callable[[], object]:
    """Return a task that copies a block of `size` bytes once, which moves `2 * size` bytes."""
    block = torch.ones(size // 4, device=device)
    there = torch.empty_like(block)
    return lambda: there.copy_(block)


def matrix_product(precision: torch.dtype, device: torch.device, edge: int) -> Callable[[], object]:
    """Return a task that multiplies two square matrices once, with the TF32 setting of convolutions."""
    a, b = (torch.randn(edge, edge, device=device).to(precision) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        # TF32 may be enabled for convolutions only; the floor is meant for convolutions
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        torch.mm(a, b, out=out)
        torch.backends.cuda.matmul.allow_tf32 = before

    return multiply
