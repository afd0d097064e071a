"""The command from runs to files: ceiling and floor in their places, seeds together, the same file twice, mistakes."""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from fexgan_lit import evaluate
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.evaluation.config import EvaluationSettings
from fexgan_lit.evaluation.methods import CEILING, FLOOR, open_methods
from fexgan_lit.evaluation.protocols import quality
from fexgan_lit.evaluation.report import Findings, write_findings
from fexgan_lit.metrics.judges import panel as judges
from fexgan_lit.metrics.judges.affect import JudgeRecipe
from fexgan_lit.metrics.judges.external import OwnReading
from fexgan_lit.metrics.of_data import judge_of
from fexgan_lit.utils.console import stages
from fexgan_lit.utils.errors import UserError
from tests.commands import run_here
from tests.conftest import AFFECTS, TINY


def findings_of(
    runs: list[Path], panel: judges.JudgePanel, monkeypatch: pytest.MonkeyPatch, drawn: bool = False
) -> Findings:
    """What is found, without pictures unless they are `drawn`: they take as long as all the rest."""
    monkeypatch.setattr(judges, "load_or_train_judges", lambda *_, **__: panel)
    if not drawn:
        monkeypatch.setattr(quality, "draw", lambda *_: None)
    settings = EvaluationSettings(runs=[str(run) for run in runs], bootstrap=100, shown=3)
    assert settings.problems() == []
    return evaluate.find(settings, "python -m fexgan_lit.evaluate", Console(quiet=True))


@pytest.fixture(scope="module")
def found(runs, panel) -> Findings:
    with pytest.MonkeyPatch.context() as patch:
        return findings_of(runs, panel, patch, drawn=True)


def test_ceiling_floor_and_systems_stand_in_one_table(found, tmp_path):
    rows = {row.name: row for row in found.rows}
    assert list(rows) == [CEILING, FLOOR, "fexgan", "ganimation"]
    assert rows["fexgan"].seeds == (1, 2)
    ceiling = rows[CEILING].figures
    assert (ceiling["sharpness"].mean, ceiling["effnet_distance"].mean) == (1.0, 0.0)
    assert ceiling["ssim"].mean == pytest.approx(1.0, abs=1e-5)
    assert rows[FLOOR].figures["identity_cosine"].mean == pytest.approx(1.0)
    assert "strength_rho" not in ceiling, "nobody asks true frames for a strength"
    assert -1 <= rows["ganimation"].figures["strength_rho"].mean <= 1
    measured = {
        "au_error",
        "landmark_error",
        "rank1",
        "fd_judge",
        "macro_f1",
        "fd_effnet",
        "mouth_sharpness",
        "mouth_psnr",
    }
    assert measured <= set(rows["fexgan"].figures)
    assert "d_real_binary" in rows["fexgan"].figures
    assert "d_real_binary" not in rows["ganimation"].figures, "a critic's score has no threshold"
    write_findings(found, tmp_path)
    text = (tmp_path / "evaluation.md").read_text()
    for name in ("comparison", "standings", "confusion_fexgan", "identity_map"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000
        assert f"figures/{name}.png" in text
    assert "FID" in text or "fid: absent" in text
    table = next(t for t in found.tables if "Table 1" in t.title)
    assert [row[0] for row in table.rows[:4]] == [
        "fexgan, seed 1, Train", "fexgan, seed 1, Validation", "fexgan, seed 2, Train", "fexgan, seed 2, Validation",
    ]  # fmt: skip
    validation = f"{rows[CEILING].figures['judge_affect_accuracy'].mean:.3f}"
    assert table.rows[1][-1].split(" / ")[1] == table.rows[3][-1].split(" / ")[1] == validation, "the true frames"


def test_every_metric_has_its_recipe(found):
    for row in found.rows:
        missing = set(row.figures) - set(found.recipes)
        assert all(re.match(r"au_error_au\d\d|f1_|.*_std", name) for name in missing), missing


def test_the_report_of_the_training_says_the_same_digit_for_digit(panel, monkeypatch, tmp_path):
    few = {"working_size": 32, "widths": (8, 8, 8, 8), "min_images": 160, "max_images": 160}
    monkeypatch.setattr("fexgan_lit.metrics.judges.affect.JudgeRecipe", functools.partial(JudgeRecipe, **few))
    monkeypatch.chdir(tmp_path)
    done = run_here(
        "train", *TINY, "metrics.judge=true", "trainer.max_steps=4", "trainer.log_every=1000", "hydra.run.dir=run"
    )
    assert done.returncode == 0, done.stderr
    (trained,) = open_methods(EvaluationSettings(runs=[str(tmp_path / "run")]), lambda done, total: None)
    data = FrameDataModule(trained.loaded.run.dataset, trained.loaded.run.seed)
    data.setup()
    found = findings_of([tmp_path / "run"], replace(panel, affect=judge_of(data)), monkeypatch)
    final = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    figures = {name: figure.mean for name, figure in found.rows[2].figures.items()}
    both = {name.removeprefix("final/val/") for name in final if name.startswith("final/val/")} & set(figures)
    assert both >= {"ssim", "psnr", "fd_judge", "judge_affect_accuracy", "judge_identity_accuracy", "d_fake_binary"}
    for name in both:
        assert f"{figures[name]:.5g}" == f"{final[f'final/val/{name}']:.5g}", name


def test_the_same_runs_give_the_same_file(found, runs, panel, monkeypatch, tmp_path):
    for name, findings in (("first", found), ("second", findings_of(runs, panel, monkeypatch))):
        write_findings(findings, tmp_path / name)
    first, second = ((tmp_path / name / "evaluation.json").read_text() for name in ("first", "second"))
    assert first == second
    numbers = json.loads(first)["rows"][2]["metrics"]
    assert np.isfinite([figure["mean"] for figure in numbers.values()]).all()


def test_breakdowns_count_every_pair_once(found):
    by_affect = next(t for t in found.breakdowns if t.title == "fexgan by target affect")
    counts = [int(row[1]) for row in by_affect.rows]
    assert sum(counts) == int(re.match(r"\d+", found.where)[0])


def test_breakdowns_show_the_true_frames_beside_what_a_judge_says(found):
    table = next(t for t in found.breakdowns if t.title == "fexgan by target affect")
    column, counts = table.header.index("affect as asked ↑"), [int(row[1]) for row in table.rows]
    rows = {row.name: row for row in found.rows}
    for place, name in enumerate(("fexgan", CEILING)):
        shares = [float(row[column].split(" / ")[place]) for row in table.rows]
        total = sum(share * n for share, n in zip(shares, counts, strict=True)) / sum(counts)
        assert total == pytest.approx(rows[name].figures["judge_affect_accuracy"].mean, abs=1e-3)
    assert "/" not in table.rows[0][table.header.index("SSIM ↑")], "the ceiling of SSIM is 1"
    assert any(note.startswith(f"After a slash: {CEILING}") for note in table.notes)


def test_weak_judges_are_warned_of(found):
    assert any("classifies 50.0% of real held-out frames" in warning for warning in found.warnings)
    assert any(note.startswith("warning: ") for note in found.headline().notes)


def test_a_judge_of_the_users_own_leaves_out_what_it_cannot_say(found, runs, panel, monkeypatch):
    def read(images: torch.Tensor) -> OwnReading:
        return OwnReading(torch.eye(7)[torch.zeros(len(images)).long()])

    own = SimpleNamespace(affects=AFFECTS, affect_accuracy=0.99, read=read, describe=lambda: "a stub")
    monkeypatch.setattr("fexgan_lit.metrics.judges.affect.load_or_train_judge", lambda *_, **__: panel.affect)
    known = found.rows[3].figures
    found = findings_of(runs[2:], replace(panel, affect=own), monkeypatch)
    figures = found.rows[2].figures
    for name in ("judge_affect_accuracy", "judge_identity_accuracy"):
        assert figures[f"trained_{name}"].mean == known[name].mean, "the trained judge stands beside the user's"
    assert any(line.startswith("trained judge of affects: ") for line in found.judges)
    assert "fd_judge" not in figures
    assert "features are not known" in found.notes["fd_judge"]
    assert "judge_identity_accuracy" not in figures
    asked = [row[1] for row in found.breakdowns[0].rows]
    share = int(asked[0]) / sum(map(int, asked))
    assert figures["judge_affect_accuracy"].mean == pytest.approx(share), "the stub always says anger"


def test_clips_and_the_papers_figures_stand_below_the_still_images(runs, panel, monkeypatch):
    monkeypatch.setattr("fexgan_lit.evaluation.protocols.quality.generators", list)  # a system that makes clips
    found = findings_of(runs[2:], panel, monkeypatch)
    titles = [table.title.partition(":")[0] for table in found.printed()]
    assert titles[0] == "Standings"
    assert titles[-4:] == ["The papers' own figures", "Clips", "Motions of landmarks", "The paper's own figures"]
    clips = found.tables[-3]
    assert "ACD-I ↓" in clips.header
    assert [row[0] for row in clips.rows] == [row.name for row in found.rows]
    assert {"clips", "clips_moving"} <= set(found.captions)
    assert "clips/acd_i" in found.recipes


def test_names_make_rows(runs):
    """Rows of one name are one row of several seeds, as the two FExGANs above are."""
    methods = open_methods(EvaluationSettings(runs=list(map(str, runs)), names=["x", "y", "x"]), lambda *_: None)
    assert [method.name for method in methods] == ["x", "y", "x"]


def test_patterns_name_many_runs(runs):
    places = EvaluationSettings(runs=[str(runs[0].parent / "a*")]).places
    assert places == [str(runs[0]), str(runs[1])]
    problems = EvaluationSettings(runs=[str(runs[0].parent / "nothing*")]).problems()
    assert any("nothing*: no run folder matches the pattern" in problem for problem in problems)


def test_changed_data_are_refused(runs, panel, monkeypatch, tmp_path):
    config = (runs[0] / "config.yaml").read_text()
    changed = tmp_path / "run"
    changed.mkdir()
    (changed / "config.yaml").write_text(re.sub(r"train_frames: \d+", "train_frames: 5", config))
    (changed / "weights").symlink_to(runs[0] / "weights")
    with pytest.raises(UserError, match=r"trained on other data.*train_frames was 5"):
        findings_of([changed], panel, monkeypatch)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "no run is given; expected a run folder, run=RUN_DIR"),
        (("run=nowhere",), "run=nowhere: there is no such folder"),
        (("run=x", "split=tset"), "split=tset"),
        (("run=x", "metrics.lpips_nte=alex"), "lpips_nte"),
        (("run=x", "out=/dev/null/x"), "out=/dev/null/x cannot be written"),
        (("run=x", "metrics.judge=false"), "no such option here; only python -m fexgan_lit.train reads it"),
    ],
)
def test_a_mistake_ends_with_a_message(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    done = run_here("evaluate", *options)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_that_names_foreign_code_is_refused(runs, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    config = (runs[0] / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"_target_: fexgan_lit\.systems\S+", "_target_: os.system", config))
    with pytest.raises(UserError, match=r"os\.system is refused"):
        open_methods(EvaluationSettings(run=str(run)), lambda *_: None)


def test_a_checkpoint_that_is_none_is_refused(runs, tmp_path):
    fake = shutil.copytree(runs[0], tmp_path / "run") / "checkpoints" / "fake.ckpt"
    fake.parent.mkdir(exist_ok=True)
    fake.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"fake\.ckpt is not a training checkpoint"):
        open_methods(EvaluationSettings(run=str(fake)), lambda *_: None)


def test_stages_are_named_in_a_log_file():
    console = Console(file=io.StringIO())
    with stages(console) as stage:
        stage("measuring fexgan")(1, 2)
    assert console.file.getvalue().splitlines() == ["  measuring fexgan"], "how far it is only every half minute"


def test_a_log_file_says_how_far_a_long_stage_is(monkeypatch):
    monkeypatch.setattr("fexgan_lit.utils.console._LINES_APART", 0.0)
    console = Console(file=io.StringIO())
    with stages(console) as stage:
        progress = stage("preparing frames")
        progress(1, 2)
        progress(2, 2)
    assert console.file.getvalue().splitlines() == ["  preparing frames", "  preparing frames 1/2"]


def test_an_offline_wandb_run_holds_tables_and_pictures(found, tmp_path):
    pytest.importorskip("wandb")
    from rich.console import Console

    from fexgan_lit.evaluation.report import log_findings
    from fexgan_lit.runs.config import LoggerSettings

    left = log_findings(found, EvaluationSettings(run="x"), LoggerSettings(name="wandb"), tmp_path, Console())
    assert left == [f"wandb sync {tmp_path}/wandb/offline-run-*"]
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    wanted = {
        "tables/every_figure",
        "tables/Standings",
        "figures/comparison",
        "figures/identity_map",
        "evaluation/fexgan/ssim",
    }
    until = time.monotonic() + 60
    while wanted - (kept := logged_names(file)) and time.monotonic() < until:
        time.sleep(0.5)  # W&B's service may still be writing on a busy machine
    assert wanted <= kept, kept


def logged_names(file: Path) -> set[str]:
    from tests.training.loggers.reading import history_row, wandb_records

    rows = (history_row(r) for r in wandb_records(file) if r.WhichOneof("record_type") == "history")
    return {name for row in rows for name in row}
