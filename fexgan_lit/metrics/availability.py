"""What stands in the place of a metric that cannot be had."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unavailable:
    """A metric that cannot be had here, and why; reported as absent, never as a number."""

    reason: str
