from __future__ import annotations

import mmap
import os
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from fexgan_lit.data import frames as frames_module
from fexgan_lit.data.frames import FrameSet, resize_batch, to_float, to_uint8
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.utils.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def loaded_loop():
    """The compiled loop is there, so that large batches are its work."""
    frames_module._loading_loop().result()


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


def torch_floats(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).float().div_(127.5).sub_(1).permute(0, 3, 1, 2)


def large_batch(count: int = 8) -> np.ndarray:
    """Every value in every place of a vector register, and enough of them for the compiled loop."""
    every = np.arange(256, dtype=np.uint8)
    rows = np.stack([np.roll(every, shift) for shift in range(768)]).reshape(1, 256, 256, 3)  # (768, 256) -> frame
    images = np.concatenate([rows + np.uint8(shift) for shift in range(count)])
    assert images.size >= frames_module._WORTH_COMPILING
    return images


def frames_of(images: np.ndarray, rows: np.ndarray | None = None) -> FrameSet:
    rows = np.arange(len(images)) if rows is None else rows
    zero = np.zeros(len(rows), np.int64)
    return FrameSet(images, rows, zero, zero, None, ("joy",), ("a",))


def test_large_batches_are_bit_for_bit_what_torch_gives():
    images = large_batch()
    floats, expected = to_float(images), torch_floats(images)
    assert torch.equal(floats, expected)
    assert floats.stride() == expected.stride()
    assert torch.equal(to_float(images[:, ::-1]), torch_floats(images[:, ::-1].copy()))  # not contiguous
    assert torch.equal(to_float(torch.from_numpy(images)), expected)


def test_until_the_compiled_loop_is_there_torch_gives_the_same_bits(monkeypatch):
    images = large_batch()
    compiled = frames_of(images).floats(np.arange(8), 256)
    monkeypatch.setattr(frames_module, "_loading_loop", Future)  # one that is never done
    monkeypatch.setattr(frames_module, "_gather_loop", lambda: pytest.fail("it is not there yet"))
    assert torch.equal(frames_of(images).floats(np.arange(8), 256), compiled)
    assert torch.equal(to_float(images), compiled)


def test_large_batches_are_gathered_from_the_split_in_any_order():
    images = large_batch(12)
    images.flags.writeable = False  # as a pack is
    rows = np.array([11, 3, 5, 7, 0, 2, 9, 1, 10, 4])
    frames = frames_of(images, rows)
    index = np.array([9, 0, 0, 3, 7, 1, 2, 8])
    assert torch.equal(frames.floats(index, 256), torch_floats(images[rows[index]]))
    shrunk = torch_floats(resize_batch(images[rows[index]], 128))
    assert torch.equal(frames.floats(index, 128), shrunk)
    frames.floats(index, 256).zero_()  # the caller's own, the pack stays
    assert images[11, 0, 0].tolist() == [11, 12, 13]


def test_rows_outside_the_pack_are_refused():
    images = large_batch()
    with pytest.raises(IndexError, match="of 8 frames"):
        frames_of(images, np.arange(1, 9)).floats(np.arange(8), 256)
    with pytest.raises(IndexError):
        frames_of(images).floats(np.arange(2, 10), 256)


def test_a_folder_in_which_nothing_can_be_kept_does_not_stop_the_compiled_loop(monkeypatch):
    import numba

    real = numba.njit

    def no_locator(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*args, **options)

    monkeypatch.setattr(numba, "njit", no_locator)
    loop = frames_module._gather_loop.__wrapped__()
    floats = np.empty((1, 3), np.float32)
    loop(np.uint8([[0, 0, 0], [0, 51, 255]]), np.array([1]), floats)
    assert floats.tolist() == torch_floats(np.uint8([[[[0, 51, 255]]]])).reshape(1, 3).tolist()


def test_pages_of_a_large_pack_are_let_go_of(tmp_path, monkeypatch):
    monkeypatch.setattr(frames_module, "_HELD_BYTES", 1 << 20)
    monkeypatch.setattr(frames_module, "_SLICE", 8)
    held = [0]
    monkeypatch.setattr(frames_module, "_mapped_bytes", lambda: held[0])
    released = []

    class Map(mmap.mmap):
        def madvise(self, option):
            released.append(option)

    images = np.memmap(tmp_path / "u8", np.uint8, "w+", shape=(100, 64, 64, 3))
    images[:] = np.arange(100, dtype=np.uint8)[:, None, None, None]
    images.flush()
    pack = np.memmap(tmp_path / "u8", np.uint8, "r", shape=(100, 64, 64, 3))
    frames = frames_of(pack)
    with (tmp_path / "u8").open("rb") as file:
        advised = Map(file.fileno(), 0, access=mmap.ACCESS_READ)
    monkeypatch.setattr(frames._pages, "_images", SimpleNamespace(base=advised))
    assert frames.pixels(np.arange(20))[:, 0, 0, 0].tolist() == list(range(20))
    assert released == []
    held[0] = 2 << 20
    assert frames.pixels(np.arange(99, 79, -1))[:, 0, 0, 0].tolist() == list(range(99, 79, -1))
    assert released == [mmap.MADV_DONTNEED]  # once; what is held then is what counts from then on
    held[0] = 4 << 20
    assert torch.equal(frames.floats(np.arange(100), 64), torch_floats(np.array(pack)))
    assert len(released) == 2


def test_small_and_writable_arrays_keep_their_pages(tmp_path):
    images = np.memmap(tmp_path / "u8", np.uint8, "w+", shape=(10, 8, 8, 3))
    assert frames_of(images)._pages._images is None
    assert frames_of(np.array(images))._pages._images is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell what is mapped")
def test_resident_memory_stays_bounded_while_a_large_pack_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(frames_module, "_HELD_BYTES", 16 << 20)
    (tmp_path / "u8").touch()
    os.truncate(tmp_path / "u8", 2000 * 128 * 128 * 3)  # 98 MB of holes
    frames = frames_of(np.memmap(tmp_path / "u8", np.uint8, "r", shape=(2000, 128, 128, 3)))
    before = frames_module._mapped_bytes()
    most = 0
    for start in range(0, 2000, 64):
        assert not frames.pixels(np.arange(start, min(start + 64, 2000))).any()
        most = max(most, frames_module._mapped_bytes() - before)
    assert 0 < most < 64 << 20
