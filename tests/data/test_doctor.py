"""The doctor: every finding on a made example that has the fault, none on a clean one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fexgan_lit.data.checks import Diagnosis, Finding
from fexgan_lit.data.checks.finding import by_severity
from fexgan_lit.data.checks.report import cell_table, facts, markdown, sheet_rows, write_report
from fexgan_lit.data.checks.run import examine
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.packing.pack import Pack
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import AFFECTS, AU_COLUMNS, LANDMARK_COLUMNS
from fexgan_lit.figures.datasets import cell_heatmap, contact_sheet
from fexgan_lit.synthetic.prototypes import prototype

SIZE = 32
CONFIG = DatasetConfig(name="made", image_size=SIZE, split="take", val_fraction=0.34)


def smooth(rng: np.random.Generator, count: int, size: int = SIZE) -> np.ndarray:
    """(count, size, size, 3) uint8 pictures that differ in large patches of colour."""
    coarse = rng.integers(20, 236, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR) for image in coarse])


def made(identities: int = 2, takes: int = 3, frames: int = 2, affects: tuple[str, ...] = AFFECTS) -> Pack:
    """A clean data set in memory: plainly different pictures, everything known and as it should be."""
    cells = [
        (f"p{i}", a, t, f) for i in range(identities) for a in affects for t in range(takes) for f in range(frames)
    ]
    frame = pd.DataFrame(cells, columns=["identity", "affect", "take", "frame"])
    frame.insert(0, "path", [f"{i}/{a}/{t}_{f}.png" for i, a, t, f in cells])
    strength = np.where(frame["affect"] == "neutral", 0.0, 0.6 + 0.3 * frame["frame"] / max(1, frames - 1))
    units = np.stack([prototype(affect) for affect in frame["affect"]]) * strength[:, None]
    points = np.random.default_rng(5).uniform(6, 26, (len(frame), 136))
    frame = pd.concat([
        frame,
        pd.DataFrame(units.astype(np.float32), columns=list(AU_COLUMNS)),
        pd.DataFrame(points.astype(np.float32), columns=list(LANDMARK_COLUMNS)),
        pd.DataFrame({"intensity": strength.astype(np.float32), "height": SIZE, "width": SIZE}),
    ], axis=1)  # fmt: skip
    table = FrameTable(frame, affects, tuple(f"p{i}" for i in range(identities)), None)
    images = smooth(np.random.default_rng(1), len(frame))
    return Pack(Path("packs/made"), images, table, {f"{SIZE}x{SIZE}": len(frame)}, 0, reused=False)


def changed(pack: Pack, **columns: object) -> Pack:
    return replace(pack, table=replace(pack.table, frame=pack.table.frame.assign(**columns)))


def kept(pack: Pack, rows: np.ndarray) -> Pack:
    return replace(pack, images=pack.images[rows], table=pack.table.select(np.asarray(rows)))


def rows_of(pack: Pack, identity: str | None = None, affect: str | None = None) -> np.ndarray:
    frame = pack.table.frame
    hit = np.ones(len(frame), bool)
    hit &= True if identity is None else (frame["identity"] == identity).to_numpy()
    hit &= True if affect is None else (frame["affect"] == affect).to_numpy()
    return np.flatnonzero(hit)


def found(pack: Pack, topic: str, word: str, config: DatasetConfig = CONFIG) -> Finding:
    """The one finding of `topic` whose text holds `word`."""
    every = examine(pack, config).findings
    (one,) = [f for f in every if f.topic == topic and word in f.text] or pytest.fail(f"not among {every}")
    return one


def test_a_clean_set_has_nothing_to_say_but_which_units_rest():
    diagnosis = examine(made(), CONFIG)
    assert [f.found for f in diagnosis.findings] == ["AU14, AU45 never change"]
    assert diagnosis.trainable
    assert diagnosis.counts.tolist() == [[6] * 7] * 2
    assert diagnosis.val.tolist() == [[2] * 7] * 2
    assert (diagnosis.train + diagnosis.val == diagnosis.counts).all()


def test_empty_cells_are_named_and_missing_neutrals_too():
    pack = made()
    pack = kept(pack, np.setdiff1d(np.arange(len(pack.table)), rows_of(pack, "p1", "neutral")))
    empty = found(pack, "cells", "have no frame")
    assert empty.severity == "warning"
    assert empty.examples == ("p1/neutral",)
    assert found(pack, "cells", "no neutral").examples == ("p1",)


def test_an_affect_without_frames_is_a_problem():
    pack = made()
    pack = kept(pack, np.setdiff1d(np.arange(len(pack.table)), rows_of(pack, affect="fear")))
    assert found(pack, "cells", "no frame shows fear").severity == "problem"
    assert not [f for f in examine(pack, CONFIG).findings if "cells (identity x affect)" in f.found]


def test_uneven_cells():
    pack = made(takes=4, frames=2)
    pack = kept(pack, np.setdiff1d(np.arange(len(pack.table)), rows_of(pack, "p0", "joy")[2:]))
    assert "8 frames, the smallest 2 (4 times fewer)" in found(pack, "cells", "largest cell").found


def test_drops_are_counted_by_reason_with_the_most_frequent_first():
    pack = made()
    drops = (*(Drop(f"{n}.png", "truncated") for n in range(9)), Drop("x.txt", "not an image"))
    pack = replace(pack, table=replace(pack.table, drops=drops))
    texts = [f.text for f in examine(pack, CONFIG).findings if f.topic == "drops"]
    assert texts == [
        "9 left out: truncated (0.png, 1.png, 2.png, +6 in drops.csv).",
        "1 left out: not an image (x.txt).",
    ]
    many = replace(pack.table, drops=tuple(Drop(f"{n}.png", f"reason {n}") for n in range(8)))
    assert "3 left out for 3 other reasons" in found(replace(pack, table=many), "drops", "other reasons").found


def test_small_mixed_and_oblong_pictures():
    small = changed(made(), height=20, width=40)
    small = replace(small, sizes={"40x20": 80, "32x32": 4}, cropped=80)
    assert "smaller than 32 px, down to 20 px" in found(small, "pictures", "smaller").found
    assert found(small, "pictures", "2 sizes").examples == ("80 of 40x20", "4 of 32x32")
    assert "80 of 84 images are not square" in found(small, "pictures", "square").found
    assert (
        "dataset.image_size=64"
        in found(changed(made(), height=100, width=100), "pictures", "smaller", replace(CONFIG, image_size=128)).advice
    )


def test_blank_black_white_and_grey_frames():
    pack = made()
    images = pack.images.copy()
    images[3] = 128
    images[4], images[5] = images[4] // 60, 255 - images[5] // 60
    images[6] = images[6, :, :, :1]
    pack = replace(pack, images=images)
    for word, row in (("a single colour", 3), ("almost black", 4), ("almost white", 5), ("are grey", 6)):
        finding = found(pack, "pixels", word)
        assert finding.examples == (pack.table.paths[row],)
        assert finding.severity == "warning"
    all_grey = replace(pack, images=np.repeat(made().images[..., :1], 3, axis=3))
    assert found(all_grey, "pixels", "all frames are grey").severity == "info"


def test_one_picture_under_two_labels():
    pack = made()
    images = pack.images.copy()
    joy, fear, other = rows_of(pack, "p0", "joy")[0], rows_of(pack, "p0", "fear")[1], rows_of(pack, "p1", "joy")[2]
    images[fear] = images[joy]
    pack_two = replace(pack, images=images)
    exact = found(pack_two, "duplicates", "two affects")
    assert exact.severity == "problem"
    assert pack.table.paths[joy] in exact.examples[0]
    assert pack.table.paths[fear] in exact.examples[0]
    images = pack.images.copy()
    images[other] = images[joy] + np.random.default_rng(0).integers(0, 3, images[joy].shape, dtype=np.uint8)
    near = found(replace(pack, images=images), "duplicates", "two identities")
    assert near.severity == "warning"
    assert "2 frames look the same" in near.found


def test_weak_frames_of_two_affects_may_look_alike():
    pack = made()
    images = pack.images.copy()
    joy, fear = rows_of(pack, "p0", "joy")[0], rows_of(pack, "p0", "fear")[0]
    images[fear] = images[joy]
    intensity = pack.table.frame["intensity"].to_numpy().copy()
    intensity[[joy, fear]] = 0.1
    pack = changed(replace(pack, images=images), intensity=intensity)
    assert found(pack, "duplicates", "2 weak frames").severity == "info"
    topics = [f.topic for f in examine(pack, replace(CONFIG, min_target_intensity=0.6)).findings]
    assert "duplicates" not in topics


def test_copies_under_one_label_and_slow_takes():
    pack = made(takes=3, frames=8)
    images = pack.images.copy()
    rows = rows_of(pack, "p1", "anger")
    images[rows[9]] = images[rows[2]]
    copies = found(replace(pack, images=images), "duplicates", "copies")
    assert copies.found.startswith("1 of 336 frames")
    assert pack.table.paths[rows[2]] in copies.examples[0]
    slow = (
        images[np.arange(len(images)) // 8 * 8]
        + (np.arange(len(images)) % 8 // 4).astype(np.uint8)[:, None, None, None]
    )
    finding = found(replace(pack, images=slow), "duplicates", "takes change slowly")
    assert "100%" in finding.found


def test_takes_and_twins_in_both_splits():
    pack = made(takes=3, frames=8)
    by_frame = replace(CONFIG, split="frame")
    assert "42 of 42 takes are in both splits" in found(pack, "split", "neighbouring", by_frame).found
    noise = np.random.default_rng(0).integers(0, 2, pack.images.shape, dtype=np.uint8)
    slow = replace(pack, images=pack.images[np.arange(len(pack.images)) // 8 * 8] // 2 * 2 + noise)
    finding = found(slow, "split", "near-duplicate in training", by_frame)
    assert finding.severity == "warning"
    assert "dataset.split=take" in finding.advice
    assert not [f for f in examine(slow, CONFIG).findings if f.topic == "split"]


def test_no_validation_and_cells_too_small_to_split():
    pack = made(takes=1, frames=1)
    by_frame = replace(CONFIG, split="frame", val_fraction=0.2)
    assert "every cell is too small" in found(pack, "split", "no validation set", by_frame).found
    assert "as configured" in found(pack, "split", "no validation set", replace(by_frame, val_fraction=0.0)).found


def test_people_in_both_splits_are_told_for_sets_of_people():
    many = made(identities=20, takes=2, frames=1, affects=("joy", "neutral"))
    assert "20 of 20 identities" in found(many, "split", "identities are in both").found


def test_splitting_by_takes_that_are_not_known_stops_training():
    pack = made()
    pack = replace(pack, table=replace(pack.table, frame=pack.table.frame.drop(columns="take")))
    diagnosis = examine(pack, CONFIG)
    assert not diagnosis.trainable
    assert diagnosis.findings[0].topic == "training"
    assert "dataset.split=take" in diagnosis.findings[0].found
    assert diagnosis.val.sum() == 0


def test_action_units_of_a_wrong_scale_or_of_one_value():
    pack = made()
    units = pack.table.frame[list(AU_COLUMNS)]
    small = changed(pack, **(units / 5).to_dict("list"))
    assert "0.90" in found(small, "values", "largest action unit").found
    for same in (units * 0 + 0.5, pd.DataFrame(dict.fromkeys(AU_COLUMNS, units["au12"]))):
        assert found(changed(pack, **same.to_dict("list")), "values", "all 17 action units").severity == "problem"


def test_action_units_contrary_to_the_label():
    pack = made()
    swap = {"joy": "fear", "fear": "joy"}
    frame = pack.table.frame
    contrary = changed(pack, affect=frame["affect"].replace(swap))
    assert "AU12 is highest in fear" in found(contrary, "values", "AU12 is highest").found


def test_landmarks_outside_in_a_corner_or_normalised():
    pack = made()
    points = pack.table.frame[list(LANDMARK_COLUMNS)]
    outside = changed(pack, **(points * 4).to_dict("list"))
    assert "larger image" in found(outside, "values", "outside the image").advice
    assert found(changed(pack, **(points / 4).to_dict("list")), "values", "top left quarter").severity == "warning"
    normalised = found(changed(pack, **(points / SIZE).to_dict("list")), "values", "0..2")
    assert normalised.severity == "problem"
    assert "pixels" in normalised.expected


def test_intensities_that_tell_nothing_or_contradict_the_label():
    pack = made()
    assert "intensity is 1 in every frame" in found(changed(pack, intensity=1.0), "values", "in every frame").found
    strong = found(changed(pack, intensity=1.0), "values", "neutral frames")
    assert strong.found == "12 neutral frames with an intensity above 0.5"


def test_suspicions_of_the_index_become_findings_and_leave_the_notes():
    pack = made()
    notes = ("a.csv: joined to 84 of 84 frames", "a.csv: suspicious: the landmarks are the same in every row")
    diagnosis = examine(replace(pack, table=replace(pack.table, notes=notes)), CONFIG)
    assert diagnosis.notes == notes[:1]
    assert [f.found for f in diagnosis.findings if f.severity == "warning"] == [
        "a.csv: the landmarks are the same in every row"
    ]


def test_findings_come_worst_first():
    given = [
        Finding("info", "a", "1"),
        Finding("problem", "a", "2"),
        Finding("warning", "a", "3"),
        Finding("info", "a", "4"),
    ]
    assert [f.found for f in by_severity(given)] == ["2", "3", "1", "4"]


def diagnosed(pack: Pack | None = None) -> Diagnosis:
    return examine(pack or made(), CONFIG)


def test_the_sheet_shows_the_strongest_frame_with_open_eyes():
    pack = made(takes=1, frames=4)
    intensity = np.tile(np.float32([0.2, 0.97, 1.0, 0.96]), 14)
    assert (sheet_rows(diagnosed(changed(pack, intensity=intensity))) % 4 == 1).all()
    blink = changed(pack, intensity=intensity, au45=np.tile(np.float32([0.0, 0.9, 1.0, 0.1]), 14))
    assert (sheet_rows(diagnosed(blink)) % 4 == 3).all()
    bare = replace(pack, table=replace(pack.table, frame=pack.table.frame.drop(columns="intensity")))
    assert (sheet_rows(diagnosed(bare)) % 4 == 2).all()
    fewer = kept(pack, np.arange(4, len(pack.table)))
    assert sheet_rows(diagnosed(fewer))[0, 0] == -1


def test_tables_and_facts_agree_with_the_counts(tmp_path):
    diagnosis = diagnosed()
    table = cell_table(diagnosis, most=1)
    assert table.rows[0] == ("p0", *["4 + 2"] * 7, "42")
    assert table.rows[-1] == ("all", *["12"] * 7, "84")
    assert "1 more identities" in table.notes[0]
    assert json.loads(json.dumps(facts(diagnosis)))["known"]["landmarks"] == 84
    report = markdown(diagnosis, "python -m fexgan_lit.train")
    assert "Ready to train on." in report
    write_report(tmp_path / "r", diagnosis)
    assert (tmp_path / "r" / "frames.csv").read_text().splitlines()[1] == "p0,anger,6,4,2"
    assert not (tmp_path / "r" / "no_face.csv").exists()


def test_heat_map_marks_empty_cells_and_takes_a_thousand_identities():
    full = np.full((3, 4), 5)
    empty = full.copy()
    empty[1, 2] = 0
    names, affects = ("a", "b", "c"), AFFECTS[:4]
    red = [_red(cell_heatmap(counts, names, affects)) for counts in (full, empty)]
    assert red[0] == 0
    assert red[1] > 20
    many = cell_heatmap(np.ones((1000, 4), int), [f"p{i}" for i in range(1000)], affects)
    assert many.height < 2500
    with pytest.raises(ValueError, match="counts must be"):
        cell_heatmap(full, names, AFFECTS)


def test_contact_sheet_puts_every_face_in_its_place():
    frames = np.zeros((2, 3, 128, 128, 3), np.uint8)
    for row, column in np.ndindex(2, 3):
        frames[row, column] = (100 * row, 80 * column, 200)
    present = np.ones((2, 3), bool)
    present[1, 1] = False
    page = np.asarray(contact_sheet(frames, present, ("a", "b"), AFFECTS[:3], title="made", footnote="and more"))
    colours = {tuple(colour) for colour in page.reshape(-1, 3)}
    shown = {tuple(frames[row, column, 0, 0].tolist()) for row, column in zip(*np.nonzero(present), strict=True)}
    assert shown <= colours
    assert (100, 80, 200) not in colours


def _red(picture: object) -> int:
    pixels = np.asarray(picture).astype(int)
    return int(((pixels[..., 0] > 150) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90)).sum())
