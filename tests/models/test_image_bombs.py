"""Rows I04 to I06: images that are too large, and larger than they look."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from models.errors import ImageTooManyPixels, ImageUndecodable
from models.image import MAX_PIXELS, decode_image
from tests.models.image_files import FILES, JPEG, difference, pixels
from tests.models.pictures import (
    PNG_MAGIC,
    encode,
    jpeg_segment,
    jpeg_with,
    png,
    png_chunk,
    png_with,
    webp,
    webp_chunk,
    webp_header,
)
from tests.stopwatch import quickest


def _sized(image_format: str, width: int, height: int) -> bytes:
    """A file of a few hundred bytes that says it holds width x height pixels."""
    if image_format == "png":
        return png(width, height, b"")
    if image_format == "jpeg":
        frame = JPEG.index(b"\xff\xc0")
        return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]
    return webp(webp_header(width, height), FILES["webp"][12:])


@pytest.mark.parametrize(
    ("image_format", "width", "height"),
    [
        ("png", 50_000, 50_000),
        ("png", 13_340, 13_340),  # just under the size that Pillow itself refuses
        ("png", 2**31 - 1, 2**31 - 1),
        ("jpeg", 65_500, 65_500),
        ("jpeg", 13_340, 13_340),
        ("webp", 16_384, 16_384),
    ],
)
def test_too_many_pixels_are_refused_before_any_is_decoded(
    image_format: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise ValueError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    data = _sized(image_format, width, height)
    assert len(data) < 3000

    def refuse() -> None:
        with pytest.raises(ImageTooManyPixels, match="40,000,000"):
            decode_image(data)

    assert quickest(refuse, bound=0.05) < 0.05


def test_the_limit_is_the_callers() -> None:
    for data in FILES.values():
        assert decode_image(data, max_pixels=48 * 32).size == (48, 32)
        with pytest.raises(ImageTooManyPixels, match="48 x 32"):
            decode_image(data, max_pixels=48 * 32 - 1)


def test_the_largest_picture_is_decoded() -> None:
    side = int(MAX_PIXELS**0.5)
    assert decode_image(encode(Image.new("L", (side, side)), "PNG")).size == (side, side)


ONE_MEGABYTE = zlib.compress(bytes(1_000_000), 9)
FIFTY_MEGABYTES = zlib.compress(bytes(50_000_000), 1)
PNG_BOMBS = {
    "zTXt": png_chunk(b"zTXt", b"k\0\0" + FIFTY_MEGABYTES),
    "iTXt": png_chunk(b"iTXt", b"k\0\1\0\0\0" + FIFTY_MEGABYTES),
    "iCCP": png_chunk(b"iCCP", b"k\0\0" + FIFTY_MEGABYTES),
    "many zTXt": png_chunk(b"zTXt", b"k\0\0" + ONE_MEGABYTE) * 5_000,
    "many iCCP": png_chunk(b"iCCP", b"k\0\0" + ONE_MEGABYTE) * 2_000,
    "EXIF": png_chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + b"\1\0\7\0\xff\xff\0\0\x08\0\0\0" * 65_535),
}
JPEG_BOMBS = {
    "EXIF": jpeg_segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 920,
    "EXIF entries": jpeg_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x88\x13" + b"\1\0\7\0\x60\xea\0\0\x08\0\0\0" * 5_000),
    "XMP": jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(65_000)) * 920,
    "ICC": jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)) * 920,
    "Adobe": jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + bytes(65_000)) * 920,
    "comments": jpeg_segment(0xFE, bytes(65_000)) * 920,
    "fill bytes": b"\xff" * 16_000_000,
}


@pytest.mark.parametrize("chunks", PNG_BOMBS.values(), ids=PNG_BOMBS.keys())
def test_png_metadata_costs_neither_time_nor_memory(chunks: bytes) -> None:
    _assert_cheap(png_with(FILES["png"], chunks), FILES["png"])


@pytest.mark.parametrize("segments", JPEG_BOMBS.values(), ids=JPEG_BOMBS.keys())
def test_60_megabytes_of_jpeg_metadata_cost_neither_time_nor_memory(segments: bytes) -> None:
    _assert_cheap(jpeg_with(JPEG, segments), JPEG)


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(JPEG, jpeg_segment(0xE5) * 4_000_000),
        png_with(FILES["png"], png_chunk(b"prVt") * 1_300_000),
        PNG_MAGIC + FILES["png"][8:33] + png_chunk(b"IDAT") * 1_300_000 + FILES["png"][33:],
        webp(webp_header(48, 32), webp_chunk(b"NONE") * 1_900_000, FILES["webp"][12:]),
    ],
    ids=["jpeg", "png", "png-idat", "webp"],
)
def test_16_megabytes_of_empty_parts_are_refused_at_once(data: bytes) -> None:
    _assert_cheap(data, None)


def _assert_cheap(data: bytes, same_as: bytes | None) -> None:
    """Below 200 ms of one core, and no more memory than two copies of the file."""
    wanted = None if same_as is None else pixels(same_as)

    def decode() -> None:
        if wanted is None:
            with pytest.raises(ImageUndecodable, match="parts"):
                decode_image(data)
        else:
            assert difference(pixels(data), wanted) == 0

    assert quickest(decode, bound=0.2) < 0.2
    tracemalloc.start()
    try:
        decode_image(data)
    except ImageUndecodable:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * len(data) + 10_000_000
