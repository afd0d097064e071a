"""Accelerate the training of a built system, whose networks are plain torch modules.

`accelerate` changes a system in place, as Liger-Kernel does with transformers: it swaps in the modules of
`fexgan_lit.kernels`, which keep the parameters and the keys of the state dict, converts the weights to channels-last
format and compiles networks. `graph_strategy` captures iterations as CUDA graphs.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fexgan_lit.systems.fexgan.networks import Discriminator, DiscriminatorOutput

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

    from fexgan_lit.systems.base import ExpressionSystem

#: Dropout and noise use torch's eager generator, so that a seed gives the same numbers with and without compilation.
_COMPILE_OPTIONS: dict[str, str | int | bool] = {"fallback_random": True}


def accelerate(
    system: ExpressionSystem, device: torch.device | None = None, *, kernels: bool = True, channels_last: bool = True,
    compile: bool = False,
) -> list[str]:  # fmt: skip
    """Accelerate the training of a system in place; call this before `Trainer.fit`.

    Parameters and their names do not change, so checkpoints and weights fit accelerated and plain systems. The results
    differ by rounding, and with kernels, dropout on a CPU draws other random numbers.

    Args:
        system: the system, whose networks and optimizers are changed.
        device: device of the training; None takes the present device of the system.
        kernels: whether to swap in the modules of `fexgan_lit.kernels`; without that package nothing is swapped.
        channels_last: whether to convert the weights to channels-last format, which most CPU kernels need.
        compile: whether to compile the networks in `system.compilable_networks()` with torch.compile.

    Returns:
        Lines for the terminal.
    """
    device = device or system.device
    if kernels:
        swap_in_kernels(system, device)
    if channels_last:
        system.to(memory_format=torch.channels_last)
    return [compile_networks(system, device).line] if compile else []


# ---------------------------------------------------------------------- kernels


class DiscriminatorOnMap(Discriminator):
    """FExGAN's discriminator with both heads in one matrix product on the last map, without copying the map."""

    def forward(self, image: Tensor) -> DiscriminatorOutput:
        """See the base class."""
        from fexgan_lit.kernels.memory import linear_on_map

        realness, affect = linear_on_map(self.blocks(image), self.realness, self.affect)
        return DiscriminatorOutput(realness.squeeze(1), affect)


def swap_in_kernels(system: ExpressionSystem, device: torch.device) -> None:
    """Replace the classes of a system's modules by those of faster kernels, and its Adam by a faster one.

    A kernel falls back to the computation of torch's module on devices, precisions and memory formats that it does not
    support.
    """
    try:
        from fexgan_lit.kernels import start_loading_loops
        from fexgan_lit.kernels.blocks import Dropout, FusedBlock
        from fexgan_lit.kernels.conv import DownConv, UpConv
        from fexgan_lit.kernels.memory import Adam, keep_freed_memory
    except ImportError:
        return
    system.adam = Adam
    if device.type == "cpu":
        from fexgan_lit.utils.hardware import native_cpu_bf16

        keep_freed_memory()
        if native_cpu_bf16() and system.supports_kernels:
            start_loading_loops()
    if not system.supports_kernels:
        return
    for module in system.modules():
        if type(module) is Discriminator:
            module.__class__ = DiscriminatorOnMap
        for kernel in (DownConv, UpConv, FusedBlock, Dropout):
            if kernel.replaces(module):
                module.__class__ = kernel


# ---------------------------------------------------------------------- torch.compile


class Compilation(NamedTuple):
    """The result of `compile_networks`: names of the networks to be compiled, and a line for the terminal."""

    networks: tuple[str, ...]
    line: str


def compile_networks(system: ExpressionSystem, device: torch.device, backend: str = "inductor") -> Compilation:
    """Set up the networks in `system.compilable_networks()` and the losses for compilation at their first call.

    They are compiled in place, so the names of weights do not change. A gradient penalty needs double backward, which
    compiled graphs do not support; it calls the layers of a critic through `PatchCritic.scores`, which is not compiled.

    Args:
        system: the system.
        device: device of the training.
        backend: backend of torch.compile.

    Returns:
        The networks to be compiled; none if torch.compile does not work, with the reason in the line.
    """
    networks = system.compilable_networks()
    if not networks:
        return Compilation((), f"compile    nothing: {system.settings.name} has no networks to compile")
    reason = why_not(device, backend)
    if reason is not None:
        return Compilation(
            (), f"compile    nothing: torch.compile does not work here ({reason}); continuing without it"
        )
    with contextlib.suppress(ImportError, AttributeError):  # private; a torch without it donates no buffers
        import torch._functorch.config as functorch_config

        # the generator's graph is retained after its backward pass, since that of the discriminator also uses it
        functorch_config.donated_buffer = False
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")  # meant for the developers of torch
    how: dict[str, Any] = {"backend": backend, **({"options": _COMPILE_OPTIONS} if backend == "inductor" else {})}
    for network in networks.values():
        network.compile(**how)
    for name in system.compilable_losses:
        setattr(system, name, torch.compile(getattr(system, name), **how))
    parts = [*networks, *(["losses"] if system.compilable_losses else [])]
    line = f"compile    {', '.join(parts)}; the first iterations may take some minutes longer"
    return Compilation(tuple(networks), line)


def why_not(device: torch.device, backend: str = "inductor") -> str | None:
    """Return why torch.compile does not work on `device`, or None if a small function compiles and runs."""

    def halved(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() / 2).sum()

    try:
        torch.compile(halved, backend=backend)(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler, missing Triton or an unsupported OS raise different errors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0].rstrip(":.") if lines else type(error).__name__
    return None


# ---------------------------------------------------------------------- CUDA graphs


def graph_strategy(
    system: ExpressionSystem, device: torch.device, say: Callable[[str], None], processes: int = 1
) -> Strategy | str:
    """Return the strategy that captures iterations as CUDA graphs, or `auto` if they cannot be captured.

    Args:
        system: the system.
        device: device of the training.
        say: called with a line on whether graphs are used, and again if a capture fails later.
        processes: number of processes that train together.
    """
    from fexgan_lit.training.cuda_graphs import CUDAGraphStrategy, why_not_captured

    if reason := why_not_captured(system, device, processes):
        say(f"nothing: {reason}; continuing without graphs")
        return "auto"
    say("an iteration is captured after the first few, then replayed")
    return CUDAGraphStrategy(device, say)
