"""The report command: its options, a run seen again, and mistakes that end in a message."""

from __future__ import annotations

import io
import shutil

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from fexgan_lit.evaluation.publish.run import print_run, tables_of
from fexgan_lit.evaluation.sweep_report.report import ReportSettings, report_settings
from fexgan_lit.report import report
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import write_result
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import conf_folder
from fexgan_lit.utils.tables import TextTable
from tests.commands import run_here
from tests.evaluation.sweep_report.conftest import result


def composed_options(**values):
    options = {**vars(ReportSettings()), **values}
    return report_settings(OmegaConf.create(options))


def test_conf_has_every_option_with_its_default():
    options = OmegaConf.to_container(OmegaConf.load(conf_folder() / "report.yaml"))
    assert {k: v for k, v in options.items() if k not in ("defaults", "hydra", "trust")} == vars(ReportSettings())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "neither is given: expected one of sweep="),
        ({"run": "a", "sweep_dir": "b"}, "sweep=b and run=a: expected one of"),
        ({"run": "a", "by": "ssim"}, "by ranks the settings of a sweep"),
        ({"run": "a", "publish": "../up"}, "expected a name of at most 64 lower-case letters"),
        ({"run": "a", "publish": "My Run"}, "expected a name of at most 64 lower-case letters"),
        ({"run": "a", "question": "Why?"}, "question=...: this option is for records"),
    ],
)
def test_options_that_cannot_be_used(values, message):
    with pytest.raises(UserError, match="the options cannot be used") as caught:
        composed_options(**values)
    assert message in str(caught.value)


def test_tables_come_back_from_markdown():
    table = TextTable(
        "Title", ("", "a | b", "c"), (("x", "**1**", ""), ("y", "2", "3"), ("z", "-", "4")), 1, ("n", "m")
    )
    other = TextTable("", ("k", "v"), (("1", "2"),))
    assert tables_of(f"# Top\n\n{table.markdown()}\ntext\n\n{other.markdown()}") == [table, other]
    assert tables_of("no table\n") == []


def printed(run) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_run(RunFolder(run), console)
    return console.file.getvalue()


def test_a_run_is_shown_again_in_whatever_state(trained, tmp_path):
    run = shutil.copytree(trained / "beta-1.0_seed-1", tmp_path / "run")
    text = printed(run)
    for part in ("status: finished at iteration 900, 1.0 minutes", "a machine", "Validation, generated", "0.500"):
        assert part in text
    assert f"weights      {run / 'weights'}" in text
    assert "resume with" not in text
    write_result(run, result({}, status="failed", error="UserError: the disk is full"))
    (run / "error.txt").write_text("Traceback")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    (run / "report.md").unlink()
    text = printed(run)
    assert "error: UserError: the disk is full" in text
    assert f"traceback: {run / 'error.txt'}" in text
    assert f"resume with: python -m fexgan_lit.train run={run}" in text
    (run / "result.json").unlink()
    assert "status: half-done" in printed(run)


def test_the_door_reports_a_sweep_and_leaves_nothing_else(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "sweep")
    monkeypatch.chdir(tmp_path)
    done = run_here("report", "sweep=sweep", "by=ssim")
    assert done.returncode == 0, done.stderr
    assert "Settings, best SSIM first" in done.stdout
    assert (tmp_path / "sweep" / "figures" / "contact_sheet.png").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_a_sweep_is_not_taken_for_a_run(trained):
    with pytest.raises(UserError, match="is the folder of a sweep; use sweep="):
        report(OmegaConf.create(vars(ReportSettings(run=str(trained)))))


def test_a_mistake_ends_with_its_message_and_exit_code_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("report", "sweep=none")
    assert done.returncode == 2
    assert "sweep=none: there is no such folder" in done.stderr
    assert tmp_path.is_dir(), "the folder the user stands in is not the command's to remove"
