"""Pixels that a client has prepared come to the levels that it began with, or are refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.errors import InvalidTensor
from service.worker.pixels import PixelReader

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INCEPTION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
SIZE = (3, 16, 16)
LEVELS = np.tile(np.arange(256, dtype=np.uint8), 3).reshape(SIZE)


def reader(mean: Sequence[float], std: Sequence[float]) -> PixelReader:
    return PixelReader(SIZE, {"mean": mean, "std": std})


@pytest.mark.parametrize(("mean", "std"), [IMAGENET, INCEPTION, CLIP, PLAIN])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_undoing_the_normalisation_gives_the_very_levels(
    mean: Sequence[float], std: Sequence[float], dtype: type[np.floating]
) -> None:
    mean_C, std_C = (np.array(each, dtype).reshape(-1, 1, 1) for each in (mean, std))
    normalised = ((LEVELS.astype(dtype) / 255 - mean_C) / std_C).astype("<f4")
    row = reader(mean, std).row(normalised.tobytes(), "FP32")
    assert (row.pixels_CHW.numpy() == LEVELS).all()


def test_levels_are_taken_as_they_are() -> None:
    row = reader(*IMAGENET).row(LEVELS.tobytes(), "UINT8")
    assert (row.pixels_CHW.numpy() == LEVELS).all()


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 255.0, 1.007, -0.007, np.frombuffer(b"\1\0\x80\x7f", "<f4")[0]]
)
def test_one_value_that_is_no_pixel_is_enough_to_be_refused(value: float) -> None:
    values = np.zeros(SIZE, "<f4")
    values[1, 2, 3] = value
    with pytest.raises(InvalidTensor, match=r"subtract the mean \(0, 0, 0\) and divide by the deviation \(1, 1, 1\)"):
        reader(*PLAIN).row(values.tobytes(), "FP32")


@pytest.mark.parametrize(("value", "level"), [(1.003, 255), (-0.003, 0), (0.5001, 128)])
def test_a_little_beyond_is_the_nearest_level(value: float, level: int) -> None:
    row = reader(*PLAIN).row(np.full(SIZE, value, "<f4").tobytes(), "FP32")
    assert (row.pixels_CHW == level).all()
