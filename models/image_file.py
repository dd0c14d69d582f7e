"""The parts of an image file, read before any decoder is: what the picture needs is kept, metadata is left out.

Pillow reads each comment, profile and EXIF entry before the first pixel, and libjpeg as many scans as a file has: 2 MB
of colour profiles in a PNG take 4 s, 16 MB of empty JPEG segments 3 s and 600 MB, and each 10 bytes of an empty scan
2 ms at 40 megapixels (Pillow 13.0, one core). So the decoder only ever sees a file with a bounded number of parts, all
of them for pixels.

JPEG: ITU-T T.81, annex B. PNG: https://www.w3.org/TR/png-3/. WebP: RFC 9649. EXIF's orientation: TIFF 6.0, tag 274.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from models.errors import FormatNotAllowed, ImageTruncated, ImageUndecodable

MAX_PARTS = 50_000  # segments or chunks: 400 MB of PNG in libpng's chunks of 8 kB
MAX_SCANS = 100  # of a JPEG; progressive encoders write about 10, and 100 add 0.2 s to 40 megapixels

_JPEG_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither a stuffed nor a fill byte, nor a restart
_JPEG_SCAN, _JPEG_END, _JPEG_EXIF = 0xDA, 0xD9, 0xE1
_JPEG_DROPPED = {*range(0xE1, 0xF0), 0xFE} - {0xEE}  # all application data but JFIF's and Adobe's, and comments
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}

# What the first bytes say, for formats that are refused without their decoder being run.
_FOREIGN = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"%PDF": "PDF",
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"8BPS": "PSD",
    b"icns": "ICNS",
    b"SIMPLE": "FITS",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"\x01\0\x09\0": "WMF",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xb1\x68\xde\x3a": "DCX",
    b"\0\0\x01\0": "ICO",
}


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image file that a decoder may be given.

    Attributes:
        format: what the first bytes say.
        data: a file of that format with the same pixels, without metadata and without anything behind its end.
        orientation: EXIF's, from 1 (upright) to 8.
        size: width and height, for WebP alone: its decoder allocates the picture before it says how large it is.
    """

    format: Literal["JPEG", "PNG", "WEBP"]
    data: bytes
    orientation: int
    size: tuple[int, int] | None = None


def read_image_file(data: bytes) -> ImageFile:
    """Reads the parts of a JPEG, PNG or WebP file.

    Args:
        data: the file; what comes before its end decides, not what may be appended.

    Raises:
        FormatNotAllowed: a picture of another format, or an animated one.
        ImageTruncated: the file lacks its end, even if it were only the marker that says so.
        ImageUndecodable: no picture, or one with an absurd number of parts.
    """
    if _begins(data, b"\xff\xd8\xff"):
        return _read_jpeg(data)
    if _begins(data, b"\x89PNG\r\n\x1a\n"):
        return _read_png(data)
    if _begins(data, b"RIFF") and _begins(data[8:], b"WEBP"):
        return _read_webp(data)
    foreign = _foreign_format(data)
    if foreign is not None:
        raise FormatNotAllowed(f"{foreign} images are not accepted; send JPEG, PNG or WebP")
    raise ImageUndecodable("this is no JPEG, PNG or WebP image")


def _begins(data: bytes, magic: bytes) -> bool:
    """Whether data begins as a file of some format does, as far as it goes."""
    return data[: len(magic)] == magic[: len(data)]


def _read_jpeg(data: bytes) -> ImageFile:
    view = memoryview(data)
    kept = [view[:2]]
    orientation, scans, at = 1, 0, 2
    for _ in range(MAX_PARTS):
        marker_at = _JPEG_NEXT_MARKER.search(data, at)
        if marker_at is None:
            raise _truncated()
        start, marker = marker_at.start(), data[marker_at.start() + 1]
        if scans:  # a decoder skips metadata between scans quickly: all is kept, with the entropy-coded bytes
            kept.append(view[at:start])
        if marker == _JPEG_END:
            kept.append(view[start : start + 2])
            return ImageFile(format="JPEG", data=b"".join(kept), orientation=orientation)
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if at > len(data):
            raise _truncated()
        scans += marker == _JPEG_SCAN
        if scans > MAX_SCANS:
            raise ImageUndecodable(f"the image has more than {MAX_SCANS} scans; save it anew")
        if scans or marker not in _JPEG_DROPPED:
            kept.append(view[start:at])
        elif marker == _JPEG_EXIF and orientation == 1 and data[start + 4 : start + 10] == b"Exif\0\0":
            orientation = _orientation(data[start + 10 : at])
    raise _too_many_parts()


def _read_png(data: bytes) -> ImageFile:
    view = memoryview(data)
    kept = [view[:8]]
    orientation, at = 1, 8
    for _ in range(MAX_PARTS):
        start, kind = at, data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at > len(data):
            raise _truncated()
        # With 16 bits a sample, the one transparent colour no longer fits once samples are cut to 8 bits.
        if kind in _PNG_KEPT and not (kind == b"tRNS" and data[24] == 16):
            kept.append(view[start:at])
        elif kind == b"eXIf":
            orientation = _orientation(data[start + 8 : at - 4])
        elif kind == b"acTL" and int.from_bytes(data[start + 8 : start + 12], "big") > 1:
            raise _animated()
        if kind == b"IEND":
            return ImageFile(format="PNG", data=b"".join(kept), orientation=orientation)
    raise _too_many_parts()


def _read_webp(data: bytes) -> ImageFile:
    end = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < max(end, 12):
        raise _truncated()
    orientation, frames, at = 1, 0, 12
    for _ in range(MAX_PARTS):
        if at >= end:
            # As it came: its header counts on the chunks that it announces, and libwebp skips them quickly.
            return ImageFile(format="WEBP", data=data[:end], orientation=orientation, size=_webp_size(data))
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"EXIF":
            orientation = _orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        frames += kind == b"ANMF"
        if frames > 1:
            raise _animated()
        at += 8 + length + length % 2
    raise _too_many_parts()


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the first chunk, one of three kinds; nothing where it is damaged."""
    kind, start = data[12:16], data[20:30]
    if len(start) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(start[4:7], "little"), 1 + int.from_bytes(start[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(start[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(start[6:8], "little") & 0x3FFF, int.from_bytes(start[8:10], "little") & 0x3FFF
    return None


def _orientation(tiff: bytes) -> int:
    """The orientation in the first directory of an EXIF block; 1, upright, where there is none."""
    if tiff[:2] not in (b"II", b"MM"):
        return 1
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    first = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[first : first + 2], order)
    for at in range(first + 2, min(first + 2 + 12 * count, len(tiff)), 12):
        if int.from_bytes(tiff[at : at + 2], order) == 274:
            value = int.from_bytes(tiff[at + 8 : at + 10], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _foreign_format(data: bytes) -> str | None:
    for signature, name in _FOREIGN.items():
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":
        return "HEIC or AVIF"
    if data.lstrip()[:5].lower() in (b"<svg ", b"<?xml") and b"<svg" in data[:2048].lower():
        return "SVG"
    return None


def _truncated() -> ImageTruncated:
    return ImageTruncated("the image file ends too early; send it whole")


def _animated() -> FormatNotAllowed:
    return FormatNotAllowed("animated images are not accepted; send one frame")


def _too_many_parts() -> ImageUndecodable:
    return ImageUndecodable(f"the image file has more than {MAX_PARTS:,} parts; save it anew")
