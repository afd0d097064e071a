"""Everything that makes an iteration faster, from outside the networks, which are plain torch modules.

`accelerate` works on a built system, as Liger-Kernel does on transformers: it swaps in the modules of
`fexgan_lit.kernels`, which keep the parameters and the keys of the state dict, puts the weights into channels-last
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

#: Dropout and noise come from torch's own generator, so that a seed means the same with and without compilation.
_COMPILE_OPTIONS: dict[str, str | int | bool] = {"fallback_random": True}


def accelerate(
    system: ExpressionSystem, device: torch.device | None = None, *, kernels: bool = True, channels_last: bool = True,
    compile: bool = False,
) -> list[str]:  # fmt: skip
    """Make the training of a system faster, in place; call it before `Trainer.fit`.

    The parameters and their names stay what they are, so checkpoints and weights fit a system with and without it. The
    results differ by rounding, and with kernels dropout on a CPU draws other random numbers.

    Args:
        system: whose networks and optimizers.
        device: where it will be trained; None takes the device it is on.
        kernels: swap in the modules of `fexgan_lit.kernels`; without that package nothing is swapped.
        channels_last: put the weights into channels-last format; on a CPU most kernels work in it alone.
        compile: let torch.compile compile the networks that `system.compilable_networks()` names.

    Returns:
        lines for the terminal.
    """
    device = device or system.device
    if kernels:
        swap_in_kernels(system, device)
    if channels_last:
        system.to(memory_format=torch.channels_last)
    return [compile_networks(system, device).line] if compile else []


# ---------------------------------------------------------------------- kernels


class DiscriminatorOnMap(Discriminator):
    """FExGAN's discriminator whose two heads read the last map as it lies, in one product."""

    def forward(self, image: Tensor) -> DiscriminatorOutput:
        """See the base class."""
        from fexgan_lit.kernels.memory import linear_on_map

        realness, affect = linear_on_map(self.blocks(image), self.realness, self.affect)
        return DiscriminatorOutput(realness.squeeze(1), affect)


def swap_in_kernels(system: ExpressionSystem, device: torch.device) -> None:
    """Give modules of a system the class of a faster kernel where there is one, and its optimizers a faster Adam.

    Each kernel computes what torch's module computes on a device, in a precision or in a memory format that it does not
    suit.
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
    """What `compile_networks` did: the names of the networks that will be compiled, and a line for the terminal."""

    networks: tuple[str, ...]
    line: str


def compile_networks(system: ExpressionSystem, device: torch.device, backend: str = "inductor") -> Compilation:
    """Let the networks in `system.compilable_networks()`, and its losses, be compiled when they are first called.

    They are compiled in place: names of weights, and so checkpoints, stay what they are. A gradient penalty needs a
    second backward pass, which compiled graphs lack; it reaches the layers of a critic by another way than calling
    the critic as a whole (`PatchCritic.scores`), and those layers stay as they are.

    Args:
        system: whose networks.
        device: where it will be trained.
        backend: of torch.compile.

    Returns:
        What will be compiled; where torch.compile does not work, nothing, and why.
    """
    networks = system.compilable_networks()
    if not networks:
        return Compilation((), f"compile    nothing: {system.settings.name} names no network that may be compiled")
    reason = why_not(device, backend)
    if reason is not None:
        return Compilation((), f"compile    nothing: torch.compile does not work here ({reason}); going on without")
    with contextlib.suppress(ImportError, AttributeError):  # private; a torch without it donates no buffers
        import torch._functorch.config as functorch_config

        # the generator's graph is kept when it was walked back, since the discriminator's goes on in it
        functorch_config.donated_buffer = False
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")  # addressed to torch's own developers
    how: dict[str, Any] = {"backend": backend, **({"options": _COMPILE_OPTIONS} if backend == "inductor" else {})}
    for network in networks.values():
        network.compile(**how)
    for name in system.compilable_losses:
        setattr(system, name, torch.compile(getattr(system, name), **how))
    parts = [*networks, *(["losses"] if system.compilable_losses else [])]
    line = f"compile    {', '.join(parts)}; the first iterations take up to some minutes longer"
    return Compilation(tuple(networks), line)


def why_not(device: torch.device, backend: str = "inductor") -> str | None:
    """Why torch.compile cannot be used on `device`, or None where a small function could be compiled and run."""

    def halved(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() / 2).sum()

    try:
        torch.compile(halved, backend=backend)(torch.zeros(8, device=device))
    except Exception as error:  # no compiler, no Triton, an unsupported system: each has an error of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0].rstrip(":.") if lines else type(error).__name__
    return None


# ---------------------------------------------------------------------- CUDA graphs


def graph_strategy(
    system: ExpressionSystem, device: torch.device, say: Callable[[str], None], processes: int = 1
) -> Strategy | str:
    """The strategy that captures iterations as CUDA graphs, or `auto` where they cannot be captured.

    Args:
        system: that will be trained.
        device: where.
        say: called with what will happen, and once if an iteration cannot be captured after all.
        processes: that train together.
    """
    from fexgan_lit.training.cuda_graphs import CUDAGraphStrategy, why_not_captured

    if reason := why_not_captured(system, device, processes):
        say(f"nothing: {reason}; going on without")
        return "auto"
    say("an iteration is captured after a few, then replayed")
    return CUDAGraphStrategy(device, say)
