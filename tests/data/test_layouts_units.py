"""EmotionNet-style sets: loose images and a table of action units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fexgan_lit.data.datasets.labels import keep_pairable
from fexgan_lit.expression import AU_COLUMNS
from fexgan_lit.utils.errors import UserError
from tests.data.standins import index, reasons, unit_rows, write_emotionet, write_image


def test_images_and_openface_columns(tmp_path):
    table = index(write_emotionet(tmp_path), "emotionet")
    assert table.affects == ("unlabelled",)
    assert table.paths == [f"imgs/N_{n:04d}.jpg" for n in range(6)]
    assert table.identities == tuple(f"N_{n:04d}" for n in range(6))
    expected = (np.arange(6)[:, None] + np.arange(17)) % 6 / 5
    np.testing.assert_allclose(table.frame[list(AU_COLUMNS)], expected, atol=1e-6)
    assert table.drops == ()


@pytest.mark.parametrize("column", ["path", "filename", "input", "frame"])
@pytest.mark.parametrize("form", ["imgs/{}.jpg", "{}.jpg", "{}", "/elsewhere/imgs/{}.jpg"])
def test_ways_to_name_the_image(tmp_path, column, form):
    root = write_emotionet(tmp_path)
    names = [form.format(f"N_{n:04d}") for n in range(6)]
    rows = unit_rows(names, "AU{:02d}").rename(columns={"filename": column})
    rows.iloc[::-1].to_csv(root / "aus.csv", index=False)
    table = index(root, "emotionet")
    assert table.frame["au01"].tolist() == pytest.approx(np.arange(6) / 5)


def test_numbers_as_names_keep_their_zeros(tmp_path):
    for n in range(3):
        write_image(tmp_path / f"imgs/{n:04d}.png")
    unit_rows([f"{n:04d}" for n in range(3)]).rename(columns={"filename": "frame"}).to_csv(tmp_path / "aus.csv")
    assert len(index(tmp_path, "emotionet")) == 3


def test_part_identity_and_a_table_of_ones_own(tmp_path):
    root = write_emotionet(tmp_path / "set")
    rows = unit_rows([f"N_{n:04d}" for n in range(6)]).assign(identity=["a", "a", "b", "b", "c", "c"])
    rows.to_csv(tmp_path / "own.csv", index=False)
    (root / "train_ids.csv").write_text("N_0000.jpg\nN_0001.jpg\nN_0002.jpg\nN_0099.jpg\n")
    (root / "test_ids.csv").write_text("N_0002\nN_0003\n")
    table = index(root, "emotionet", annotations=str(tmp_path / "own.csv"))
    assert table.identities == ("a", "b", "c")
    assert table.frame["part"].tolist() == ["train", "train", "test", "test", "none", "none"]
    text = " ".join(table.notes)
    assert "train_ids.csv: 1 names match no image, such as N_0099" in text
    assert "1 names are in train_ids.csv and in test_ids.csv, such as N_0002" in text
    assert len(index(root, "emotionet", only={"part": ["train"]})) == 2


def test_failures_of_openface_and_images_without_rows_are_drops(tmp_path):
    root = write_emotionet(tmp_path)
    rows = unit_rows([f"N_{n:04d}" for n in range(5)] + ["N_0077"])
    rows.loc[1, " success"] = 0
    rows = rows.astype({" AU12_r": object})
    rows.loc[2, " AU12_r"] = "nan"
    rows.loc[3, " AU12_r"] = None
    rows.to_csv(root / "aus_openface.csv", index=False)
    table = index(root, "emotionet")
    assert table.paths == ["imgs/N_0000.jpg", "imgs/N_0004.jpg"]
    assert reasons(table) == {
        "imgs/N_0001.jpg": "aus_openface.csv has no action units for it",
        "imgs/N_0002.jpg": "aus_openface.csv has no action units for it",
        "imgs/N_0003.jpg": "aus_openface.csv has no action units for it",
        "imgs/N_0005.jpg": "image without a row in aus_openface.csv",
        "N_0077": "row of aus_openface.csv without a frame",
    }
    assert table.identities == ("N_0000", "N_0004")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns=[" AU12_r"]), "of the 17 action units, 1 are missing: AU12"),
        (lambda rows: rows.drop(columns=["filename"]), "no column names the image; expected one of path, filename"),
        (lambda rows: rows.assign(**{" AU45_r": 7}), r"au45 of imgs/N_0000\.jpg is 7; expected 0\.\.5"),
        (lambda rows: rows.assign(filename="other"), "none of its 6 rows has action units of an image"),
        (lambda rows: pd.concat([rows, rows[:1]]), r"imgs/N_0000\.jpg has more than one row"),
    ],
)
def test_bad_tables(tmp_path, change, message):
    root = write_emotionet(tmp_path)
    change(unit_rows([f"N_{n:04d}" for n in range(6)])).to_csv(root / "aus_openface.csv", index=False)
    with pytest.raises(UserError, match=message):
        index(root, "emotionet")


def test_a_pickle_is_never_opened(tmp_path):
    root = write_emotionet(tmp_path)
    (root / "aus_openface.csv").unlink()
    # Opened by pickle, this would leave a file behind.
    (root / "aus_openface.pkl").write_bytes(b"cos\nsystem\n(S'touch %s/opened'\ntR." % str(tmp_path).encode())
    with pytest.raises(UserError, match=r"aus_openface\.pkl is a pickle(?s:.*)to_csv\('aus\.csv'\)"):
        index(root, "emotionet")
    assert not (tmp_path / "opened").exists()


def test_missing_table(tmp_path):
    root = write_emotionet(tmp_path)
    (root / "aus_openface.csv").unlink()
    with pytest.raises(UserError, match=r"the table of action units is missing; expected aus\.csv or"):
        index(root, "emotionet")


def write_counted(root, count=12):
    """0.jpg to 11.jpg and a table that counts them from 1 in the order of their names; AU01 is the number by 5."""
    for n in range(count):
        write_image(root / f"imgs/{n}.jpg")
    in_order = sorted(range(count), key=str)
    rows = unit_rows([str(n) for n in in_order]).drop(columns="filename")
    return rows.assign(**{" AU01_r": np.array(in_order) / 5, "frame": range(1, count + 1)})


@pytest.mark.parametrize("beside", ["timestamp", "face_id"])
def test_frames_that_are_counted_are_joined_in_the_order_of_the_names(tmp_path, beside):
    write_counted(tmp_path).assign(**{beside: 0}).to_csv(tmp_path / "aus.csv", index=False)
    table = index(tmp_path, "emotionet")
    assert (table.frame["au01"] * 25).round().tolist() == [int(path[5:-4]) for path in table.paths]
    assert len(table) == 12
    assert "(1 is imgs/0.jpg, 2 is imgs/1.jpg, 3 is imgs/10.jpg)" in " ".join(table.notes)


@pytest.mark.parametrize("column", ["frame", "id"])
def test_a_plain_count_that_may_be_names_is_refused(tmp_path, column):
    rows = write_counted(tmp_path).rename(columns={"frame": column})
    rows.to_csv(tmp_path / "aus.csv", index=False)
    with pytest.raises(UserError, match=rf"{column} 1 may be the image imgs/1\.jpg by its name, or imgs/0\.jpg by"):
        index(tmp_path, "emotionet")
    rows.rename(columns={column: "image"}).to_csv(tmp_path / "aus.csv", index=False)
    assert "joined to 11 of 12 frames; 1 have no row: imgs/0.jpg" in " ".join(index(tmp_path, "emotionet").notes)


def test_a_table_an_image_where_openface_leaves_it(tmp_path):
    root = write_emotionet(tmp_path)
    (root / "aus_openface.csv").unlink()
    (root / "processed").mkdir()
    rows = unit_rows([f"N_{n:04d}" for n in range(6)]).rename(columns={" success": "face"}).assign(face=0)
    for n in range(5):
        rows.iloc[[n]].drop(columns="filename").to_csv(root / f"processed/N_{n:04d}.csv", index=False)
    table = index(root, "emotionet")
    assert table.frame["au01"].tolist() == pytest.approx(np.arange(5) / 5)
    assert reasons(table) == {"imgs/N_0005.jpg": "image without a row in processed"}


@pytest.mark.parametrize("column", ["face", "face_id"])
def test_two_faces_in_a_picture_are_named_unless_one_was_lost(tmp_path, column):
    root = write_emotionet(tmp_path)
    rows = unit_rows([f"N_{n:04d}" for n in range(6)]).assign(**{column: 0})
    both = pd.concat([rows, rows[:1].assign(**{column: 1})])
    both.to_csv(root / "aus_openface.csv", index=False)
    with pytest.raises(UserError, match=rf"N_0000\.jpg has more than one row .* column '{column}' numbers the faces"):
        index(root, "emotionet")
    both.assign(**{" confidence": [0.98] * 6 + [0.1]}).to_csv(root / "aus_openface.csv", index=False)
    assert len(index(root, "emotionet")) == 6


def test_pairs_of_affects_are_refused_with_the_way_on(tmp_path):
    with pytest.raises(UserError, match=r"action units but no affects(?s:.*)dataset\.manifest"):
        keep_pairable(index(write_emotionet(tmp_path), "emotionet"))
