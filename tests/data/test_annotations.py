from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS
from fexgan_lit.utils.errors import UserError


def plain(root):
    return index_dataset(DatasetConfig(name="mhfed", root=str(root)))


def joined(root, csv):
    return index_dataset(DatasetConfig(name="mhfed", root=str(root), annotations=str(csv)))


def full_csv(root, prefix=""):
    """Every column there is, in another order than the frames."""
    paths = plain(root).paths
    n = len(paths)
    columns = {"path": [prefix + path for path in paths], "take": 1, "frame": range(n), "time_s": 0.1}
    columns |= {"intensity": np.linspace(0, 1, n)}
    columns |= {name.upper(): np.linspace(0, 5, n) for name in AU_COLUMNS}
    columns |= {"yaw": 1.0, "pitch": -2.0, "roll": 3.5}
    columns |= {name: float(number) for number, name in enumerate(LANDMARK_COLUMNS)}
    return pd.DataFrame(columns).iloc[::-1]


@pytest.mark.parametrize(("place", "prefix"), [("set/a.csv", ""), ("a.csv", "set/"), ("labels/a.csv", "../set/")])
def test_all_columns_are_joined_by_path(write_cast, tmp_path, place, prefix):
    root = write_cast()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    full_csv(root, prefix).to_csv(tmp_path / place, index=False)
    table = joined(root, tmp_path / place)
    n = len(table)
    assert table.paths == plain(root).paths
    np.testing.assert_allclose(table.intensity, np.linspace(0, 1, n), atol=1e-6)
    np.testing.assert_allclose(table.frame["au45"], np.linspace(0, 1, n), atol=1e-6)  # 0..5 in the file
    assert table.frame["frame"].tolist() == list(range(n))
    assert table.frame["x67"].iloc[0] == 134
    assert table.frame.loc[0, ["yaw", "pitch", "roll"]].tolist() == [1.0, -2.0, 3.5]
    assert f"joined to {n} of {n} frames" in table.notes[0]


def test_paths_relative_to_the_root_while_the_file_lies_elsewhere(write_cast, tmp_path):
    root = write_cast()
    (tmp_path / "elsewhere").mkdir()
    full_csv(root).to_csv(tmp_path / "elsewhere/a.csv", index=False)
    assert not np.isnan(joined(root, tmp_path / "elsewhere/a.csv").intensity).any()


def test_nothing_is_joined_unasked(write_cast, tmp_path):
    root = write_cast()
    full_csv(root, "set/").to_csv(tmp_path / "annotations.csv", index=False)
    full_csv(root).to_csv(root / "annotations.csv", index=False)
    assert plain(root).intensity is None


def test_only_what_is_there(write_cast):
    root = write_cast()
    full_csv(root)[["path", "intensity"]].to_csv(root / "a.csv", index=False)
    table = joined(root, root / "a.csv")
    assert table.intensity is not None
    assert not {"au01", "x00", "yaw", "take"} & set(table.frame)


def test_rows_without_file_and_frames_without_row_are_counted(write_cast):
    root = write_cast()
    rows = full_csv(root).iloc[3:]
    extra = rows.iloc[:2].assign(path=["anna/joy/0099.png", "../../etc/passwd"])
    pd.concat([rows, extra]).to_csv(root / "a.csv", index=False)
    table = joined(root, root / "a.csv")
    assert {drop.path for drop in table.drops if "row of a.csv" in drop.reason} == {
        "anna/joy/0099.png",
        "../../etc/passwd",
    }
    assert "joined to 25 of 28 frames; 3 have no row: bob/surprise" in table.notes[0].replace(
        "bob/sadness/0002.png, ", ""
    )
    assert np.isnan(table.intensity).sum() == 3
    assert len(table) == 28


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename(columns={"path": "file"}), "column 'path' is missing; found: file"),
        (lambda f: f.assign(intensity=[np.nan, *f["intensity"][1:]]), "intensity of bob/surprise/0002.png is 'nan'"),
        (lambda f: f.assign(intensity=["strong", *f["intensity"][1:]]), "'strong', not a number"),
        (lambda f: f.assign(intensity=f["intensity"] * 100), r"intensity of .* expected 0\.\.1"),
        (lambda f: f.assign(AU12=f["AU12"] * 2), r"au12 of .* expected 0\.\.5"),
        (
            lambda f: f.drop(columns=["AU12", "AU45"]),
            "of the 17 columns of the action units, 2 are missing: au12, au45",
        ),
        (lambda f: f.drop(columns=["y67"]), "of the 136 columns of the landmarks, 1 are missing: y67"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "bob/surprise/0002.png has more than one row"),
        (lambda f: f.assign(path="no/" + f["path"]), "none of its 28 rows names a frame"),
        (lambda f: f[["path"]], "no column to join"),
        (lambda f: f.iloc[:0], "has no rows"),
    ],
)
def test_bad_tables(write_cast, change, message):
    root = write_cast()
    change(full_csv(root)).to_csv(root / "a.csv", index=False)
    with pytest.raises(UserError, match=message):
        joined(root, root / "a.csv")


def test_files_that_are_no_csv(write_cast):
    root = write_cast()
    (root / "a.csv").write_bytes(b"\xff\xfe\x00,\x80\n\x81")
    for name in ("a.csv", "missing.csv"):
        with pytest.raises(UserError, match="cannot be read as CSV"):
            joined(root, root / name)


def test_columns_as_openface_names_them(write_cast):
    root = write_cast()
    rows = full_csv(root).drop(columns=["frame", "take", "intensity", "yaw", "pitch", "roll"])
    names = {name.upper(): f" {name.upper()}_r" for name in AU_COLUMNS}
    names |= {name: f" {name[0]}_{int(name[1:])}" for name in LANDMARK_COLUMNS} | {"time_s": " timestamp"}
    presence = {f" {name.upper()}_c": 1 for name in AU_COLUMNS}
    rows.rename(columns=names).copy().assign(**presence).to_csv(root / "a.csv", index=False)
    table = joined(root, root / "a.csv")
    np.testing.assert_allclose(table.frame["au45"], np.linspace(0, 1, len(table)), atol=1e-6)
    assert table.frame["y67"].iloc[0] == 135
    assert set(table.frame["time_s"]) == {np.float32(0.1)}


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda f: f, "all 17 columns of action units are equal"),
        (lambda f: f.assign(**dict.fromkeys([c.upper() for c in AU_COLUMNS], 2.0)), "the same in every row"),
        (lambda f: f.assign(**{c.upper(): np.linspace(0, 1, 28) for c in AU_COLUMNS}), "perhaps they were divided by"),
        (lambda f: f, "the landmarks are the same in every row"),
        (lambda f: f.assign(**{c: f[c] / 200 for c in LANDMARK_COLUMNS}), "perhaps they are shares of the image"),
        (lambda f: f.assign(x05=[-3.0] + [4.0] * 27), "landmarks left of or above the image in 1 of 28 rows"),
        (lambda f: f.assign(x05=[41.0] * 28), "landmarks right of or below the image in 28 of 28 frames looked at"),
    ],
)
def test_values_that_can_hardly_be_meant_are_noted(write_cast, change, note):
    root = write_cast()
    change(full_csv(root)).to_csv(root / "a.csv", index=False)
    assert any("a.csv: suspicious: " in text and note in text for text in joined(root, root / "a.csv").notes)


def test_values_as_they_should_be_raise_no_suspicion(write_cast):
    root = write_cast()
    rng = np.random.default_rng(0)
    units = {name.upper(): rng.uniform(0, 5, 28) for name in AU_COLUMNS}
    points = {name: rng.uniform(0, 40, 28) for name in LANDMARK_COLUMNS}
    full_csv(root).assign(**units, **points).to_csv(root / "a.csv", index=False)
    assert not any("suspicious" in text for text in joined(root, root / "a.csv").notes)


def test_a_column_named_twice(write_cast):
    root = write_cast()
    (root / "a.csv").write_text("path,intensity,intensity\nanna/joy/0001.png,1,0\n")
    with pytest.raises(UserError, match="the column 'intensity' is there twice"):
        joined(root, root / "a.csv")


def with_points(rows, count, form="{axis}{point:02d}", first=0):
    bare = rows.drop(columns=list(LANDMARK_COLUMNS))
    names = [form.format(axis=axis, point=point) for point in range(first, first + count) for axis in "xy"]
    return pd.concat([bare, pd.DataFrame(1.5, index=bare.index, columns=names)], axis=1)


@pytest.mark.parametrize("form", ["{axis}{point:02d}", " {axis}_{point}", "{axis}{point}"])
@pytest.mark.parametrize("count", [5, 51, 67, 98, 106])
def test_landmarks_of_another_count_are_refused(write_cast, count, form):
    root = write_cast()
    with_points(full_csv(root), count, form).to_csv(root / "a.csv", index=False)
    with pytest.raises(UserError, match=rf"landmarks of {count} points.*expected the 68 Multi-PIE points") as error:
        joined(root, root / "a.csv")
    assert "dataset.detector=mediapipe" in str(error.value)


def test_landmarks_numbered_from_one_are_refused_and_unpadded_ones_read(write_cast):
    root = write_cast()
    with_points(full_csv(root), 68, first=1).to_csv(root / "a.csv", index=False)
    with pytest.raises(UserError, match="landmarks of 68 points, numbered 1 to 68"):
        joined(root, root / "a.csv")
    with_points(full_csv(root), 68, "{axis}{point}").to_csv(root / "a.csv", index=False)
    assert (joined(root, root / "a.csv").frame[list(LANDMARK_COLUMNS)] == 1.5).all(axis=None)


def test_the_corners_of_a_box_are_no_landmarks(write_cast):
    root = write_cast()
    rows = full_csv(root)[["path", "intensity"]].assign(x1=3, y1=4, x2=30, y2=40)
    rows.to_csv(root / "a.csv", index=False)
    assert "x01" not in joined(root, root / "a.csv").frame


def test_units_of_0_to_5_are_divided_once_and_it_is_said(write_cast, tmp_path):
    from tests.data.standins import write_emotionet

    root = write_cast()
    full_csv(root).to_csv(root / "a.csv", index=False)
    notes = joined(root, root / "a.csv").notes
    assert "a.csv: action units read as 0..5 (largest 5.00) and divided by 5, once, to 0..1" in notes
    units = write_emotionet(tmp_path / "units")
    named = DatasetConfig(name="emotionet", root=str(units), annotations=str(units / "aus_openface.csv"))
    table = index_dataset(named)
    assert table.frame[list(AU_COLUMNS)].to_numpy().max() == 1.0
    assert sum("divided by 5, once" in note for note in table.notes) == 1
