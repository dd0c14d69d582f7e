"""The quick transform beside timm's own, pixel by pixel and in what a classifier makes of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models import image_transform
from models.errors import InputError
from models.image import EncodedImage
from models.image_preprocessor import timm_transform
from models.image_transform import CropTransform
from models.preprocessor import ImagePreprocessorConfig
from tests.models.pictures import encode, exif, picture
from tests.stopwatch import longest_wait


def config_of(
    height: int = 64, width: int = 64, interpolation: str = "bicubic", crop_pct: float = 0.875, mode: str = "center"
) -> ImagePreprocessorConfig:
    return ImagePreprocessorConfig(
        input_size=(3, height, width), interpolation=interpolation, crop_pct=crop_pct, crop_mode=mode
    )


def differences(config: ImagePreprocessorConfig, data: bytes) -> torch.Tensor:
    """Of each sample, ours less timm's."""
    ours, theirs = CropTransform(config)(EncodedImage(data)), timm_transform(config)(EncodedImage(data))
    assert ours.shape == theirs.shape == config.input_size
    assert ours.dtype == theirs.dtype == torch.uint8
    return (ours.int() - theirs.int()).float()


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


configs = st.builds(
    config_of,
    height=st.integers(8, 96),
    width=st.integers(8, 96),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    crop_pct=st.sampled_from([0.5, 0.8, 0.875, 0.9, 0.95, 0.965, 1.0]),
    mode=st.sampled_from(["center", "squash"]),
)
square = st.integers(8, 96).map(lambda side: config_of(side, side))
sides = st.integers(1, 400)


@given(config=configs | square, width=sides, height=sides, by_torch=st.booleans())
@settings(deadline=None, max_examples=150)
def test_pixels_are_timms(
    photograph: Image.Image, config: ImagePreprocessorConfig, width: int, height: int, by_torch: bool
) -> None:
    """Enlarged and reduced, square or not, with either kernel.

    Pillow resizes a whole picture across before downwards, and some cut-outs downwards before across: what is rounded, and
    cut off at 0 and 255, in between differs.
    """
    if max(width, height) > 100 * min(width, height):
        return
    data = encode(photograph.resize((width, height)), "PNG")
    with pytest.MonkeyPatch.context() as patch:
        if not by_torch:
            patch.setattr(image_transform, "MAX_WASTE", 0.0)
        found = differences(config, data).abs()
    assert found.mean() < 0.5
    assert found.max() <= 8


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (333, 333), (64, 48), (256, 256)])
def test_torch_resizes_as_pillow_does(photograph: Image.Image, size: tuple[int, int]) -> None:
    found = differences(config_of(224, 224), encode(photograph.resize(size), "PNG")).abs()
    assert found.max() <= 2
    assert found.mean() < 0.02


def test_a_crop_is_in_the_middle_to_the_pixel() -> None:
    """A picture that needs no resizing shows where the crop lies."""
    for width, height in ((64, 65), (65, 64), (64, 67), (64, 64)):
        assert not differences(config_of(crop_pct=1.0), encode(picture(width, height), "PNG")).any()


@pytest.mark.parametrize(
    "config",
    [
        config_of(mode="border"),
        config_of(interpolation="lanczos"),
        config_of(interpolation="nearest"),
        config_of(crop_pct=1.1),
    ],
)
def test_other_modes_are_left_to_timm(config: ImagePreprocessorConfig) -> None:
    assert not CropTransform.knows(config)


# JPEG at a fraction of its size


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((255, 255), (255, 255)),
        ((511, 511), (511, 511)),
        ((512, 512), (256, 256)),
        ((1024, 4096), (256, 1024)),
        ((2049, 2048), (257, 256)),
        ((511, 4000), (511, 4000)),
    ],
)
def test_a_jpeg_is_decoded_at_a_fraction_that_leaves_four_times_the_size_wanted(
    size: tuple[int, int], decoded: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    decode = EncodedImage.decode

    def watched(self: EncodedImage, at_least: tuple[int, int] | None = None) -> Image.Image:
        picture = decode(self, at_least)
        found.append(picture.size)
        return picture

    monkeypatch.setattr(EncodedImage, "decode", watched)
    transform = CropTransform(config_of(crop_pct=1.0))
    for data in (encode(picture(*size), "JPEG"), encode(picture(*size), "PNG")):
        transform(EncodedImage(data))
    sideways = encode(picture(*size), "JPEG", exif=exif(6))
    assert EncodedImage(sideways).size == size[::-1]
    transform(EncodedImage(sideways))
    is_exact = not any(side % 8 for side in size)
    assert found == [decoded, size, decoded[::-1] if is_exact else size[::-1]]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_size_that_the_fraction_does_not_divide_shifts_nothing(photograph: Image.Image, orientation: int) -> None:
    """Only as many pixels differ as where it does divide the size."""
    found = [
        differences(
            config_of(64, 64, crop_pct=1.0),
            encode(photograph.resize(size), "JPEG", quality=95, exif=exif(orientation)),
        )
        .abs()
        .double()
        .mean()
        for size in ((528, 544), (529, 545))
    ]
    assert found[1] < 1.5 * found[0] + 0.05


@given(width=st.integers(256, 900), height=st.integers(256, 900), orientation=st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_a_fraction_shows_the_whole_picture_upright(
    photograph: Image.Image, width: int, height: int, orientation: int
) -> None:
    data = encode(photograph.resize((width, height)), "JPEG", quality=90, exif=exif(orientation))
    assert differences(config_of(32, 32, crop_pct=1.0), data).abs().mean() < 4  # 40 and more where it lies on its side


@pytest.fixture(scope="module")
def large_jpegs(photograph: Image.Image) -> list[bytes]:
    return [encode(photograph, "JPEG", quality=80, progressive=progressive) for progressive in (False, True)]


@given(
    which=st.integers(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.floats(0, 1),
    ended=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_damaged_files_are_accepted_or_refused_as_at_full_size(
    large_jpegs: list[bytes], which: int, changes: list[tuple[float, int]], kept: float, ended: bool
) -> None:
    """Cut at any place, with or without the marker of the end put back, and with changed bytes."""
    data = bytearray(large_jpegs[which])
    for where, value in changes:
        data[int(where * len(data))] = value
    data = data[: max(1, round(kept * len(data)))]
    if ended:
        data += b"\xff\xd9"
    answers = []
    for transform in (CropTransform(config_of(32, 32)), timm_transform(config_of(32, 32))):
        try:
            transform(EncodedImage(bytes(data)))
            answers.append("a picture")
        except InputError as error:
            answers.append(error.code)
    assert answers[0] == answers[1]


# What it costs


def test_large_and_long_pictures_are_not_copied_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("copied")

    monkeypatch.setattr(image_transform, "_resize_by_torch", refuse)
    for size in ((2100, 2000), (800, 80)):
        found = differences(config_of(), encode(Image.new("RGB", size, (1, 2, 3)), "PNG"))
        assert not found.any()


def test_other_threads_run_while_an_image_is_prepared(photograph: Image.Image) -> None:
    transform, data = CropTransform(config_of(900, 900)), encode(photograph.resize((2000, 1500)), "JPEG")
    assert any(longest_wait(lambda: transform(EncodedImage(data))) < 0.5 for _ in range(5))


def test_threads_share_the_work(photograph: Image.Image) -> None:
    """Each thread's pixels are those of one alone, and none starts threads of torch's."""
    transform = CropTransform(config_of(224, 224))
    files = [encode(photograph.crop((i, i, 400 + i, 300 + i)), "JPEG") for i in range(16)]
    alone = [transform(EncodedImage(data)) for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: transform(EncodedImage(data)), files * 4))
    assert all(torch.equal(a, b) for a, b in zip(alone * 4, together, strict=True))
