"""Pictures to learn from, and what a reader sees of a figure."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image


def pixels(png: bytes) -> np.ndarray:
    """Colours (H, W, 3) of the PNG of a figure that holds nothing but them."""
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        assert set(image.info) <= {"dpi"}
        return np.asarray(image.convert("RGB")).astype(int)


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A smooth coloured picture, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
