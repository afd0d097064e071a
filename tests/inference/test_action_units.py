"""Single action units: what each picture is asked for, and that strength 0 is the input."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from fexgan_lit import load
from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.runs import weights as hub
from tests.inference.conftest import WHO, enliven
from tests.inference.opened import open_data


class KeepAll(torch.nn.Module):
    """An attention of 1 everywhere: the sigmoid of 100 is 1 in float32."""

    def forward(self, features):
        return torch.full_like(features[:, :1], 100.0)


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_with_an_attention_of_one_every_face_is_the_input(generate, runs, monkeypatch):
    load = hub.load_system

    def loaded(*given):
        system = load(*given)
        system.average.attention = KeepAll()
        return system

    monkeypatch.setattr(hub, "load_system", loaded)
    done = generate("mode=action_units", f"run={runs('ganimation')}", "units=[1,12]", "strengths=[0,1]")
    assert done.code == 0, done.err
    difference = done.record["measured"]["strength_0_difference_grey_levels"]
    assert difference == {"mean": 0.0, "by_face": dict.fromkeys(WHO, 0.0)}
    assert "strength 0 and the input differ by 0.00 grey levels of 255" in done.out
    for who in WHO:
        faces = done.folder / "faces" / who
        assert sorted(path.name for path in faces.iterdir()) == [
            "au01_0.00.png", "au01_1.00.png", "au12_0.00.png", "au12_1.00.png", "input.png",
        ]  # fmt: skip
        for path in faces.iterdir():
            assert np.array_equal(picture(path), picture(faces / "input.png")), path.name


def test_the_difference_is_measured_in_grey_levels(generate, runs, painting):
    painting(lambda source, shown, wanted: source + 2 / 255 * 3)  # three grey levels brighter, whatever is asked for
    done = generate("mode=action_units", f"run={runs('ganimation')}", "units=[12]", "strengths=[0]")
    assert done.record["measured"]["strength_0_difference_grey_levels"]["mean"] == pytest.approx(3, abs=1e-3)


def test_every_picture_shows_what_its_record_says(generate, runs, painting):
    """FaceRequest for in batches of 3 that do not divide the pictures; AU12 becomes the brightness of the face."""
    column = ACTION_UNITS.index(12)

    def paint(source, shown, wanted):
        assert torch.equal(shown.aus[:, :0], wanted.aus[:, :0])
        return source * 0 + 2 * wanted.aus[:, column, None, None, None] - 1

    painting(paint)
    done = generate(
        "mode=action_units", f"run={runs('ganimation')}", "units=[4,12]", "strengths=[0,0.5,1]", "batch_size=3"
    )
    made = [entry for entry in done.record["pictures"] if entry["asked"]]
    assert len(made) == len(WHO) * 2 * 3
    for entry in made:
        asked = entry["asked"]["action_units"]
        assert picture(done.folder / entry["file"])[0, 0].tolist() == [round(255 * asked["AU12"])] * 3
        unit, strength = entry["file"].split("/")[-1][2:-4].split("_")
        assert asked[f"AU{unit}"] == max(float(strength), 0.0)
        # the references are neutral faces of the studio, which move nothing
        assert sum(asked.values()) == pytest.approx(float(strength))


def test_a_unit_that_a_face_shows_already_is_not_lowered(generate, runs, tmp_path, painting):
    painting(lambda source, shown, wanted: source)
    image = tmp_path / "me.png"
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(image)
    units = [f"AU{unit:02d}" for unit in ACTION_UNITS]
    values = ["2.5" if name == "AU12" else "0" for name in units]
    (tmp_path / "me.csv").write_text(f"path,{','.join(units)}\nme.png,{','.join(values)}\n")
    annotated = (f"images={image}", f"annotations={tmp_path / 'me.csv'}")
    done = generate(
        "mode=action_units", f"run={runs('ganimation')}", "units=[12,25]", "strengths=[0,0.3,0.8]", *annotated
    )
    asked = {part: done.asked(part)["action_units"] for part in ("au12_0.00", "au12_0.30", "au12_0.80", "au25_0.80")}
    assert [asked[part]["AU12"] for part in asked] == [0.5, 0.5, 0.8, 0.5]
    assert asked["au25_0.80"]["AU25"] == 0.8


def test_sheets_have_a_row_an_identity_or_a_row_a_unit(generate, runs):
    several = generate("mode=action_units", f"run={runs('ganimation')}", "units=[1,2,4]", out="several")
    one = generate("mode=action_units", f"run={runs('ganimation')}", "units=[1,2,4]", f"who={WHO[1]}", out="one")
    # cells of 128 pixels: 2 rows of an input, 0 and 3 x 3 faces; 3 rows of an input and 4 faces
    assert picture(several.folder / "sheet.png").shape[1] // 132 == 11
    assert picture(several.folder / "sheet.png").shape[0] // 132 == 2
    assert picture(one.folder / "sheet.png").shape[0] // 132 == 3
    assert picture(one.folder / "sheet.png").shape[1] // 132 == 5
    assert {entry["source"] for entry in one.record["pictures"]} == {WHO[1]}


def test_many_columns_are_spread_over_sheets(generate, runs):
    done = generate("mode=action_units", f"run={runs('ganimation')}")
    assert sorted(path.name for path in done.folder.glob("sheet*")) == ["sheet_1.png", "sheet_2.png"]
    widths = {picture(done.folder / f"sheet_{n}.png").shape[1] for n in (1, 2)}
    assert len(widths) == 1  # 28 columns are two times 14


@pytest.mark.parametrize(("model", "reads"), [("fexgan", "affects"), ("landmark_label", "affects and landmarks")])
def test_a_run_that_reads_no_units_says_what_works(generate, runs, model, reads):
    done = generate("mode=action_units", f"run={runs(model)}")
    assert done.code == 2
    assert f"{model} reads {reads}; the target expression has none" in done.err
    assert "mode=prototypes" in done.err
    assert not done.folder.exists()


def test_the_same_seed_gives_the_same_bytes(generate, runs):
    folders = [
        generate("mode=action_units", f"run={runs('ganimation')}", "units=[1]", "seed=3", out=name).folder
        for name in "ab"
    ]
    for path in sorted(folders[0].rglob("*.png")):
        assert path.read_bytes() == (folders[1] / path.relative_to(folders[0])).read_bytes()


# ---------------------------------------------------------------------- neutral first


def test_faces_are_brought_to_rest_before_the_expression(generate, runs, painting, tmp_path):
    """Every face gets darker by its change of AU12, from what it is known to show."""
    column, calls = ACTION_UNITS.index(12), []

    def paint(source, shown, wanted):
        calls.append(None if shown is None or shown.aus is None else shown.aus[:, column].tolist())
        known = 0.5 if calls[-1] is None else shown.aus[:, column]
        return source + (wanted.aus[:, column] - known).view(-1, 1, 1, 1)

    painting(paint)
    Image.new("RGB", (40, 40), (128, 128, 128)).save(tmp_path / "me.png")
    command = (f"run={runs('ganimation')}", f"images={tmp_path / 'me.png'}", "mode=action_units", "units=[12]")
    done = generate(*command, "strengths=[0,0.4]", "neutral_first=true")
    assert done.code == 0, done.err
    assert calls == [None, [0.0, 0.0]], "unknown at first, at rest then"
    made = {path.stem: np.asarray(Image.open(path)).mean() for path in (done.folder / "faces" / "me").iterdir()}
    rest = 128 - 0.5 * 127.5
    expected = {"input": 128, "at_rest": rest, "au12_0.00": rest, "au12_0.40": rest + 0.4 * 127.5}
    assert made == pytest.approx(expected, abs=1.5)
    assert "the faces are brought to rest first; their action units are unknown" in done.out
    calls.clear()
    units = [f"AU{unit:02d}" for unit in ACTION_UNITS]
    values = ["4.0" if unit == "AU12" else "0" for unit in units]
    (tmp_path / "known.csv").write_text("\n".join([",".join(["path", *units]), ",".join(["me.png", *values])]))
    csv = f"annotations={tmp_path / 'known.csv'}"
    told = generate(*command, "strengths=[0]", "neutral_first=true", csv, out="told")
    assert told.code == 0, told.err
    assert calls == [[pytest.approx(0.8)], [0.0]]
    assert "their action units are those that are known" in told.out


def test_only_systems_that_read_units_bring_faces_to_rest(generate, runs):
    done = generate(f"run={runs('fexgan')}", "neutral_first=true")
    assert done.code == 2
    assert "neutral_first=true: fexgan reads no action units; ganimation, mien and bridge do" in done.err
    wrong = generate(f"run={runs('ganimation')}", "mode=tune", "neutral_first=true", out=None)
    assert "neutral_first=true: mode=tune does not edit source faces" in wrong.err


def test_neutral_first_in_python(runs):
    loaded = load(runs("mien"))
    enliven(loaded.system.average)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    rest = loaded.at_rest(image)
    units = Expression(aus=torch.zeros(1, 17))
    assert torch.equal(rest, loaded.system.synthesize(image, None, units))
    joy = Expression(aus=loaded.system.expression([3]).aus)
    edited = loaded.synthesize(image, "joy", neutral_first=True)
    assert torch.allclose(edited, loaded.system.synthesize(rest, units, joy), atol=1e-6)
    assert not torch.allclose(edited, loaded.synthesize(image, "joy"), atol=1e-4)


# ---------------------------------------------------------------------- beyond training


def narrow(run: Path, folder: Path, **largest: float) -> Path:
    """A copy of a run that saw only these values of units in training, and 1 of the others."""
    shutil.copytree(run, folder)
    config = OmegaConf.load(folder / "config.yaml")
    assert list(config.data.largest_units) == [f"AU{unit:02d}" for unit in ACTION_UNITS]
    config.data.largest_units = {name: largest.get(name, 1.0) for name in config.data.largest_units}
    OmegaConf.save(config, folder / "config.yaml")
    return folder


def test_a_run_keeps_the_largest_units_of_its_training(runs):
    frames = open_data(runs("ganimation")).train
    kept = load(runs("ganimation")).largest_units
    assert list(kept.values()) == pytest.approx(frames.aus.max(0).tolist(), abs=0.0051)
    assert min(kept.values()) < 1, "else nothing would be beyond"
    assert load(runs("fexgan")).largest_units is None, "it reads no action units"


def test_units_beyond_training_are_marked(generate, runs, tmp_path):
    run = narrow(runs("ganimation"), tmp_path / "run", AU12=0.5)
    done = generate(f"run={run}", "mode=action_units", "units=[12,25]", "strengths=[0.4,0.9]", f"who={WHO[0]}")
    assert done.code == 0, done.err
    assert "AU12 reaches 0.9; training used up to 0.5, and beyond that faces may break" in done.out
    assert "AU25 reaches" not in done.out
    marked = [entry["file"] for entry in done.record["pictures"] if "beyond_training" in entry]
    assert marked == [f"faces/{WHO[0]}/au12_0.90.png"]


def test_python_warns_beyond_training(runs, tmp_path):
    loaded = load(narrow(runs("ganimation"), tmp_path / "run", AU12=0.5))
    image = torch.zeros(1, 3, 32, 32)
    with pytest.warns(UserWarning, match=r"beyond training, .*: AU12 0\.8 \(up to 0\.5\)"):
        loaded.synthesize(image, units={12: 0.8, 25: 0.9})
    with pytest.warns(UserWarning, match=r"joy 1\.5 \(up to 1\)"):
        loaded.synthesize(image, "joy", 1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.synthesize(image, "joy", units={12: 0.5})
