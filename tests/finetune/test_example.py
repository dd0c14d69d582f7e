from __future__ import annotations

import hashlib
from dataclasses import replace

from PIL import Image

from finetune.example import Example, text_example
from finetune.image_hash import hash_image


def test_a_pair_is_another_content_than_its_texts_in_any_other_way() -> None:
    texts = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("c", "ab"), "abc", "ab c", '["ab", "c"]']
    digests = {text_example(text, label="x", source="").digest for text in texts}  # type: ignore[arg-type]
    assert len(digests) == len(texts)


def test_a_text_is_known_by_its_sha256() -> None:
    example = text_example("ü", label=0.5, source="d.csv:2", group="g")
    assert example.identity == example.digest == hashlib.sha256("ü".encode()).hexdigest()
    assert (example.texts, example.read(), example.group) == (("ü",), "ü", "g")


def test_images_of_equal_pixels_are_identical_though_their_files_differ() -> None:
    files = [Example(source=name, label="x", digest=name) for name in ("1.png", "1.bmp")]
    hashed = [replace(file, hash=hash_image(Image.new("RGB", (2, 2)))) for file in files]
    assert len({example.identity for example in files}) == 2
    assert len({example.identity for example in hashed}) == 1
    assert hashed == files  # what is known of the pixels follows from the file
