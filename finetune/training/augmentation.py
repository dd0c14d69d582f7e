"""Pictures that are a little different each time they are learnt from.

Crops and flips as in ImageNet training (Szegedy et al. 2015), with crops of at least 0.35 of the area, as what is to be told
apart need not fill a user's photographs; distortions by RandAugment (Cubuk et al. 2020), and erased parts (Zhong et al. 2020).
Torchvision's own, on the same uint8 pixels that serving sees; the backbone normalises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from PIL import Image

from finetune.training.recipe import Augmentation
from models.preprocessor import ImagePreprocessorConfig

Augment: TypeAlias = Callable[[Image.Image], torch.Tensor]

SMALLEST_CROP = 0.35  # of the area
ERASED = 0.25  # of the pictures


def augmentation(kind: Augmentation, config: ImagePreprocessorConfig) -> Augment:
    """What turns an upright RGB picture into pixels: uint8 ``(3, H, W)``, by torch's global random numbers.

    Args:
        kind: ``light`` or ``strong``.
        config: the checkpoint's: input size and interpolation.
    """
    from torchvision.transforms import InterpolationMode, v2  # takes a second, and a probe has no use for it

    interpolation = InterpolationMode(config.interpolation)
    steps: list[Any] = [
        v2.RandomResizedCrop(config.input_size[1:], scale=(SMALLEST_CROP, 1.0), interpolation=interpolation),
        v2.RandomHorizontalFlip(),
    ]
    if kind == "strong":
        steps += [v2.RandAugment(num_ops=2, magnitude=9), v2.PILToTensor(), v2.RandomErasing(p=ERASED)]
    else:
        steps.append(v2.PILToTensor())
    augment: Augment = v2.Compose(steps)
    return augment
