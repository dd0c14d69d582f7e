"""One picture in every kind of file that is read, and the pixels that files decode to."""

from __future__ import annotations

import numpy as np

from models.image import decode_image
from tests.models.pictures import encode, jpeg_segment, jpeg_with, picture

JPEG = encode(picture(), "JPEG", quality=90)
THUMBNAIL = jpeg_segment(0xE1, b"Exif\0\0" + encode(picture(8, 8), "JPEG"))
FILES = {
    "jpeg": JPEG,
    "jpeg-progressive": encode(picture(), "JPEG", progressive=True),
    "jpeg-restarts": encode(picture(), "JPEG", restart_marker_blocks=1),
    "jpeg-thumbnail": jpeg_with(JPEG, THUMBNAIL),
    "png": encode(picture(), "PNG"),
    "png-palette": encode(picture().quantize(16), "PNG"),
    "webp": encode(picture(), "WEBP", quality=80),
    "webp-lossless": encode(picture(), "WEBP", lossless=True),
}


def pixels(data: bytes) -> np.ndarray:
    image = decode_image(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def difference(found: np.ndarray, wanted: np.ndarray) -> int:
    """The largest difference of one sample."""
    assert found.shape == wanted.shape
    return int(np.abs(found - wanted.astype(int)).max())
