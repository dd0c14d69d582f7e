"""Rows and batches of them."""

from __future__ import annotations

import pytest
import torch

from models.batch import TEXT_BUCKET, ImageBatch, ImageRow, TextBatch, TextRow, collate, shape_bucket


def text(length: int) -> TextRow:
    return TextRow(ids=list(range(1, length + 1)), segments=[1] * length)


def test_texts_are_padded_to_the_longest() -> None:
    batch = collate([text(2), text(4), text(1)], pad_id=9)
    assert isinstance(batch, TextBatch)
    assert batch.ids_BT.tolist() == [[1, 2, 9, 9], [1, 2, 3, 4], [1, 9, 9, 9]]
    assert batch.mask_BT.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert batch.segments_BT.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert {t.dtype for t in (batch.ids_BT, batch.mask_BT, batch.segments_BT)} == {torch.int64}


def test_images_keep_their_bytes() -> None:
    rows = [ImageRow(pixels_CHW=torch.full((3, 2, 2), i, dtype=torch.uint8)) for i in (7, 255)]
    batch = collate(rows)
    assert isinstance(batch, ImageBatch)
    assert batch.pixels_BCHW.dtype == torch.uint8
    assert batch.pixels_BCHW[:, 0, 0, 0].tolist() == [7, 255]


def test_images_of_different_shapes_cannot_share_a_batch() -> None:
    rows = [ImageRow(pixels_CHW=torch.zeros(3, size, 2, dtype=torch.uint8)) for size in (2, 3)]
    with pytest.raises(ValueError, match="same shape"):
        collate(rows)
    assert shape_bucket(rows[0]) != shape_bucket(rows[1])


def test_texts_share_a_bucket_up_to_the_same_multiple() -> None:
    assert shape_bucket(text(1)) == shape_bucket(text(TEXT_BUCKET)) == (TEXT_BUCKET,)
    assert shape_bucket(text(TEXT_BUCKET + 1)) == (2 * TEXT_BUCKET,)


def test_a_batch_moves_as_a_whole() -> None:
    device = torch.device("meta")
    images = collate([ImageRow(pixels_CHW=torch.zeros(3, 2, 2, dtype=torch.uint8))]).to(device)
    assert isinstance(images, ImageBatch)
    assert images.pixels_BCHW.device == device
    texts = collate([text(3)]).to(device)
    assert isinstance(texts, TextBatch)
    assert {texts.ids_BT.device, texts.segments_BT.device, texts.mask_BT.device} == {device}
