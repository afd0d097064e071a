from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS
from fexgan_lit.utils.errors import UserError
from tests.data.standins import write_image


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
        (lambda f: f[["path", "yaw"]].rename(columns={"path": "file"}), "the column 'path' is missing; found: file"),
        (
            lambda f: f.assign(intensity=[np.nan] * 28)[["path", "intensity"]],
            "no row has usable values",
        ),
        (lambda f: f.assign(success=0), "the face was lost in 28 of 28 rows"),
        (lambda f: f.assign(confidence=98), r"confidence of bob/surprise/0002.png is 98; expected 0\.\.1"),
        (lambda f: f.assign(success="yes"), "success of bob/surprise/0002.png is 'yes', not a number"),
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
    (root / "latin.csv").write_bytes("path,intensity\nJürgen,1\n".encode("latin1"))
    (root / "wide.csv").write_bytes("path,intensity\n".encode("utf-16-le"))
    (root / "empty.csv").write_bytes(b"\n")
    for name in ("a.csv", "missing.csv", "latin.csv", "wide.csv", "empty.csv"):
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
        (
            lambda f: f.assign(**{c.upper(): np.linspace(0, 1, 28) for c in AU_COLUMNS}),
            "they may already be divided by",
        ),
        (lambda f: f, "the landmarks are the same in every row"),
        (lambda f: f.assign(**{c: f[c] / 200 for c in LANDMARK_COLUMNS}), "they may be fractions of the image size"),
        (lambda f: f.assign(x05=[-3.0] + [4.0] * 27), "landmarks left of or above the image in 1 of 28 rows"),
        (lambda f: f.assign(x05=[41.0] * 28), "landmarks right of or below the image in 28 of 28 sampled frames"),
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
    with pytest.raises(UserError, match="the column 'intensity' occurs twice"):
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
    with pytest.raises(UserError, match=rf"landmarks have {count} points.*expected the 68 Multi-PIE points") as error:
        joined(root, root / "a.csv")
    assert "dataset.detector=mediapipe" in str(error.value)


def test_landmarks_numbered_from_one_are_refused_and_unpadded_ones_read(write_cast):
    root = write_cast()
    with_points(full_csv(root), 68, first=1).to_csv(root / "a.csv", index=False)
    with pytest.raises(UserError, match="the landmarks have 68 points, numbered 1 to 68"):
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("anna/joy/0002.png,0,5", "line 3 has 3 fields, the header 2; fields are separated by commas"),
        ('"anna/joy/0002.png,1', "line 3 opens a quote"),
    ],
)
def test_a_line_that_does_not_fit_its_header_is_refused(write_cast, line, message):
    root = write_cast()
    (root / "a.csv").write_text(f"path,intensity\nanna/joy/0001.png,1\n{line}\nanna/joy/0003.png,1\n")
    with pytest.raises(UserError, match=message):
        joined(root, root / "a.csv")


def test_empty_fields_beyond_the_header_are_none(write_cast, recwarn):
    root = write_cast()
    (root / "a.csv").write_text("path,intensity,\nanna/joy/0001.png,1,,\nanna/joy/0002.png,0.5\n\n")
    assert joined(root, root / "a.csv").frame.set_index("path").loc["anna/joy/0002.png", "intensity"] == 0.5
    assert not [
        warning for warning in recwarn if "pandas" in str(warning.filename) or "fexgan" in str(warning.filename)
    ]


@pytest.mark.parametrize(
    ("text", "encoding", "note"),
    [
        ("path;intensity\n{};0,25\n{};1\n", "utf-8-sig", "semicolons between the fields and decimal commas"),
        ("path\tintensity\n{}\t0.25\n{}\t1\n", "utf-8", "tabs between the fields"),
        ('path,intensity\n{},"0,25"\n{},1\n', "utf-8", "decimal commas"),
        ("path,intensity\n{},0.25\n{},1\n", "utf-16", "UTF-16 text"),
    ],
)
def test_spreadsheets_of_other_countries_are_read_and_it_is_said(write_cast, text, encoding, note):
    root = write_cast()
    (root / "a.csv").write_text(text.format("anna/joy/0001.png", "anna/joy/0002.png"), encoding=encoding)
    table = joined(root, root / "a.csv")
    given = table.frame.set_index("path")["intensity"]
    assert given[["anna/joy/0001.png", "anna/joy/0002.png"]].tolist() == [0.25, 1]
    assert f"a.csv: read with {note}" in table.notes


def test_decimal_commas_beside_points_are_refused(write_cast):
    root = write_cast()
    (root / "a.csv").write_text('path,intensity\nanna/joy/0001.png,"0,25"\nanna/joy/0002.png,0.5\n')
    with pytest.raises(UserError, match=r"is '0,25', not a number written with a decimal point"):
        joined(root, root / "a.csv")


def test_lost_faces_and_missing_numbers_are_left_out_in_any_layout(write_cast):
    root = write_cast()
    rows = full_csv(root).sort_values("path", ignore_index=True).astype({"AU12": object, "x05": object})
    rows = rows.copy().assign(success=1, confidence=0.9)
    rows.loc[0, ["success", "confidence"]] = 0, 0
    rows.loc[1, "confidence"] = 0.49
    rows.loc[2, "AU12"] = "-nan(ind)"
    rows.loc[3, "x05"] = np.inf
    rows.to_csv(root / "a.csv", index=False)
    table = joined(root, root / "a.csv")
    kept = table.frame[["au12", "au45", "x05", "y67", "intensity", "yaw"]].notna().to_numpy(int).tolist()
    assert kept[:5] == [[0] * 6, [0] * 6, [0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1], [1] * 6]
    assert table.frame["frame"].notna().all()  # when a row was taken is known nevertheless
    said = " | ".join(table.notes)
    assert "the face is lost in 2 of 28 rows, left out (1 with success 0, 1 with confidence below 0.5)" in said
    assert f"1 rows lack a number in action units, which is left out: {table.paths[2]}" in said
    assert f"1 rows lack a number in landmarks, which is left out: {table.paths[3]}" in said
    assert "joined to 28 of 28 frames" in said


def test_disfas_names_of_action_units_are_read_and_other_units_named(write_cast):
    root = write_cast()
    rows = full_csv(root)[["path", *(name.upper() for name in AU_COLUMNS)]]
    rows.columns = ["path", *(f"AU_{int(name[2:])}" for name in AU_COLUMNS)]
    rows.assign(AU_11=1, AU28_c=0).to_csv(root / "a.csv", index=False)
    table = joined(root, root / "a.csv")
    np.testing.assert_allclose(table.frame["au04"], np.linspace(0, 1, 28), atol=1e-6)
    assert "a.csv: columns besides the 17 action units are not used: au11" in table.notes


def sequence(count, **columns):
    """As FeatureExtraction writes it; the intensity tells which row came to which picture."""
    rows = {"frame": range(1, count + 1), "face_id": 0, "timestamp": 0.0, "intensity": np.arange(count) / count}
    return pd.DataFrame({**rows, **columns})


def write_flat(tmp_path, count=12):
    """anna_0.png, anna_1.png, ..., whose order by name is 0, 1, 10, 11, 2, ..."""
    for n in range(count):
        write_image(tmp_path / f"set/anna_{('joy', 'fear')[n % 2]}_{n}.png")
    return tmp_path / "set"


def joined_flat(root, csv):
    pattern = "{identity}_{affect}_{frame}.*"
    return index_dataset(DatasetConfig(name="folder", root=str(root), pattern=pattern, annotations=str(csv)))


def test_rows_that_count_a_folder_are_joined_in_the_order_of_its_names(tmp_path):
    root = write_flat(tmp_path)
    sequence(12).iloc[::-1].to_csv(tmp_path / "a.csv", index=False)
    table = joined_flat(root, tmp_path / "a.csv")
    in_order = sorted(path.name for path in root.iterdir())
    given = dict(zip(table.paths, table.intensity * 12, strict=True))
    assert [round(given[name]) for name in in_order] == list(range(12))
    assert any("numbered by 'frame' and were matched to the 12 images" in note for note in table.notes)


def test_rows_that_count_are_refused_where_it_cannot_be_told_what(tmp_path, write_cast):
    sequence(12).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UserError, match="does not name images, and the images are in 14 folders"):
        joined(write_cast(), tmp_path / "a.csv")
    with pytest.raises(UserError, match="it runs from 1 to 12, but there are 11 images"):
        joined_flat(write_flat(tmp_path / "other", 11), tmp_path / "a.csv")


def test_a_folder_of_tables_named_after_their_pictures_is_one_table(write_cast, tmp_path):
    root = write_cast()
    for n, (path, row) in enumerate(zip(plain(root).paths, full_csv(root)[::-1].to_dict("records"), strict=True)):
        file = (tmp_path / "processed" / path).with_suffix(".csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {name: value for name, value in row.items() if name not in ("path", "take", "frame", "time_s")}
        pd.DataFrame([{"face": 0, "confidence": 0.98, **row}] * (n > 0)).to_csv(file, index=False, header=True)
        if n == 0:
            file.write_text("face, confidence," + ",".join(row) + "\n")  # nobody was found
    table = joined(root, tmp_path / "processed")
    np.testing.assert_allclose(table.intensity[1:], np.linspace(0, 1, 28)[1:], atol=1e-6)
    assert f"processed: joined to 27 of 28 frames; 1 have no row: {table.paths[0]}" in table.notes


def test_folders_that_are_no_table(write_cast, tmp_path):
    root, folder = write_cast(), tmp_path / "tables"
    folder.mkdir()
    for text, message in (
        (None, "there is no CSV in this folder"),
        ("frame,timestamp,intensity\n1,0,1\n", "the 2 tables number frames"),
        ("pose_Rx,intensity\n1,1\n", "b.csv has other columns than a.csv"),
    ):
        for name in "ab" if text else "":
            (folder / f"{name}.csv").write_text(text.replace("pose_Rx", "pose_Rx" if name == "a" else "pose_Ry"))
        with pytest.raises(UserError, match=message):
            joined(root, folder)
    (folder / "0_exp.npy").write_bytes(b"")
    for name in "ab":
        (folder / f"{name}.csv").unlink()
    with pytest.raises(UserError, match=r"AffectNet(?s:.*)dataset\.manifest=labels\.csv"):
        joined(root, folder)
