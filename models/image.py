"""Image bytes to pixels, safely: only known formats, bounded in size, never a partial picture.

The conversions, in order: EXIF orientation is applied; 16-bit grey is scaled to 8 bits; transparency is laid over white;
everything else (grey, palette, 1-bit, CMYK) becomes RGB as Pillow does it. Colour profiles are ignored.
"""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from models.errors import (
    AspectRatio,
    EmptyBody,
    FormatNotAllowed,
    GraftworkError,
    ImageTooManyPixels,
    ImageTruncated,
    ImageUndecodable,
)

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 40_000_000
MAX_ASPECT = 100  # a longer strip would be resized to a short side of 256 and a long one beyond 25,600

# What the first bytes say, for formats that are refused without their decoder being run.
_SIGNATURES = {
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


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes the first frame of an image file to upright 8-bit RGB.

    Args:
        data: a whole JPEG, PNG or WebP file; its first bytes decide, not a name or a media type.
        max_pixels: width times height that is still decoded; checked before any pixel is.

    Raises:
        EmptyBody: no bytes.
        FormatNotAllowed: a picture of another format.
        ImageTooManyPixels: larger than ``max_pixels``.
        AspectRatio: more than 100 times as long as wide.
        ImageTruncated: the file ends too early.
        ImageUndecodable: no picture, or a damaged one.
    """
    if not data:
        raise EmptyBody("the image has 0 bytes; send the whole file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes that max_pixels refuses, and of odd metadata
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(image.width, image.height, max_pixels)
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise FormatNotAllowed("animated images are not accepted; send one frame")
            image.load()
            return _to_rgb(image)
    except GraftworkError:
        raise
    except Image.DecompressionBombError:
        raise ImageTooManyPixels(f"the image has more than {max_pixels:,} pixels; send a smaller one") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise _decoding_error(data, error) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooManyPixels(
            f"the image is {width} x {height}, over the limit of {max_pixels:,} pixels; send a smaller one"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise AspectRatio(f"the image is {width} x {height}; sides may differ by a factor of {MAX_ASPECT} at most")


def _to_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return image.convert("RGB")


def _decoding_error(data: bytes, error: Exception) -> GraftworkError:
    allowed = "JPEG, PNG or WebP"
    if isinstance(error, UnidentifiedImageError):
        if _is_cut_off(data):
            return ImageTruncated("the image file ends too early; send it whole")
        other = _foreign_format(data)
        if other is not None:
            return FormatNotAllowed(f"{other} images are not accepted; send {allowed}")
        return ImageUndecodable(f"this is no {allowed} image")
    text = str(error).lower()
    if any(word in text for word in ("truncated", "unexpected end", "end of file", "premature")) or _is_cut_off(data):
        return ImageTruncated("the image file ends too early; send it whole")
    return ImageUndecodable("the image is damaged and cannot be decoded")


def _is_cut_off(data: bytes) -> bool:
    """Whether a file of an allowed format starts right and then lacks its end."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[-64:] and (len(data) < 4 or data[2:3] == b"\xff")
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF") and data[8:12] in (b"WEBP", b""):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


def _foreign_format(data: bytes) -> str | None:
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":
        return "HEIC or AVIF"
    head = data[:512].lstrip().lower()
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in data[:2048].lower():
        return "SVG"
    return None
