from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import KeyFileInvalid, Unauthorized
from service.auth.key import Scope
from service.auth.key_file import KeyFile
from service.auth.keyring import Keyring


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def file(path: Path) -> KeyFile:
    return KeyFile(path)


def knows(keyring: Keyring, secret: str) -> bool:
    try:
        return bool(keyring.find(secret.encode()).id)
    except Unauthorized:
        return False


def refresh(keyring: Keyring) -> None:
    asyncio.run(keyring.refresh())


def test_a_server_without_keys_asks_for_none(file: KeyFile) -> None:
    keyring = Keyring(file)
    refresh(keyring)
    assert not keyring.is_closed


def test_every_key_is_found_by_its_secret(file: KeyFile) -> None:
    made = [file.create("ci", [scope], requests_per_second=5) for scope in Scope]
    keyring = Keyring(file)
    assert keyring.is_closed
    for key, secret in made:
        held = keyring.find(secret.encode())
        assert (held.id, held.scopes) == (key.id, frozenset(key.scopes))
        assert held.limit is not None


def test_what_is_nearly_a_secret_is_refused_as_anything_else_is(file: KeyFile) -> None:
    (_, one), (_, other) = (file.create("ci", [Scope.PREDICT]) for _ in range(2))
    keyring = Keyring(file)
    reasons = set()
    for wrong in ("", one[:-1], one + "A", one.upper(), one[:12] + other[12:], f" {one}", "gw_", one[:12]):
        with pytest.raises(Unauthorized) as caught:
            keyring.find(wrong.encode())
        reasons.add(caught.value.message)
    assert len(reasons) == 1


def test_every_wrong_credential_takes_the_same_steps(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """H15: how long it takes says nothing about which ids there are."""
    key, secret = file.create("ci", [Scope.PREDICT])
    keyring = Keyring(file)
    steps: list[tuple[int, int]] = []

    def compare(mine: bytes, theirs: bytes) -> bool:
        steps.append((len(mine), len(theirs)))
        return mine == theirs

    monkeypatch.setattr("hmac.compare_digest", compare)
    for wrong in ("", "gw_00000000_" + "a" * 43, secret[:-1], f"gw_{key.id}_", "a" * 10_240):
        assert not knows(keyring, wrong)
    assert steps == [(32, 32)] * 5


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=64) | st.just(b"\xff" * 10_000))
def test_no_bytes_do_harm(file: KeyFile, sent: bytes) -> None:
    if file.stamp() is None:
        file.create("ci", [Scope.PREDICT])
    with pytest.raises(Unauthorized):
        Keyring(file).find(sent)


def test_an_expired_key_is_refused_without_a_look_at_the_file(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = file.create("ci", [Scope.PREDICT], lifetime=timedelta(minutes=1))
    keyring = Keyring(file)
    assert key.expires_at is not None
    assert knows(keyring, secret)
    monkeypatch.setattr("time.time", lambda: key.expires_at.timestamp())
    assert not knows(keyring, secret)


def test_changes_are_followed(file: KeyFile) -> None:
    keyring = Keyring(file)
    first, secret = file.create("ci", [Scope.PREDICT])
    refresh(keyring)
    assert keyring.is_closed
    assert knows(keyring, secret)
    _, another = file.create("ci", [Scope.PREDICT])
    file.revoke(first.id)
    refresh(keyring)
    assert not knows(keyring, secret)
    assert knows(keyring, another)


@pytest.mark.parametrize("end", ["revoked", "expired", "unlisted"])
def test_the_end_of_the_last_key_does_not_open_the_server(file: KeyFile, path: Path, end: str) -> None:
    lifetime = timedelta(0) if end == "expired" else None
    key, secret = file.create("ci", [Scope.PREDICT], lifetime=lifetime)
    keyring = Keyring(file)
    if end == "revoked":
        file.revoke(key.id)
    elif end == "unlisted":
        path.write_text("{}")
    refresh(keyring)
    assert keyring.is_closed
    assert not knows(keyring, secret)
    if end != "unlisted":
        assert Keyring(file).is_closed  # nor does a new start


def damage(path: Path) -> None:
    path.write_text("{")


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


@pytest.mark.parametrize("harm", [damage, open_to_others, Path.unlink])
def test_a_file_that_cannot_be_used_leaves_the_keys_as_they_were_and_is_told_of_once(
    file: KeyFile, path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    key, secret = file.create("ci", [Scope.PREDICT])
    keyring = Keyring(file)
    content = path.read_bytes()
    harm(path)
    for _ in range(3):
        refresh(keyring)
    assert knows(keyring, secret)
    complaints = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(complaints) == 1
    assert complaints[0].exc_info in (None, False)
    path.write_bytes(content)
    path.chmod(0o600)
    file.revoke(key.id)
    refresh(keyring)
    assert not knows(keyring, secret)


def test_an_error_that_nobody_foresaw_does_not_end_the_following(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key, secret = file.create("ci", [Scope.PREDICT])
    keyring = Keyring(file)
    file.revoke(key.id)
    with monkeypatch.context() as patched:
        patched.setattr(KeyFile, "read", lambda self: 1 / 0)
        refresh(keyring)
    assert "ZeroDivisionError" in caplog.text
    refresh(keyring)
    assert not knows(keyring, secret)


@pytest.mark.parametrize("harm", [damage, open_to_others])
def test_a_server_does_not_start_with_a_file_that_cannot_be_used(
    file: KeyFile, path: Path, harm: Callable[[Path], None]
) -> None:
    file.create("ci", [Scope.PREDICT])
    harm(path)
    with pytest.raises(KeyFileInvalid):
        Keyring(file)


def test_who_was_over_its_rate_still_is_after_the_file_has_changed(file: KeyFile) -> None:
    _, secret = file.create("ci", [Scope.PREDICT], requests_per_second=1)
    keyring = Keyring(file)
    limit = keyring.find(secret.encode()).limit
    assert limit is not None
    limit.take()
    file.create("other", [Scope.PREDICT])
    refresh(keyring)
    assert keyring.find(secret.encode()).limit is limit
