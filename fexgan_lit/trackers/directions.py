"""Which way each logged number is better: one table for summaries, dashboards and searches."""

from __future__ import annotations

from fexgan_lit.evaluation.specs import spec

#: What the suites of a training run measure under names of their own; the rest is in `fexgan_lit.evaluation.specs`.
_OF_TRAINING = {
    "judge_affect_accuracy": True,
    "judge_identity_accuracy": True,
    "back_ssim": True,
    "own_ssim": True,
    "units_error": False,
    "grid_ssim": True,
    "prior_affect_accuracy": True,
    "prior_identities_seen": True,
    "prior_identity_entropy": True,
    "prior_identity_entropy_relative": True,
    "prior_largest_identity_share": False,
    "prior_fd_judge": False,
    "iterations_per_s": True,
    "data_wait_share": False,
}
#: Begins the names of ceilings: what real frames score says nothing about a system.
_CEILING = "real_"


def direction(name: str) -> str | None:
    """`maximize`, `minimize`, or None where neither way is better, such as for the losses of an adversarial game.

    Args:
        name: as logged, for example `final/val/fd_judge`.
    """
    place, _, metric = name.rpartition("/")
    if place.split("/")[0] == "loss" or metric.startswith(_CEILING):
        return None
    higher = _OF_TRAINING.get(metric, spec(metric).higher_is_better)
    return None if higher is None else "maximize" if higher else "minimize"
