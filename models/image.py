"""Image bytes to pixels, safely: only known formats, bounded in size, never a partial picture.

The conversions, in order: 16-bit samples are cut to 8 bits; transparency is laid over white; everything else (grey,
palette, 1-bit, CMYK) becomes RGB as Pillow does it; EXIF's orientation is applied. Colour profiles are ignored.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.errors import AspectRatio, EmptyBody, ImageTooManyPixels, ImageTruncated, ImageUndecodable
from models.image_file import read_image_file

MAX_PIXELS = 40_000_000
MAX_ASPECT = 100  # a longer strip would be resized to a short side of 256 and a long one beyond 25,600

# Opened by class: `Image.open` would import every plugin that Pillow has, and may turn a JPEG into a multi-picture file.
_DECODERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
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
_SIDEWAYS = (5, 6, 7, 8)


class EncodedImage:
    """An image file whose header alone has been read.

    Args:
        data: a whole JPEG, PNG or WebP file; its first bytes decide, not a name or a media type.
        max_pixels: width times height that is still decoded; checked before any pixel is.

    Attributes:
        size: width and height of the upright picture.

    Raises:
        EmptyBody: no bytes.
        FormatNotAllowed: a picture of another format, or an animated one.
        ImageTooManyPixels: larger than ``max_pixels``.
        AspectRatio: more than 100 times as long as wide.
        ImageTruncated: the file ends too early.
        ImageUndecodable: no picture, or a damaged one.
    """

    def __init__(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> None:
        if not data:
            raise EmptyBody("the image has 0 bytes; send the whole file")
        file = read_image_file(data)
        if file.size is not None:
            _check_size(*file.size, max_pixels)
        self._max_pixels = max_pixels
        self._orientation = file.orientation
        with _decoding_errors(max_pixels):
            self._image = _DECODERS[file.format](io.BytesIO(file.data))
        width, height = self._image.size
        _check_size(width, height, max_pixels)
        self.size = (height, width) if file.orientation in _SIDEWAYS else (width, height)

    def decode(self, at_least: tuple[int, int] | None = None) -> Image.Image:
        """Decodes the picture to upright 8-bit RGB; once.

        Args:
            at_least: width and height that suffice. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, the smallest
                that is not below: libjpeg leaves out the high frequencies of each block. It still reads every byte, so
                it refuses the same files. A size that the fraction does not divide is rounded up, so that the last row or
                column is a part of one; a picture for which turning would make that the first one is decoded in full.

        Raises:
            ImageTruncated: the file ends too early.
            ImageUndecodable: a damaged one.
        """
        image = self._image
        with _decoding_errors(self._max_pixels):
            if at_least is not None and (self._orientation not in _UPRIGHT or not any(side % 8 for side in image.size)):
                image.draft(None, at_least if self._orientation not in _SIDEWAYS else at_least[::-1])
            image.load()
            rgb = _to_rgb(image)
        return rgb.transpose(_UPRIGHT[self._orientation]) if self._orientation in _UPRIGHT else rgb


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes an image file to upright 8-bit RGB in its full size; arguments and errors as for `EncodedImage`."""
    return EncodedImage(data, max_pixels=max_pixels).decode()


@contextmanager
def _decoding_errors(max_pixels: int) -> Iterator[None]:
    """Pillow's errors in our terms; its decoders raise nearly anything on damaged files."""
    try:
        yield
    except MemoryError:
        raise
    except Image.DecompressionBombError:  # WebP alone is still under Pillow's own limit
        raise ImageTooManyPixels(f"the image has more than {max_pixels:,} pixels; send a smaller one") from None
    except Exception as error:
        if "truncated" in str(error):
            raise ImageTruncated("the image file ends too early; send it whole") from None
        raise ImageUndecodable("the image is damaged and cannot be decoded") from None


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
    return image if image.mode == "RGB" else image.convert("RGB")
