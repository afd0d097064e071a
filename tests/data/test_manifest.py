"""A CSV in place of the names of files."""

from __future__ import annotations

import unicodedata

import pandas as pd
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.utils.errors import UserError
from tests.data.standins import index, reasons, write_emotionet, write_image


def rows_of(root, prefix=""):
    """Labels that contradict the names of the files, so that these cannot be what was read."""
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    columns = {"path": [prefix + file for file in files], "identity": [f"p{i % 2}" for i in range(len(files))]}
    return pd.DataFrame({**columns, "affect": [("joy", "fear")[i // 2 % 2] for i in range(len(files))]})


def read(root, rows, place=None, name="folder", **options):
    csv = place or root / "manifest.csv"
    rows.to_csv(csv, index=False)
    return index_dataset(
        DatasetConfig(name=name, root=None if root is None else str(root), manifest=str(csv), **options)
    )


def test_labels_come_from_the_csv(write_cast):
    root = write_cast()
    rows = rows_of(root).assign(take=3, frame=range(28), time_s=0.5, intensity=0.25, camera=90)
    table = read(root, rows.iloc[::-1])
    assert table.paths == rows["path"].tolist()
    assert table.identities == ("p0", "p1")
    assert table.affects == ("fear", "joy")
    assert table.frame["affect"].tolist() == rows["affect"].tolist()
    assert table.frame["frame"].tolist() == list(range(28))
    assert table.frame.loc[0, ["take", "time_s", "intensity"]].tolist() == [3, 0.5, 0.25]
    assert table.drops == ()
    assert len(read(root, rows, only={"camera": [90], "identity": ["p1"]})) == 14
    assert any("28 of 28 rows name a file" in note for note in table.notes)


@pytest.mark.parametrize(("place", "prefix"), [("m.csv", "set/"), ("elsewhere/m.csv", ""), ("set/anna/m.csv", "")])
def test_paths_count_from_the_root_or_the_file(write_cast, tmp_path, place, prefix):
    root = write_cast()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    assert len(read(root, rows_of(root, prefix), tmp_path / place)) == 28


def test_without_a_root_the_files_lie_beside_the_manifest(write_cast):
    root = write_cast()
    rows_of(root).to_csv(root / "m.csv", index=False)
    table = index_dataset(DatasetConfig(name="folder", manifest=str(root / "m.csv")))
    assert (len(table), table.root) == (28, root)


def test_absolute_paths_inside_the_root_do(write_cast):
    root = write_cast()
    assert read(root, rows_of(root, f"{root.resolve()}/")).paths == rows_of(root)["path"].tolist()


def test_names_such_as_na_and_001_stay_what_they_are(write_cast):
    root = write_cast()
    rows = rows_of(root)
    rows["identity"] = rows["identity"].map({"p0": "NA", "p1": "001"})
    assert read(root, rows).identities == ("001", "NA")


def test_path_tricks_are_refused(write_cast, tmp_path):
    root = write_cast()
    write_image(tmp_path / "secret/1.png")
    (root / "way").symlink_to(tmp_path / "secret")
    (root / "anna/out.png").symlink_to(tmp_path / "secret/1.png")
    (root / "anna/in.png").symlink_to(root / "anna/joy/0001.png")
    (root / "anna/nothing.png").symlink_to(root / "gone.png")
    tricks = ["../secret/1.png", "anna/../../secret/1.png", str(tmp_path / "secret/1.png"), "C:\\secret\\1.png",
              "..\\secret\\1.png", "way/1.png", "anna/out.png", "anna/in.png", "anna/nothing.png"]  # fmt: skip
    extra = pd.DataFrame({"path": tricks, "identity": "p0", "affect": "joy"})
    base = rows_of(root)
    base = base[~base["path"].isin(["anna/out.png", "anna/in.png", "anna/nothing.png", "way/1.png"])]
    table = read(root, pd.concat([base, extra]))
    assert "anna/in.png" in table.paths
    assert len(table) == 28 + 1
    outside, link = "path that leaves the root folder", "link that leaves the root folder"
    assert reasons(table) == {
        "../secret/1.png": outside,
        "anna/../../secret/1.png": outside,
        str(tmp_path / "secret/1.png"): outside,
        "C:\\secret\\1.png": outside,
        "..\\secret\\1.png": outside,
        "way/1.png": link,
        "anna/out.png": link,
        "anna/nothing.png": "link to nothing",
    }


def test_rows_that_cannot_be_used_are_drops(write_cast):
    root = write_cast()
    (root / "notes.txt").write_text("x")
    base = rows_of(root)
    first = base.iloc[0]
    other = {"joy": "fear", "fear": "joy"}[first["affect"]]
    extra = pd.DataFrame(
        [
            ("anna/joy/0099.png", "p0", "joy"),
            ("nobody/0001.png", "p0", "joy"),
            ("notes.txt", "p0", "joy"),
            ("anna/joy", "p0", "joy"),
            ("", "p0", "joy"),
            (first["path"], first["identity"], first["affect"]),
        ],
        columns=["path", "identity", "affect"],
    )
    bare = base.iloc[5].to_frame().T.assign(identity="")
    table = read(root, pd.concat([base.drop(index=5), bare, extra]))
    assert len(table) == 27
    assert reasons(table) == {
        base["path"][5]: "row without identity or affect",
        "anna/joy/0099.png": "no such file",
        "nobody/0001.png": "no such file",
        "notes.txt": "not an image by its extension",
        "anna/joy": "not a file",
        "(row without a path)": "no such file",
        first["path"]: "second row for the same file",
    }
    contradiction = extra.iloc[[5]].assign(affect=other)
    table = read(root, pd.concat([base, contradiction]))
    assert reasons(table) == {first["path"]: "second row for the same file, with other labels"}
    assert table.frame["affect"][0] == first["affect"]


def test_unicode_forms_of_the_disk_and_the_file_need_not_agree(tmp_path):
    for affect in ("joy", "fear"):
        write_image(tmp_path / unicodedata.normalize("NFD", f"Zoë/é {affect}.png"))
    paths = [unicodedata.normalize("NFC", f"Zoë/é {affect}.png") for affect in ("joy", "fear")]
    table = read(tmp_path, pd.DataFrame({"path": paths, "identity": "z", "affect": ["joy", "fear"]}))
    assert all((tmp_path / path).is_file() for path in table.paths)
    assert len(table) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.rename(columns={"affect": "emotion"}),
            "the columns affect are missing.*found: path, identity, em",
        ),
        (lambda f: f.iloc[:0], "has no rows"),
        (
            lambda f: f.assign(path="x/" + f["path"]),
            r"none of its 28 rows can be used: x/anna/anger/0001.png \(no such",
        ),
        (lambda f: f.assign(intensity=2.0), r"intensity of anna/anger/0001.png is 2; expected 0\.\.1"),
        (lambda f: f.assign(intensity=[None] + [0.1] * 27), "intensity of anna/anger/0001.png is 'nan', not a number"),
        (
            lambda f: f.assign(frame=["first"] + ["1"] * 27),
            "frame of anna/anger/0001.png is 'first', not a whole number",
        ),
        (lambda f: f.assign(take=1.5), "take of anna/anger/0001.png is '1.5', not a whole number"),
        (lambda f: f.assign(affect="happyish"), "no identity has frames of two affects"),
    ],
)
def test_bad_manifests(write_cast, change, message):
    root = write_cast()
    with pytest.raises(UserError, match=message):
        read(root, change(rows_of(root)))


def test_files_that_are_no_csv(write_cast):
    root = write_cast()
    (root / "bytes.csv").write_bytes(b"\xff\xfe\x00,\x80\n\x81")
    (root / "twice.csv").write_text("path,identity,identity,affect\na,b,c,d\n")
    (root / "empty.csv").write_text("")
    for name, message in (("bytes", "cannot be read"), ("gone", "cannot be read"), ("empty", "cannot be read"),
                          ("twice", "column 'identity' occurs twice")):  # fmt: skip
        with pytest.raises(UserError, match=rf"dataset\.manifest=.*{name}\.csv.*{message}"):
            index(root, "folder", manifest=str(root / f"{name}.csv"))


def test_an_unquoted_comma_is_refused_and_semicolons_are_said(write_cast):
    root = write_cast()
    (root / "m.csv").write_text("path,identity,affect\nanna/joy/0001.png,Doe, Ann,joy\n")
    with pytest.raises(UserError, match="line 2 has 4 fields, the header 3"):
        index(root, "folder", manifest=str(root / "m.csv"))
    lines = [f"anna/{word}/0001.png;Doe, Ann;{word};0,5" for word in ("joy", "fear")]
    (root / "m.csv").write_text("\n".join(["path;identity;affect;intensity", *lines]))
    table = index(root, "folder", manifest=str(root / "m.csv"))
    assert table.identities == ("Doe, Ann",)
    assert table.intensity.tolist() == [0.5, 0.5]
    assert table.notes[0] == "m.csv: read with semicolons between the fields and decimal commas"


def test_unknown_affects_of_a_named_set_are_refused(write_cast):
    root = write_cast()
    rows = rows_of(root)
    rows.loc[3, "affect"] = "hapy"
    with pytest.raises(UserError, match="Did you mean 'joy'"):
        read(root, rows, name="mhfed", affects=["joy", "fear"])
    assert len(read(root, rows, name="mhfed", affects=["joy", "fear"], aliases={"hapy": "joy"})) == 28


def test_annotations_join_and_units_are_left_to_them(write_cast):
    root = write_cast()
    rows = rows_of(root).assign(yaw=5.0, intensity=0.5)
    table = read(root, rows, annotations=str(root / "manifest.csv"))
    assert set(table.frame["yaw"]) == {5.0}
    assert not any("are only read with dataset.annotations" in note for note in table.notes)
    bare = read(root, rows)
    assert "yaw" not in bare.frame
    assert any("dataset.annotations=" in note for note in bare.notes)


def test_a_manifest_gives_affects_to_a_set_without(tmp_path):
    root = write_emotionet(tmp_path)
    paths = [f"imgs/N_{n:04d}.jpg" for n in range(4)]
    rows = pd.DataFrame({"path": paths, "identity": "x", "affect": ["joy", "fear"] * 2})
    assert read(root, rows, name="emotionet").affects == ("fear", "joy")


def test_ends_of_takes(write_cast):
    root = write_cast(identities=["anna"], affects=["joy", "fear"], count=6)
    rows = rows_of(root).assign(identity="p", affect=["fear"] * 6 + ["joy"] * 6, take=1, frame=[*range(6), *range(6)])
    assert read(root, rows, sequence_ends=2).frame["frame"].tolist() == [0, 1, 4, 5] * 2
