from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from fexgan_lit.data.images import FrameError, decode_frame, read_frame
from tests.data.conftest import picture


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_kinds_come_back_exactly_as_rgb(kind):
    pixels = picture(1, 12, 20)
    assert (decode_frame(encoded(Image.fromarray(pixels), kind)) == pixels).all()


def test_webp_and_jpeg_come_back_as_rgb():
    red = Image.new("RGB", (16, 16), (250, 10, 20))
    assert (decode_frame(encoded(red, "WEBP", lossless=True)) == (250, 10, 20)).all()
    assert np.abs(decode_frame(encoded(red, "JPEG", quality=95)).astype(int) - (250, 10, 20)).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_goes_onto_black(kind):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:] = (200, 100, 50, 255)
    rgba[0, 0] = (200, 100, 50, 0)
    rgba[0, 1] = (200, 100, 51, 128)
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    frame = decode_frame(encoded(Image.fromarray(rgba), kind, **lossless))
    assert frame.shape == (8, 8, 3)
    assert frame[0, 0].tolist() == [0, 0, 0]
    assert frame[0, 1].tolist() == [100, 50, 26]  # 200*128/255 = 100.4, 100*128/255 = 50.2, 51*128/255 = 25.6
    assert frame[4, 4].tolist() == [200, 100, 50]


def test_grey_and_grey_with_alpha_become_three_equal_channels():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert (decode_frame(encoded(Image.fromarray(grey), "PNG")) == grey[..., None]).all()
    half = Image.merge("LA", (Image.fromarray(grey), Image.new("L", (8, 8), 51)))
    assert (decode_frame(encoded(half, "PNG")) == ((grey * 51.0 / 255).round()[..., None])).all()


def test_of_sixteen_bits_the_upper_eight_are_kept():
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    frame = decode_frame(encoded(Image.fromarray(values), "PNG"))
    assert frame[0, :, 1].tolist() == [0, 0, 0, 1, 128, 255, 255, 255]


def test_palette_and_one_bit_images():
    pixels = np.repeat(np.repeat(np.uint8([[[255, 0, 0], [0, 0, 255]]]), 4, 0), 4, 1)
    assert (decode_frame(encoded(Image.fromarray(pixels).quantize(4), "PNG")) == pixels).all()
    bits = Image.fromarray(np.eye(8) > 0)
    assert (decode_frame(encoded(bits, "PNG"))[..., 0] == np.eye(8) * 255).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_truncated_files_are_refused_without_noise(kind, share, capfd):
    data = encoded(Image.fromarray(picture(2, 64)), kind)
    with pytest.raises(FrameError, match=r"truncated|damaged|not a"):
        decode_frame(data[: int(len(data) * share)])
    assert capfd.readouterr().err == ""


def test_truncated_progressive_jpeg_with_a_thumbnail_is_refused():
    thumbnail = encoded(Image.fromarray(picture(3, 16)), "JPEG")
    data = encoded(Image.fromarray(picture(2, 64)), "JPEG", progressive=True)
    app = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = data[:2] + app + data[2:]
    assert decode_frame(with_thumbnail).shape == (64, 64, 3)
    with pytest.raises(FrameError, match="truncated or damaged JPEG"):
        decode_frame(with_thumbnail[:-40])


def test_jpeg_with_bytes_after_its_end_is_read():
    data = encoded(Image.fromarray(picture(2, 16)), "JPEG")
    assert (decode_frame(data + b"\0" * 50) == decode_frame(data)).all()


def test_damaged_png_is_refused_without_noise(capfd):
    data = bytearray(encoded(Image.fromarray(picture(2, 64)), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(FrameError, match="truncated or damaged PNG"):
        decode_frame(bytes(data))
    assert capfd.readouterr().err == ""


def test_broken_colour_profile_is_passed_over(capfd):
    pixels = picture(2, 16)
    data = encoded(Image.fromarray(pixels), "PNG", icc_profile=b"nonsense" * 20)
    assert b"iCCP" in data
    assert (decode_frame(data) == pixels).all()
    assert capfd.readouterr().err == ""


def test_decompression_bombs_are_refused_by_their_header():
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(FrameError, match="more than the 100 megapixels allowed"):
        decode_frame(data)


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b"hello", "not a PNG"), (b"RIFF1234WAVE", "not a PNG")])
def test_other_bytes_are_refused(data, reason):
    with pytest.raises(FrameError, match=reason):
        decode_frame(data)


def test_float_pixels_are_refused():
    with pytest.raises(FrameError, match="float32"):
        decode_frame(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


def test_read_frame_names_no_file_but_the_reason(tmp_path):
    with pytest.raises(FrameError, match="cannot be read"):
        read_frame(tmp_path / "missing.png")
    path = tmp_path / "Zoë 1.png"
    path.write_bytes(encoded(Image.fromarray(picture(4, 9)), "PNG"))
    assert (read_frame(path) == picture(4, 9)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_shown_as_pillow_shows_it(kind, orientation):
    quarters = np.zeros((32, 48, 3), np.uint8)
    quarters[:16, :24], quarters[:16, 24:], quarters[16:, :24] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(Image.fromarray(quarters), kind, exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"), np.int64)
    frame = decode_frame(data)
    assert frame.shape == expected.shape == ((48, 32, 3) if orientation > 4 else (32, 48, 3))
    assert np.abs(frame - expected).mean() < 3


@pytest.mark.parametrize("mode", ["grey", "colours", "RGBA", "palette"])
def test_orientation_of_the_less_usual_kinds_of_png(mode):
    exif = Image.Exif()
    exif[274] = 6
    upright = np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000 + 4000
    stored = np.rot90(upright)  # shown after a quarter turn clockwise
    if mode == "colours":  # Pillow writes no colours of 16 bits
        plain = cv2.imencode(".png", cv2.merge([stored] * 3))[1].tobytes()
        data = exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = len(data).to_bytes(4, "big") + b"eXIf" + data + zlib.crc32(b"eXIf" + data).to_bytes(4, "big")
        file = plain[:33] + chunk + plain[33:]
    elif mode == "grey":
        file = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    else:
        image = Image.fromarray(((stored + 128) // 257).astype(np.uint8))
        file = encoded(image.convert("P") if mode == "palette" else image.convert(mode), "PNG", exif=exif)
    assert (
        decode_frame(file)[..., 1] == (upright >> 8 if mode in ("grey", "colours") else (upright + 128) // 257)
    ).all()


@pytest.mark.parametrize("kind", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_twelve_bits_in_sixteen_are_noticed(kind, channels):
    levels = np.full((4, 4, channels), 4095, np.uint16)
    levels[..., 3:] = 65535  # opaque
    with pytest.raises(FrameError, match=r"12 or fewer of the 16 bits per channel are used; scale them to 0\.\.65535"):
        decode_frame(cv2.imencode(kind, levels)[1].tobytes())
    assert not decode_frame(cv2.imencode(kind, np.zeros_like(levels))[1].tobytes()).any()


def test_cmyk_jpeg_becomes_rgb():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16], pixels[:, 16:] = (220, 30, 60), (40, 200, 90)
    frame = decode_frame(encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(frame.astype(int) - pixels).mean() < 6


def test_sixteen_bit_colours_and_tiffs():
    wide = np.array([[[0, 257, 65535], [32768, 65406, 129]]], np.uint16)  # (1, 2, 3) RGB
    for extension in (".png", ".tif"):
        data = cv2.imencode(extension, wide[..., ::-1])[1].tobytes()
        assert decode_frame(data).tolist() == [[[0, 1, 255], [128, 255, 0]]]


def test_transparent_entries_of_palettes_and_transparent_colours_go_onto_black():
    pixels = np.repeat(np.uint8([[[255, 0, 0], [0, 0, 255]]]), 4, 0)
    palette = Image.fromarray(pixels).quantize(2)
    first = palette.getpixel((0, 0))
    frame = decode_frame(encoded(palette, "PNG", transparency=first))
    assert frame[0].tolist() == [[0, 0, 0], [0, 0, 255]]
    frame = decode_frame(encoded(Image.fromarray(pixels), "PNG", transparency=(255, 0, 0)))
    assert frame[0].tolist() == [[0, 0, 0], [0, 0, 255]]


def test_animations_show_their_first_picture():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert (decode_frame(data) == (255, 0, 0)).all()


BOMB = (40_000, 30_000)


def bombs() -> dict[str, bytes]:
    """Files of a few hundred bytes that declare 1200 megapixels."""
    width, height = BOMB
    small = Image.new("RGB", (16, 16))
    jpeg = bytearray(encoded(small, "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", height, width)
    bmp = bytearray(encoded(small, "BMP"))
    bmp[18:26] = struct.pack("<ii", width, -height)
    tiff = bytearray(encoded(small, "TIFF"))
    (directory,) = struct.unpack_from("<I", tiff, 4)
    for entry in range(struct.unpack_from("<H", tiff, directory)[0]):
        tag = directory + 2 + 12 * entry
        if struct.unpack_from("<H", tiff, tag)[0] in (256, 257):
            which = struct.unpack_from("<H", tiff, tag)[0]
            tiff[tag + 2 : tag + 12] = struct.pack("<HII", 4, 1, width if which == 256 else height)
    return {"JPEG": bytes(jpeg), "BMP": bytes(bmp), "TIFF": bytes(tiff)}


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF"])
def test_bombs_of_every_kind_are_refused_before_they_are_decoded(kind, monkeypatch):
    data = bombs()[kind]
    monkeypatch.setattr(Image.Image, "load", None)  # calling it would fail
    with pytest.raises(FrameError, match="more than the 100 megapixels allowed"):
        decode_frame(data)


def test_files_that_are_huge_or_no_files_are_not_even_read(tmp_path):
    with (tmp_path / "huge.png").open("wb") as huge:
        huge.truncate(3 << 30)  # a hole, no disk is filled
    with pytest.raises(FrameError, match="3072 MiB, more than the 1024 MiB allowed"):
        read_frame(tmp_path / "huge.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FrameError, match=r"not a regular file|cannot be read"):
        read_frame(tmp_path / "folder.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(FrameError, match="not a regular file"):
            read_frame(tmp_path / "pipe.png")


def test_a_file_that_may_not_be_opened_is_named_with_the_reason(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "one.png").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FrameError, match=r"cannot be read \(Permission denied\)"):
        read_frame(tmp_path / "one.png")


def tagged(count: int) -> bytes:
    """A TIFF directory of `count` tags, each of which claims all that follows the header."""
    size = 14 + 12 * count
    entries = b"".join(struct.pack("<HHII", 1000 + number, 7, size - 8, 8) for number in range(count))
    return struct.pack("<2sHIH", b"II", 42, 8, count) + entries + bytes(4)


def hostile() -> dict[str, tuple[bytes, str]]:
    """Small files that would cost hours or gigabytes, and why they are refused."""
    small = Image.new("RGB", (16, 16))
    jpeg, progressive = encoded(small, "JPEG"), encoded(small, "JPEG", progressive=True)
    png, tiff = encoded(small, "PNG"), bytearray(encoded(small, "TIFF", compression="tiff_adobe_deflate"))
    last = progressive.rindex(b"\xff\xda")
    exif = tagged(20_000)
    pieces = [b"Exif\0\0" + exif[at : at + 60_000] for at in range(0, len(exif), 60_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)
    chunk = struct.pack(">I4sI", 0, b"prVt", zlib.crc32(b"prVt"))
    (directory,) = struct.unpack_from("<I", tiff, 4)
    tiff[directory + 14 : directory + 16] = tiff[directory + 2 : directory + 4]  # the height becomes a second width
    rle = struct.pack("<2sIHHIIiiHHII16x", b"BM", 100, 0, 0, 1078, 40, 10_000_000, 1, 1, 8, 1, 0)
    return {
        "scans": (progressive[:last] + progressive[last:-2] * 51 + progressive[-2:], "50 scans"),
        "segments": (jpeg[:2] + b"\xff\xfe\0\2" * 20_000 + jpeg[2:], "tiny parts"),
        "exif": (jpeg[:2] + b"\xff\xd9\xff\xf0" + segments + jpeg[20:], "claim far more bytes"),
        "tags": (tagged(20_000), "claim far more bytes"),
        "chunks": (png[:33] + chunk * 20_000 + png[33:], "tiny parts"),
        "tag twice": (bytes(tiff), "tag 256 twice"),
        "run lengths": (rle + bytes(1024) + b"\0\2\xff\xff" * 4, "run-length coded BMP"),
    }


@pytest.mark.parametrize("kind", list(hostile()))
def test_small_files_that_ask_for_hours_or_gigabytes_are_refused_before_they_are_decoded(kind, monkeypatch):
    data, reason = hostile()[kind]
    monkeypatch.setattr(Image.Image, "load", None)
    monkeypatch.setattr(Image.Exif, "load", None)  # of a JPEG, Pillow parses it while it opens the file
    with pytest.raises(FrameError, match=reason):
        decode_frame(data)


def test_exif_that_claims_more_than_there_is_is_refused_in_a_png_too(monkeypatch):
    blob = tagged(20_000)
    png = encoded(Image.new("RGB", (16, 16)), "PNG")
    chunk = struct.pack(">I", len(blob)) + b"eXIf" + blob + struct.pack(">I", zlib.crc32(b"eXIf" + blob))
    monkeypatch.setattr(Image.Exif, "load", None)
    with pytest.raises(FrameError, match="claim far more bytes"):
        decode_frame(png[:33] + chunk + png[33:])


def test_progressive_jpegs_with_a_thumbnail_and_restarts_are_read():
    data = encoded(Image.fromarray(picture(5, 64)), "JPEG", progressive=True, restart_marker_blocks=1)
    thumbnail = encoded(Image.fromarray(picture(3, 16)), "JPEG", progressive=True) * 8  # as many scans again
    app = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert (decode_frame(data[:2] + app + data[2:] + thumbnail) == decode_frame(data)).all()
