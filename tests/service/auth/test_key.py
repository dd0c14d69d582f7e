from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import InvalidParameter
from service.auth.key import Key, Scope, State, check_key_name, digest, id_of, new_secret, parse_lifetime

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def key(**fields: object) -> Key:
    usual = {"id": "0123abcd", "name": "ci", "sha256": "0" * 64, "scopes": ("predict",), "created_at": NOW}
    return Key.model_validate({**usual, **fields})


def test_a_secret_names_its_key_and_is_like_no_other() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        match = re.fullmatch(r"gw_([0-9a-f]{8})_[A-Za-z0-9_-]{43}", secret)
        assert match is not None
        assert id_of(secret.encode()).decode() == match[1]


@given(st.binary(max_size=100))
def test_whatever_is_sent_in_place_of_a_secret_has_an_id_and_a_digest(secret: bytes) -> None:
    assert len(id_of(secret)) <= 8
    assert digest(secret) == hashlib.sha256(secret).digest()


def test_a_key_is_active_until_it_expires_or_is_revoked() -> None:
    assert key().state(NOW) is State.ACTIVE
    later = NOW + timedelta(seconds=1)
    assert key(expires_at=later).state(NOW) is State.ACTIVE
    assert key(expires_at=later).state(later) is State.EXPIRED
    assert key(expires_at=later, revoked_at=NOW).state(later) is State.REVOKED


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "0123ABCD"},
        {"id": "0123abc"},
        {"id": "0123abcd\n"},
        {"name": "two words"},
        {"name": "line\n"},
        {"sha256": "0" * 63},
        {"scopes": ()},
        {"scopes": ("everything",)},
        {"requests_per_second": 0},
        {"requests_per_second": float("nan")},
        {"requests_per_second": float("inf")},
        {"created_at": "2026-11-23T00:00:00"},  # of which time zone?
        {"secret": "gw_..."},
    ],
    ids=str,
)
def test_what_is_no_key_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        key(**wrong)


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        ("8w", timedelta(weeks=8)),
    ],
)
def test_lifetimes_have_a_unit(text: str, lifetime: timedelta) -> None:
    assert parse_lifetime(text) == lifetime


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1.5h", "90 d", "90D", "1y", "100000d", "٩d"])
def test_other_lifetimes_are_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidParameter, match="such as 30m, 12h, 90d or 8w"):
        parse_lifetime(text)


def test_names_are_plain() -> None:
    assert check_key_name("ci-2.prod_eu") == "ci-2.prod_eu"
    for name in ("", "-ci", "two words", "ci\n", "ä", "a" * 65):
        with pytest.raises(InvalidParameter, match="a key's name is"):
            check_key_name(name)


def test_scopes_are_what_the_routes_ask_for() -> None:
    assert [*Scope] == ["predict", "metadata", "metrics", "admin"]
