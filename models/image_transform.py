"""timm's evaluation transform in few passes: decode, resize once, crop.

An image is resized by torch's kernel for antialiased uint8 pixels, which takes a fraction of the time of Pillow's where there is
AVX2. It computes what Pillow's does up to rounding, a level of 255 here and there, and the same bits on every
CPU; it neither holds the interpreter's lock nor, with AVX2, starts threads of its own. Pillow's takes the pictures for
which torch would have to copy or compute much in vain.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from models.image import EncodedImage
from models.preprocessor import ImagePreprocessorConfig

SPARE = 4  # a picture may be decoded at a fraction of its size that is still so many times the size wanted
MAX_COPIED_PIXELS = 1 << 22  # torch reads a copy of a picture, Pillow the picture itself
MAX_WASTE = 3.0  # torch resizes the whole picture, Pillow only what is not cut off

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class CropTransform:
    """Resizes a picture and cuts out its middle.

    timm's modes ``center`` (the shorter side becomes ``input_size / crop_pct``) and ``squash`` (both sides do).

    A JPEG is decoded at a fraction of its size where that leaves `SPARE` times the size wanted: 4000x3000 for 256 at 1/2, in a
    quarter of the time. One pixel in six is then off by a level of 255, as the picture is rounded twice. A classifier's
    answers change by that no more than by noise of one level in as many pixels, which is what ``python -m
    tests.benchmarks.preprocessing DATA`` compares it with: where its best classes nearly tie, either may win.

    Args:
        config: one that it `knows`.
    """

    def __init__(self, config: ImagePreprocessorConfig) -> None:
        self._config = config
        _, self._height, self._width = config.input_size
        self._filter = _FILTERS[config.interpolation]

    @staticmethod
    def knows(config: ImagePreprocessorConfig) -> bool:
        """Whether this transform is timm's; of the others, ``border`` fills with a colour, and ``nearest`` skips pixels."""
        return (
            config.crop_mode in ("center", "squash") and config.interpolation in _FILTERS and 0 < config.crop_pct <= 1
        )

    def __call__(self, image: EncodedImage) -> torch.Tensor:
        """The input of the backbone: uint8 ``(3, H, W)``."""
        width, height = self.resized(*image.size)
        picture = image.decode(at_least=(SPARE * width, SPARE * height))
        fraction = round(image.size[0] / picture.width)
        whole = (image.size[0] / fraction, image.size[1] / fraction)  # of which the last pixel may be a part of one
        left, top = round((width - self._width) / 2), round((height - self._height) / 2)  # as torchvision rounds
        waste = width * height / (self._width * self._height)
        if whole == picture.size and waste <= MAX_WASTE and picture.width * picture.height <= MAX_COPIED_PIXELS:
            resized_CHW = _resize_by_torch(picture, width, height, self._config.interpolation)
            pixels_CHW = resized_CHW[:, top : top + self._height, left : left + self._width]
        else:
            across, down = whole[0] / width, whole[1] / height
            box = (left * across, top * down, (left + self._width) * across, (top + self._height) * down)
            cropped = picture.resize((self._width, self._height), self._filter, box)
            pixels_CHW = np.asarray(cropped).transpose(2, 0, 1)
        # By numpy: a copy of this size by torch is split among threads.
        return torch.from_numpy(pixels_CHW.copy())

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the whole picture once it is resized, rounded as timm and torchvision do."""
        across, down = (math.floor(side / self._config.crop_pct) for side in (self._width, self._height))
        if self._config.crop_mode == "squash":
            return across, down
        if across == down:  # torchvision's Resize
            longer = int(across * max(width, height) / min(width, height))
            return (across, longer) if width <= height else (longer, across)
        ratio = min(width / across, height / down)  # timm's ResizeKeepRatio
        return round(width / ratio), round(height / ratio)


def _resize_by_torch(picture: Image.Image, width: int, height: int, interpolation: str) -> npt.NDArray[np.uint8]:
    """The picture as ``(3, height, width)``."""
    pixels_1HWC = torch.from_numpy(np.array(picture)[None])
    resized_1CHW = torch.nn.functional.interpolate(
        pixels_1HWC.permute(0, 3, 1, 2), size=(height, width), mode=interpolation, antialias=True
    )
    values: npt.NDArray[np.uint8] = resized_1CHW[0].numpy()
    return values
