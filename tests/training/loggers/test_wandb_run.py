"""A tiny run with Weights & Biases, read back from the file that its upload would send."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tests.commands import run_python
from tests.conftest import TINY, run_train
from tests.training.loggers.reading import offline_runs

pytest.importorskip("wandb")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four iterations, and the same one gone on to six."""
    folder = tmp_path_factory.mktemp("tracked")
    done = run_train(
        folder, *TINY, "logger=wandb", "trainer.max_steps=4", "metrics.judge=true", "trainer.figures_every=2",
        "trainer.val_every=2", "trainer.checkpoint_every=2", "seed=5", "logger.tags=[mine]",
        brief_judge=True,
    )  # fmt: skip
    (run,) = folder.glob("outputs/*")
    first = csv_rows(run)
    run_train(folder, f"run={run}", "trainer.max_steps=6", brief_judge=True)
    return run, done, first


def csv_rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def kept(trained):
    return offline_runs(trained[0])


def test_every_number_of_metrics_csv_is_there(trained, kept):
    rows = trained[2]
    assert {int(row["iteration"]) for row in rows} == {2, 4}
    for row in rows:
        for name, value in row.items():
            if value and name != "iteration":
                assert f"{float(kept[0].column(name)[int(row['iteration'])]):.6g}" == value, name


def test_the_iteration_is_the_step_and_the_axis_of_everything(kept):
    assert [row["_step"] for row in kept[0].history] == [row["iteration"] for row in kept[0].history] == [2, 4]
    assert {m.step_metric for name, m in kept[0].metrics.items() if name != "iteration"} == {"iteration"}


def test_every_option_of_the_configuration_is_there(trained, kept):
    config = OmegaConf.to_container(OmegaConf.load(trained[0] / "config.yaml"))
    config["trainer"]["max_steps"] = 4  # since then it went on
    assert {key: kept[0].config[key] for key in config} == config


def test_every_picture_is_there_with_its_pixels(trained, kept):
    run, _, _ = trained
    figures = {path.stem for path in (run / "figures").glob("*.png")}
    assert {"affects", "complex", "confusion", "losses", "samples_fitted"} <= figures
    assert {f"figures/{name}" for name in figures} <= kept[1].keys
    (shown,) = kept[1].column("figures/affects").values()
    ours, theirs = (
        Image.open(path) for path in (run / "figures/affects.png", kept[1].file.parent / "files" / shown["path"])
    )
    assert ours.convert("RGB").tobytes() == theirs.convert("RGB").tobytes()


def test_grids_are_one_slider_over_the_iterations(trained, kept):
    shown = kept[0].column("progress/affects")
    assert {step: media["caption"] for step, media in shown.items()} == {2: "iteration 2", 4: "iteration 4"}
    for media in shown.values():
        assert (kept[0].file.parent / "files" / media["path"]).is_file()


def test_table_1_and_the_confusion_matrix_are_tables_of_numbers(kept):
    table = kept[0].table("tables/table1")
    own = {row[0]: row[1:] for row in table["data"]}
    logged = [kept[0].column(f"final/val/d_{which}")[4] for which in ("real_binary", "real_affect", "fake_binary")]
    assert own["Validation"][:3] == pytest.approx(logged, abs=6e-4)
    assert own["FExGAN, FERG-DB, Train (paper)"] == [0.981, 1.0, 0.998, 0.994]
    counts = kept[0].table("tables/confusion")
    asked = counts["columns"][1:]
    assert [row[0] for row in counts["data"]] == asked
    right = sum(row[1 + i] for i, row in enumerate(counts["data"]))
    total = sum(sum(row[1:]) for row in counts["data"])
    assert right / total == pytest.approx(kept[0].column("final/val/judge_affect_accuracy")[4])
    cells = kept[0].table("charts/confusion_table")
    assert cells["columns"] == ["asked", "judged", "faces"]
    assert {tuple(cell[:2]): cell[2] for cell in cells["data"]} == {
        (row[0], name): n for row in counts["data"] for name, n in zip(asked, row[1:], strict=True)
    }


def test_the_summary_keeps_the_better_end(kept):
    ends = {name: (m.summary.min, m.summary.max) for name, m in kept[0].metrics.items()}
    assert ends["val/fd_judge"] == (True, False)
    assert ends["val/judge_affect_accuracy"] == (False, True)
    assert "final/val/fd_judge" not in ends, "one value needs no best, and a search reads it by its plain name"
    assert kept[0].config["directions"]["final/val/fd_judge"] == "minimize"


def test_the_run_is_named_grouped_and_tagged(trained, kept):
    run = kept[0].run
    assert (run.display_name, run.run_group) == (trained[0].name, "")
    assert run.job_type.startswith("fexgan_studio_cartoon_")
    assert list(run.tags) == ["fexgan", "studio_cartoon", "seed-5", "mine"]
    assert kept[0].config["setting"] == run.job_type


def test_the_weights_are_an_artifact_that_opens_as_a_run(trained, kept, tmp_path):
    from fexgan_lit.runs.weights import load_system

    for part, iteration in zip(kept, (4, 6), strict=True):
        (model,), (data,) = part.artifacts["model"], part.artifacts["dataset"]
        assert (model.name, set(model.aliases)) == ("fexgan_studio_cartoon", {"latest", "final"})
        facts = json.loads(model.metadata)
        assert (facts["iteration"], facts["seed"]) == (iteration, 5)
        assert facts["metrics"]["final/val/ssim"] == part.column("final/val/ssim")[iteration]
        assert data.use_after_commit, "the run used the data; it did not make them"
        assert json.loads(data.metadata)["digest"] == facts["data_digest"]
        assert json.loads(data.metadata)["train_frames"] == 42
        assert [entry.path for entry in data.manifest.contents] == ["facts.json"], "no frame leaves"
    for entry in kept[0].artifacts["model"][0].manifest.contents:
        assert Path(entry.local_path).is_relative_to(trained[0]), "nothing is copied to the home folder"
        target = tmp_path / entry.path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(Path(entry.local_path).read_bytes())
    assert load_system(tmp_path).iteration == load_system(trained[0]).iteration
    before, after = (load_weights_of(folder) for folder in (tmp_path, trained[0]))
    assert any(not torch.equal(before[key], after[key]) for key in before), "those of iteration 4, not of 6"


def load_weights_of(folder):
    from safetensors.torch import load_file

    return load_file(folder / "weights/decoder.safetensors")


def test_a_resumed_run_goes_on_in_the_same_one(trained, kept):
    first, second = kept
    assert first.run.run_id == second.run.run_id
    assert sorted(second.column("loss/generator")) == [6]
    checkpoint = torch.load(trained[0] / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["wandb_run_id"] == first.run.run_id


def test_the_last_line_uploads(trained):
    run, done, _ = trained
    assert done.stdout.rstrip().splitlines()[-1].split(maxsplit=1) == [
        "upload", f"wandb sync {run}/wandb/offline-run-*"
    ]  # fmt: skip


def test_the_dashboard_shows_what_a_run_logs(kept):
    from fexgan_lit.training.loggers.dashboard import KINDS, sections

    panels = [panel for section in sections() for panel in section.panels]
    assert {panel.kind for panel in panels} == set(KINDS)
    assert [key for panel in panels for key in panel.keys if key not in kept[0].keys] == []
    loss = kept[0].config["loss"]
    assert [name for panel in panels for name in panel.options if name.partition(".")[2] not in loss] == []


def test_every_run_of_a_sweep_is_a_wandb_run_of_its_own(tmp_path):
    runs = ("-m", "seed=0,1", *TINY, "logger=wandb", "logger.weights=false", "trainer.max_steps=1")
    run_train(tmp_path, *runs, "trainer.log_every=1")
    folders = sorted(path.parent for path in tmp_path.glob("multirun/*/*/config.yaml"))
    found = [offline_runs(folder) for folder in folders]
    assert [len(parts) for parts in found] == [1, 1]
    runs = [parts[0].run for parts in found]
    assert len({run.run_id for run in runs}) == 2
    assert [run.run_group for run in runs] == [folders[0].parent.name] * 2
    assert len({run.job_type for run in runs}) == 1
    assert sorted(tag for run in runs for tag in run.tags if tag.startswith("seed")) == ["seed-0", "seed-1"]
    assert [sorted(parts[0].column("loss/generator")) for parts in found] == [[1], [1]]
    assert not any(parts[0].artifacts["model"] for parts in found)


START = """
from pathlib import Path
from rich.console import Console
from fexgan_lit.runs.config import LoggerSettings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.training.loggers.wandb import start_wandb
settings = LoggerSettings(name="wandb", mode="online", patience=1.0)
tracker = start_wandb(settings, RunFolder(Path(".").resolve()), {}, None, Console(soft_wrap=True))
tracker.log_metrics({"a": 1.0}, 3)
print(tracker.close(failed=False))
"""


def test_online_without_a_server_stays_offline(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "HOME": str(tmp_path)}
    done = run_python(tmp_path, "-c", START, timeout=100, **nowhere)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("W&B cannot be used online") == 1
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in done.stdout
    (part,) = offline_runs(tmp_path)
    assert part.column("a") == {3: 1.0}


WRITE = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from fexgan_lit.runs.config import LoggerSettings
from fexgan_lit.training.loggers.wandb import start_wandb
from fexgan_lit.runs.folder import RunFolder
from tests.training.loggers.reading import offline_runs
logger = start_wandb(LoggerSettings(name="wandb"), RunFolder(Path(".").resolve()), {}, None, Console())
tasks = Path("/proc/self/task").glob("*/children")
children = [int(pid) for task in tasks for pid in task.read_text().split()]
(wandb_core,) = [pid for pid in children if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes()]
for step in range(20):
    if sys.argv[1:] == ["kill"] and step == 10:
        os.kill(wandb_core, signal.SIGKILL)
        os.waitpid(wandb_core, 0)
    logger.log_metrics({f"a{i}": float(i) for i in range(50)}, step)
print(logger.close(failed=False))
print(*[len(part.history) for part in offline_runs(Path("."))])
"""


def write(folder, *options):
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WRITE, *options], cwd=folder, env=env, text=True, timeout=100, check=True,
        capture_output=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.fault
def test_every_record_is_on_disk_when_a_run_has_closed(tmp_path):
    # W&B's `finish` alone comes back before its process has written them
    assert [write(tmp_path / str(turn))[-1] for turn in range(2)] == ["20"] * 2


@pytest.mark.fault
def test_where_the_process_of_wandb_dies_the_run_goes_on_in_a_second_part(tmp_path):
    said, command, counts = write(tmp_path / "a", "kill")
    assert "W&B cannot be reached any more" in said
    assert command == f"wandb sync {tmp_path}/a/wandb/offline-run-*"
    assert int(counts.split()[-1]) >= 10
