from __future__ import annotations

import cv2
import numpy as np
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import open_dataset
from fexgan_lit.data.images import FrameError, read_frame
from fexgan_lit.data.packing import pack as packing
from fexgan_lit.data.packing import sources
from tests.data.conftest import picture


@pytest.fixture
def config(write_cast, tmp_path):
    return DatasetConfig(name="mhfed", root=str(write_cast()), image_size=32, cache_dir=str(tmp_path / "cache"))


def packs(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache/packs").iterdir() if not path.name.startswith("."))


def png(pixels):
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def boxed(tmp_path, boxes, size=8, stored=None):
    stored = picture(5, 20, 30) if stored is None else stored
    (tmp_path / "one.png").write_bytes(png(stored))
    return sources.FileSource(tmp_path, ["one.png"], size, boxes=np.array([boxes], np.float32)), stored


def test_boxes_cut_the_square_they_name_in_whole_pixels(tmp_path):
    source, stored = boxed(tmp_path, (10.4, 3.6, 8.2))
    frame, size = source.read(0)
    assert (frame == stored[4:12, 10:18]).all()
    assert size == (20, 30)  # of the stored picture
    source, stored = boxed(tmp_path, (2, 2, 16))
    assert (source.read(0)[0] == cv2.resize(stored[2:18, 2:18], (8, 8), interpolation=cv2.INTER_AREA)).all()


def test_boxes_beyond_the_picture_repeat_its_edge(tmp_path):
    source, stored = boxed(tmp_path, (-3, 14, 12), size=12)
    frame = source.read(0)[0]
    assert (frame[:6, 3:] == stored[14:20, :9]).all()
    assert (frame[:6, :3] == stored[14:20, :1]).all()
    assert (frame[6:, 3:] == stored[19:20, :9]).all()


def test_a_row_without_a_box_shows_the_central_square(tmp_path):
    source, stored = boxed(tmp_path, (np.nan, np.nan, np.nan), size=20)
    assert (source.read(0)[0] == stored[:, 5:25]).all()


@pytest.mark.parametrize("box", [(40, 0, 8), (-9, 0, 8), (0, 0, 0), (0, 0, 500), (np.inf, 0, 8), (0, 0, np.inf)])
def test_boxes_that_fit_no_face_are_refused(tmp_path, box):
    source, _ = boxed(tmp_path, box)
    with pytest.raises(FrameError, match="does not fit an image of 30x20 pixels"):
        source.read(0)


def test_boxes_are_part_of_the_key(config, tmp_path):
    pack = open_dataset(config)
    plan = packing.PackPlan("mhfed", 32, config.cache_dir)
    boxes = np.tile(np.float32([2, 2, 20]), (28, 1))
    folders = {pack.folder}
    for shift in (0, 1):
        source = sources.FileSource(tmp_path / "set", pack.table.paths, 32, boxes=boxes + np.float32([shift, 0, 0]))
        made = packing.prepare_pack(pack.table, source, plan)
        folders.add(made.folder)
        first = read_frame(tmp_path / "set" / pack.table.paths[0])[2:22, 2 + shift : 22 + shift]
        assert (made.images[0] == cv2.resize(first, (32, 32), interpolation=cv2.INTER_CUBIC)).all()
        assert made.table.frame["height"].tolist() == [40] * 28
    assert len(folders) == 3
