"""The pictures of a sweep: parallel coordinates, main effects, the contact sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fexgan_lit.figures.main_effects import main_effects
from fexgan_lit.figures.parallel import Coordinate, parallel_coordinates
from fexgan_lit.reporting.findings import SweepFindings
from fexgan_lit.reporting.settings_of_sweep import short_names
from fexgan_lit.reporting.sweeps import SEED

if TYPE_CHECKING:
    from PIL import Image

CAPTIONS = {
    "parallel_coordinates": "A line a setting through its values and its mean scores, coloured by the first score; the "
    "best setting is thick.",
    "main_effects": "What each axis does to each score: a dot a run, a diamond the mean of runs that share a value.",
    "contact_sheet": "The same faces asked for the same expressions, a row a setting, best first.",
}


def draw_sweep(findings: SweepFindings) -> tuple[dict[str, Image.Image], list[str]]:
    """The pictures by name, and what could not be drawn and why."""
    from fexgan_lit.reporting.contact_sheet import contact_sheet

    pictures, notes = {}, []
    if len(_varying(findings)) and len(_drawn(findings)) > 1:
        pictures["parallel_coordinates"] = draw_parallel(findings)
        pictures["main_effects"] = draw_effects(findings)
    else:
        notes.append("no plots: fewer than two settings are finished, so there is nothing to compare")
    sheet, missing = contact_sheet(findings.settings)
    if sheet is not None:
        pictures["contact_sheet"] = sheet
    return pictures, [*notes, *missing]


def _varying(findings: SweepFindings) -> list[str]:
    """Axes that have two values or more among the finished runs, the seed left out."""
    done = findings.sweep.finished
    return [a for a in findings.sweep.axes if a != SEED and len({repr(run.values.get(a)) for run in done}) > 1]


def _drawn(findings: SweepFindings) -> list[int]:
    """Places of the settings that have the first score."""
    return [i for i, setting in enumerate(findings.settings) if findings.by.name in setting.figures]


def draw_parallel(findings: SweepFindings) -> Image.Image:
    """Parallel coordinates of the settings that have a finished run."""
    axes, shown = _varying(findings), [findings.settings[i] for i in _drawn(findings)]
    names = short_names(axes)
    choices = [Coordinate(names[axis], [setting.values[axis] for setting in shown]) for axis in axes]
    scores = [
        Coordinate(
            by.arrow,
            [setting.figures[by.name].mean if by.name in setting.figures else None for setting in shown],
            by.higher_is_better is False,
            score=True,
        )
        for by in findings.objectives
    ]
    return parallel_coordinates([*choices, *scores], len(choices), best=0)


def draw_effects(findings: SweepFindings) -> Image.Image:
    """Main effects of every axis that varies, the seed last: what it does is the measure of the others."""
    runs = findings.sweep.finished
    seeds = {repr(run.values.get(SEED)) for run in runs}
    axes = [*_varying(findings), *([SEED] if len(seeds) > 1 else [])]
    names = short_names(axes)
    choices = {names[axis]: [run.values.get(axis) for run in runs] for axis in axes}
    scores = {by.arrow: [run.metrics.get(by.name, math.nan) for run in runs] for by in findings.objectives}
    return main_effects(choices, scores)
