"""Which way each logged number is better, for summaries and dashboards; the table is that of the reports."""

from __future__ import annotations

from fexgan_lit.reporting.measures import measure


def direction(name: str) -> str | None:
    """`maximize`, `minimize`, or None where neither way is better.

    Losses of an adversarial game have no better way, and neither have ceilings: what real frames score says nothing
    about a system.

    Args:
        name: as logged, for example `final/val/fd_judge`.
    """
    higher = None if name.startswith("loss/") else measure(name).higher_is_better
    return None if higher is None else "maximize" if higher else "minimize"
