"""torch.compile of generators, critics and losses; what is differentiated twice stays as it is."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch._functorch.config

if TYPE_CHECKING:
    from fexgan_lit.systems.base import ExpressionSystem

#: Dropout and noise come from torch's own generator, so that a seed means the same with and without compilation.
_OPTIONS: dict[str, str | int | bool] = {"fallback_random": True}


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
    if hasattr(torch._functorch.config, "donated_buffer"):
        # the generator's graph is kept when it was walked back, since the discriminator's goes on in it
        torch._functorch.config.donated_buffer = False
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")  # addressed to torch's own developers
    how: dict[str, Any] = {"backend": backend, **({"options": _OPTIONS} if backend == "inductor" else {})}
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
