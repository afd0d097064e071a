"""`result.json`: what is kept, what is refused, and what a failure leaves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from fexgan_lit.runs import result as module
from fexgan_lit.runs.result import Clock, make_result, now, read_result, record_failure, write_result
from fexgan_lit.utils.errors import UserError


def test_a_result_comes_back_as_it_was_written(tmp_path):
    metrics = {"final/val/ssim": 0.1 + 0.2, "final/val/fid": math.nan, "final/val/psnr": math.inf}
    written = make_result("finished", iteration=9, seconds=1.26, started=now(), metrics=metrics)
    write_result(tmp_path, written)
    assert written.metrics == {"final/val/ssim": 0.1 + 0.2}  # a number that is none would not be JSON
    assert written.seconds == 1.3
    assert 0.1 < written.memory_gb < 100  # torch alone takes as much
    assert read_result(tmp_path) == written
    assert datetime.fromisoformat(written.started).utcoffset() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_no_file_is_no_result(tmp_path):
    assert read_result(tmp_path) is None
    assert read_result(tmp_path / "nowhere") is None


@pytest.mark.parametrize("content", ["", "[1]", '{"status": "done"}', '{"status": "finished", "metrics": 3}'])
def test_a_broken_file_is_named(content, tmp_path):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=r"result\.json.*Delete it"):
        read_result(tmp_path)


def test_fields_of_a_later_version_are_passed_over(tmp_path):
    kept = make_result("pruned", iteration=3, seconds=1, started=now(), error="worse")
    write_result(tmp_path, kept)
    content = json.loads((tmp_path / "result.json").read_text()) | {"rank": 4}
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert read_result(tmp_path) == replace(kept)


def test_a_failure_leaves_one_line_and_the_traceback(tmp_path):
    clock = Clock()
    clock.before, clock.began = 100.0, clock.began - timedelta(hours=1)
    try:
        raise ValueError("first line\n  second line")
    except ValueError as error:
        record_failure(tmp_path, error, 7, clock)
    left = read_result(tmp_path)
    assert (left.status, left.iteration, left.error) == ("failed", 7, "ValueError: first line second line")
    assert 100 <= left.seconds < 200
    assert "test_a_failure_leaves" in (tmp_path / "error.txt").read_text()


def test_a_full_disk_does_not_hide_the_error(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    left = record_failure(tmp_path, ValueError("the loss"))
    assert left.error == "ValueError: the loss"
    assert "No space left on device" in capsys.readouterr().err
