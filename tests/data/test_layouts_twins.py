"""Two files for one frame, two spellings of a name, unreadable folders, and the ends of takes."""

from __future__ import annotations

import os
import unicodedata

import pytest

from fexgan_lit.utils.errors import UserError
from tests.data.standins import index, reasons, write_image


def copy(root, source, target):
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    (root / target).write_bytes((root / source).read_bytes())


def test_two_files_for_one_frame(write_cast):
    root = write_cast()
    copy(root, "anna/joy/0001.png", "anna/joy/0001.jpg")
    copy(root, "anna/joy/0002.png", "anna/joy/0002.PNG")
    copy(root, "anna/joy/0001.png", "anna/Joy/0001.png")
    table = index(root, "mhfed")
    assert len(table) == 28
    # In sorted order "Joy" comes before "joy", ".jpg" and ".PNG" before ".png".
    assert reasons(table) == {
        "anna/joy/0001.jpg": "second file for one frame, with another extension; the first is used",
        "anna/joy/0001.png": "name differs from another file's in upper and lower case only",
        "anna/joy/0002.png": "name differs from another file's in upper and lower case only",
    }


def test_unicode_forms_of_one_name(write_cast):
    composed, apart = (unicodedata.normalize(form, "Zoë Müller") for form in ("NFC", "NFD"))
    root = write_cast(identities=[composed, "bob"], affects=["joy", "neutral"])
    write_cast(identities=[apart], affects=["joy"])
    copy(root, f"{composed}/joy/0001.png", f"{apart}/neutral/0009.png")
    table = index(root, "mhfed", affects=["joy", "neutral"])
    assert table.identities == tuple(sorted(["bob", composed]))
    twins = [reason for reason in reasons(table).values() if "Unicode form" in reason]
    assert len(twins) == 2
    assert (table.frame["identity"] == composed).sum() == 5
    assert any("are one identity" in note for note in table.notes)


def test_names_of_people_that_differ_in_case_are_one_person(write_cast):
    root = write_cast(affects=["joy", "neutral"])
    copy(root, "anna/joy/0001.png", "Anna/joy/0007.png")
    table = index(root, "mhfed", affects=["joy", "neutral"])
    assert table.identities == ("Anna", "bob")
    assert any("Anna and anna are one identity" in note for note in table.notes)


def test_names_with_spaces_and_dots(write_cast):
    root = write_cast(identities=["Mary Ann v1.2", "bob"])
    copy(root, "bob/joy/0001.png", "bob/joy/take 1.frame 2.png")
    copy(root, "bob/joy/0001.png", "bob/joy/take 1.frame 3.png")
    table = index(root, "mhfed")
    assert len(table) == 30
    assert "Mary Ann v1.2" in table.identities


def test_a_folder_that_cannot_be_read_is_named(write_cast, monkeypatch):
    root = write_cast()
    scandir = os.scandir

    def refusing(folder):
        if str(folder).endswith("bob/joy"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    table = index(root, "mhfed")
    assert len(table) == 26
    assert reasons(table) == {"bob/joy": "folder cannot be read (Permission denied)"}


def test_only_by_identity_in_any_layout(write_cast):
    root = write_cast("ferg", identities=["anna", "bob", "carl"])
    table = index(root, "ferg", only={"identity": ["anna", "CARL"]})
    assert table.identities == ("anna", "carl")
    assert table.drops == ()
    assert any("dataset.only={identity: [anna, CARL]}: 28 of 42 frames" in note for note in table.notes)


def test_ends_of_takes_by_a_pattern(tmp_path):
    for affect in ("joy", "neutral"):
        for take in (1, 2):
            for n in range(6):
                write_image(tmp_path / f"anna/{affect}/{take}/{n}.png")
    pattern = "{identity}/{affect}/{take}/{frame}.png"
    table = index(tmp_path, "folder", pattern=pattern, sequence_ends=2)
    assert len(table) == 2 * 2 * 4
    assert sorted(set(table.frame["frame"])) == [0, 1, 4, 5]
    assert any("16 of 24 frames" in note for note in table.notes)


def test_ends_of_what_is_no_sequence(write_cast):
    with pytest.raises(
        UserError, match=r"dataset\.sequence_ends=3: the sequences of dataset=\w+ are not known(?s:.*)=null"
    ):
        index(write_cast(), "mhfed", sequence_ends=3)
