"""`python -m fexgan_lit.generate` as a user runs it: its folder, its record, its refusals, and its page of the docs."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fexgan_lit import __version__
from fexgan_lit.inference.modes import MODES
from tests.commands import run_here
from tests.inference.conftest import WHO

DOCS = (Path(__file__).parents[2] / "docs" / "generate.md").read_text()


def test_the_command_itself(tmp_path, runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("generate", "mode=action_units", f"run={runs('ganimation')}", "units=[12]")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs").iterdir()
    assert re.fullmatch(r"generate_action_units_run_ganimation_[0-9_-]+", folder.name)
    assert {path.name for path in folder.iterdir()} == {"faces", "sheet.png", "generation.json"}
    assert f"written to {folder}" in done.stdout


def test_the_record_says_what_was_run(generate, runs):
    done = generate("mode=action_units", f"run={runs('ganimation')}", "units=[12]", "seed=4", f"who=[{WHO[1]}]")
    record = done.record
    assert record["command"][:3] == ["python", "-m", "fexgan_lit.generate"]
    assert "units=[12]" in record["command"]
    assert record["run"]["model"] == "ganimation"
    assert (record["mode"], record["seed"]) == ("action_units", 4)
    assert record["options"] == {"units": [12], "strengths": [0.0, 0.33, 0.66, 1.0]}
    assert record["versions"]["fexgan_lit"] == __version__
    assert [source["name"] for source in record["sources"]] == [WHO[1]]
    assert record["sources"][0]["shows"]["affect"] == {"neutral": 1.0}
    on_disk = {str(path.relative_to(done.folder)) for path in done.folder.rglob("*.png")}
    assert on_disk == {entry["file"] for entry in record["pictures"]} | set(record["files"])


def test_pictures_of_the_users_need_no_data(generate, runs, tmp_path):
    Image.fromarray(np.full((50, 40, 3), 120, np.uint8)).save(tmp_path / "me.png")
    done = generate("mode=action_units", f"run={runs('ganimation')}", "units=[12]", f"images={tmp_path / 'me.png'}")
    assert done.code == 0, done.err
    assert "relaxed faces (all 0) are assumed; annotations=CSV" in done.out
    assert done.asked("au12_0.00")["action_units"]["AU12"] == 0


def test_a_checkpoint_stands_for_its_run(generate, runs, tmp_path):
    done = generate(f"run={runs('ganimation') / 'config.yaml'}")
    assert done.code == 2
    assert "is not a run folder" in done.err


MISTAKES = {
    "no run and none shipped": ([], "the model that comes with the package is missing"),
    "no such run": (["run=/no/such"], "run=/no/such: there is no such folder"),
    "misspelt mode": (["mode=interpolat"], "Did you mean mode=interpolate?"),
    "misspelt option": (["strengt=[1]"], "Did you mean strength?"),
    "option of another mode": (["start=joy"], "mode=action_units has no such option, but mode=interpolate has"),
    "several values": (["units=[3]", "strengths=[2]", "batch_size=0"], "batch_size=0: expected 1 to 65536"),
    "text for a number": (["batch_size=many"], "batch_size=many"),
    "no such picture": (["images=/no/such.png"], "images=/no/such.png: there is no such file"),
    "annotations alone": (["annotations=file"], "it describes the images of images=FILE|DIR"),
    "unknown face": (["who=zoe"], "who=zoe: expected one of nora, tariq"),
    "unknown device": (["device=tpu"], "device=tpu: expected one of auto, cpu"),
    "a file in the way": (["out=file"], "out=file is a file"),
    "a folder with things in it": (["out=full"], "/full holds other files, such as kept"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_with_exit_code_2_and_leave_nothing(mistake, generate, runs, monkeypatch):
    monkeypatch.setattr("fexgan_lit.runs.folder.__file__", str(Path.cwd() / "elsewhere" / "runs" / "folder.py"))
    Path("file").write_text("in the way")
    Path("full").mkdir()
    (Path("full") / "kept").write_text("mine")
    overrides, message = MISTAKES[mistake]
    run = (
        []
        if any(o.startswith("run=") for o in overrides) or mistake.startswith("no run")
        else [f"run={runs('ganimation')}"]
    )
    mode = [] if any(o.startswith("mode=") for o in overrides) else ["mode=action_units"]
    done = generate(*mode, *run, *overrides, out=None)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert sorted(path.name for path in Path().iterdir()) == ["file", "full"]
    assert [path.name for path in Path("full").iterdir()] == ["kept"]


def test_help_names_every_mode(generate):
    done = generate("--help", out=None)
    for mode in MODES:
        assert f"mode={mode}" in done.out


def names(line: str) -> set[str]:
    """The options of a command that say what it does; drivers are told apart by the kind of their file."""
    given = dict(argument.split("=", 1) for argument in shlex.split(line)[3:])
    driver = {f"driver {Path(given['driver']).suffix}"} if "driver" in given else set()
    return given.keys() - {"run", "mode", "images", "who", "driver"} | driver


def commands() -> list[str]:
    """Of each mode as many commands as give every option; that all are understood is a test of the README's."""
    blocks = re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("python")]
    kept: dict[str, list[str]] = {}
    for line in sorted(lines, key=lambda line: len(names(line)), reverse=True):
        mode = kept.setdefault("".join(re.findall(r"mode=(\w+)", line)), [])
        needs_the_face_detector = "clip.mp4" in line or "her.jpg" in line
        if not needs_the_face_detector and (not mode or not names(line) <= set().union(*map(names, mode))):
            mode.append(line)
    assert kept.keys() - {""} >= set(MODES) - {"transform"}
    return [line for mode in kept.values() for line in mode]


def keyframes() -> str:
    """The example of the page, without what only some runs read."""
    (block,) = (block for block in re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL) if "time:" in block)
    return "\n".join(line.strip() for line in block.splitlines() if "AU12" not in line)


#: What makes commands that learn, and films, quick.
BRIEF = {"lambda": ["steps=1", "restarts=1", "faces=2"], "tune": ["steps=1"], "clip": ["steps=3"], "animate": ["fps=5"]}


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_page_run(line, generate, runs, quick_judge, detector):
    photo = np.full((720, 960, 3), 120, np.uint8)
    photo[160:560, 240:640] = (255, 0, 0)  # a face to the detector of the tests
    Image.fromarray(photo).save("photo.jpg", quality=100, subsampling=0)
    Image.fromarray(np.full((40, 40, 3), 120, np.uint8)).save("face.jpg")
    Path("openface.csv").write_text("timestamp, AU12_r, AU25_r\n0, 0, 0\n0.1, 2, 1\n0.2, 5, 3\n")
    Path("keys.yaml").write_text(keyframes())
    for name in ("expressions.yaml", "mine.yaml"):
        Path(name).write_text("smile: {affects: {joy: 0.8}}\nwink: {affects: {surprise: 0.5}}\n")
    for folder in ("DIR", "more_pictures"):
        Path(folder).mkdir()
    shutil.copy("face.jpg", "more_pictures")
    for number in range(2):
        shutil.copy("photo.jpg", Path("DIR") / f"{number}.jpg")
    Path("labels.csv").write_text("path,affect\n" + "".join(f"{number}.jpg,joy\n" for number in range(2)))
    arguments = shlex.split(line)
    assert arguments[:3] == ["python", "-m", "fexgan_lit.generate"]
    reading = ("AU1", "units=", "openface", "mode=action_units", "mode=prototypes", "neutral_first")
    units = any(word in line for word in reading)
    model = "motion_texture" if "mode=clip" in line else "ganimation" if units else "fexgan"
    model = "mien" if "run=mien" in line else model
    places = {"run=mien": "run=RUN_DIR", "RUN_DIR": str(runs(model)), "NAME": WHO[0], "OTHER": WHO[1]}
    places["more_pictures"] = "DIR"
    filled = arguments[3:]
    for word, meant in places.items():
        filled = [argument.replace(word, meant) for argument in filled]
    mode = next((argument.removeprefix("mode=") for argument in filled if argument.startswith("mode=")), "")
    brief = [] if "still=" in line else BRIEF.get(mode, [])
    done = generate(*filled, *brief)
    assert done.code == 0, done.err
