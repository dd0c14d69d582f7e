"""What a reader sees of a PNG."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image


def pixels(png: bytes) -> np.ndarray:
    """Colours (H, W, 3) of a figure that holds nothing but them."""
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        assert set(image.info) <= {"dpi"}
        return np.asarray(image.convert("RGB")).astype(int)
