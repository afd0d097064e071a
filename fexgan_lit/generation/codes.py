"""Ways between two latent codes, and what a mode needs of a system that has codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.generation.workbench import Workbench

PATHS = ("lerp", "slerp")
#: Codes nearer to parallel than this are mixed in a straight line, where an arc has no plane to lie in.
_PARALLEL = 1e-4


def mixed(start: Tensor, end: Tensor, share: float, path: str) -> Tensor:
    """Codes (B, n) at `share` of the way from `start` (B, n) to `end` (B, n).

    `lerp` goes straight. `slerp` goes along the arc between the two directions (Shoemake 1985) while the length goes
    straight: a straight line between two draws of N(0, I) passes nearer to 0 than any draw lies.
    """
    return torch.lerp(start, end, share) if path == "lerp" else _slerp(start, end, share)


def _slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    lengths = start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True)
    a, b = (code / length.clamp(min=1e-12) for code, length in zip((start, end), lengths, strict=True))
    angle = (a * b).sum(1, keepdim=True).clamp(-1, 1).acos()  # (B, 1)
    sine = angle.sin()
    arc = ((1 - share) * angle).sin() / sine * a + (share * angle).sin() / sine * b
    straight = torch.lerp(start, end, share)
    bent = (sine > _PARALLEL) & (lengths[0] > 0) & (lengths[1] > 0)
    return torch.where(bent, arc * torch.lerp(*lengths, share), straight)


def check_codes(bench: Workbench, what: str) -> None:
    """Refuse a system whose faces are not decoded from codes.

    Raises:
        UserError: `what` needs them; says what works instead.
    """
    if not hasattr(bench.system, "paint_codes"):
        raise UserError(
            f"{what}: {bench.system.settings.name} has no latent codes to mix, it changes pixels. Take a run of "
            "model=fexgan or model=fexgan_meta, or between=expressions"
        )
