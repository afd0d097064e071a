from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import open_dataset
from fexgan_lit.data.packing import pack as packing
from fexgan_lit.data.packing import sources
from fexgan_lit.utils import cache
from tests.data.conftest import picture


@pytest.fixture
def config(write_cast, tmp_path):
    return DatasetConfig(name="mhfed", root=str(write_cast()), image_size=32, cache_dir=str(tmp_path / "cache"))


def packs(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache/packs").iterdir() if not path.name.startswith("."))


def png(pixels):
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


SLOW_BUILD = """
import sys, time
from fexgan_lit.data.packing import pack as packing, sources
from fexgan_lit.data.datamodule import open_dataset
from fexgan_lit.data.config import DatasetConfig
packing._CHUNK = 2
real = sources.read_frame
def slow(path):
    print("reading", flush=True)
    time.sleep(float(sys.argv[3]))
    return real(path)
sources.read_frame = slow
pack = open_dataset(DatasetConfig(name="mhfed", root=sys.argv[1], image_size=32, cache_dir=sys.argv[2], workers=1))
print("RESULT", pack.folder.name, pack.reused, int(pack.images.astype("int64").sum()))
"""


def start_build(tmp_path, delay):
    command = [sys.executable, "-c", SLOW_BUILD, str(tmp_path / "set"), str(tmp_path / "cache"), str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_build(tmp_path, frames_read):
    """Start a build and kill it when it begins to read frame number `frames_read`."""
    process = start_build(tmp_path, 0.02)
    for _ in range(frames_read):
        assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def content(pack):
    return {path.name: path.read_bytes() for path in sorted(pack.folder.iterdir())}


@pytest.fixture
def reads(monkeypatch):
    """The files that this process reads from now on."""
    seen, real = [], sources.read_frame
    monkeypatch.setattr(sources, "read_frame", lambda path: seen.append(str(path)) or real(path))
    return seen


@pytest.mark.fault
@pytest.mark.parametrize("frames_read", [1, 9, 28])
def test_a_killed_build_goes_on_where_it_stopped(config, tmp_path, reads, frames_read):
    (tmp_path / "set/anna/joy/0001.png").write_bytes(b"no image")
    kill_build(tmp_path, frames_read)
    assert [name.partition(".")[2] for name in packs(tmp_path)] == ["partial-resumable"]
    pack = open_dataset(config)
    assert not pack.reused
    assert packs(tmp_path) == [pack.folder.name]
    # the reader may be ahead of the writer by a few pieces of two frames
    assert 28 - frames_read < len(reads) <= min(28, 28 - frames_read + 10)
    assert content(pack) == content(open_dataset(replace(config, cache_dir=str(tmp_path / "undisturbed"))))


@pytest.mark.fault
def test_a_build_killed_twice_still_comes_out_the_same(config, tmp_path):
    kill_build(tmp_path, 12)
    kill_build(tmp_path, 8)
    pack = open_dataset(config)
    assert content(pack) == content(open_dataset(replace(config, cache_dir=str(tmp_path / "undisturbed"))))


@pytest.mark.parametrize("damage", ["short", "long", "hole", "half a line", "another line", "no journal", "other key"])
def test_what_a_killed_build_left_is_checked(config, tmp_path, monkeypatch, reads, damage):
    monkeypatch.setattr(packing, "_CHUNK", 4)
    interrupt_after(config, 20)
    (partial,) = (tmp_path / "cache/packs").glob("*.partial-*")
    pixels, journal = partial / "frames.u8", partial / "journal"
    frame, lines = 32 * 32 * 3, journal.read_bytes().splitlines(keepends=True)
    assert pixels.stat().st_size == 20 * frame
    if damage == "short":
        os.truncate(pixels, 9 * frame)
    elif damage == "long":
        pixels.write_bytes(pixels.read_bytes() + bytes(1000))
    elif damage == "hole":
        data = bytearray(pixels.read_bytes())
        data[9 * frame : 10 * frame] = bytes(frame)
        pixels.write_bytes(data)
    elif damage == "half a line":
        journal.write_bytes(b"".join(lines)[:-20])
    elif damage == "another line":
        journal.write_bytes(b"".join(lines[:3]) + lines[3].replace(b"40", b"41") + b"".join(lines[4:]))
    elif damage == "no journal":
        journal.unlink()
    else:
        journal.write_bytes(b"".join([lines[0].replace(b"key", b"yek"), *lines[1:]]))
    kept = {"long": 20, "half a line": 16, "short": 8, "hole": 8, "another line": 8}.get(damage, 0)
    reads.clear()
    pack = open_dataset(config)
    assert len(reads) == 28 - kept
    assert content(pack) == content(open_dataset(replace(config, cache_dir=str(tmp_path / "undisturbed"))))


def interrupt_after(config, frames):
    def stop(done, total):
        if done >= frames:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_dataset(config, stop)


def test_progress_goes_on_where_it_stopped(config, monkeypatch):
    monkeypatch.setattr(packing, "_CHUNK", 4)
    interrupt_after(config, 12)
    seen = []
    open_dataset(config, lambda done, total: seen.append((done, total)))
    assert (seen[0], seen[-1]) == ((16, 28), (28, 28))


def test_a_change_of_the_files_makes_what_was_begun_worthless(config, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_CHUNK", 4)
    interrupt_after(config, 12)
    (tmp_path / "set/anna/joy/0001.png").write_bytes(png(picture(99, 40)))
    pack = open_dataset(config)
    assert packs(tmp_path) == [pack.folder.name]
    row = pack.table.paths.index("anna/joy/0001.png")
    assert (pack.images[row] == cv2.resize(picture(99, 40), (32, 32), interpolation=cv2.INTER_AREA)).all()


def test_leftovers_of_other_data_sets(config, tmp_path):
    folder = tmp_path / "cache/packs"
    names = ["other-32px-000000000000.partial-1", "new-32px-000000000000.partial-resumable",
             "old-32px-000000000000.partial-resumable"]  # fmt: skip
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "journal").write_text("")
    for path in (folder / names[2] / "journal", folder / names[2]):
        os.utime(path, (1, 1))
    pack = open_dataset(config)
    assert packs(tmp_path) == [pack.folder.name, names[1]]


def test_a_living_build_is_left_alone(config, tmp_path):
    living = tmp_path / "cache/packs/other-32px-000000000000"
    living.parent.mkdir(parents=True)
    with cache.builder_lock(living), cache.partial_folder(living) as partial:
        open_dataset(config)
        assert partial.is_dir()


@pytest.mark.fault
def test_two_processes_at_once_share_one_build(config, tmp_path):
    first = start_build(tmp_path, 0.02)
    assert first.stdout.readline() == "reading\n"
    second = start_build(tmp_path, 0.02)
    results = [process.communicate(timeout=100)[0].splitlines()[-1].split() for process in (first, second)]
    assert [code.returncode for code in (first, second)] == [0, 0]
    assert [result[2] for result in results] == ["False", "True"]
    assert results[0][1] == results[1][1]
    assert results[0][3] == results[1][3] == str(int(open_dataset(config).images.astype(np.int64).sum()))


def test_without_locks_the_first_to_finish_stays(config, tmp_path):
    pack = open_dataset(config)
    with cache.partial_folder(pack.folder) as partial:
        (partial / "frames.u8").write_bytes(b"late")
        cache.publish(partial, pack.folder)
        assert partial.is_dir()
    assert not partial.exists()
    assert open_dataset(config).reused
