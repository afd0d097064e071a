"""`protocol=augmentation` and `protocol=clips` from trained runs to files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from fexgan_lit import evaluate
from fexgan_lit.evaluation.config import AugmentationSettings, EvaluationSettings
from fexgan_lit.evaluation.methods import CEILING, FLOOR
from fexgan_lit.evaluation.protocols.classifier import require_network
from fexgan_lit.evaluation.report import Findings, write_findings
from fexgan_lit.metrics.judges import panel as judges
from fexgan_lit.utils.errors import UserError


def findings_of(runs: list[Path], **options) -> Findings:
    settings = EvaluationSettings(runs=[str(run) for run in runs], bootstrap=100, shown=3, **options)
    return evaluate.find(settings, "python -m fexgan_lit.evaluate", Console(quiet=True))


def written(findings: Findings, folder: Path) -> str:
    write_findings(findings, folder)
    return (folder / "evaluation.json").read_text()


def test_augmentation_gives_a_row_a_run(runs, tmp_path):
    asked = AugmentationSettings(times=[0, 1], seeds=1, images=120, real_share=0.3)
    found = findings_of(runs[:2], protocol="augmentation", augmentation=asked)
    assert [row.name for row in found.rows] == ["fexgan, seed 1", "fexgan, seed 2"]
    assert all(0 <= row.figures["accuracy_times_1"].mean <= 1 for row in found.rows)
    assert "accuracy_times_1" in written(found, tmp_path)
    assert "held-out true frames of studio_cartoon" in (tmp_path / "evaluation.md").read_text()


def test_clips_stand_between_true_ones_and_the_still_source(runs, panel, monkeypatch, tmp_path):
    monkeypatch.setattr(judges, "load_or_train_judges", lambda *_, **__: panel)
    found = findings_of([runs[0], runs[2]], protocol="clips")
    rows = {row.name: row.figures for row in found.rows}
    assert list(rows) == [CEILING, FLOOR, "fexgan", "ganimation"]
    assert rows[FLOOR]["acd"].mean == pytest.approx(0.0, abs=1e-5)
    assert rows[FLOOR]["acd_i"].mean == pytest.approx(0.0, abs=1e-5)
    assert rows[CEILING]["acd"].mean > 1e-3
    assert rows["fexgan"]["acd"].interval is not None
    assert {d.metric for d in found.differences} == {"acd", "acd_i", "judge_affect_accuracy"}
    table = next(t for t in found.breakdowns if t.title == "Every clip")
    assert sum(int(row[1]) for row in table.rows) <= len(table.rows) * 3
    numbers = json.loads(written(found, tmp_path))
    assert numbers["pairs"].startswith(f"{len(table.rows)} clips")
    assert rows["ganimation"]["is_judge"].mean >= 1
    motions = next(t for t in found.tables if t.title == "Motions of landmarks")
    assert [row[0] for row in motions.rows[2:]] == [f"read from {name}" for name in rows]
    assert motions.rows[3][1] == "0", "the untouched sources do not move"
    for name in ("clips.png", "standings.png", "identity_map.png", "clips_moving.gif"):
        assert (tmp_path / "figures" / name).stat().st_size > 1000
        assert f"figures/{name}" in (tmp_path / "evaluation.md").read_text()
    assert not any("divides takes" in warning for warning in found.warnings), "whole takes were held out"
    assert "fexgan: gets the label times the true frame's intensity" in found.notes["strength"]


def test_a_network_that_cannot_be_built_is_refused_before_anything_is_opened(monkeypatch):
    def refuse(name: str) -> None:
        raise UserError(f"{name} cannot be built")

    monkeypatch.setattr(f"{require_network.__module__}.require_network", refuse)
    with pytest.raises(UserError, match="resnet18 cannot be built"):
        findings_of([Path("nowhere")], protocol="augmentation", augmentation=AugmentationSettings(network="resnet18"))
