"""Images that a client has decoded, resized and cropped itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.batch import ImageRow
from models.errors import InvalidTensor
from service.messages import Form

_TOLERANCE = 1.0  # levels of 255, beyond what an image can have


class PixelReader:
    """Makes rows of pixels.

    Engines read uint8. Normalised pixels come of such, so that undoing it gives the very levels that a client began with; of
    others it gives the nearest ones.

    Args:
        size: channels, height and width of the backbone's input.
        options: of the backbone: ``mean`` and ``std`` of its pixels, by channel, of a range of 0 to 1.
    """

    def __init__(self, size: tuple[int, int, int], options: Mapping[str, Any]) -> None:
        self._size = size
        self._mean: NDArray[np.float32] = np.array(options["mean"], np.float32).reshape(-1, 1, 1)
        self._std: NDArray[np.float32] = np.array(options["std"], np.float32).reshape(-1, 1, 1)

    def row(self, data: bytes, form: Form) -> ImageRow:
        """One image.

        Args:
            data: ``(C, H, W)``, of as many values as the size has.
            form: its datatype, little-endian.

        Raises:
            InvalidTensor: values are not those of an image's pixels.
        """
        if form == "UINT8":
            levels_CHW = np.frombuffer(data, np.uint8).reshape(self._size).copy()
            return ImageRow(pixels_CHW=torch.from_numpy(levels_CHW))
        values_CHW = np.frombuffer(data, "<f4").reshape(self._size)
        with np.errstate(over="ignore", invalid="ignore"):  # values that are no pixels, which are refused below
            levels = np.rint((values_CHW * self._std + self._mean) * 255)
        # What is not finite compares as false.
        if not (levels.min() >= -_TOLERANCE and levels.max() <= 255 + _TOLERANCE):
            mean, std = (", ".join(f"{value:g}" for value in each.ravel()) for each in (self._mean, self._std))
            raise InvalidTensor(
                "these are no pixels as the backbone has them; scale them to 0 to 1, subtract the mean "
                f"({mean}) and divide by the deviation ({std}), or send UINT8"
            )
        return ImageRow(pixels_CHW=torch.from_numpy(levels.clip(0, 255).astype(np.uint8)))
