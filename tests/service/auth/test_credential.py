from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth.credential import NONE, credential

BEARER = (b"authorization", b"Bearer gw_a")
API_KEY = (b"x-api-key", b"gw_a")


@pytest.mark.parametrize(
    "headers",
    [
        [BEARER],
        [(b"host", b"here"), BEARER, (b"accept", b"*/*")],
        [API_KEY],
        [BEARER, API_KEY],
        [(b"authorization", b"bearer gw_a")],
        [(b"authorization", b"BEARER   gw_a")],
    ],
    ids=repr,
)
def test_the_one_credential_is_found(headers: list[tuple[bytes, bytes]]) -> None:
    assert credential(headers) == b"gw_a"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic gw_a")],
        [(b"authorization", b"gw_a")],
        [(b"authorization", b"Bearergw_a")],
        [(b"x-api-key", b"")],
        [BEARER, BEARER],
        [API_KEY, API_KEY],
        [BEARER, (b"x-api-key", b"gw_b")],
        [(b"authorization", b"Basic gw_a"), API_KEY],
        [(b"authorization", b""), API_KEY],
        [(b"proxy-authorization", b"Bearer gw_a")],
        [(b"cookie", b"authorization=gw_a")],
    ],
    ids=repr,
)
def test_none_or_more_than_one_is_none(headers: list[tuple[bytes, bytes]]) -> None:
    assert credential(headers) == NONE


NAMES = st.sampled_from([b"authorization", b"x-api-key", b"host"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=40) | st.binary(max_size=40).map(lambda b: b"Bearer " + b))))
def test_whatever_comes_it_is_one_of_the_values_or_none(headers: list[tuple[bytes, bytes]]) -> None:
    found = credential(headers)
    values = {value.strip() for name, value in headers if name == b"x-api-key"} | {
        value[7:].strip() for name, value in headers if name == b"authorization"
    }
    assert found == NONE or found.strip() in values
