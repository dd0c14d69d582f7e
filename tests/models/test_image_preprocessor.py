"""Image files as timm prepares them."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from models.batch import ImageBatch, ImageRow
from models.errors import AspectRatio
from models.image_preprocessor import ImagePreprocessor
from models.preprocessor import ImagePreprocessorConfig, Preprocessor
from tests.benchmarks.preprocessing import BACKBONE, Classifier, enlarged
from tests.benchmarks.workload import photographs
from tests.models.pictures import encode, picture


@pytest.mark.parametrize("size", [(48, 32), (300, 200), (7, 500), (64, 64)])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_pixels_are_those_of_timms_own_transform(size: tuple[int, int], crop_mode: str, interpolation: str) -> None:
    """Normalised as timm does it; a step of a pixel is 1 of 255."""
    from timm.data import create_transform

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    config = ImagePreprocessorConfig(
        input_size=(3, 64, 56), interpolation=interpolation, crop_pct=0.875, crop_mode=crop_mode
    )
    theirs = create_transform(
        input_size=(3, 64, 56), interpolation=interpolation, crop_pct=0.875, crop_mode=crop_mode, mean=mean, std=std
    )(picture(*size))
    row = ImagePreprocessor(config).prepare(encode(picture(*size), "PNG"))
    assert isinstance(row, ImageRow)
    assert row.pixels_CHW.dtype == torch.uint8
    ours = (row.pixels_CHW / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    # Of the modes that are left to timm nothing may differ; of the others, the last bit of some pixels.
    steps = 0.0 if crop_mode == "border" or interpolation == "lanczos" else 2.0
    torch.testing.assert_close(ours, theirs, atol=steps / 255 / min(std) + 1e-5, rtol=0)
    assert (ours - theirs).abs().mean() < 0.2 / 255 / min(std)


@pytest.fixture(scope="session")
def images() -> Preprocessor:
    return ImagePreprocessor(
        ImagePreprocessorConfig(input_size=(3, 64, 64), interpolation="bicubic", crop_pct=0.9, crop_mode="center")
    )


@pytest.mark.parametrize("size", [(1, 1), (100, 1), (1, 100), (2000, 20)])
def test_extreme_shapes_are_resized(images: Preprocessor, size: tuple[int, int]) -> None:
    row = images.prepare(encode(Image.new("RGB", size, (9, 8, 7)), "PNG"))
    assert isinstance(row, ImageRow)
    assert row.pixels_CHW.shape == (3, 64, 64)
    assert row.pixels_CHW[:, 0, 0].tolist() == [9, 8, 7]
    with pytest.raises(AspectRatio):
        images.prepare(encode(Image.new("RGB", (20_000, 1)), "PNG"))


def test_images_are_stacked_in_order(images: Preprocessor) -> None:
    rows = [images.prepare(encode(Image.new("RGB", (8, 8), (i, 0, 0)), "PNG")) for i in range(3)]
    batch = images.collate(rows)
    assert isinstance(batch, ImageBatch)
    assert batch.pixels_BCHW.shape == (3, 3, 64, 64)
    assert batch.pixels_BCHW[:, 0, 5, 5].tolist() == [0, 1, 2]


def test_a_classifier_answers_as_with_timms_transform() -> None:
    """In miniature; on 2,400 photographs: python -m tests.benchmarks.preprocessing DATA."""
    photos = photographs()[:12]
    found = Classifier(BACKBONE).agreement([*photos, enlarged(photos[0], 2800, 2100)])
    assert found.top1 == 1
    assert found.difference_of_best < 0.01
