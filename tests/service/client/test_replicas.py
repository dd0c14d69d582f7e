from __future__ import annotations

import pytest

from models.errors import InvalidParameter
from service.client.replicas import PAUSE_SECONDS, Replicas


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "localhost",
        "ftp://a",
        "http://",
        "http://a:port",
        "http://a:99999",
        "http://a/?x=1",
        "http://[a",
    ],
)
def test_what_is_no_address_says_what_one_looks_like(url: str) -> None:
    with pytest.raises(InvalidParameter, match=r"is no address of a server; name one such as http://127.0.0.1:8000"):
        Replicas([url], lambda: 0.0)


def test_there_has_to_be_one() -> None:
    with pytest.raises(InvalidParameter, match="there is no server to ask"):
        Replicas([], lambda: 0.0)


def test_one_that_failed_comes_last_until_its_time_is_over() -> None:
    now = [0.0]
    replicas = Replicas(["http://a/", "http://b", "http://c", "http://a"], lambda: now[0])
    assert replicas.in_order() == ["http://a", "http://b", "http://c"]
    replicas.failed("http://a", PAUSE_SECONDS + 5)
    replicas.failed("http://b")
    assert replicas.in_order() == ["http://c", "http://b", "http://a"]
    now[0] += PAUSE_SECONDS
    assert replicas.in_order() == ["http://b", "http://c", "http://a"]
    replicas.worked("http://a")
    assert replicas.in_order() == ["http://a", "http://b", "http://c"]
