"""What of an image file reaches a decoder."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from models.errors import FormatNotAllowed, ImageTruncated, ImageUndecodable
from models.image_file import MAX_PARTS, MAX_SCANS, ImageFile, read_image_file
from tests.models.pictures import (
    encode,
    exif,
    jpeg_segment,
    jpeg_with,
    picture,
    png_chunk,
    png_with,
    webp,
    webp_chunk,
    webp_header,
)

JPEG = encode(picture(), "JPEG")
PNG = encode(picture(), "PNG")
WEBP = encode(picture(), "WEBP")
EMPTY_SCAN = jpeg_segment(0xDA, bytes([1, 1, 0, 1, 63, 0]))  # AC coefficients of the first component, and no data


@pytest.mark.parametrize(("data", "image_format"), [(JPEG, "JPEG"), (PNG, "PNG"), (WEBP, "WEBP")])
def test_a_file_without_metadata_stays_as_it_is(data: bytes, image_format: str) -> None:
    size = (48, 32) if image_format == "WEBP" else None
    assert read_image_file(data) == ImageFile(format=image_format, data=data, orientation=1, size=size)  # type: ignore[arg-type]


def test_jpeg_metadata_is_left_out_and_what_decoding_needs_is_kept() -> None:
    adobe = jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\1")
    metadata = [
        jpeg_segment(0xE1, exif(1)),
        jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1profile"),
        jpeg_segment(0xE2, b"MPF\0II*\0"),
        jpeg_segment(0xED, b"Photoshop 3.0\0"),
        jpeg_segment(0xFE, b"a comment with an end \xff\xd9 and a scan \xff\xda in it"),
    ]
    assert read_image_file(jpeg_with(JPEG, adobe, *metadata)).data == jpeg_with(JPEG, adobe)


def test_png_metadata_is_left_out() -> None:
    metadata = [png_chunk(kind, b"k\0\0\0") for kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"prVt")]
    assert read_image_file(png_with(PNG, *metadata)).data == PNG


@pytest.mark.parametrize("data", [JPEG, PNG, WEBP])
def test_what_is_appended_to_a_picture_is_left_out(data: bytes) -> None:
    assert read_image_file(data + b"PK\3\4 an archive <script>").data == data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_from_every_format(orientation: int) -> None:
    block = exif(orientation)
    assert read_image_file(encode(picture(), "JPEG", exif=block)).orientation == orientation
    assert read_image_file(encode(picture(), "PNG", exif=block)).orientation == orientation
    assert read_image_file(encode(picture(), "WEBP", exif=block)).orientation == orientation


def test_orientation_is_read_in_both_byte_orders() -> None:
    big_endian = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    assert read_image_file(jpeg_with(JPEG, jpeg_segment(0xE1, big_endian))).orientation == 6


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif",
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",  # the first directory lies far behind the end
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",  # more entries than bytes, cut in the first
        b"Exif\0\0XX*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0",
        exif(0),
        exif(9),
        exif(65535),
    ],
)
def test_an_exif_block_that_makes_no_sense_means_upright(block: bytes) -> None:
    assert read_image_file(jpeg_with(JPEG, jpeg_segment(0xE1, block))).orientation == 1


def test_a_jpeg_has_a_bounded_number_of_scans() -> None:
    progressive = encode(picture(), "JPEG", progressive=True)
    own = progressive.count(b"\xff\xda")

    def with_scans(count: int) -> bytes:
        return progressive[:-2] + EMPTY_SCAN * (count - own) + b"\xff\xd9"

    most = read_image_file(with_scans(MAX_SCANS))
    with Image.open(io.BytesIO(most.data)) as image:
        image.load()
    with pytest.raises(ImageUndecodable, match="more than 100 scans"):
        read_image_file(with_scans(MAX_SCANS + 1))


def test_scans_cannot_hide_behind_an_end_inside_a_comment() -> None:
    comment = jpeg_segment(0xFE, b"\xff\xd9")
    with pytest.raises(ImageUndecodable, match="more than 100 scans"):
        read_image_file(JPEG[:-2] + comment + EMPTY_SCAN * 101 + b"\xff\xd9")


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(JPEG, jpeg_segment(0xE5) * MAX_PARTS),
        png_with(PNG, png_chunk(b"prVt") * MAX_PARTS),
        webp(webp_header(48, 32), webp_chunk(b"NONE") * MAX_PARTS, WEBP[12:]),
    ],
    ids=["jpeg", "png", "webp"],
)
def test_a_file_has_a_bounded_number_of_parts(data: bytes) -> None:
    with pytest.raises(ImageUndecodable, match="more than 50,000 parts"):
        read_image_file(data)


def test_a_part_cannot_be_longer_than_the_file() -> None:
    with pytest.raises(ImageTruncated):
        read_image_file(PNG[:33] + b"\xff\xff\xff\xffIDAT" + PNG[33:])
    with pytest.raises(ImageTruncated):
        read_image_file(JPEG[:2] + b"\xff\xe1\xff\xff" + JPEG[2:100])
    with pytest.raises(ImageTruncated):
        read_image_file(WEBP[:4] + b"\xff\xff\xff\xff" + WEBP[8:])


def test_one_frame_is_a_picture_and_two_are_not() -> None:
    def with_frames(count: int) -> bytes:
        control = png_chunk(b"acTL", count.to_bytes(4, "big") + bytes(4))
        return png_with(PNG, control)

    assert read_image_file(with_frames(1)).data == PNG
    with pytest.raises(FormatNotAllowed, match="animated"):
        read_image_file(with_frames(2))
    frame = webp_chunk(b"ANMF", bytes(16))
    assert read_image_file(webp(webp_header(48, 32, 2), frame)).format == "WEBP"
    with pytest.raises(FormatNotAllowed, match="animated"):
        read_image_file(webp(webp_header(48, 32, 2), frame, frame))


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 80}, {"quality": 80, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}]
)
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (16_383, 2)])
def test_the_size_of_a_webp_file_is_known_before_its_decoder_is_asked(size: tuple[int, int], options: Any) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(buffer, "WEBP", **options)
    assert read_image_file(buffer.getvalue()).size == size
