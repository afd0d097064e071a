from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from fexgan_lit.data.frames import FrameSet, to_float, to_uint8
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.errors import UserError


def small_table(**columns) -> FrameTable:
    frame = pd.DataFrame(
        {
            "path": ["a/joy/1.png", "b/joy/é 1.png", "b/wink/2.png"],
            "identity": ["a", "b", "b"],
            "affect": ["joy", "joy", "wink"],
        }
        | columns
    )
    return FrameTable(frame, ("joy", "wink"), ("a", "b"), None, (Drop("x.txt", "not an image"),), ("a note",))


def test_indices_count_in_the_class_order():
    table = small_table()
    assert table.affect_index.tolist() == [0, 0, 1]
    assert table.identity_index.tolist() == [0, 1, 1]
    assert table.affect_index.dtype == table.identity_index.dtype == np.int64


def test_save_and_load_keep_everything(tmp_path):
    table = small_table(intensity=np.float32([0.5, np.nan, 1]), take=[1, 2, 3])
    table.save(tmp_path / "t.parquet")
    again = FrameTable.load(tmp_path / "t.parquet", root=tmp_path)
    pd.testing.assert_frame_equal(again.frame, table.frame)
    assert (again.affects, again.identities, again.drops, again.notes) == (
        table.affects,
        table.identities,
        table.drops,
        table.notes,
    )
    assert again.root == tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="affect"), "affect"),
        (lambda f: f.assign(identity=["a", None, "b"]), "empty entries in identity"),
        (lambda f: f.assign(affect=["joy", "joy", "frown"]), "'frown' is not among joy, wink"),
    ],
)
def test_load_refuses_broken_tables(tmp_path, change, message):
    table = small_table()
    broken = FrameTable(change(table.frame), table.affects, table.identities, None)
    broken.save(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=message):
        FrameTable.load(tmp_path / "t.parquet")


def test_load_refuses_other_files(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="not a frame table"):
        FrameTable.load(tmp_path / "t.parquet")
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="not a frame table"):
        FrameTable.load(tmp_path / "other.parquet")


def test_to_float_maps_the_ends_exactly_and_moves_channels():
    images = np.zeros((2, 3, 4, 3), np.uint8)
    images[1, 2, 3] = (255, 51, 0)
    floats = to_float(images)
    assert floats.shape == (2, 3, 3, 4)
    assert floats.dtype == torch.float32
    assert floats[1, :, 2, 3].tolist() == pytest.approx([1.0, 51 / 127.5 - 1, -1.0])
    assert floats[0].unique().tolist() == [-1.0]


def test_to_uint8_inverts_every_value_and_clamps():
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert (to_uint8(to_float(every)) == every).all()
    outside = torch.tensor([-1.5, 1.5, 0.0]).reshape(1, 3, 1, 1)
    assert to_uint8(outside).tolist() == [[[[0, 255, 128]]]]


def test_frame_set_reads_its_own_rows_of_a_shared_pack(tmp_path):
    images = np.memmap(tmp_path / "u8", np.uint8, "w+", shape=(5, 4, 4, 3))
    images[:] = np.arange(5, dtype=np.uint8)[:, None, None, None] * 10
    zero = np.zeros(2, np.int64)
    frames = FrameSet(images, np.array([4, 1]), zero, zero, None, ("joy",), ("a",))
    pixels = frames.pixels(np.array([0, 1, 0]))
    assert len(frames) == 2
    assert pixels[:, 0, 0, 0].tolist() == [40, 10, 40]
    pixels[:] = 0  # a copy: the pack stays
    assert images[4, 0, 0, 0] == 40


def test_floats_resizes_by_area():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[0, :, ::2] = 200
    zero = np.zeros(1, np.int64)
    frames = FrameSet(images, zero, zero, zero, None, ("joy",), ("a",))
    assert to_uint8(frames.floats(zero, 2)).ravel().tolist() == [100] * 12
