"""Image bytes to pixels, safely: only known formats, bounded in size, never a partial picture.

The conversions, in order: 16-bit samples are cut to 8 bits; transparency is laid over white; everything else (grey,
palette, 1-bit, CMYK) becomes RGB as Pillow does it; EXIF's orientation is applied. Colour profiles are ignored.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.errors import AspectRatio, EmptyBody, GraftworkError, ImageTooManyPixels, ImageTruncated, ImageUndecodable
from models.image_file import read_image_file

MAX_PIXELS = 40_000_000
MAX_ASPECT = 100  # a longer strip would be resized to a short side of 256 and a long one beyond 25,600

# Opened by class: `Image.open` would import every plugin that Pillow has, and may turn a JPEG into a multi-picture file.
_DECODERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes an image file to upright 8-bit RGB.

    Args:
        data: a whole JPEG, PNG or WebP file; its first bytes decide, not a name or a media type.
        max_pixels: width times height that is still decoded; checked before any pixel is.

    Raises:
        EmptyBody: no bytes.
        FormatNotAllowed: a picture of another format, or an animated one.
        ImageTooManyPixels: larger than ``max_pixels``.
        AspectRatio: more than 100 times as long as wide.
        ImageTruncated: the file ends too early.
        ImageUndecodable: no picture, or a damaged one.
    """
    if not data:
        raise EmptyBody("the image has 0 bytes; send the whole file")
    file = read_image_file(data)
    if file.size is not None:
        _check_size(*file.size, max_pixels)
    try:
        image = _DECODERS[file.format](io.BytesIO(file.data))
        _check_size(image.width, image.height, max_pixels)
        image.load()
        rgb = _to_rgb(image)
    except (GraftworkError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise _decoding_error(error, max_pixels) from None
    return rgb.transpose(_UPRIGHT[file.orientation]) if file.orientation in _UPRIGHT else rgb


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooManyPixels(
            f"the image is {width} x {height}, over the limit of {max_pixels:,} pixels; send a smaller one"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise AspectRatio(f"the image is {width} x {height}; sides may differ by a factor of {MAX_ASPECT} at most")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return image.convert("RGB")


def _decoding_error(error: Exception, max_pixels: int) -> GraftworkError:
    if isinstance(error, Image.DecompressionBombError):  # WebP alone is still under Pillow's own limit
        return ImageTooManyPixels(f"the image has more than {max_pixels:,} pixels; send a smaller one")
    if "truncated" in str(error):
        return ImageTruncated("the image file ends too early; send it whole")
    return ImageUndecodable("the image is damaged and cannot be decoded")
