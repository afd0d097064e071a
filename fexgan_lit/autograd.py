"""Functions with gradients of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator: gradients that have none themselves, as `once_differentiable` says when somebody asks for them.

    It costs as much as a small layer, so it is left out where nobody can ask: torch walks back without recording.
    """
    guarded = once_differentiable(backward)

    @functools.wraps(backward)
    def walk_back(ctx: Any, *gradients: Any) -> Any:
        return (guarded if torch.is_grad_enabled() else backward)(ctx, *gradients)

    return walk_back
