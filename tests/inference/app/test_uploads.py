"""Uploads: judged by content, refused before they are decoded, read as every other picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fexgan_lit.inference.app import requests as uploads
from fexgan_lit.inference.app.requests import MOST_BYTES, read_upload
from fexgan_lit.utils.errors import UserError
from tests.inference.app.pictures import bomb, encoded, halves


def test_a_photo_of_20_megapixels_is_taken():
    data = encoded(Image.new("RGB", (5472, 3648), (90, 120, 30)), "JPEG")
    assert np.abs(read_upload(data).pixels.mean((0, 1)) - (90, 120, 30)).max() < 3


def test_a_bomb_is_refused_by_its_header_alone(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UserError, match="more than the 40 megapixels allowed"):
        read_upload(bomb())


def test_a_large_file_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(uploads, "decode_picture", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match="21 MiB; expected at most 20 MiB"):
        read_upload(bytes(MOST_BYTES + (1 << 20)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"this is text", "not a PNG, JPEG, BMP, WebP or TIFF image"),
        (b"", "empty file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG"),
        (encoded(halves(), "GIF", save_all=True, append_images=[halves()]), "not a PNG"),
        (encoded(halves())[:-40], "PNG file"),
        (encoded(halves(), "JPEG")[:-200], "truncated or damaged JPEG file"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(data, reason):
    with pytest.raises(UserError, match=reason):
        read_upload(data)


def test_unusual_pictures_are_read():
    upright = halves(60, 60)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down, so that red is on the right
    turned = read_upload(encoded(upright, "JPEG", exif=exif, quality=95)).pixels
    assert turned[30, 50, 0] > 200
    assert turned[30, 5, 2] > 200
    clear = upright.convert("RGBA")
    clear.putalpha(0)
    assert read_upload(encoded(clear)).pixels.max() == 0
    grey = read_upload(encoded(upright.convert("L"))).pixels
    assert (grey[..., 0] == grey[..., 2]).all()
    assert read_upload(encoded(upright.convert("CMYK"), "JPEG", quality=95)).pixels[30, 5, 0] > 200
