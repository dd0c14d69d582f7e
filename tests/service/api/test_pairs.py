"""Bodies of pairs of texts."""

from __future__ import annotations

import pytest

from models.backbone import Modality
from models.errors import InputError
from service.api.body import read_instances
from service.messages import unpack_pair
from tests.service.api.bodies import FORM, JSON, read, texts


def read_pairs(body: bytes, media_type: str | None = JSON) -> list[tuple[bytes, bytes]]:
    headers = {} if media_type is None else {"content-type": media_type}
    return [unpack_pair(each) for each in read_instances(body, headers, Modality.TEXT, max_instances=64, pairs=True)]


@pytest.mark.parametrize("media_type", [JSON, FORM, None])
def test_pairs_in_json(media_type: str | None) -> None:
    body = texts({"text": "one", "text_pair": "zw\u00e9i", "more": 1}, ["", "\x00"])
    assert read_pairs(body, media_type) == [(b"one", "zw\u00e9i".encode()), (b"", b"\x00")]


@pytest.mark.parametrize(
    "instance",
    [
        *("a text", 1, None, [], ["a"], ["a", "b", "c"], ["a", 1], [["a", "b"]], {}),
        *({"text": "a"}, {"text_pair": "a"}, {"text": "a", "text_pair": None}, {"text": ["a"], "text_pair": "b"}),
    ],
)
def test_what_is_no_pair(instance: object) -> None:
    with pytest.raises(
        InputError, match=r'instance 1 \(/instances/1\): this model reads pairs of texts; send \{"text"'
    ) as caught:
        read_pairs(texts(["a", "b"], instance))
    assert (caught.value.status, caught.value.code) == (422, "invalid_instances")


@pytest.mark.parametrize("media_type", ["text/plain", "text/plain; charset=utf-8", "multipart/form-data; boundary=x"])
def test_a_pair_is_neither_plain_text_nor_a_form(media_type: str) -> None:
    with pytest.raises(InputError, match=r"this model reads pairs of texts; .* in application/json") as caught:
        read_pairs(b"a text", media_type)
    assert (caught.value.status, caught.value.code) == (422, "invalid_instances")


@pytest.mark.parametrize("instance", [["a", "b"], {"text": "a", "text_pair": "b"}])
def test_a_pair_where_single_texts_are_read(instance: object) -> None:
    with pytest.raises(InputError, match=r"instance 0 \(/instances/0\): this model reads single texts; send a string"):
        read(texts(instance))
