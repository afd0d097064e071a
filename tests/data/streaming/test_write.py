"""Writing a pack as chunks: whole or recognisably not, gone on with, and never over anything else."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace

import pytest

from fexgan_lit.data.streaming import writer as write_module
from fexgan_lit.data.streaming.config import PackSettings
from fexgan_lit.data.streaming.format import FACTS, INDEX, TABLE, WRITING, chunk_name
from fexgan_lit.data.streaming.storage import FolderStore, S3Store, store_of
from fexgan_lit.utils.errors import UserError

from .conftest import CHUNK_MB, opened, write

#: Five chunks.
LARGER = 2.7 * CHUNK_MB


class StoppedError(Exception):
    """As if the process had been killed."""


@pytest.fixture(params=["folder", "store"])
def to(request, tmp_path) -> str:
    """A new place of either kind."""
    return (
        str(tmp_path / "place") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    )


def stop_after(monkeypatch, count: int) -> list[str]:
    """Sending a chunk fails after so many; returns the names that are really sent."""
    sent: list[str] = []
    for kind in (FolderStore, S3Store):
        send = kind.send

        def send_some(self, path, file, check, send=send):
            if len(sent) >= count:
                raise StoppedError
            send(self, path, file, check)
            sent.append(file)

        monkeypatch.setattr(kind, "send", send_some)
    return sent


def test_a_write_that_was_stopped_does_not_look_whole_and_goes_on(config, to, monkeypatch):
    place = store_of(to)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            write(config, to, LARGER)
    assert place.read(FACTS) is None
    assert place.read(WRITING) is not None
    with pytest.raises(UserError, match="the pack there is incomplete; run the prepare command that wrote it again"):
        opened(replace(config, root=to))
    with pytest.raises(UserError, match="holds part of another pack"):
        write(config, to, CHUNK_MB)
    written = write(config, to, LARGER)
    assert not written.reused
    assert place.read(WRITING) is None
    assert len(opened(replace(config, root=to)).table) == 140


def test_the_same_pack_again_is_found_and_another_refused(config, to):
    first = write(config, to, LARGER)
    again = write(config, to, LARGER)
    assert (first.reused, again.reused) == (False, True)
    assert again.facts == first.facts
    with pytest.raises(UserError, match=r"holds another pack \(mhfed-32px-\w+, 28 frames per chunk\); this one is"):
        write(config, to)
    with pytest.raises(UserError, match="holds another pack"):
        write(replace(config, affects=["joy", "anger"]), to, LARGER)


def test_what_a_store_has_is_not_sent_again(config, bucket, tmp_path, monkeypatch):
    to = f"{bucket}/{tmp_path.name}"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            write(config, to, LARGER)
    known = []
    has = S3Store._has
    monkeypatch.setattr(S3Store, "_has", lambda *a: known.append(has(*a)) or known[-1])
    write(config, to, LARGER)
    assert known == [True, True, True, False, False]


def test_other_things_at_the_place_are_left_alone(config, tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0001.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds other files, such as 0001\.png; expected a new or empty place"):
        write(config, tmp_path / "frames")
    with pytest.raises(UserError, match=r"holds pack\.json, a file of the same name that does not describe a pack"):
        write(config, opened(config).summary.pack)
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["0001.png"]


def test_a_place_that_cannot_be_written(config, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UserError, match=r"the folder .*file/place cannot be used \(Not a directory\)"):
        write(config, tmp_path / "file" / "place")


def test_what_lies_there(config, folder):
    facts = json.loads((folder / FACTS).read_text())
    assert (facts["format"], facts["frames"], facts["size"], facts["chunk_frames"]) == (1, 140, 32, 10)
    assert facts["sizes"] == {"40x40": 140}
    assert facts["dataset"] == "mhfed"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [FACTS, INDEX, TABLE, *(chunk_name(chunk) for chunk in range(14))]
    )
    index = json.loads((folder / INDEX).read_text())
    assert [chunk["filename"] for chunk in index["chunks"]] == [chunk_name(chunk) for chunk in range(14)]


def test_options_that_the_table_keeps_cannot_be_changed(config, folder):
    there = replace(config, root=str(folder))
    with pytest.raises(UserError, match=r"dataset\.annotations=units\.csv: the pack .* was made with None"):
        opened(replace(there, annotations="units.csv"))
    with pytest.raises(UserError, match=r"of dataset=mhfed, not of ferg; use dataset=mhfed"):
        opened(replace(there, name="ferg"))
    with pytest.raises(UserError, match=r"its frames have 32 px; dataset\.image_size=64 needs 64 px.*image_size=64"):
        opened(replace(there, image_size=64))
    with pytest.raises(UserError, match=r"32, 36 with dataset\.augmentation=fexgan needs 36 px"):
        opened(replace(there, augmentation="fexgan"))


def test_a_chunk_of_a_folder_that_is_missing_or_cut_is_named(config, tmp_path):
    write(config, tmp_path / "chunks", LARGER)
    data = opened(replace(config, root=str(tmp_path / "chunks")))
    (tmp_path / "chunks" / chunk_name(0)).unlink()
    (tmp_path / "chunks" / chunk_name(1)).write_bytes(b"x" * 100)
    rows = {chunk: (data.everything().images._stored // 28 == chunk).nonzero()[0] for chunk in (0, 1, 2)}
    with pytest.raises(UserError, match=r"chunk-0-0\.bin, a chunk of the pack, is missing or incomplete.*new place"):
        data.everything().pixels(rows[0])
    with pytest.raises(UserError, match=r"chunk-0-1\.bin.*100 bytes instead of"):
        data.everything().pixels(rows[1])
    assert len(data.everything().pixels(rows[2])) == 28


def test_litdata_that_is_not_installed(config, tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *args):
        if name.split(".")[0] == "litdata":
            raise ImportError("No module named 'litdata'")
        return imported(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError,
        match=r"pack\.format=litdata.*pip install \"fexgan_lit\[stream\]\", then pip install --no-deps litdata",
    ):
        write(config, tmp_path / "chunks")
    monkeypatch.setattr(builtins, "__import__", imported)
    write_module.check_writer()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "zip"}, "pack.format=zip: expected one of memmap, litdata"),
        ({"format": "litdata"}, "pack.format=litdata needs pack.to=PLACE"),
        ({"to": "s3://faces/set"}, "say pack.format=litdata"),
        ({"chunk_mb": 0}, "pack.chunk_mb=0: expected more than 0"),
        ({"chunk_mb": 5000}, "at most 4000"),
    ],
)
def test_options_that_make_no_sense(options, message):
    assert message in " ".join(PackSettings(**options).problems())
