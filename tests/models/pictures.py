"""Image files for tests: real ones by Pillow, and hand-made ones that no honest encoder would write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
STORED_AS = {  # by its EXIF orientation: what is done to an upright picture before it is stored
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """A colourful RGB picture without any symmetry: red grows to the right, green downwards, blue marks one corner."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    corner = np.where((x < 128) & (y < 128), 230, 40)
    return Image.fromarray(np.stack([x, y, corner], axis=2).astype(np.uint8))


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    rows: bytes,
    *,
    depth: int = 8,
    color: int = 0,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG file from its unfiltered rows.

    Args:
        rows: the packed samples, without the filter byte that begins each row in the file.
        depth: bits a sample.
        color: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        before: chunks before the pixels.
        after: chunks behind the pixels.
    """
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    stride = len(rows) // height if rows else 0
    filtered = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height)) if rows else b""
    pixels = png_chunk(b"IDAT", zlib.compress(filtered))
    return PNG_MAGIC + header + before + pixels + after + png_chunk(b"IEND")


def png_with(data: bytes, *chunks: bytes) -> bytes:
    """A PNG file with further chunks right behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_segment(marker: int, data: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(data: bytes, *segments: bytes) -> bytes:
    """A JPEG file with further segments right behind its first marker."""
    return data[:2] + b"".join(segments) + data[2:]


def webp_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_header(width: int, height: int, flags: int = 0) -> bytes:
    """The extended header; flag 8 announces EXIF, 2 an animation."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()
