"""The contact sheet: the same faces for every setting, and a reason where one is missing."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from fexgan_lit.data.reference import affect_expression, frame_expression, reference_row
from fexgan_lit.evaluation.sweep_report import figures as sheets
from fexgan_lit.evaluation.sweep_report.summary import find_sweep
from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.weights import load_system


@pytest.fixture
def settings(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "sweep")
    return find_sweep(tmp_path / "sweep").settings


def drawn_rows(monkeypatch) -> list:
    """What is handed to the picture: cells, rows, columns."""
    calls = []
    kept = sheets.face_sheet
    monkeypatch.setattr(sheets, "face_sheet", lambda *given: (calls.append(given), kept(*given))[1])
    return calls


def test_rows_are_settings_best_first_and_cells_what_their_runs_make(settings, monkeypatch):
    calls = drawn_rows(monkeypatch)
    picture, notes = sheets.contact_sheet(settings)
    assert notes == []
    assert picture is not None
    ((cells, rows, columns),) = calls
    assert rows == ["source", "true frame", "beta 1, seed 1", "beta 2, seed 1"]
    assert columns == [
        "nora, anger", "tariq, disgust", "nora, fear", "tariq, joy", "nora, sadness", "tariq, surprise",
    ]  # fmt: skip
    run = settings[1].finished[0]
    system = load_system(run.path)
    frames = sheets.ShownFrames().data(train_settings(RunFolder(run.path).read_config())).reference_frames
    row = reference_row(frames, frames.identities.index("tariq"))
    source = frames.floats(np.array([row]), 32)
    wanted = affect_expression(frames, row, frames.affects.index("disgust"))
    made = system.synthesize(source, frame_expression(frames, np.array([row])), wanted)
    torch.testing.assert_close(cells[3, 1], made[0].detach())
    torch.testing.assert_close(cells[0, 1], source[0])
    assert not torch.equal(cells[1, 1], cells[0, 1]), "the true frame shows the affect, the source does not"


def test_a_setting_without_weights_is_named_and_left_out(settings, monkeypatch):
    calls = drawn_rows(monkeypatch)
    shutil.rmtree(settings[0].finished[0].path / "weights")
    _, notes = sheets.contact_sheet(settings)
    assert "no faces of beta 1" in notes[0]
    assert "is missing" in notes[0]
    assert calls[0][1] == ["source", "true frame", "beta 2, seed 1"]


def test_more_settings_than_rows_is_said(settings, monkeypatch):
    calls = drawn_rows(monkeypatch)
    monkeypatch.setattr(sheets, "MOST_ROWS", 1)
    _, notes = sheets.contact_sheet(settings)
    assert notes == ["the sheet shows the best 1 of 2 settings"]
    assert len(calls[0][1]) == 3


def test_faces_of_other_sizes_are_enlarged():
    small, large = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, 3, 8, 8)
    stacked = sheets.same_size([small, large])
    assert stacked.shape == (2, 2, 3, 8, 8)
    assert stacked[0].unique().tolist() == [0.5]
