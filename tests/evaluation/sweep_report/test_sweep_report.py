"""The report of a sweep on disk: its files, their order, and that nothing is dropped silently."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from fexgan_lit.evaluation.sweep_report.report import write_sweep_report
from fexgan_lit.evaluation.sweep_report.summary import find_sweep
from fexgan_lit.evaluation.sweep_report.tables import runs_csv, settings_csv, settings_table
from fexgan_lit.utils.errors import UserError
from tests.evaluation.sweep_report.conftest import ACCURACY, FD, SSIM, write_run, write_sweep


def write_example(folder, seconds=60.0):
    """Three settings of two seeds: one whole, one with a failed seed, one that nobody finished."""
    runs = {f"x-{x}_seed-{s}": {"loss.x": x, "seed": s} for x in (1, 2, 3) for s in (1, 2)}
    sweep = write_sweep(folder, runs)
    write_run(sweep / "x-1_seed-1", {FD: 3.0, ACCURACY: 0.5, SSIM: 0.9}, seconds=seconds)
    write_run(sweep / "x-1_seed-2", {FD: 5.0, ACCURACY: 0.7, SSIM: 0.9}, seconds=seconds)
    write_run(sweep / "x-2_seed-1", {FD: 1.0, ACCURACY: 0.5, SSIM: 0.8}, seconds=seconds)
    write_run(sweep / "x-2_seed-2", {}, status="failed", error="UserError: out of memory")
    write_run(sweep / "x-3_seed-1", {}, status="pruned", error="fd_judge far behind")
    return sweep


def table_rows(path):
    return list(csv.DictReader(path.open()))


def test_files_hold_every_run_and_every_setting(tmp_path, quiet):
    sweep = write_example(tmp_path / "s")
    write_sweep_report(sweep, quiet)
    settings = table_rows(sweep / "settings.csv")
    assert [(row["rank"], row["loss.x"], row["n"], row["planned"]) for row in settings] == [
        ("1", "2", "1", "2"), ("2", "1", "2", "2"), ("", "3", "0", "2"),
    ]  # fmt: skip
    assert settings[1][f"{FD} mean"] == "4"
    assert float(settings[1][f"{FD} deviation"]) == pytest.approx(2**0.5, rel=1e-5)
    assert settings[0][f"{FD} deviation"] == "", "one seed has no deviation"
    assert [row["front"] for row in settings] == ["1", "1", "0"]
    runs = {row["run"]: row for row in table_rows(sweep / "table.csv")}
    assert len(runs) == 6
    assert runs["x-2_seed-2"]["status"] == "failed"
    assert runs["x-3_seed-2"]["status"] == "not begun"
    assert runs["x-1_seed-2"][ACCURACY] == "0.7"
    text = (sweep / "report.md").read_text()
    assert "| 1 | 2 | **1.000 ± -** |" in text
    assert "| 2 | 1 | 4.000 ± 1.414 | **0.600 ± 0.141** |" in text
    assert "- x-2_seed-2: failed at iteration 900, UserError: out of memory" in text
    assert "- x-3_seed-1: pruned at iteration 900, fd_judge far behind" in text
    assert "- x-3_seed-2: not begun" in text
    assert "3 settings, 6 runs: 3 finished, 1 failed, 1 pruned, 1 not begun" in text
    assert text.index("x-2_seed-2: failed") < text.index("x-3_seed-1: pruned") < text.index("x-3_seed-2: not begun")
    assert "no faces of x 2: " in text, "the runs have neither weights nor a whole config.yaml"
    for name in ("parallel_coordinates", "main_effects"):
        assert (sweep / "figures" / f"{name}.png").stat().st_size > 1000
        assert f"figures/{name}.png" in text
    assert "contact_sheet.png" not in text


def test_the_order_follows_by(tmp_path):
    findings = find_sweep(write_example(tmp_path / "s"), by="ssim")
    assert [setting.values["loss.x"] for setting in findings.settings] == [1, 2, 3]
    assert settings_table(findings, findings.objectives).title == "Settings, best SSIM first"


def test_tables_do_not_depend_on_how_long_it_took(tmp_path):
    quick, slow = (find_sweep(write_example(tmp_path / str(seconds), seconds)) for seconds in (60.0, 75.0))
    assert runs_csv(quick) == runs_csv(slow)
    assert settings_csv(quick) == settings_csv(slow)


def test_a_second_report_takes_back_pictures_that_no_longer_hold(tmp_path, quiet):
    sweep = write_example(tmp_path / "s")
    write_sweep_report(sweep, quiet)
    write_run(sweep / "x-2_seed-1", {}, status="failed", error="x")
    write_sweep_report(sweep, quiet)
    assert list((sweep / "figures").iterdir()) == []
    assert "nothing to compare" in (sweep / "report.md").read_text()


def test_the_terminal_says_the_same(tmp_path, undrawn):
    console = Console(file=io.StringIO(), width=160)
    write_sweep_report(write_example(tmp_path / "s"), console)
    text = console.file.getvalue()
    for part in (
        "4.000 ± 1.414",
        "out of memory",
        "x-3_seed-2: not begun",
        "table.csv",
        "x 2 is ahead of x 1 by 3.000",
    ):
        assert part in text


def test_nothing_finished_names_the_errors(tmp_path):
    sweep = write_sweep(tmp_path / "s", {"a": {"x": 1}, "b": {"x": 2}})
    write_run(sweep / "a", {}, status="failed", error="UserError: no data")
    with pytest.raises(UserError) as caught:
        find_sweep(sweep)
    assert "none of its 2 runs is finished: 1 failed, 1 not begun\n" in str(caught.value)
    assert "a: failed at iteration 900, UserError: no data" in str(caught.value)


def test_equal_columns_have_no_winner(tmp_path):
    sweep = write_sweep(tmp_path / "s", {"a": {"x": 1}, "b": {"x": 2}})
    write_run(sweep / "a", {FD: 1.0, ACCURACY: 1.0})
    write_run(sweep / "b", {FD: 2.0, ACCURACY: 1.0})
    findings = find_sweep(sweep)
    (first, second) = settings_table(findings, findings.objectives).rows
    assert first[2:4] == ("**1.000**", "1.000")
    assert second[2:4] == ("2.000", "1.000")
