"""One ordinary trainer a process, whose optimizers step down the mean of all processes' gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import Optimizer


class GradientAveraging(SingleDeviceStrategy):
    """Weights start as those of rank 0; before an optimizer steps, its gradients are averaged over the processes.

    The networks are not wrapped. DistributedDataParallel counts on one backward pass that reaches every weight; two
    optimizers make several, each reaching its own network. Here the gradients of one optimizer travel in one piece
    once they are complete, whatever the number of passes before.

    Args:
        device: of this process.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._averaged: set[int] = set()

    def setup(self, trainer: Any) -> None:
        """Once the networks are on their device, take the weights of rank 0."""
        super().setup(trainer)
        if self.model is not None:
            take_from_first(self.model)

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


@torch.no_grad()
def take_from_first(networks: nn.Module) -> None:
    """Overwrite weights and buffers by those of rank 0."""
    for value in (*networks.parameters(), *networks.buffers()):
        whole = value.detach().contiguous()
        dist.broadcast(whole, 0)
        value.copy_(whole)


def agreed(*flags: bool) -> list[bool]:
    """For each flag whether any process raises it; travels between the CPUs, so no GPU is waited for."""
    said = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return [bool(flag) for flag in said]
