from __future__ import annotations

import json
import re
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.request import EchoRequests, Request, request


def parts(made: Request) -> tuple[str, dict[str, str], list[str]]:
    """First line, headers and texts, after a look at the lengths."""
    head, _, body = made.data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers["Content-Length"]) == len(body)
    return first, headers, json.loads(body)["instances"]


def digests(texts: list[str]) -> list[str]:
    return [sha256(text.encode()).hexdigest() for text in texts]


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(25, 300), st.integers(0, 2**32 - 1))
def test_the_labels_are_the_digests_of_the_texts(rows: int, size: int, number: int) -> None:
    made = EchoRequests(rows=rows, size=size)(number)
    _, headers, texts = parts(made)
    assert [len(text) for text in texts] == [size] * rows
    assert made.labels == digests(texts)
    assert headers["X-Request-Id"].encode() == made.id


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_text_can_be_asked_about(texts: list[str]) -> None:
    made = request(texts)
    assert parts(made)[2] == texts
    assert made.labels == digests(texts)


def test_no_two_texts_or_ids_are_the_same() -> None:
    makers = [EchoRequests(rows=3), EchoRequests(rows=3)]  # with the same seed
    made = [make(number) for make in makers for number in range(200)]
    assert len({each.id for each in made}) == 400
    assert len({label for each in made for label in each.labels or []}) == 1200
    assert all(re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", each.id) for each in made)  # ids that the server takes over


def test_what_is_in_the_head() -> None:
    first, headers, texts = parts(
        EchoRequests(model="flowers", request_timeout=0.25, headers={"X-More": "100%"}, start="bad ")(1)
    )
    assert first == "POST /v1/models/flowers:predict HTTP/1.1"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Request-Timeout"] == "0.25"
    assert headers["X-More"] == "100%"
    assert texts[0].startswith("bad ")
    assert parts(EchoRequests(path="/pre%20dict?top_k=1")(1))[0] == "POST /pre%20dict?top_k=1 HTTP/1.1"


def test_an_id_that_is_not_checked_is_sent_all_the_same() -> None:
    made = EchoRequests(check_id=False)(5)
    assert made.id == b""
    assert parts(made)[1]["X-Request-Id"].endswith("00000005")


def test_a_text_needs_room_to_be_like_no_other() -> None:
    with pytest.raises(ValueError, match="at least 25 bytes"):
        EchoRequests(size=24)
