"""Several devices: Lightning's DDP, with the gradients of one optimizer averaged before it steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from fexgan_lit.training.distributed import PATIENCE

# ---------------------------------------------------------------------- averaging


class AveragingDDPStrategy(DDPStrategy):
    """Lightning's DDP, in which an optimizer's finished gradients are averaged before it steps.

    The networks are not wrapped in DistributedDataParallel, which counts on one backward pass that reaches every
    weight: two optimizers make several passes, each reaching its own network, and a gradient penalty goes past a
    network's `forward`. Here the gradients of one optimizer travel in one message once they are complete, whatever the
    number of passes before.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(timeout=PATIENCE, **kwargs)
        self._averaged: set[int] = set()

    @torch.no_grad()
    def configure_ddp(self) -> None:
        """In place of wrapping the networks: begin with the weights and buffers of rank 0."""
        networks: Any = self.lightning_module
        for value in (*networks.parameters(), *networks.buffers()):
            whole = value.detach().contiguous()
            dist.broadcast(whole, 0)
            value.copy_(whole)

    def average(self, optimizer: Optimizer) -> None:
        """Replace the gradients of an optimizer by their mean over the processes, once a step.

        Called by whoever needs them first: clipping by norm, or the step itself.
        """
        if id(optimizer) not in self._averaged:
            self._averaged.add(id(optimizer))
            average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:  # fmt: skip
        """Average, then step."""
        self.average(optimizer)
        self._averaged.discard(id(optimizer))
        return super().optimizer_step(optimizer, closure, model, **kwargs)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes, in place; one message for each type of number."""
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
        torch._foreach_copy_(gradients, shaped)


@torch.no_grad()
def average_losses(losses: dict[str, Tensor], device: torch.device) -> None:
    """Replace the losses of a process's part of the batch by those of the whole batch, in place."""
    names = sorted(losses)
    values = torch.stack([losses[name].detach().to(device).float() for name in names])
    dist.all_reduce(values)
    values /= dist.get_world_size()
    losses |= dict(zip(names, values.unbind(), strict=True))


def agreed(*flags: bool) -> list[bool]:
    """For each flag whether any process raises it; travels between the CPUs, so no GPU is waited for."""
    said = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return [bool(flag) for flag in said]
