from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import open_dataset
from fexgan_lit.data.images import FrameError, read_frame
from fexgan_lit.data.packing import pack as packing
from fexgan_lit.data.packing import sources
from fexgan_lit.utils import cache
from fexgan_lit.utils.errors import UserError
from tests.data.conftest import picture


@pytest.fixture
def config(write_cast, tmp_path):
    return DatasetConfig(name="mhfed", root=str(write_cast()), image_size=32, cache_dir=str(tmp_path / "cache"))


def packs(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache/packs").iterdir() if not path.name.startswith("."))


def png(pixels):
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def test_pixels_are_the_files_area_averaged_in_row_order(config, tmp_path):
    pack = open_dataset(config)
    assert pack.images.shape == (28, 32, 32, 3)
    assert isinstance(pack.images, np.memmap)
    assert not pack.images.flags.writeable
    for row in (0, 13, 27):
        original = read_frame(tmp_path / "set" / pack.table.paths[row])
        expected = cv2.resize(original, (32, 32), interpolation=cv2.INTER_AREA)
        assert (pack.images[row] == expected).all()
    assert (pack.folder / "frames.u8").stat().st_size == 28 * 32 * 32 * 3
    assert (pack.folder.parent.name, pack.folder.name[:11]) == ("packs", "mhfed-32px-")


def test_frames_of_the_right_size_are_kept_and_small_ones_grow(write_cast, tmp_path):
    same = write_cast(size=32)
    pack = open_dataset(DatasetConfig(name="mhfed", root=str(same), image_size=32, cache_dir=str(tmp_path / "c")))
    assert (pack.images[0] == read_frame(same / pack.table.paths[0])).all()
    pack = open_dataset(DatasetConfig(name="mhfed", root=str(same), image_size=64, cache_dir=str(tmp_path / "c")))
    small = read_frame(same / pack.table.paths[0])
    assert (pack.images[0] == cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC)).all()


def test_mixed_sizes_and_the_central_square(config, tmp_path):
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = picture(1, 32)
    (tmp_path / "set/anna/joy/0001.png").write_bytes(png(wide))
    pack = open_dataset(config)
    assert pack.sizes == {"40x40": 27, "64x32": 1}
    assert pack.cropped == 1
    row = pack.table.paths.index("anna/joy/0001.png")
    assert (pack.images[row] == picture(1, 32)).all()
    assert pack.table.frame.loc[row, ["height", "width"]].tolist() == [32, 64]


def test_second_time_reuses(config, monkeypatch):
    first = open_dataset(config)
    monkeypatch.setattr(packing, "_write_pixels", None)  # calling it would fail
    second = open_dataset(config)
    assert (first.reused, second.reused) == (False, True)
    assert second.folder == first.folder
    assert (second.images == first.images).all()
    assert second.sizes == first.sizes
    assert second.table.frame.equals(first.table.frame)


@pytest.mark.parametrize("change", ["touch", "content", "added", "removed", "renamed"])
def test_changes_of_the_files_are_noticed(config, tmp_path, change):
    first = open_dataset(config)
    path = tmp_path / "set/anna/joy/0001.png"
    if change == "touch":
        os.utime(path, ns=(1, 1))
    elif change == "content":
        path.write_bytes(png(picture(99, 40)))
    elif change == "added":
        shutil.copy(path, path.with_name("0003.png"))
    elif change == "removed":
        path.unlink()
    else:
        path.rename(path.with_name("0000.png"))
    second = open_dataset(config)
    assert not second.reused
    assert second.folder != first.folder
    assert len(second.images) == 28 + {"added": 1, "removed": -1}.get(change, 0)


def test_labels_and_size_are_part_of_the_key(config):
    folders = {
        open_dataset(each).folder
        for each in (
            config,
            replace(config, image_size=64),
            replace(config, aliases={"joy": "fear", "fear": "joy"}),
            replace(config, affects=["joy", "fear"]),
        )
    }
    assert len(folders) == 4


def test_a_copied_data_set_shares_the_pack(config, tmp_path):
    open_dataset(config)
    shutil.copytree(tmp_path / "set", tmp_path / "copy")  # keeps the times
    assert open_dataset(replace(config, root=str(tmp_path / "copy"))).reused


def test_unreadable_frames_are_named_and_not_packed(config, tmp_path):
    anna = tmp_path / "set/anna"
    good = (anna / "joy/0001.png").read_bytes()
    (anna / "joy/0001.png").write_bytes(good[:500])
    (anna / "fear/0002.png").write_bytes(b"")
    (anna / "anger/0001.png").write_text("no image")
    for _ in range(2):  # built, then reused
        pack = open_dataset(config)
        assert len(pack.images) == len(pack.table) == 25
        assert {drop.path: drop.reason for drop in pack.table.drops} == {
            "anna/anger/0001.png": "not a PNG, JPEG, BMP, WebP or TIFF image",
            "anna/fear/0002.png": "empty file",
            "anna/joy/0001.png": "truncated or damaged PNG file",
        }
        last = read_frame(tmp_path / "set" / pack.table.paths[-1])
        assert (pack.images[-1] == cv2.resize(last, (32, 32), interpolation=cv2.INTER_AREA)).all()


def test_no_readable_frame_at_all(config, tmp_path):
    for path in (tmp_path / "set").rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"none of the 28 image files can be read: anna/anger/0001\.png \(not a PNG"):
        open_dataset(config)
    assert packs(tmp_path) == []


def test_progress_counts_every_frame(config):
    seen = []
    open_dataset(config, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (28, 28)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_place_of_the_cache(config, tmp_path, monkeypatch):
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path / "from_env"))
    pack = open_dataset(replace(config, cache_dir=None))
    assert pack.folder.is_relative_to(tmp_path / "from_env/packs")
    assert open_dataset(config).folder.is_relative_to(tmp_path / "cache/packs")


def test_cache_folder_that_cannot_be_used(config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be used(?s:.*)dataset\.cache_dir=DIR"):
        open_dataset(replace(config, cache_dir=str(tmp_path / "file")))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_disk_that_fills_up_leaves_nothing(config, tmp_path, monkeypatch, number):
    real, calls = packing.PixelLog.append, []

    def fail_later(log, piece):
        calls.append(piece)
        if len(calls) > 3:
            raise OSError(number, os.strerror(number))
        real(log, piece)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_CHUNK", 4)
        patch.setattr(packing.PixelLog, "append", fail_later)
        with pytest.raises(UserError, match=os.strerror(number)):
            open_dataset(config)
    assert packs(tmp_path) == []
    assert len(open_dataset(config).images) == 28


def test_a_write_that_the_system_refuses_half_way(config, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(packing, "_CHUNK", 4)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, most))
        with pytest.raises(UserError, match=r"the cache folder .* cannot be used \(File too large\); nothing was kept"):
            open_dataset(replace(config, workers=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert packs(tmp_path) == []


def test_too_little_space_is_seen_before_the_work(config, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"the pack needs .* free"):
        open_dataset(config)


@pytest.mark.parametrize(
    "damage", ["short", "no facts", "half facts", "no table", "other format", "a bit", "half of zeros"]
)
def test_a_pack_that_is_not_whole_is_made_anew(config, damage, monkeypatch, caplog):
    monkeypatch.setattr(packing, "_BLOCK", 10_000)
    pack = open_dataset(config)
    before = np.array(pack.images)
    if damage == "short":
        os.truncate(pack.folder / "frames.u8", 1000)
    elif damage in ("a bit", "half of zeros"):
        stored = np.array(before)
        half = stored.reshape(-1)[stored.size // 2 :]
        half[: 1 if damage == "a bit" else None] ^= 1 if damage == "a bit" else half
        (pack.folder / "frames.u8").write_bytes(stored)
    elif damage == "no facts":
        (pack.folder / "pack.json").unlink()
    elif damage == "half facts":
        (pack.folder / "pack.json").write_text('{"format": 1, "fra')
    elif damage == "no table":
        (pack.folder / "table.parquet").write_bytes(b"PAR1")
    else:
        facts = json.loads((pack.folder / "pack.json").read_text())
        (pack.folder / "pack.json").write_text(json.dumps(facts | {"format": 0}))
    again = open_dataset(config)
    assert not again.reused
    assert (again.images == before).all()
    assert caplog.text.count("is rebuilt: a checksum differs") == 1
    assert open_dataset(config).reused


def test_a_pack_is_on_the_disk_before_it_has_its_name(config, monkeypatch):
    flushed, real = [], cache.flush_to_disk
    monkeypatch.setattr(cache, "flush_to_disk", lambda place: flushed.append(place.name) or real(place))
    pack = open_dataset(config)
    assert {"frames.u8", "pack.json", "table.parquet"} < set(flushed[:-1])
    assert flushed[-1] == pack.folder.parent.name


def test_worker_processes_and_threads_give_the_same_rows(monkeypatch):
    @dataclass(frozen=True)
    class Painter:  # here, and not in the module, which each process would import with all that it imports
        """A source whose frames are the row number; many enough for worker processes."""

        holds_interpreter: bool
        together: int = 1

        def read(self, row):
            return np.full((4, 4, 3), row % 256, np.uint8), (4, 4)

    monkeypatch.setattr(packing, "_WORTH_PROCESSES", 1)
    chunks = [range(start, start + 7) for start in range(0, 70, 7)]
    in_order = [
        [frame[0, 0, 0] for piece in packing._read_in_order(source, chunks, 2) for frame in piece.pixels]
        for source in (Painter(True), Painter(False))
    ]
    assert in_order[0] == in_order[1] == list(range(70))


def test_opencv_gets_its_threads_back(config):
    before = cv2.getNumThreads()
    open_dataset(config)
    assert cv2.getNumThreads() == before


def test_a_refused_file_is_read_once_it_can_be(config, tmp_path, monkeypatch):
    real, closed = sources.read_frame, str(tmp_path / "set/anna/joy/0001.png")

    def read(path):
        if str(path) == closed:
            raise FrameError("cannot be read (Permission denied)")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(sources, "read_frame", read)
        patch.setattr(packing.os, "access", lambda *_: False)
        first = open_dataset(config)
        assert (len(first.images), open_dataset(config).reused) == (27, True)
        assert [drop.path for drop in first.table.drops] == ["anna/joy/0001.png"]
    again = open_dataset(config)
    assert (len(again.images), again.reused, again.table.drops) == (28, False, ())
