"""Data sets that come as one archive."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from fexgan_lit.data.datasets import archives
from fexgan_lit.data.datasets.archives import unpack
from fexgan_lit.utils.errors import UserError
from tests.data.standins import PIXEL, index, reasons, write_ckplus

KINDS = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar", ".tgz": "gztar"}


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def pack(folder, target, suffix):
    made = Path(shutil.make_archive(str(target / "made"), KINDS[suffix], folder.parent, folder.name))
    return made.rename(target / f"FERG data{suffix}")


def add_to_tar(archive, name, data=b"x", **fields):
    with tarfile.open(archive, "a") as out:
        info = tarfile.TarInfo(name)
        info.size = 0 if fields else len(data)
        for field, value in fields.items():
            setattr(info, field, value)
        out.addfile(info, None if fields else io.BytesIO(data))


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("form", ["ferg", "mhfed"])
def test_unpacked_once_and_entered_to_the_right_folder(write_cast, tmp_path, cache, suffix, form):
    root = write_cast(form, name="in/FERG_DB_256")
    archive = pack(root.parent, tmp_path, suffix)
    table = index(archive, form, cache_dir=cache)
    assert table.paths == index(root, form).paths
    assert table.root.name == "FERG_DB_256"
    assert table.root.is_relative_to(tmp_path / "cache/unpacked")
    assert (table.root / table.paths[0]).read_bytes() == (root / table.paths[0]).read_bytes()
    assert any("was unpacked to" in note for note in table.notes)
    before = (table.root / table.paths[0]).stat().st_ino
    again = index(archive, form, cache_dir=cache)
    assert (again.root / again.paths[0]).stat().st_ino == before
    assert again.notes == table.notes


def test_times_are_kept_so_that_packs_can_be_used_again(write_cast, tmp_path, cache):
    root = write_cast()
    os.utime(root / "anna/joy/0001.png", (1_500_000_000, 1_500_000_000))
    for suffix in (".zip", ".tar"):
        folder = unpack(pack(root, tmp_path, suffix), cache).folder
        assert (folder / "set/anna/joy/0001.png").stat().st_mtime == 1_500_000_000


def test_a_changed_archive_is_unpacked_again(write_cast, tmp_path, cache):
    first = unpack(pack(write_cast(), tmp_path, ".zip"), cache).folder
    write_cast(identities=["carl"])
    second = unpack(pack(tmp_path / "set", tmp_path, ".zip"), cache).folder
    assert first != second
    assert (second / "set/carl").is_dir()


def test_archive_of_a_set_with_several_folders(tmp_path, cache):
    archive = pack(write_ckplus(tmp_path / "CK+"), tmp_path, ".tar.gz")
    assert index(archive, "ckplus", cache_dir=cache, sequence_ends=3).identities == ("S005", "S010")


def test_archive_that_is_no_such_set(write_cast, tmp_path, cache):
    archive = pack(write_cast(), tmp_path, ".zip")
    with pytest.raises(UserError, match=r"Use dataset=|there is no image where dataset=ckplus"):
        index(archive, "ckplus", cache_dir=cache)


def test_unsafe_members_of_a_tar_are_skipped_and_named(write_cast, tmp_path, cache):
    archive = pack(write_cast(), tmp_path, ".tar")
    add_to_tar(archive, "../escape.png")
    add_to_tar(archive, "set/../../escape2.png")
    add_to_tar(archive, f"{tmp_path}/absolute.png")
    add_to_tar(archive, "set/anna/link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    add_to_tar(archive, "set/way", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    add_to_tar(archive, "set/way/through.png")
    add_to_tar(archive, "set/anna/hard.png", type=tarfile.LNKTYPE, linkname="/etc/passwd")
    add_to_tar(archive, "set/anna/pipe", type=tarfile.FIFOTYPE)
    add_to_tar(archive, "set/anna/device", type=tarfile.CHRTYPE)
    add_to_tar(archive, "set/anna/joy/0001.png/below.png")
    add_to_tar(archive, f"set/{'n' * 300}.png")
    table = index(archive, "mhfed", cache_dir=cache)
    leaves, link = "archive member whose path leaves the archive", "archive member that is a link or a device"
    skipped = {path: reason for path, reason in reasons(table).items() if reason.startswith("archive member")}
    assert skipped.pop("set/anna/joy/0001.png/below.png").startswith("archive member that cannot be written")
    assert skipped.pop(f"set/{'n' * 300}.png").startswith("archive member that cannot be written")
    assert skipped == {
        "../escape.png": leaves,
        "set/../../escape2.png": leaves,
        str(tmp_path / "absolute.png").lstrip("/"): leaves,
        "set/anna/link.png": link,
        "set/way": link,
        "set/anna/hard.png": link,
        "set/anna/pipe": link,
        "set/anna/device": link,
    }
    assert len(table) == 28
    assert not list(tmp_path.glob("*.png"))
    assert not list(tmp_path.rglob("escape*"))
    assert not any(path.is_symlink() for path in (tmp_path / "cache").rglob("*"))


def test_unsafe_members_of_a_zip_are_skipped_and_named(write_cast, tmp_path, cache):
    archive = pack(write_cast(), tmp_path, ".zip")
    with zipfile.ZipFile(archive, "a") as out:
        for name in ("../escape.png", "/absolute.png", "C:\\windows.png", "..\\escape3.png", "__MACOSX/set/._a.png",
                     "__MACOSX/set/._b.png"):  # fmt: skip
            out.writestr(name, PIXEL[".png"])
        link = zipfile.ZipInfo("set/anna/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        out.writestr(link, "/etc/passwd")
    table = index(archive, "mhfed", cache_dir=cache)
    leaves = "archive member whose path leaves the archive"
    assert reasons(table) == {
        "../escape.png": leaves,
        "absolute.png": leaves,
        "C:/windows.png": leaves,
        "../escape3.png": leaves,
        "__MACOSX": "folder of macOS",
        "set/anna/link.png": "archive member that is a link or a device",
    }
    assert not list(tmp_path.rglob("escape*"))
    assert index(archive, "mhfed", cache_dir=cache).drops == table.drops  # from the cache as well


def test_names_in_utf8_without_the_flag(tmp_path, cache):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("Zoë/joy/1.png", PIXEL[".png"])
    data = archive.read_bytes()
    # Clear bit 11 in both headers, as macOS writes them.
    data = data.replace(b"PK\x03\x04\x14\x00\x00\x08", b"PK\x03\x04\x14\x00\x00\x00")
    data = data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x08", b"PK\x01\x02\x14\x03\x14\x00\x00\x00")
    archive.write_bytes(data)
    assert zipfile.ZipFile(archive).namelist() != ["Zoë/joy/1.png"]
    assert files_below(unpack(archive, cache).folder) == ["Zoë/joy/1.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_bombs_are_refused_and_nothing_stays(tmp_path, cache, suffix):
    (tmp_path / "bomb").mkdir()
    (tmp_path / "bomb/zeros.png").write_bytes(bytes(20_000_000))
    archive = pack(tmp_path / "bomb", tmp_path, suffix)
    with pytest.raises(UserError, match=r"unpack to 0\.02 GB.*over 200 times"):
        unpack(archive, cache)
    assert files_below(tmp_path / "cache/unpacked") == sorted(
        path for path in files_below(tmp_path / "cache/unpacked") if path.startswith(".locks")
    )


def test_more_than_the_disk_has_room_for(write_cast, tmp_path, cache, monkeypatch):
    archive = pack(write_cast(), tmp_path, ".tar")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(UserError, match=r"room(?s:.*)dataset\.cache_dir=DIR"):
        unpack(archive, cache)


def test_a_disk_that_fills_up_half_way(write_cast, tmp_path, cache, monkeypatch):
    archive = pack(write_cast(), tmp_path, ".zip")
    copy, written = shutil.copyfileobj, []

    def filling(*arguments):
        written.append(1)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(*arguments)

    monkeypatch.setattr(archives.shutil, "copyfileobj", filling)
    with pytest.raises(UserError, match="No space left on device"):
        unpack(archive, cache)
    assert not list((tmp_path / "cache/unpacked").glob("FERG*"))
    monkeypatch.undo()
    assert len(files_below(unpack(archive, cache).folder)) == 28


def test_a_kill_leaves_nothing_that_is_taken_for_whole(write_cast, tmp_path, cache):
    archive = pack(write_cast(), tmp_path, ".zip")
    code = (
        "import os, shutil, sys\nfrom fexgan_lit.data.datasets import archives\nfrom pathlib import Path\n"
        "copy, seen = shutil.copyfileobj, []\n"
        "def dying(*arguments):\n    seen.append(1)\n    copy(*arguments)\n    len(seen) > 5 and os._exit(9)\n"
        "archives.shutil.copyfileobj = dying\narchives.unpack(Path(sys.argv[1]), sys.argv[2])\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(archive), cache], check=False).returncode == 9
    left = [path.name for path in (tmp_path / "cache/unpacked").iterdir() if not path.name.startswith(".")]
    assert len(left) == 1
    assert ".partial-" in left[0]
    assert len(files_below(unpack(archive, cache).folder)) == 28
    assert not [path for path in (tmp_path / "cache/unpacked").iterdir() if ".partial-" in path.name]


def test_encrypted_zip(write_cast, tmp_path, cache):
    archive = pack(write_cast(), tmp_path, ".zip")
    data = bytearray(archive.read_bytes())
    position = data.rfind(b"PK\x01\x02")
    data[position + 8] |= 1  # the flag of the last entry of the directory
    archive.write_bytes(data)
    with pytest.raises(UserError, match=r"is encrypted.*; unpack it"):
        unpack(archive, cache)


def test_unknown_compression(write_cast, tmp_path, cache):
    archive = pack(write_cast(), tmp_path, ".zip")
    data = bytearray(archive.read_bytes())
    position = data.rfind(b"PK\x01\x02")
    data[position + 10 : position + 12] = struct.pack("<H", 97)
    archive.write_bytes(data)
    with pytest.raises(UserError, match=r"compression .*; unpack it"):
        unpack(archive, cache)


@pytest.mark.parametrize("suffix", KINDS)
def test_damaged_archives(write_cast, tmp_path, cache, suffix):
    archive = pack(write_cast(), tmp_path, suffix)
    data = archive.read_bytes()
    for broken in (b"", b"PK", data[: len(data) // 2], b"x" * 2000):
        archive.write_bytes(broken)
        with pytest.raises(UserError, match="cannot be opened as an archive"):
            unpack(archive, cache)
        assert not list((tmp_path / "cache/unpacked").glob("FERG*"))


def test_a_flipped_byte_is_found(write_cast, tmp_path, cache):
    archive = pack(write_cast(), tmp_path, ".zip")
    data = bytearray(archive.read_bytes())
    data[data.find(b"\x89PNG") + 900 if b"\x89PNG" in data else 200] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(UserError, match="damaged or incomplete"):
        unpack(archive, cache)


def test_other_files_are_no_archives(tmp_path, cache):
    for name in ("set.7z", "set.rar", "picture.png"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=r"is a file; expected a folder, or an archive ending in \.zip"):
            index(tmp_path / name, "mhfed", cache_dir=cache)


def test_manifest_for_an_archive(write_cast, tmp_path, cache):
    archive = pack(write_cast(affects=["joy", "neutral"]), tmp_path, ".zip")
    cells = [(who, what) for who in ("anna", "bob") for what in ("joy", "neutral")]
    rows = [f"set/{who}/{what}/000{n}.png,{who},{what}" for who, what in cells for n in (1, 2)]
    (tmp_path / "m.csv").write_text("\n".join(["path,identity,affect", *rows]))
    assert len(index(archive, "folder", cache_dir=cache, manifest=str(tmp_path / "m.csv"))) == 8
