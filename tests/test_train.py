"""`python -m fexgan_lit.train` as a user runs it: what it leaves, how it goes on after a kill, how it fails."""

from __future__ import annotations

import csv
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import load_file

from fexgan_lit import load
from fexgan_lit.runs.weights import load_system
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import out_trouble, user_message
from tests.commands import start_python
from tests.conftest import TINY, UNLOGGED, run_train, write_frames


def newest_run(folder: Path) -> Path:
    return max((folder / "outputs").iterdir(), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A finished tiny run with judge, validation on people of its own and grids, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    people = ("dataset.split=identity", "dataset.val_fraction=0.4", "dataset.identities=3")
    done = run_train(
        folder, *TINY, *people, "trainer.max_steps=12", "metrics.judge=true", "trainer.val_every=6",
        "trainer.figures_every=6", brief_judge=True,
    )  # fmt: skip
    return newest_run(folder), done.stdout


def test_a_run_leaves_the_run_folder_of_the_contract(finished):
    run, printed = finished
    expected = [
        "config.yaml",
        "metrics.csv",
        "report.md",
        "result.json",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    ]
    figures = ["affects", "affects_and_truth", "samples_normal", "samples_fitted", "complex", "losses", "confusion"]
    weights = ["encoder", "decoder", "discriminator", "prior"]
    expected += [f"figures/{name}.png" for name in figures] + [f"weights/{name}.safetensors" for name in weights]
    assert [name for name in expected if not (run / name).is_file()] == []
    assert [path for path in run.rglob("*") if "partial" in path.name] == []
    assert str(run.name) in printed
    assert "Table 1" in printed


def test_result_json_has_the_limit_of_the_cast(finished):
    metrics = json.loads((finished[0] / "result.json").read_text())["metrics"]
    data = load(finished[0]).prepared_data
    assert metrics["final/reconstruction_limit"] == pytest.approx(
        load_system(finished[0]).reconstruction_limit(data.held_out_frames), rel=1e-3
    )


def test_config_yaml_has_every_preset_filled_in(finished):
    config = OmegaConf.load(finished[0] / "config.yaml")
    assert config.model.sigma == "log_sigma"
    assert config.model.lambda_mode == "one"
    assert config.loss.l1_reduction == "mean"
    assert config.data.affects[3] == "joy"


def test_metrics_csv_counts_iterations(finished):
    with (finished[0] / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [2, 4, 6, 8, 10, 12]
    assert all(float(row["loss/generator"]) > 0 for row in rows)
    validated = [int(row["iteration"]) for row in rows if row["val/ssim"]]
    assert validated == [6, 12]
    last = rows[-1]
    assert 0 <= float(last["final/val/judge_affect_accuracy"]) <= 1
    assert 0 <= float(last["final/val/d_fake_binary"]) <= 1


def test_report_holds_table_1_for_both_splits_and_its_recipes(finished):
    report = (finished[0] / "report.md").read_text()
    assert "| Train |" in report
    assert "| Validation |" in report
    assert "fd_judge" in report
    assert "How each number was made" in report
    assert "has never seen the validation split's people" in report, "so the judge cannot know them"


def test_the_run_folder_gives_the_system_back(finished):
    run, _ = finished
    system, from_checkpoint = load_system(run), load_system(run / "checkpoints" / "last.ckpt")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    joy = system.expression([3, 3])
    face = system.synthesize(x, system.expression([4, 4]), joy)
    assert face.shape == x.shape
    assert torch.equal(face, from_checkpoint.synthesize(x, system.expression([4, 4]), joy))
    assert system.sample(3, system.expression([0, 1, 2]), prior="fitted").shape == (3, 3, 32, 32)


@pytest.mark.parametrize("how", [pytest.param("SIGKILL", marks=pytest.mark.fault), "SIGTERM"])
def test_a_run_ended_by_a_signal_goes_on_to_the_weights_of_an_uninterrupted_one(how, tmp_path):
    steps = "trainer.max_steps=31"
    whole = tmp_path / "whole"
    killed = tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    run_train(whole, *TINY, steps)

    process = start_python(killed, "-m", "fexgan_lit.train", *TINY, steps)
    deadline = time.monotonic() + 120
    while not list(killed.glob("outputs/*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, getattr(signal, how))
    process.join()
    assert process.exitcode == {"SIGKILL": -signal.SIGKILL, "SIGTERM": 75}[how]
    run = newest_run(killed)
    stopped_at = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["iteration"]
    assert 0 < stopped_at < 31
    run_train(killed, f"run={run}")

    a = torch.load(newest_run(whole) / "checkpoints/last.ckpt", weights_only=True)
    b = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert a["iteration"] == b["iteration"] == 31
    assert [k for k in a["state_dict"] if not torch.equal(a["state_dict"][k], b["state_dict"][k])] == []
    for ours, theirs in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        for key, state in ours["state"].items():
            assert all(torch.equal(value, theirs["state"][key][name]) for name, value in state.items())
    for part in ("encoder", "decoder", "discriminator", "prior"):
        left, right = (load_file(r / "weights" / f"{part}.safetensors") for r in (newest_run(whole), run))
        assert all(torch.equal(left[k], right[k]) for k in left)
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [int(row["iteration"]) for row in rows] == [*range(2, 31, 2), 31]


def test_a_run_out_of_time_says_how_far_it_came_and_how_it_goes_on(tmp_path):
    done = run_train(tmp_path, *UNLOGGED, "trainer.max_steps=9", "trainer.max_minutes=0.00001")
    run = newest_run(tmp_path)
    said = re.search(r"training ended after 1e-05 minutes .* at iteration (\d) of 9, .*fexgan_lit.train run=(.*)$",
                     done.stdout, re.MULTILINE)  # fmt: skip
    assert int(said[1]) < 9
    assert Path(said[2]) == run
    assert said[0] in (run / "report.md").read_text(), "also for whoever sees the faces later"


def test_a_run_on_frames_from_disk_can_be_made_longer_but_not_changed_nor_go_on_with_other_data(tmp_path):
    root = write_frames(tmp_path / "data", frames=1)
    said = run_train(tmp_path, "dataset=mhfed", f"dataset.root={root}", *UNLOGGED, "model=fexgan_meta",
                     "trainer.max_steps=2").stdout  # fmt: skip
    assert "no validation set" in said
    run = newest_run(tmp_path)
    assert "no validation frames" in (run / "report.md").read_text()
    assert "resuming at iteration 2" in run_train(tmp_path, f"run={run}", "trainer.max_steps=3").stdout
    changed = run_train(tmp_path, f"run={run}", "model.width=1", check=False)
    assert changed.returncode == 2
    assert "model.width=1" in changed.stderr
    (root / "p0" / "joy" / "p0_joy_000.png").unlink()
    refused = run_train(tmp_path, f"run={run}", "trainer.max_steps=4", check=False)
    assert refused.returncode == 2
    assert "changed since the run was started" in refused.stderr


MISTAKES = {
    "flag between options": (["model=stargan", "-m", "loss.alpha=1,10"], ["loss.alpha=1: there is no such option."]),
    "misspelt options": (["loss.alfa=1", "model.depth=2"], ["loss.alfa", "Did you mean loss.alpha?", "model.depth"]),
    "misspelt groups": (
        ["dataset=mhfedd", "model=stargun", "experiment=nosuch"],
        [
            "dataset=mhfedd: there is no such file in conf/dataset",
            "mhfed, mug",
            "model=stargun",
            "expected one of attgan, bridge, fexgan, fexgan_meta, ganimation",
            "hydra.searchpath=[file://FOLDER]",
            "experiment=nosuch: there is no such file in conf/experiment; expected one of",
            "cartoon_model, demo",
        ],
    ),
    "misspelt loss": (["loss=nosuch"], ["loss=nosuch: there is no such file in conf/loss", "stargan"]),
    "groups that are gone": (
        ["recipe=mhfed", "schedule=stargan", "optimizer=adam", "loss.alfa=1"],
        [
            "recipe=mhfed: this group was removed",
            "schedule=stargan: this",
            "optimizer=adam: this group was removed",
            "conf/model/NAME.yaml",
            "Did you mean loss.alpha?",
        ],
    ),
    "wrong type": (["loss.alpha=many", "trainer.max_steps=0"], ["loss.alpha=many"]),
    "several values": (["loss.alpha=-1", "trainer.max_steps=0", "model.sigma=x"], ["loss.alpha", "max_steps", "sigma"]),
    "image size": (["dataset.image_size=100"], ["image_size=100", "128"]),
    "missing root": (["dataset=ferg"], ["dataset.root", "request"]),
    "root that is not there": (["dataset=mhfed", "dataset.root=/no/such/place"], ["/no/such/place"]),
    "misspelt affect": ([*TINY, "dataset.affects=[joy,angre]"], ["angre", "anger"]),
    "batch larger than the data": ([*TINY, "dataset.batch_size=4000"], ["4000", "dataset.batch_size"]),
    "batch of one": ([*TINY, "dataset.batch_size=1"], ["dataset.batch_size"]),
    "no such run": (["run=no/such/run"], ["run=no/such/run", "no such folder"]),
    "start from a run of another kind": (
        [*TINY, "start=stargan"],
        ["start=stargan: found a stargan; expected a run of fexgan"],
    ),
    "start from nothing": ([*TINY, "start=no/such/run"], ["start=no/such/run: there is no such folder"]),
    "start from other affects": (
        [*TINY, "start=cartoon", "dataset.affects=[joy,anger,neutral]"],
        ["start=cartoon: its affects are anger, disgust", "expected anger, joy, neutral, in this order"],
    ),
    "code in a config": (["model._target_=os.system"], ["os.system", "refused"]),
    "paths that mean something to Hydra": (
        ["dataset.root=a/b=c", "dataset.manifest=a#1", "dataset.videos=it's"],
        ["""'dataset.root="a/b=c"'""", """'dataset.manifest="a#1"'""", """dataset.videos="it'"'"'s"'"""],
    ),
    "Python's word for nothing": (
        ["dataset.root=None"],
        ["dataset.root=None: None is read as a text", "dataset.root=null"],
    ),
    "a sweep with -m in the middle": (["seed=1", "-m", "loss.alpha=1,-1"], ["nothing was started", "loss.alpha=-1"]),
    "a number nobody can count to": (["seed=" + 5000 * "9"], ["a number of thousands of digits"]),
    "a pipe": (
        ["dataset=folder", "dataset.root=.", "dataset.manifest=pipe"],
        ["dataset.manifest=pipe: expected a regular file"],
    ),
    "gpu where none is": ([*TINY, "trainer.accelerator=gpu"], ["trainer.accelerator=gpu", "no GPU"]),
}


def test_a_training_can_start_from_the_weights_of_another_run(finished, tmp_path):
    run, _ = finished
    done = run_train(tmp_path, *TINY, f"start={run}", "seed=5", "optimizer.lr=1e-9", "trainer.max_steps=1")
    weights, given = (load_file(folder / "weights" / "encoder.safetensors") for folder in (newest_run(tmp_path), run))
    for name, value in weights.items():
        if "running" not in name:  # statistics of the batch that was seen
            torch.testing.assert_close(value, given[name], msg=name)
    assert f"start      {len(given)}" not in done.stdout, "the other networks are counted, too"
    assert f"tensors of {run}" in done.stdout


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_with_exit_code_2_and_a_message(mistake, tmp_path):
    if mistake == "gpu where none is" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    overrides, named = MISTAKES[mistake]
    if mistake == "a pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no named pipes")
        os.mkfifo(tmp_path / "pipe")
    before = list(tmp_path.iterdir())
    done = run_train(tmp_path, *overrides, check=False)
    assert done.returncode == 2, done.stderr
    assert [word for word in named if word not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == before, "nothing is left, no empty outputs/ either"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named_before_frames_are_packed(tmp_path):
    done = run_train(tmp_path, "trainer=gpu", check=False)
    assert done.returncode == 2
    assert "no GPU" in done.stderr
    assert "frames" not in done.stdout


def test_an_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "outputs").write_text("in the way")
    done = run_train(tmp_path, *TINY, check=False)
    assert done.returncode == 2
    assert "outputs" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_explains_every_group(tmp_path):
    done = run_train(tmp_path, "--help")
    groups = ("dataset", "model", "loss", "trainer", "metrics", "logger", "callbacks", "tuning", "experiment", "sweep")
    assert [g for g in groups if f"\n  {g} " not in done.stdout] == []
    assert [g for g in ("optimizer", "schedule", "recipe") if f"\n  {g} " in done.stdout] == []
    assert "dataset=ferg" in done.stdout


def test_help_ends_quietly_where_nobody_reads_on(tmp_path):
    command = [sys.executable, "-m", "fexgan_lit.train", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as run:
        run.stdout.close()
        assert run.stderr.read() == b""


def test_memory_that_is_not_there_is_a_message_and_not_a_traceback():
    for error in (
        MemoryError("Unable to allocate 182. TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        assert "there is not enough memory: " in user_message(error, "train")
    fault = RuntimeError("a fault of ours")
    fault.__context__ = UserError("a mistake that was being handled")
    assert user_message(fault, "train") is None


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path):
    assert out_trouble("/proc/x", "files") == "files=/proc/x cannot be written; choose another folder."
    (tmp_path / "file").touch()
    assert out_trouble(str(tmp_path / "file" / "x")).endswith("cannot be written; choose another folder.")
    assert out_trouble(str(tmp_path / "new" / "x")) is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_message_of_a_resolver_is_not_wrapped():
    def refuse():
        raise UserError("run=nowhere: there is no such folder")

    OmegaConf.register_new_resolver("refuse", refuse, replace=True)
    with pytest.raises(OmegaConfBaseException) as error:
        OmegaConf.create({"place": "${refuse:}"}).place  # noqa: B018
    assert user_message(error.value, "train") == "run=nowhere: there is no such folder"


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path):
    """Without VGG19 and without a judge, the perceptual loss of landmark_label has no network."""
    tiny = [option for option in TINY if not option.startswith("model.latent_size")]
    done = run_train(tmp_path, "model=landmark_label", *tiny, check=False)
    assert done.returncode == 2
    assert "perceptual loss has no network" in done.stderr
    assert not list((tmp_path / "outputs").glob("*"))


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_on_a_terminal_a_run_and_its_sequel_end_with_their_report(tmp_path, monkeypatch):
    import pty

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")

    def on_a_terminal(*options):
        """What stands on the terminal; the process has ended well."""
        master, slave = pty.openpty()
        terminal = os.ttyname(slave)
        process = start_python(tmp_path, "-m", "fexgan_lit.train", *options, out=terminal, err=terminal)
        shown = b""
        while select.select([master], [], [], 0.1)[0] or process.is_alive():
            if select.select([master], [], [], 0)[0]:
                shown += os.read(master, 65536)
        os.close(slave)
        os.close(master)
        assert process.exitcode == 0, shown.decode(errors="replace")[-3000:]
        return shown.decode(errors="replace")

    shown = on_a_terminal(*UNLOGGED, "trainer.max_steps=4", "trainer.val_every=2")
    (run,) = tmp_path.glob("outputs/*")
    assert "Image quality" in shown
    assert "Image quality" in (run / "report.md").read_text()
    (run / "report.md").unlink()
    on_a_terminal(f"run={run}", "+trainer.enable_progress_bar=false")
    assert (run / "report.md").is_file(), "measured again, with no iteration left"
