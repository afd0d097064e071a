"""CK+, Oulu-CASIA, RaFD and MUG, each from a small stand-in in its form."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fexgan_lit.expression import ACTION_UNITS, AFFECTS, KNOWN_AFFECTS
from fexgan_lit.utils.errors import UserError
from tests.data.standins import (
    index,
    reasons,
    write_ckplus,
    write_image,
    write_mug,
    write_oulu,
    write_rafd,
    write_text,
)


def of_clip(table, clip):
    return table.frame[table.frame["clip"] == clip].sort_values("frame")


def test_ckplus_uses_both_ends_of_labelled_sequences(tmp_path):
    table = index(write_ckplus(tmp_path), "ckplus", sequence_ends=3)
    assert table.affects == KNOWN_AFFECTS
    assert table.identities == ("S005", "S010")
    assert len(table) == 2 * 7 * 6
    joy = of_clip(table, "S005/005")
    assert joy["affect"].tolist() == ["neutral"] * 3 + ["joy"] * 3
    assert joy["intensity"].tolist() == [0, 0, 0, 1, 1, 1]
    assert joy["frame"].tolist() == [1, 2, 3, 6, 7, 8]
    assert set(joy["take"]) == {5}
    assert joy["path"].iloc[0] == "cohn-kanade-images/S005/005/S005_005_00000001.png"
    assert any("84 of 112 frames" in note for note in table.notes)


@pytest.mark.parametrize("number", range(1, 8))
def test_ckplus_numbers_of_the_emotions(tmp_path, number):
    table = index(write_ckplus(tmp_path), "ckplus", sequence_ends=1)
    expected = ("anger", "contempt", "disgust", "fear", "joy", "sadness", "surprise")[number - 1]
    assert of_clip(table, f"S010/{number:03d}")["affect"].tolist() == ["neutral", expected]


def test_ckplus_without_ends_keeps_every_frame_with_rising_intensity(tmp_path):
    joy = of_clip(index(write_ckplus(tmp_path, length=5), "ckplus"), "S005/005")
    assert joy["affect"].tolist() == ["neutral"] + ["joy"] * 4
    np.testing.assert_allclose(joy["intensity"], [0, 0.25, 0.5, 0.75, 1])


def test_ckplus_short_sequences_are_shared_half_and_half(tmp_path):
    root = write_ckplus(tmp_path, length=5)
    assert of_clip(index(root, "ckplus", sequence_ends=3), "S005/001")["frame"].tolist() == [1, 2, 4, 5]
    for n in range(2, 6):
        (root / f"cohn-kanade-images/S005/001/S005_001_{n:08d}.png").unlink()
    table = index(root, "ckplus", sequence_ends=3)
    assert reasons(table)["cohn-kanade-images/S005/001/S005_001_00000001.png"] == "sequence of a single frame"
    assert of_clip(table, "S005/001").empty


def test_ckplus_unlabelled_and_wrong_labels_are_named(tmp_path):
    root = write_ckplus(tmp_path)
    emotion = root / "Emotion/S005"
    write_text(emotion / "001/S005_001_00000008_emotion.txt", "9.0\n")
    write_text(emotion / "002/S005_002_00000008_emotion.txt", "happy\n")
    write_text(emotion / "003/S005_003_00000007_emotion.txt", "4.0\n")
    (emotion / "004/S005_004_00000008_emotion.txt").unlink()
    table = index(root, "ckplus", sequence_ends=3)
    folder = "cohn-kanade-images/S005"
    assert {path: reason for path, reason in reasons(table).items() if "S005" in path} == {
        f"{folder}/001": "emotion label is not one of 0 to 7",
        f"{folder}/002": "emotion label is not a number",
        f"{folder}/003": "sequence with several emotion labels that differ",
        f"{folder}/004": "sequence without an emotion label",
        f"{folder}/009": "sequence without an emotion label",
    }
    assert any("6 sequences (48 frames) have no label" in note for note in table.notes)
    assert of_clip(table, "S005/001").empty


def test_ckplus_names_that_break_the_form_are_dropped(tmp_path):
    root = write_ckplus(tmp_path)
    stray = "cohn-kanade-images/S005/001/S010_001_00000001.png"
    write_image(root / stray)
    assert reasons(index(root, "ckplus", sequence_ends=3))[stray] == "name does not fit the pattern"


def test_ckplus_landmarks_are_joined_and_gaps_counted(tmp_path):
    root = write_ckplus(tmp_path)
    lines = "".join(f"   {point:.7e}   {point + 0.5:.7e}\n" for point in range(68))
    write_text(root / "Landmarks/S005/001/S005_001_00000008_landmarks.txt", lines)
    write_text(root / "Landmarks/S005/001/S005_001_00000007_landmarks.txt", lines[:100])
    table = index(root, "ckplus", sequence_ends=3)
    frames = of_clip(table, "S005/001").set_index("frame")
    assert frames.loc[8, ["x00", "y00", "x67", "y67"]].tolist() == [0, 0.5, 67, 67.5]
    assert np.isnan(frames.loc[7, "x00"])
    assert any(f"landmarks of 1 of {len(table)} frames" in note for note in table.notes)
    assert any("1 files do not have 68 points" in note for note in table.notes)


def test_ckplus_facs_describes_the_peak_only(tmp_path):
    root = write_ckplus(tmp_path)
    write_text(root / "FACS/S005/005/S005_005_00000008_facs.txt", "  6.0e+00  4.0e+00\n 1.2e+01 0.0\n 2.7e+01 3.0\n")
    write_text(root / "FACS/S005/001/S005_001_00000008_facs.txt", "not coded\n")
    table = index(root, "ckplus", sequence_ends=3)
    joy = of_clip(table, "S005/005").set_index("frame")
    units = joy[[f"au{unit:02d}" for unit in ACTION_UNITS]]
    assert units.loc[8, "au06"] == pytest.approx(0.8)
    assert units.loc[8, "au12"] == 0.5  # seen, not graded
    assert units.loc[8].sum() == pytest.approx(1.3)
    assert units.loc[7].isna().all()
    assert (units.loc[:3] == 0).all(axis=None)
    assert of_clip(table, "S005/001").set_index("frame").loc[8, "au12"] != 0
    text = " ".join(table.notes)
    assert "1 units were not graded" in text
    assert "AU27" in text
    assert "S005_001_00000008_facs.txt" in text


def test_ckplus_without_its_labels_or_at_the_wrong_level(tmp_path):
    root = write_ckplus(tmp_path / "CK+")
    for wrong in (tmp_path, root / "cohn-kanade-images"):
        with pytest.raises(UserError, match=re.escape(f"Use dataset.root={root}\n")):
            index(wrong, "ckplus")
    (root / "Emotion").rename(root / "Labels")
    with pytest.raises(UserError, match="folder Emotion/ with the labels"):
        index(root, "ckplus")


@pytest.mark.parametrize("top", ["OriginalImg", "Oulu_CASIA_NIR_VIS", ""])
def test_oulu_casia(tmp_path, top):
    only = {"spectrum": ["VL"], "light": ["strong"]}
    table = index(write_oulu(tmp_path, top), "oulu_casia", only=only)
    assert table.affects == AFFECTS
    assert table.identities == ("P001", "P002")
    assert len(table) == 2 * 6 * 5
    assert set(table.frame["spectrum"]) == {"VL"}
    assert set(table.frame["light"]) == {"Strong"}
    clip = table.frame[table.frame["path"].str.contains("P002/Happiness")].sort_values("frame")
    assert clip["affect"].tolist() == ["neutral"] + ["joy"] * 4
    np.testing.assert_allclose(clip["time_s"], np.arange(5) / 25, atol=1e-6)
    np.testing.assert_allclose(clip["intensity"], np.arange(5) / 4)
    takes = table.frame.groupby("identity")[["clip", "take"]].nunique()
    assert (takes == 6).all(axis=None)
    assert any("60 of 180 frames" in note for note in table.notes)
    assert table.drops == ()


def test_oulu_casia_by_other_light_and_both_spectra(tmp_path):
    root = write_oulu(tmp_path)
    table = index(root, "oulu_casia", only={"spectrum": ["NI"]}, sequence_ends=2)
    assert set(table.frame["spectrum"]) == {"NI"}
    clip = table.frame[table.frame["path"].str.contains("P002/Fear")].sort_values("frame")
    assert clip["affect"].tolist() == ["neutral"] * 2 + ["fear"] * 2
    assert clip["frame"].tolist() == [0, 1, 3, 4]
    assert len(index(root, "oulu_casia")) == 180
    with pytest.raises(UserError, match=r"no frame has light weak; found: Dark, Strong"):
        index(root, "oulu_casia", only={"light": ["Weak"]})
    with pytest.raises(UserError, match=r"no frame has light dark; found: Strong\."):
        index(root, "oulu_casia", only={"spectrum": ["NI"], "light": ["Dark"]})


@pytest.mark.parametrize("folder", ["", "{word}", "train/{word}"])
def test_rafd_reads_the_file_name_at_any_depth(tmp_path, folder):
    table = index(write_rafd(tmp_path, folder), "rafd", only={"camera": [90]})
    assert table.affects == KNOWN_AFFECTS
    assert table.identities == ("28", "31")
    assert len(table) == 2 * 8 * 2
    row = table.frame[table.frame["path"].str.endswith("Rafd090_28_Caucasian_male_contemptuous_left.jpg")].iloc[0]
    labels = ["affect", "camera", "gaze", "gender", "ethnicity"]
    assert row[labels].tolist() == ["contempt", 90, "left", "male", "Caucasian"]
    assert "key" not in table.frame


def test_rafd_folders_do_not_overrule_names_and_repeats_are_dropped(tmp_path):
    root = write_rafd(tmp_path)
    name = "Rafd090_28_Caucasian_male_happy_frontal.jpg"
    write_image(root / "sad" / name)
    write_image(root / "portrait.jpg")
    table = index(root, "rafd")
    assert reasons(table)[f"sad/{name}"] == "second file for one frame, in another folder; the first is used"
    assert reasons(table)["portrait.jpg"] == "name does not fit the pattern"
    assert len(table) == 64
    with pytest.raises(UserError, match=r"camera 180; found: 45, 90\."):
        index(root, "rafd", only={"camera": [180]})
    with pytest.raises(UserError, match=r"no column 'angle' here; expected one of .*camera"):
        index(root, "rafd", only={"angle": [90]})
    assert len(index(root, "rafd", only={"camera": ["090"], "gaze": ["LEFT"]})) == 16


def test_mug(tmp_path):
    table = index(write_mug(tmp_path), "mug")
    assert table.affects == AFFECTS
    assert table.identities == ("001", "002")
    assert len(table) == 2 * 7 * 2 * 5
    clip = of_clip(table, "002/happiness/take001")
    assert set(clip["affect"]) == {"joy"}
    assert set(clip["take"]) == {1}
    assert clip["intensity"].tolist() == [0, 0.5, 1, 0.5, 0]
    assert of_clip(table, "002/neutral/take001")["intensity"].tolist() == [0] * 5
    assert "time_s" not in table.frame


def test_mug_ends_are_those_of_the_way_to_the_apex(tmp_path):
    table = index(write_mug(tmp_path, length=9), "mug", sequence_ends=2)
    clip = of_clip(table, "001/fear/take000")
    assert clip["frame"].tolist() == [0, 1, 3, 4]
    assert clip["affect"].tolist() == ["neutral"] * 2 + ["fear"] * 2
    assert set(of_clip(table, "001/neutral/take000")["affect"]) == {"neutral"}


def test_mug_root_inside_or_above(tmp_path):
    root = write_mug(tmp_path / "MUG")
    assert len(index(root / "subjects3", "mug")) == len(index(root, "mug"))
    with pytest.raises(UserError, match=re.escape(f"Use dataset.root={root}\n")):
        index(tmp_path, "mug")
    stray = root / "subjects3/001/fear/best/img_0001.jpg"
    write_image(stray)
    assert reasons(index(root, "mug"))["subjects3/001/fear/best/img_0001.jpg"] == "name does not fit the pattern"


WRITERS = {"ckplus": write_ckplus, "oulu_casia": write_oulu, "rafd": write_rafd, "mug": write_mug}


@pytest.mark.parametrize("name", WRITERS)
def test_each_set_is_recognised_under_another_name(tmp_path, name):
    root = WRITERS[name](tmp_path)
    for other in {"ferg", *WRITERS} - {name}:
        with pytest.raises(UserError, match=f"Use dataset={name} dataset.root="):
            index(root, other)


@pytest.mark.parametrize("name", [*WRITERS, "emotionet"])
def test_each_set_says_where_it_comes_from(tmp_path, name):
    with pytest.raises(UserError, match=rf"Expected folder form: <root>(?s:.*)dataset={name} dataset\.root=DIR"):
        index(tmp_path / "nowhere", name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="an empty folder"):
        index(tmp_path / "empty", name)
