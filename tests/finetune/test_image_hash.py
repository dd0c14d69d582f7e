from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from finetune.image_hash import ImageHash, hash_image, similar_images
from tests.finetune.pictures import scene


def encoded(image: Image.Image, kind: str, **options: object) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return Image.open(stream).convert("RGB")


def test_equal_pixels_have_one_hash_whatever_the_file() -> None:
    image = scene(1)
    assert hash_image(encoded(image, "PNG")) == hash_image(encoded(image, "WEBP", lossless=True)) == hash_image(image)
    changed = image.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    assert hash_image(changed).pixels != hash_image(image).pixels


def test_equal_bytes_in_another_shape_are_another_picture() -> None:
    pixels = bytes(range(192))
    wide, high = Image.frombytes("RGB", (16, 4), pixels), Image.frombytes("RGB", (4, 16), pixels)
    assert hash_image(wide).pixels != hash_image(high).pixels


def test_copies_of_another_size_quality_or_brightness_are_similar_and_others_are_not() -> None:
    originals = [scene(seed) for seed in range(20)]
    copies = [
        encoded(originals[0], "JPEG", quality=30),
        originals[0].resize((80, 60)),
        originals[3].point(lambda level: level * 0.8 + 20),
        encoded(originals[5], "WEBP", quality=40),
    ]
    hashes = list(map(hash_image, [*originals, *copies]))
    assert len({one.pixels for one in hashes}) == len(hashes)
    assert similar_images(hashes) == [[0, 20, 21], [3, 22], [5, 23]]


def test_plain_surfaces_are_similar_to_nothing() -> None:
    plain = [Image.new("RGB", (40, 40), (grey, 0, 0)) for grey in range(3)]
    hashes = list(map(hash_image, plain))
    assert {one.perceptual for one in hashes} == {None}
    assert similar_images(hashes) == []


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_have_no_like(count: int) -> None:
    assert similar_images([hash_image(scene(index)) for index in range(count)]) == []


def test_a_picture_that_is_its_own_like_twice_over_makes_one_group() -> None:
    assert similar_images([hash_image(scene(1))] * 3) == [[0, 1, 2]]


def test_all_blocks_of_pairs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.image_hash._COMPARED_AT_ONCE", 100)  # seven rows at a time
    scenes = [hash_image(scene(seed % 7)) for seed in range(14)]
    assert similar_images(scenes) == [[seed, seed + 7] for seed in range(7)]


def test_few_bits_apart_are_confirmed_by_their_thumbnails() -> None:
    thumbnails = [scene(seed, (16, 16)).tobytes() for seed in (1, 2)]
    one = ImageHash(pixels="a", perceptual=0b0, thumbnail=thumbnails[0])
    near = ImageHash(pixels="b", perceptual=0b11111111, thumbnail=thumbnails[0])
    far = ImageHash(pixels="c", perceptual=0b111111111 << 20, thumbnail=thumbnails[0])
    other = ImageHash(pixels="d", perceptual=0b0, thumbnail=thumbnails[1])
    assert similar_images([one, near, far, other]) == [[0, 1]]


def test_ten_thousand_pictures_are_compared_without_a_loop_over_pairs() -> None:
    """Two hundred million pairs in Python would take minutes."""
    random.seed(0)
    thumbnail = scene(0, (16, 16)).tobytes()
    hashes = [ImageHash(pixels="", perceptual=random.getrandbits(63), thumbnail=thumbnail) for _ in range(10_000)]
    hashes[9_999] = hashes[17]
    assert similar_images(hashes) == [[17, 9_999]]
