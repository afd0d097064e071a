from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from fexgan_lit.data import open as opening
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import ACTION_UNITS, AFFECTS
from fexgan_lit.utils.errors import UserError
from tests.data.test_augment import FIVE


@pytest.fixture
def prepared(write_cast, tmp_path):
    def make(form="mhfed", count=5, seed=0, **options):
        root = tmp_path / "set"
        if not root.exists():
            write_cast(form, count=count)
        options = {"image_size": 32, "batch_size": 8, "cache_dir": str(tmp_path / "cache")} | options
        data = FrameDataModule(DatasetConfig(name=form, root=str(root), **options), seed)
        data.setup()
        return data

    return make


def test_the_way_of_a_frame(prepared):
    data = prepared()
    assert (len(data.table), len(data.train), len(data.val)) == (70, 56, 14)
    assert data.affects == data.train.affects == AFFECTS
    assert data.identities == ("anna", "bob")
    batch = next(iter(data.train_dataloader()))
    assert batch.source.shape == (8, 3, 32, 32)
    row = int(batch.source_row[0])
    assert (to_uint8(batch.source)[0] == data.train.images[data.train.rows[row]]).all()
    path = data.table.paths[int(data.train.rows[row])]
    assert path.startswith(f"{data.identities[batch.identity[0]]}/{AFFECTS[batch.source_affect[0]]}/")
    assert not set(data.train.rows) & set(data.val.rows)
    validation = list(data.val_dataloader())
    assert sum(map(len, validation)) == 14


def test_setup_twice_keeps_the_loader(prepared):
    data = prepared()
    loader = data.train_dataloader()
    data.setup("fit")
    assert data.train_dataloader() is loader


def test_seed_changes_pairs_but_not_the_split(prepared):
    one, other = prepared(seed=0), prepared(seed=1)
    assert (one.train.rows == other.train.rows).all()
    first, second = (next(iter(data.train_dataloader())).source_row.tolist() for data in (one, other))
    assert first != second
    again = prepared(seed=0, split_seed=5)
    assert (again.train.rows != one.train.rows).any()


@pytest.mark.parametrize(("augmentation", "jitter", "side"), [("fexgan", 0.1, 36), (FIVE, 0.0, 32)])
def test_augmented_batches_repeat_after_resume(prepared, augmentation, jitter, side):
    data = prepared(augmentation=augmentation, jitter=jitter)
    assert data.train.images.shape[1] == side
    batches = list(data.train_dataloader())
    assert batches[0].source.shape == (8, 3, 32, 32)
    resumed = prepared(augmentation=augmentation, jitter=jitter).train_dataloader()
    resumed.first = lambda: 2
    again = next(iter(resumed))
    assert (again.source == batches[2].source).all()
    assert (again.target == batches[2].target).all()
    assert next(iter(data.val_dataloader())).source.shape == (8, 3, 32, 32)


def test_one_frame_a_cell_trains_without_validation(prepared):
    data = prepared(form="ferg", count=1)
    assert data.val is None
    assert data.val_dataloader() == []
    text = "\n".join(data.summary.lines())
    assert "there is no validation set" in text
    assert "14 cells too small to split, in training only: anna/anger (1 frame)" in text
    assert "+9 more" in text
    assert len(data.train) == 14


def test_batch_larger_than_the_data(prepared):
    with pytest.raises(UserError, match=r"dataset\.batch_size=64 is more than the 56 training frames"):
        prepared(batch_size=64)


def test_size_that_is_no_power_of_two():
    with pytest.raises(UserError, match=r"dataset\.image_size=100"):
        FrameDataModule(DatasetConfig(image_size=100))


def test_unreadable_frames_can_take_an_identity_along(prepared, write_cast, tmp_path):
    root = write_cast(count=5)
    for affect in AFFECTS[1:]:
        for path in (root / "bob" / affect).iterdir():
            path.write_bytes(b"x")
    write_cast(identities=["carl"], count=5)
    data = prepared()
    assert data.identities == ("anna", "carl")
    assert data.train.identity.max() == 1
    groups = data.summary.dropped_by_reason()
    assert {reason: len(paths) for reason, paths in groups.items()} == {
        "not a PNG, JPEG, BMP, WebP or TIFF image": 30,
        "identity 'bob' has the affect 'anger' only and cannot be paired": 5,
    }
    # The rows still point at the right pixels of the pack, in which bob's five frames lie.
    row = data.train.rows[-1]
    kept = [path for path in data.table.paths if path.startswith("carl/")]
    assert data.train.images.shape[0] == 75
    assert row >= 75 - len(kept)


def test_rows_and_pixels_stay_together_after_drops(prepared, write_cast, tmp_path):
    import cv2

    root = write_cast(count=5)
    write_cast(identities=["Aaron"], affects=["joy"], count=3)  # sorts first, cannot be paired
    (root / "anna/anger/0001.png").write_bytes(b"")
    data = prepared(val_fraction=0.0)
    for index in (0, 10, len(data.train) - 1):
        path = root / data.table.paths[index]
        expected = cv2.resize(cv2.imread(str(path))[..., ::-1], (32, 32), interpolation=cv2.INTER_AREA)
        assert (data.train.pixels(np.array([index]))[0] == expected).all()


def test_summary_tells_what_was_found(prepared, write_cast):
    root = write_cast(count=5)
    for number in range(7):
        (root / f"anna/joy/x{number}.png").write_bytes(b"")
    lines = prepared().summary.lines()
    text = "\n".join(lines)
    assert "70 frames, 2 identities, 7 affects (anger, disgust" in text
    assert "dropped    7 empty file: anna/joy/x0.png, anna/joy/x1.png" in text
    assert "anna/joy/x4.png, +2 more" in text
    assert "56 frames train, 14 validate" in text
    assert "(new, 32 px)" in text
    assert "(reused, 32 px)" in "\n".join(prepared().summary.lines())
    assert "mixed" not in text


def test_progress_hook(write_cast, tmp_path):
    data = FrameDataModule(
        DatasetConfig(name="mhfed", root=str(write_cast()), image_size=32, batch_size=4, cache_dir=str(tmp_path))
    )
    seen = []
    data.stages = lambda: nullcontext(lambda description: lambda done, total: seen.append((done, total)))
    data.setup()
    assert seen[-1] == (28, 28)


def test_studio(tmp_path):
    config = DatasetConfig(
        image_size=32, identities=2, takes=2, frames=2, batch_size=4, cache_dir=str(tmp_path), split="take",
        val_fraction=0.5, affects=["happy", "neutral"], min_target_intensity=0.2,
    )  # fmt: skip
    data = FrameDataModule(config)
    data.setup()
    assert data.affects == ("joy", "neutral")
    assert (len(data.train), len(data.val)) == (8, 8)
    assert data.train.intensity is not None
    source = opening._studio(config)[1]
    assert (data.train.images[3] == source.read(3)[0]).all()
    again = FrameDataModule(config)
    again.setup()
    assert again.summary.reused
    assert again.summary.root is None


def test_the_table_of_a_studio_is_kept(tmp_path, monkeypatch):
    config = DatasetConfig(image_size=32, identities=2, takes=1, frames=2, cache_dir=str(tmp_path))
    studio = opening.make_studio(config)
    first = opening.studio_table(studio, config)
    monkeypatch.setattr(type(studio), "table", lambda *_: pytest.fail("computed again"))
    again = opening.studio_table(studio, config)
    assert again.frame.equals(first.frame)
    assert again.shared_takes
    next((tmp_path / "tables").iterdir()).write_bytes(b"broken off")
    monkeypatch.undo()
    assert opening.studio_table(studio, config).frame.equals(first.frame)


def test_studio_human_says_where_its_model_comes_from():
    with pytest.raises(UserError, match="git clone https"):
        opening.make_studio(DatasetConfig(name="studio_human"))


def test_frames_without_what_is_required_are_left_out_and_named(tmp_path, write_cast):
    root = write_cast("mhfed", count=3)
    csv = tmp_path / "units.csv"
    names = [f"AU{unit:02d}" for unit in ACTION_UNITS]
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [",".join([file, *["1"] * 17]) for file in files if not file.startswith("anna/joy/0002")]
    csv.write_text("\n".join([",".join(["path", *names]), *lines]))
    settings = {"name": "mhfed", "root": str(root), "annotations": str(csv), "image_size": 32, "batch_size": 4,
                "cache_dir": str(tmp_path / "cache")}  # fmt: skip
    lenient, strict = (FrameDataModule(DatasetConfig(**settings, require=need)) for need in ([], ["aus"]))
    for data in (lenient, strict):
        data.setup()
    assert lenient.train.aus is None  # a system that reads them would be refused
    assert [drop.path for drop in strict.summary.drops] == ["anna/joy/0002.png"]
    assert len(strict.table) == len(lenient.table) - 1
    np.testing.assert_allclose(strict.train.aus, 0.2)
    assert not set(strict.train.rows) & {files.index("anna/joy/0002.png")}  # rows of the pack, which keeps it
    with pytest.raises(UserError, match="no frame has all of it"):
        FrameDataModule(DatasetConfig(**settings, require=["landmarks"])).setup()
    with pytest.raises(UserError, match="expected some of intensity, aus, landmarks"):
        FrameDataModule(DatasetConfig(**settings, require=["mood"]))


def test_data_open_themselves(write_cast, tmp_path):
    root = str(write_cast(count=5))
    config = {"name": "mhfed", "root": root, "image_size": 32, "batch_size": 4, "cache_dir": str(tmp_path)}
    assert FrameDataModule(config).affects == AFFECTS
    assert len(next(iter(FrameDataModule(config).train_dataloader()))) == 4
    assert len(next(iter(FrameDataModule(config).val_dataloader()))) == 4
