"""Rows I11 to I16: other formats, and files that are two things at once."""

from __future__ import annotations

import pytest
from PIL import Image

from models import image as image_module
from models.errors import FormatNotAllowed
from models.image import decode_image
from tests.models.image_files import FILES, JPEG, difference, pixels
from tests.models.pictures import encode, jpeg_segment, jpeg_with, picture


def _frames() -> list[Image.Image]:
    return [picture(), picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
def test_animations_are_refused(image_format: str) -> None:
    first, second = _frames()
    with pytest.raises(FormatNotAllowed):
        decode_image(encode(first, image_format, save_all=True, append_images=[second]))


def test_a_multi_picture_jpeg_gives_its_first_picture() -> None:
    first, second = _frames()
    data = encode(first, "MPO", save_all=True, append_images=[second])
    assert difference(pixels(data), pixels(encode(first, "JPEG"))) == 0


def test_multi_picture_offsets_are_not_followed() -> None:
    first, second = _frames()
    data = encode(first, "MPO", save_all=True, append_images=[second])
    start = data.index(b"MPF\0")
    for offset in (b"\xff\xff\xff\x7f", b"\0\0\0\0"):
        bent = data[: start + 50] + offset * 8 + data[start + 82 :]
        assert difference(pixels(bent), pixels(data)) == 0


FOREIGN = {
    "SVG": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVG, bare": b"  <svg xmlns='http://www.w3.org/2000/svg'/>",
    "EPS": encode(picture(), "EPS"),
    "EPS, DOS": b"\xc5\xd0\xd3\xc6" + bytes(28),
    "PDF": encode(picture(), "PDF"),
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "PSD": b"8BPS\0\1" + bytes(40),
    "FITS": b"SIMPLE  =                    T" + b" " * 50,
    "JPEG 2000": encode(picture(), "JPEG2000"),
    "JPEG 2000, codestream": encode(picture(), "JPEG2000", no_jp2=True),
    "ICNS": encode(picture(64, 64), "ICNS"),
    "TIFF": encode(picture(), "TIFF"),
    "TIFF, many pages": encode(picture(), "TIFF", save_all=True, append_images=[picture()] * 3),
    "TIFF, directory loop": b"II*\0\x08\0\0\0\x00\x00\x08\0\0\0",
    "TIFF, huge directory": b"MM\0*\0\0\0\x08\xff\xff" + bytes(12),
    "BigTIFF": b"II+\0\x08\0\0\0" + bytes(8),
    "GIF": encode(picture(), "GIF"),
    "BMP": encode(picture(), "BMP"),
    "ICO": encode(picture(), "ICO"),
    "DCX": b"\xb1\x68\xde\x3a" + bytes(40),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(40),
    "AVIF": b"\0\0\0\x20ftypavif" + bytes(40),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_other_formats_are_named_and_no_decoder_of_theirs_runs(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise ValueError("a decoder was run")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.__init__", run)
    monkeypatch.setattr("PIL.Image.open", run)
    with pytest.raises(FormatNotAllowed, match="not accepted"):
        decode_image(data)


def test_only_three_decoders_can_be_reached() -> None:
    names = {decoder.__name__ for decoder in image_module._DECODERS.values()}  # type: ignore[attr-defined]
    assert names == {"JpegImageFile", "PngImageFile", "WebPImageFile"}


def test_files_that_are_also_something_else_are_what_they_begin_with() -> None:
    archive = b"PK\3\4" + bytes(30) + b"PK\5\6" + bytes(18)
    page = jpeg_segment(0xFE, b"--><script>alert(1)</script><!--")
    for data in (JPEG + archive, jpeg_with(JPEG, page), JPEG + FOREIGN["GIF"], JPEG + FILES["png"]):
        assert difference(pixels(data), pixels(JPEG)) == 0
    with pytest.raises(FormatNotAllowed, match="GIF"):
        decode_image(b"GIF89a" + JPEG)
