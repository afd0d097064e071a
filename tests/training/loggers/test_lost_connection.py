"""What becomes of an online run whose server goes away: W&B's side is replaced, ours is real."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

wandb = pytest.importorskip("wandb")

from fexgan_lit.runs.config import LoggerSettings  # noqa: E402
from fexgan_lit.runs.folder import RunFolder  # noqa: E402
from fexgan_lit.training.loggers.artifacts import log_model  # noqa: E402
from fexgan_lit.training.loggers.wandb import RunWandb, lost_connection, numeric_columns, start_wandb  # noqa: E402
from fexgan_lit.utils.errors import UserError  # noqa: E402


class FakeRun:
    """A W&B run that takes rows until its server is gone."""

    def __init__(self, mode, id=None, dead_after=None, error=None, **options):
        self.id, self.offline = id or "abc", mode == "offline"
        self.dead_after, self.error = dead_after, error
        self.rows, self.ended = [], None

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, values, step):
        if self.dead_after is not None and len(self.rows) >= self.dead_after:
            raise self.error
        self.rows.append((step, values))

    def finish(self, exit_code=0):
        self.ended = exit_code
        if self.error is not None:
            raise TimeoutError("Timed out finishing run.")


@pytest.fixture
def begun(monkeypatch):
    runs = []

    def init(mode, **options):
        runs.append(FakeRun(mode, **options) if not runs else FakeRun(mode, id=options["id"]))
        return runs[-1]

    monkeypatch.setattr(wandb, "init", init)
    return runs


def tracker(tmp_path, mode="online", **options):
    screen = io.StringIO()
    return RunWandb({"dir": tmp_path, **options}, mode, Console(file=screen, soft_wrap=True)), screen


@pytest.mark.parametrize("error", [wandb.errors.CommError("no route"), RuntimeError("an odd answer")])
def test_the_run_goes_on_offline_under_the_same_id_and_loses_no_row(tmp_path, begun, error):
    one, screen = tracker(tmp_path, dead_after=2, error=error)
    for step in range(5):
        one.log_metrics({"a": float(step)}, step)
    online, offline = begun
    assert [row[0] for row in online.rows + offline.rows] == [0, 1, 2, 3, 4]
    assert (offline.offline, offline.id) == (True, online.id)
    assert screen.getvalue().count("W&B cannot be reached any more") == 1
    path = tmp_path / "wandb"
    assert one.close(failed=True) == f"wandb sync --include-online {path}/run-* {path}/offline-run-*"
    assert offline.ended == 1, "a run that failed says so"


def test_an_end_without_network_is_said_once_and_leaves_the_line_that_uploads(tmp_path, begun):
    one, screen = tracker(tmp_path, error=wandb.errors.CommError("gone"))
    one.log_metrics({"a": 1.0}, 1)
    assert one.close(failed=False) == f"wandb sync --include-online {tmp_path}/wandb/run-*"
    assert screen.getvalue().count("W&B cannot be reached") == 1


def test_an_online_run_that_was_uploaded_leaves_nothing_to_do(tmp_path, begun):
    one, screen = tracker(tmp_path)
    assert one.close(failed=False) is None
    assert screen.getvalue() == ""


def test_a_mistake_of_ours_is_not_taken_for_a_lost_connection(tmp_path, begun):
    one, _ = tracker(tmp_path, mode="offline", dead_after=0, error=TypeError("ours"))
    with pytest.raises(TypeError, match="ours"):
        one.log_metrics({"a": 1.0}, 1)


def test_online_without_a_key_says_how_to_get_one(tmp_path, monkeypatch):
    def init(**options):
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "setup", lambda settings: None)
    with pytest.raises(UserError, match="there is no Weights & Biases key: run `wandb login`"):
        start_wandb(LoggerSettings(name="wandb", mode="online"), RunFolder(tmp_path), {}, None, Console())


def test_columns_of_figures_become_numbers_and_columns_with_words_stay():
    rows = [("Train", "0.981", "-", "1 of 2"), ("Val", "**0.9**", "2", "0.5")]
    assert numeric_columns(rows) == [["Train", 0.981, None, "1 of 2"], ["Val", 0.9, 2.0, "0.5"]]


def test_a_wandb_without_its_private_mailbox_still_shows_a_lost_connection(monkeypatch):
    assert len(lost_connection()) == 4
    monkeypatch.setitem(sys.modules, "wandb.sdk.mailbox", None)
    assert lost_connection() == (wandb.errors.CommError, OSError)


@pytest.mark.parametrize("private", [True, False])
def test_the_weights_are_logged_where_wandb_has_no_private_way_to_name_the_data(tmp_path, private):
    logged = []
    experiment = SimpleNamespace(offline=True, log_artifact=lambda artifact, aliases: logged.append(artifact.type))
    if private:
        experiment._log_artifact = lambda artifact, **_: logged.append(artifact.type)
    run = RunFolder(tmp_path)
    run.weights.mkdir()
    for path in (run.weights / "decoder.safetensors", run.config):
        path.write_text("x")
    config = {"dataset": {"name": "ferg"}, "model": {"name": "fexgan"}, "seed": 0}
    log_model(experiment, run, config, 4, {"final/val/ssim": 0.5}, "key")
    assert logged == ["dataset", "model"][not private :]
