"""What an iteration computes, and how fast this machine could: FLOP by precision, and the rate of matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

#: Edge of the square matrices whose product is timed: large enough for the full rate, and tens of milliseconds long.
PRODUCT_EDGE = {"cpu": 2048, "cuda": 8192}


class FlopsByPrecision(TorchDispatchMode):
    """Counts the FLOP of convolutions and matrix products while it is entered, forward, backward and twice backward.

    `torch.utils.flop_counter` has the formulas (a multiplication and an addition are two); its own counter does not
    tell bf16 from float32, and a mixed-precision iteration has both. All else an iteration does (norms, activations,
    losses, Adam) is not counted, as there.

    Attributes:
        counts: FLOP by the precision of the operands.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            operand = next(arg for arg in args if isinstance(arg, torch.Tensor))
            self.counts[operand.dtype] += int(formula(*args, **kwargs, out_val=out))
        return out


def matrix_product(precision: torch.dtype, device: torch.device, edge: int) -> Callable[[], object]:
    """A task that multiplies two square matrices once, in the arithmetic that convolutions use on this device."""
    a, b = (torch.randn(edge, edge, device=device).to(precision) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        # convolutions may round float32 to TF32 where matrix products may not; the floor is that of convolutions
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        torch.mm(a, b, out=out)
        torch.backends.cuda.matmul.allow_tf32 = before

    return multiply


def product_flops(edge: int) -> int:
    """FLOP of the product of two square matrices."""
    return 2 * edge**3


def floor_seconds(counts: Mapping[torch.dtype, float], rates: Mapping[torch.dtype, Any]) -> Any:
    """Time that `counts` FLOP would take at the rates (FLOP/s) of matrix products, each precision at its own.

    Rates may be numbers or arrays of one number a round; the result is alike.
    """
    return sum(count / rates[precision] for precision, count in counts.items())
