"""Image files to rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from models.batch import Batch, ImageRow, Row, collate
from models.image import EncodedImage
from models.image_transform import CropTransform
from models.preprocessor import ImagePreprocessorConfig, RawItem


class ImagePreprocessor:
    """Decodes, resizes and crops as timm's evaluation transform does; pixels stay uint8."""

    def __init__(self, config: ImagePreprocessorConfig) -> None:
        self._transform = CropTransform(config) if CropTransform.knows(config) else timm_transform(config)

    def prepare(self, item: RawItem, *, truncate: bool = False) -> Row:
        """Decodes one image file to ``(3, H, W)``; ``truncate`` has no meaning here."""
        assert isinstance(item, bytes)
        return ImageRow(pixels_CHW=self._transform(EncodedImage(item)))

    def collate(self, rows: Sequence[Row]) -> Batch:
        return collate(rows)


def timm_transform(config: ImagePreprocessorConfig) -> Callable[[EncodedImage], torch.Tensor]:
    """timm's own transform, for every mode that it has."""
    transform = evaluation_transform(config)

    def apply(image: EncodedImage) -> torch.Tensor:
        pixels_CHW: torch.Tensor = transform(image.decode())
        return pixels_CHW

    return apply


def evaluation_transform(config: ImagePreprocessorConfig) -> Any:
    """What timm makes of a Pillow image: uint8 ``(3, H, W)``."""
    from timm.data import create_transform

    return create_transform(
        input_size=config.input_size,
        interpolation=config.interpolation,
        crop_pct=config.crop_pct,
        crop_mode=config.crop_mode,
        is_training=False,
        normalize=False,
    )
