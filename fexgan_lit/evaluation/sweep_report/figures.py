"""The figures of a sweep: parallel coordinates, main effects, and the contact sheet of all settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.datamodule import FrameDataModule, changed_facts
from fexgan_lit.data.reference import affect_expression, frame_expression, reference_row, strongest_row
from fexgan_lit.evaluation.sweep_report.read import SEED, SweepRun
from fexgan_lit.evaluation.sweep_report.settings import Setting, short_names
from fexgan_lit.evaluation.sweep_report.summary import SweepFindings
from fexgan_lit.figures import face_sheet
from fexgan_lit.figures.sweeps import Coordinate, main_effects, parallel_coordinates
from fexgan_lit.inference.loaded_system import load
from fexgan_lit.runs.config import TrainSettings, train_settings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import one_line
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from fexgan_lit.data.frames import FrameSet


#: The most settings on the contact sheet, and the number of faces of each.
MOST_ROWS, COLUMNS = 24, 6


#: An identity and a target affect, by name.
Cell = tuple[str, str]


class ShownFrames:
    """Caches the data of the runs of a sweep; runs on the same data share one data module."""

    def __init__(self) -> None:
        self._known: dict[str, FrameDataModule] = {}

    def data(self, settings: TrainSettings) -> FrameDataModule:
        """Index, pack and split the frames of a run, unless they are cached.

        Raises:
            UserError: the data are missing or changed since the run.
        """
        key = repr((asdict(settings.dataset), settings.system.pairing))
        if key not in self._known:
            data = FrameDataModule(settings.dataset, settings.seed, settings.system.pairing)
            data.setup()
            if differing := changed_facts(data, settings.data):
                raise UserError(f"the data changed since the training: {differing}")
            self._known[key] = data
        return self._known[key]


def contact_sheet(settings: Sequence[Setting]) -> tuple[Image.Image | None, list[str]]:
    """Draw the same faces for the best `MOST_ROWS` settings that have a finished run.

    Args:
        settings: settings, best first.

    Returns:
        The sheet, or None if no setting can be shown, and notes on what is missing and why.
    """
    known, notes = [setting for setting in settings if setting.finished], []
    if len(known) > MOST_ROWS:
        notes.append(f"the sheet shows the best {MOST_ROWS} of {len(known)} settings")
    frames, rows, cells, above = ShownFrames(), [], [], None
    columns: list[Cell] = []
    for setting in known[:MOST_ROWS]:
        run = chosen_run(setting)
        try:
            trained = train_settings(RunFolder(run.path).read_config())
            data = frames.data(trained)
            columns = columns or chosen_cells(data)
            faces = answers(run, data.reference_frames, columns)
            above = above if above is not None else sources_and_truth(data.reference_frames, columns, trained)
        except Exception as error:  # a failed picture must not cost the tables
            notes.append(f"no faces of {setting.label}: {one_line(error)}")
            continue
        rows.append(row_label(setting, run))
        cells.append(faces)
    if above is None:
        return None, notes
    names = [f"{identity}, {affect}" for identity, affect in columns]
    return face_sheet(same_size([*above, *cells]), ["source", "true frame", *rows], names), notes


def chosen_run(setting: Setting) -> SweepRun:
    """Return the finished run with the smallest seed."""
    return min(setting.finished, key=lambda run: (str(type(run.values.get(SEED))), run.values.get(SEED) or 0, run.name))


def row_label(setting: Setting, run: SweepRun) -> str:
    """Return the values of the setting, and the seed if it has several runs."""
    seed = f", seed {run.values[SEED]}" if len(setting.runs) > 1 and SEED in run.values else ""
    return f"{setting.label}{seed}"


def chosen_cells(data: FrameDataModule) -> list[Cell]:
    """Choose up to `COLUMNS` cells that alternate identities and affects, without neutral.

    Raises:
        UserError: the frames have no affects.
    """
    if not data.labelled:
        raise UserError("the frames have no affects, so there is no target affect")
    frames = data.reference_frames
    present = [i for i in range(len(frames.identities)) if reference_row(frames, i) is not None]
    people = [present[i] for i in np.unique(np.linspace(0, len(present) - 1, min(3, len(present))).astype(int))]
    wanted = [affect for affect in data.affects if affect != "neutral"] or list(data.affects)
    return [
        (frames.identities[people[column % len(people)]], wanted[column % len(wanted)])
        for column in range(min(COLUMNS, len(people) * len(wanted)))
    ]


def _rows(frames: FrameSet, columns: Sequence[Cell]) -> list[tuple[int | None, int | None]]:
    """Return reference row and affect index of every cell; None if these frames lack the identity or the affect."""
    found = []
    for identity, affect in columns:
        known = identity in frames.identities
        row = reference_row(frames, frames.identities.index(identity)) if known else None
        found.append((row, frames.affects.index(affect) if affect in frames.affects else None))
    return found


@torch.no_grad()
def answers(run: SweepRun, frames: FrameSet, columns: Sequence[Cell]) -> Tensor:
    """Generate the cells with a run, (C, 3, S, S) in [-1, 1]; NaN where its frames lack the identity or affect.

    Raises:
        UserError: the weights are missing or do not fit.
    """
    system: Any = load(run.path).system
    made = torch.full((len(columns), 3, system.image_size, system.image_size), float("nan"))
    for column, (row, affect) in enumerate(_rows(frames, columns)):
        if row is not None and affect is not None:
            chosen = np.array([row])
            source, shown = frames.floats(chosen, system.image_size), frame_expression(frames, chosen)
            made[column] = system.synthesize(source, shown, affect_expression(frames, row, affect))[0]
    return made


def sources_and_truth(frames: FrameSet, columns: Sequence[Cell], trained: TrainSettings) -> tuple[Tensor, Tensor]:
    """Return the sources and the most intense real frames of the cells, both (C, 3, S, S); NaN where there is none."""
    size = trained.dataset.image_size
    source = torch.full((len(columns), 3, size, size), float("nan"))
    truth = source.clone()
    for column, (row, affect) in enumerate(_rows(frames, columns)):
        if row is not None and affect is not None:
            source[column] = frames.floats(np.array([row]), size)[0]
            true_row = strongest_row(frames, int(frames.identity[row]), affect)
            if true_row is not None:
                truth[column] = frames.floats(np.array([true_row]), size)[0]
    return source, truth


def same_size(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows (C, 3, S, S) of different S to (R, C, 3, S, S); smaller faces are enlarged."""
    size = max(row.shape[-1] for row in rows)
    enlarged = [row if row.shape[-1] == size else torch.nn.functional.interpolate(row, size) for row in rows]
    return torch.stack(enlarged)


CAPTIONS = {
    "parallel_coordinates": "One line per setting through its values and its mean scores, coloured by the first score. "
    "The best setting is thick.",
    "main_effects": "The effect of each axis on each score: one dot per run, a diamond for the mean of runs with the "
    "same value.",
    "contact_sheet": "The same sources and target expressions, one row per setting, best first.",
}


def draw_sweep(findings: SweepFindings) -> tuple[dict[str, Image.Image], list[str]]:
    """Return the figures by name, and notes on what could not be drawn and why."""
    pictures, notes = {}, []
    if len(_varying(findings)) and len(_drawn(findings)) > 1:
        pictures["parallel_coordinates"] = draw_parallel(findings)
        pictures["main_effects"] = draw_effects(findings)
    else:
        notes.append("no plots, since fewer than two settings are finished")
    sheet, missing = contact_sheet(findings.settings)
    if sheet is not None:
        pictures["contact_sheet"] = sheet
    return pictures, [*notes, *missing]


def _varying(findings: SweepFindings) -> list[str]:
    """Return the axes, without the seed, that have two or more values among the finished runs."""
    done = findings.sweep.finished
    return [a for a in findings.sweep.axes if a != SEED and len({repr(run.values.get(a)) for run in done}) > 1]


def _drawn(findings: SweepFindings) -> list[int]:
    """Return the indices of the settings that have the first objective."""
    return [i for i, setting in enumerate(findings.settings) if findings.by.name in setting.figures]


def draw_parallel(findings: SweepFindings) -> Image.Image:
    """Draw parallel coordinates of the settings that have the first objective."""
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
    """Draw the main effects of every axis that varies; the seed comes last, as the scale for the others."""
    runs = findings.sweep.finished
    seeds = {repr(run.values.get(SEED)) for run in runs}
    axes = [*_varying(findings), *([SEED] if len(seeds) > 1 else [])]
    names = short_names(axes)
    choices = {names[axis]: [run.values.get(axis) for run in runs] for axis in axes}
    scores = {by.arrow: [run.metrics.get(by.name, math.nan) for run in runs] for by in findings.objectives}
    return main_effects(choices, scores)
