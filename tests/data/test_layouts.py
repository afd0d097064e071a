from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.data.datasets.characters import PathPattern
from fexgan_lit.expression import AFFECTS
from fexgan_lit.utils.errors import UserError


def index(root, name="mhfed", **options):
    return index_dataset(DatasetConfig(name=name, root=str(root), **options))


def reasons(table):
    return {drop.path: drop.reason for drop in table.drops}


@pytest.mark.parametrize("form", ["ferg", "mhfed"])
def test_papers_layouts(write_cast, form):
    table = index(write_cast(form), form)
    assert len(table) == 2 * 7 * 2
    assert table.affects == AFFECTS
    assert table.identities == ("anna", "bob")
    assert table.drops == ()
    joy = table.frame[table.frame["path"].str.contains("joy")]
    assert set(joy["affect"]) == {"joy"}
    assert joy["identity"].tolist() == ["anna", "anna", "bob", "bob"]
    assert joy["frame"].tolist() == [1, 2, 1, 2]


def test_order_is_by_path_and_names_may_be_unicode(write_cast):
    table = index(write_cast(identities=("Zoë B", "Åse", "anna")))
    assert table.paths == sorted(table.paths, key=lambda path: path.split("/"))
    assert table.identities == tuple(sorted(["Zoë B", "Åse", "anna"]))


def test_other_words_and_cases_for_affects(write_cast):
    affects = ["Angry", "DISGUST", "afraid", "Happy", "Neutral", "sad", "verwundert"]
    table = index(write_cast(affects=affects), aliases={"Verwundert": "surprise"})
    assert table.affects == AFFECTS
    assert (table.frame["affect"] == "surprise").sum() == 4


def test_misspelt_affect_gets_a_suggestion_and_a_way_on(write_cast):
    root = write_cast(affects=[*AFFECTS[:-1], "suprise"])
    with pytest.raises(UserError, match=r"anna/suprise/.*Did you mean 'surprise'(?s:.*)dataset\.aliases=\{suprise: "):
        index(root)
    assert index(root, aliases={"suprise": "surprise"}).affects == AFFECTS


def test_alias_ignore_leaves_frames_out_and_says_so(write_cast):
    root = write_cast(affects=[*AFFECTS, "outtakes"])
    table = index(root, aliases={"outtakes": "ignore"})
    assert len(table) == 28
    assert len(table.drops) == 4
    assert "dataset.aliases" in table.drops[0].reason


def test_affect_for_no_identity(write_cast):
    root = write_cast(affects=[a for a in AFFECTS if a != "fear"])
    with pytest.raises(
        UserError, match=r"shows fear;(?s:.*)dataset\.affects=\[anger,disgust,joy,neutral,sadness,surprise\]"
    ):
        index(root)
    table = index(root, affects=["anger", "disgust", "happy", "neutral", "sadness", "surprise"])
    assert table.affects == tuple(a for a in AFFECTS if a != "fear")


def test_chosen_affects_leave_the_others_as_drops(write_cast):
    table = index(write_cast(), affects=["joy", "neutral"])
    assert table.affects == ("joy", "neutral")
    assert len(table) == 8
    assert len(table.drops) == 20
    assert table.drops[0].reason == "affect 'anger' is not in dataset.affects"


def test_identity_with_one_affect_is_left_out(write_cast):
    root = write_cast()
    write_cast(identities=["carl"], affects=["joy"], count=3)
    table = index(root)
    assert table.identities == ("anna", "bob")
    assert [drop.path for drop in table.drops] == [f"carl/joy/000{n}.png" for n in (1, 2, 3)]
    assert "'carl' has the affect 'joy' only" in table.drops[0].reason


def test_nothing_to_pair(write_cast):
    with pytest.raises(UserError, match=r"anna has neutral; bob has neutral"):
        index(write_cast(affects=["neutral"]))


def test_affect_only_on_an_unpairable_identity(write_cast):
    root = write_cast(affects=[a for a in AFFECTS if a != "fear"])
    write_cast(identities=["carl"], affects=["fear"])
    with pytest.raises(UserError, match="fear: only on identities that cannot be paired"):
        index(root)


@pytest.mark.parametrize("form", ["ferg", "mhfed"])
def test_missing_root_says_how_to_get_the_data(form, tmp_path):
    for root in (None, str(tmp_path / "nowhere")):
        with pytest.raises(UserError) as caught:
            index_dataset(DatasetConfig(name=form, root=root))
        text = str(caught.value)
        assert "on request by its authors" in text
        assert "<root>/<character>/" in text
        assert f"dataset={form} dataset.root=DIR" in text
        assert "studio" in text


def test_root_is_a_file(tmp_path):
    (tmp_path / "FERG.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="cannot be opened as an archive"):
        index(tmp_path / "FERG.zip", "ferg")


@pytest.mark.parametrize("form", ["ferg", "mhfed"])
def test_root_at_the_wrong_level_names_the_right_one(write_cast, form):
    root = write_cast(form, name="outer/FERG_DB_256")
    below = sorted((root / "anna").iterdir())[0]
    for wrong in (root.parent, root.parent.parent, root / "anna", below):
        with pytest.raises(UserError, match=re.escape(f"Use dataset.root={root}\n")):
            index(wrong, form)


def test_wrong_level_of_a_pattern(write_cast):
    root = write_cast(name="outer/mine")
    with pytest.raises(UserError, match=re.escape(f"Use dataset.root={root}\n")):
        index(root.parent, "folder")


def test_the_layout_of_the_other_data_set_is_recognised(write_cast):
    with pytest.raises(UserError, match="Use dataset=ferg"):
        index(write_cast("ferg"), "mhfed")


def test_empty_root(tmp_path):
    with pytest.raises(UserError, match="an empty folder"):
        index(tmp_path)


def test_what_is_passed_over_is_named(write_cast, tmp_path):
    root = write_cast()
    (root / "anna/joy/.hidden.png").write_bytes(b"")
    (root / "anna/joy/notes.txt").write_text("x")
    (root / "Thumbs.png").write_bytes(b"")
    (root / "anna/joy/more").mkdir()
    (tmp_path / "secret.png").write_bytes((root / "anna/joy/0001.png").read_bytes())
    (root / "anna/joy/0003.png").symlink_to(tmp_path / "secret.png")
    (root / "anna/joy/0004.png").symlink_to(root / "anna/joy/0001.png")
    (root / "bob/joy/broken.png").symlink_to(root / "nothing.png")
    table = index(root)
    assert "anna/joy/0004.png" in table.paths
    assert len(table) == 28 + 1
    assert reasons(table) == {
        "anna/joy/.hidden.png": "hidden",
        "anna/joy/notes.txt": "not an image by its extension",
        "Thumbs.png": "image above the level of the images",
        "anna/joy/more": "folder below the level of the images",
        "anna/joy/0003.png": "link that leaves the root folder",
        "bob/joy/broken.png": "link to nothing",
    }


def test_names_that_are_not_unicode_are_dropped(write_cast):
    root = write_cast()
    source = bytes(root / "anna/joy/0001.png")
    with open(source[:-8] + b"\xff.png", "wb") as out:  # noqa: PTH123
        out.write(b"x")
    table = index(root)
    assert len(table) == 28
    assert [drop.reason for drop in table.drops] == ["name is not valid Unicode"]
    assert table.drops[0].path.isprintable()


def test_folder_pattern_takes_what_it_finds(write_cast):
    root = write_cast(affects=["wink", "joy", "contempt"])
    table = index(root, "folder")
    assert table.affects == ("contempt", "joy", "wink")


def test_flat_pattern_cuts_at_the_affect(write_cast):
    root = write_cast("flat", identities=["mary_ann", "bob_joy"])
    table = index(root, "folder", pattern="{identity}_{affect}_{frame}.*")
    assert table.identities == ("bob_joy", "mary_ann")
    assert table.affects == AFFECTS
    assert table.frame["frame"].max() == 2


def test_pattern_with_take_and_a_field_twice(write_cast):
    root = write_cast("ferg", affects=["joy", "neutral"])
    table = index(root, "folder", pattern="{identity}/*/{identity}_{affect}_{take}.png")
    assert table.frame["take"].tolist() == [1, 2] * 4
    assert "frame" not in table.frame


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("{identity}_{affect}{take}.*", "ann_smirk1.png", ("ann", "smirk", 1)),
        ("{identity}_{affect}{take}.*", "ann_joyful3.png", ("ann", "joyful", 3)),
        ("{identity}_{affect}{take}.*", "ann_joy_t3.png", ("ann", "joy", 3)),
        ("{identity}_{affect}{take}.*", "ann_very-sad3.png", ("ann", "very-sad", 3)),
        ("{identity}.{affect}{take}.*", "KA.SA1.39.tiff", ("KA", "SA", 1)),
        ("{identity}_{affect}{frame}.*", "ann_smirk001.png", ("ann", "smirk", None)),
        ("{identity}_{affect}*.*", "ann_joyful_3.png", ("ann", "joyful", None)),
        ("{identity}_{affect}*.*", "ann_joy3.png", ("ann", "joy", None)),
        ("*{affect}_{identity}.*", "x_killjoy_ann.png", ("ann", "killjoy", None)),
        ("{identity}{affect}{take}.*", "annjoy1.png", ("ann", "joy", 1)),
        ("{identity}{affect}{take}.*", "a01smirk2.png", ("a01", "smirk", 2)),
        ("{identity}{affect}{take}.*", "annsmirk1.png", None),
        ("{affect}{identity}.*", "smirkann.png", None),
    ],
)
def test_words_that_touch_something_are_read_whole_or_not_at_all(pattern, name, expected):
    found = PathPattern(pattern).read((name,))
    assert found == expected if expected is None else found[:3] == expected


def test_what_becomes_of_words_is_said(write_cast):
    root = write_cast(affects=["Happy", "smile", "neutral"])
    notes = index(root, "folder", aliases={"smirkk": "joy", "neutral": "calm"}).notes
    assert notes == (
        "dataset.aliases: no frame has the word 'smirkk'; found: happy, neutral, smile",
        "the words happy and smile are read as one affect, joy",
    )
    assert index(write_cast(name="other"), "folder").notes == ()


def test_classes_that_are_numbers(write_cast):
    root = write_cast(affects=["1", "4"])
    table = index(root, "folder")
    assert table.affects == ("1", "4")
    assert "the affects are numbers, 1, 4; name them with 'dataset.aliases={1: NAME, ...}'" in table.notes[0]
    named = index(root, "folder", aliases={"1": "surprise", "4": "joy"})
    assert named.affects == ("joy", "surprise")
    assert named.notes == ()


@pytest.mark.parametrize("folder", ["", "train_set"])
def test_affectnets_labels_lead_to_the_manifest(tmp_path, folder):
    top = tmp_path / folder
    (top / "annotations").mkdir(parents=True)
    (top / "images").mkdir()
    for n, number in enumerate("137"):
        (top / f"images/{n}.jpg").write_bytes(b"x")
        np.save(top / f"annotations/{n}_exp.npy", np.array(number))
    with pytest.raises(UserError, match=r"AffectNet keeps its labels(?s:.*)dataset\.manifest=labels\.csv") as told:
        index(tmp_path, "folder")
    line = next(line for line in str(told.value).splitlines() if line.startswith("  python"))
    subprocess.run(line.replace("python", sys.executable, 1), shell=True, cwd=top, check=True)  # noqa: S602
    table = index(top, "folder", manifest=str(top / "labels.csv"), unpaired=True)
    assert table.frame["affect"].tolist() == ["joy", "surprise", "contempt"]


def test_jfif_is_read_like_jpg(write_cast):
    root = write_cast(affects=["joy", "fear"])
    for path in list(root.rglob("*.png")):
        path.rename(path.with_suffix(".JFIF"))
    assert len(index(root, "folder")) == 8


def test_names_that_break_the_pattern_are_dropped(write_cast):
    root = write_cast("flat", affects=["joy", "neutral"])
    (root / "cover.png").write_bytes(b"x")
    table = index(root, "folder", pattern="{identity}_{affect}_{frame}.png")
    assert len(table) == 8
    assert reasons(table) == {"cover.png": "name does not fit the pattern"}
    with pytest.raises(UserError, match="there is no image where"):
        index(root, "folder", pattern="{identity}-{affect}.png")


def test_folder_with_given_affects_refuses_misspellings(write_cast):
    root = write_cast(affects=["joy", "neutral", "winkk", "fear"])
    with pytest.raises(UserError, match="Did you mean 'wink'"):
        index(root, "folder", affects=["joy", "neutral", "wink"])
    table = index(root, "folder", affects=["joy", "neutral", "wink"], aliases={"winkk": "wink"})
    assert table.affects == ("joy", "neutral", "wink")
    assert {drop.reason for drop in table.drops} == {"affect 'fear' is not in dataset.affects"}


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [("{identity}/{frame}.png", "{affect} is missing"), ("{identity}/{affect}/{fame}.png", "{fame} is not a field")],
)
def test_bad_patterns(write_cast, pattern, problem):
    with pytest.raises(UserError, match=re.escape(problem)):
        index(write_cast(), "folder", pattern=pattern)


def test_unknown_layout():
    with pytest.raises(UserError, match=r"dataset\.layout=fergdb: no such layout; expected one of ferg, mhfed, folder"):
        index_dataset(DatasetConfig(name="fergdb"))


def test_settings_report_all_problems_at_once():
    config = DatasetConfig(image_size=100, batch_size=0, val_fraction=1.0, split="person", flip=2.0, affects=["joy"])
    with pytest.raises(UserError) as caught:
        FrameDataModule(config)
    text = str(caught.value)
    assert "dataset.image_size=100: expected one of 32, 64, 128, 256, 512" in text
    for option in ("batch_size=0", "val_fraction=1.0", "split=person", "flip=2.0", "affects=['joy']"):
        assert f"dataset.{option}" in text


def test_a_studio_refuses_a_folder_of_frames(tmp_path):
    with pytest.raises(UserError, match=r"dataset=studio_cartoon draws its frames; expected dataset=folder"):
        FrameDataModule({"name": "studio_cartoon", "root": str(tmp_path)}).setup()


def test_a_misspelt_option_of_a_data_module_is_named_with_the_right_one():
    with pytest.raises(UserError, match=r"dataset\.nam: unknown\. Did you mean dataset\.name\?"):
        FrameDataModule({"nam": "ferg"})


def test_settings_are_a_hydra_schema():
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, ValidationError

    schema = OmegaConf.structured(DatasetConfig)
    merged = OmegaConf.merge(schema, {"affects": ["joy", "fear"], "aliases": {"glad": "joy"}, "root": "x"})
    assert OmegaConf.to_object(merged).affects == ["joy", "fear"]
    with pytest.raises(ConfigKeyError):
        OmegaConf.merge(schema, {"rooot": "x"})
    with pytest.raises(ValidationError):
        OmegaConf.merge(schema, {"batch_size": "many"})


def test_a_pattern_that_takes_the_name_for_part_of_the_affect_is_refused(write_cast):
    root = write_cast("ferg")
    with pytest.raises(UserError, match=r"dataset\.pattern.*'anna_anger' of 'anna'"):
        index(root, "folder", pattern="{identity}/{affect}/{frame}.*")
    assert index(root, "folder", pattern="{identity}/{identity}_{affect}/{frame}.*").affects == AFFECTS
