"""Row I09: every mode against a conversion of its own, without Pillow."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from PIL import Image

from tests.models.image_files import difference, pixels
from tests.models.pictures import encode, picture, png, png_chunk

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.asarray(picture(16, 16))


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, axis=2)


def _over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha[:, :, None] / 255
    return rgb * opacity + 255 * (1 - opacity)


def test_rgb_and_grey_stay_as_they_are() -> None:
    assert difference(pixels(encode(Image.fromarray(COLOURS), "PNG")), COLOURS) == 0
    assert difference(pixels(encode(Image.fromarray(RAMP), "PNG")), _grey(RAMP)) == 0
    assert difference(pixels(encode(Image.fromarray(RAMP), "JPEG", quality=100)), _grey(RAMP)) <= 3


def test_all_65536_values_of_16_bit_grey_are_scaled() -> None:
    values = np.arange(65536, dtype=">u2").reshape(256, 256)
    found = pixels(png(256, 256, values.tobytes(), depth=16))
    assert difference(found, _grey((values // 256).astype(int))) == 0
    assert found[0, 0, 0] == 0
    assert found[255, 255, 0] == 255
    as_pillow_writes_it = encode(Image.fromarray(values.astype(np.uint16)), "PNG")
    assert difference(pixels(as_pillow_writes_it), found) == 0


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_and_alpha_are_scaled(color: int, channels: int) -> None:
    samples = random.Random(1).randbytes(16 * 16 * channels * 2)
    high = np.frombuffer(samples, ">u2").reshape(16, 16, channels) // 256
    rgb = _grey(high[:, :, 0]) if color == 4 else high[:, :, :3]
    wanted = rgb if color == 2 else _over_white(rgb, high[:, :, -1])
    assert difference(pixels(png(16, 16, samples, depth=16, color=color)), wanted) <= 1


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_span_the_whole_range(depth: int) -> None:
    rows = bytes(range(256))[:: 256 // (2 * depth)][: 2 * depth] * 16
    bits = np.unpackbits(np.frombuffer(rows, np.uint8)).reshape(16, 16, depth)
    values = bits @ (2 ** np.arange(depth)[::-1])
    assert difference(pixels(png(16, 16, rows, depth=depth)), _grey(values * 255 // (2**depth - 1))) == 0


def test_one_bit_images_of_pillow() -> None:
    checkers = (np.indices((16, 16)).sum(axis=0) % 2).astype(bool)
    assert difference(pixels(encode(Image.fromarray(checkers), "PNG")), _grey(checkers * 255)) == 0


def test_palette() -> None:
    quantized = Image.fromarray(COLOURS).quantize(8)
    palette = np.array(quantized.getpalette()).reshape(-1, 3)
    assert difference(pixels(encode(quantized, "PNG")), palette[np.asarray(quantized)]) == 0


def test_palette_with_transparency_is_laid_over_white() -> None:
    indices = RAMP // 64
    palette = np.array([[255, 0, 0], [0, 200, 0], [0, 0, 90], [10, 20, 30]], np.uint8)
    alphas = np.array([0, 128, 255, 7], np.uint8)
    chunks = png_chunk(b"PLTE", palette.tobytes()) + png_chunk(b"tRNS", alphas.tobytes())
    found = pixels(png(16, 16, indices.tobytes(), color=3, before=chunks))
    assert difference(found, _over_white(palette[indices], alphas[indices])) <= 1


def test_one_transparent_palette_entry() -> None:
    palette = png_chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    rows = (RAMP % 2).tobytes()
    found = pixels(png(16, 16, rows, color=3, before=palette + png_chunk(b"tRNS", b"\xff\0")))
    assert (found[0, 0] == [255, 0, 0]).all()
    assert (found[0, 1] == [255, 255, 255]).all()


def test_one_transparent_colour() -> None:
    transparent_red = png_chunk(b"tRNS", struct.pack(">HHH", 255, 0, 0))
    found = pixels(png(2, 1, bytes([255, 0, 0, 254, 0, 0]), color=2, before=transparent_red))
    assert found.tolist() == [[[255, 255, 255], [254, 0, 0]]]
    transparent_grey = png_chunk(b"tRNS", struct.pack(">H", 7))
    assert pixels(png(2, 1, bytes([7, 8]), before=transparent_grey))[0, :, 0].tolist() == [255, 8]


@pytest.mark.parametrize(("color", "colour"), [(0, [0x0700]), (2, [0x0700, 0, 0])])
def test_one_transparent_colour_of_16_bits_is_ignored(color: int, colour: list[int]) -> None:
    chunk = png_chunk(b"tRNS", struct.pack(f">{len(colour)}H", *colour))
    rows = struct.pack(f">{len(colour)}H", *colour)
    assert pixels(png(1, 1, rows, depth=16, color=color, before=chunk))[0, 0, 0] == 7


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_alpha_is_laid_over_white(mode: str, image_format: str) -> None:
    rgb = COLOURS if mode == "RGBA" else _grey(RAMP)
    rgba = np.dstack([rgb, RAMP])
    image = Image.fromarray(rgba).convert(mode)
    data = encode(image, image_format, **({"lossless": True, "exact": True} if image_format == "WEBP" else {}))
    assert difference(pixels(data), _over_white(rgb, RAMP)) <= 1


def _cmyk_to_rgb(cmyk: np.ndarray) -> np.ndarray:
    ink = cmyk.astype(int)
    return (255 - ink[:, :, :3]) * (255 - ink[:, :, 3:]) / 255


def test_cmyk_jpeg() -> None:
    cmyk = np.asarray(Image.fromarray(COLOURS).resize((64, 64)).convert("CMYK")).copy()
    cmyk[:, :, 3] = 40
    data = encode(Image.fromarray(cmyk, mode="CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    assert difference(pixels(data), _cmyk_to_rgb(cmyk)) <= 8


def test_adobe_inverted_ycck_jpeg() -> None:
    """The file holds YCbCr of the ink (ink is 255 - RGB), and inverted black: 255 for none."""
    wanted = np.asarray(picture(64, 64))
    ink_ycc = np.asarray(Image.fromarray(255 - wanted).convert("YCbCr"))
    stored = np.dstack([ink_ycc, np.full((64, 64), 255, np.uint8)])
    data = encode(Image.fromarray(255 - stored, mode="CMYK"), "JPEG", quality=100)  # Pillow inverts what it is given
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0  # none: the samples are stored as they are
    assert difference(pixels(data[:transform] + b"\2" + data[transform + 1 :]), wanted) <= 8
