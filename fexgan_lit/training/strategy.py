"""Training on several devices: Lightning's DDP with the gradients of each optimizer averaged before its step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from fexgan_lit.systems.gan import copy_all
from fexgan_lit.training.distributed import PATIENCE

# ---------------------------------------------------------------------- averaging


class AveragingDDPStrategy(DDPStrategy):
    """Lightning's DDP strategy, in which an optimizer's complete gradients are averaged before its step.

    The networks are not wrapped in DistributedDataParallel, which expects one backward pass that reaches every weight:
    here two optimizers make several passes, each for its own network, and a gradient penalty bypasses a network's
    `forward`. Instead, the gradients of one optimizer are averaged in one message after all passes.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(timeout=PATIENCE, **kwargs)
        self._averaged: set[int] = set()

    @torch.no_grad()
    def configure_ddp(self) -> None:
        """Broadcast the weights and buffers of rank 0, instead of wrapping the networks."""
        networks: Any = self.lightning_module
        for value in (*networks.parameters(), *networks.buffers()):
            whole = value.detach().contiguous()
            dist.broadcast(whole, 0)
            value.copy_(whole)

    def average(self, optimizer: Optimizer) -> None:
        """Replace the gradients of an optimizer by their mean over the processes, once per step.

        Gradient clipping calls this before the step does.
        """
        if id(optimizer) not in self._averaged:
            self._averaged.add(id(optimizer))
            average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:  # fmt: skip
        """Average the gradients, then step."""
        self.average(optimizer)
        self._averaged.discard(id(optimizer))
        return super().optimizer_step(optimizer, closure, model, **kwargs)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes, in place, with one message per dtype."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            kinds.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in kinds.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        parts = flat.split([gradient.numel() for gradient in gradients])
        shaped = [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]
        copy_all(gradients, shaped)


@torch.no_grad()
def average_losses(losses: dict[str, Tensor], device: torch.device) -> None:
    """Replace the losses of this process's share of a batch by those of the whole batch, in place."""
    names = sorted(losses)
    values = torch.stack([losses[name].detach().to(device).float() for name in names])
    dist.all_reduce(values)
    values /= dist.get_world_size()
    losses |= dict(zip(names, values.unbind(), strict=True))


def agreed(*flags: bool) -> list[bool]:
    """Return for each flag whether any process has set it; sent between CPUs, so no GPU is synchronized."""
    said = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return [bool(flag) for flag in said]
