from __future__ import annotations

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from models import storage
from models.errors import InvalidParameter, KeyFileInvalid, KeyNotFound, StorageFailed
from service.auth.key import Scope, State, digest
from service.auth.key_file import KeyFile, open_key_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "keys.json"


def test_without_a_file_there_are_no_keys(path: Path) -> None:
    file = KeyFile(path)
    assert (file.read(), file.active(), file.stamp()) == ((), [], None)
    assert not path.parent.exists()


def test_the_secret_is_not_kept(path: Path) -> None:
    key, secret = KeyFile(path).create("ci", [Scope.METADATA, Scope.PREDICT, Scope.PREDICT], requests_per_second=50)
    assert key.scopes == (Scope.PREDICT, Scope.METADATA)
    assert key.sha256 == digest(secret.encode()).hex()
    text = path.read_text()
    assert key.sha256 in text
    assert secret not in text
    assert secret[12:] not in text
    assert KeyFile(path).read() == (key,)


def test_several_keys_are_active_at_once_until_they_are_revoked_or_expire(path: Path) -> None:
    file = KeyFile(path)
    old, new = (file.create("ci", [Scope.PREDICT])[0] for _ in range(2))
    dead, _ = file.create("late", [Scope.PREDICT], lifetime=timedelta(0))
    assert file.active() == [old, new]
    revoked = file.revoke(old.id)
    assert file.active() == [new]
    assert file.read() == (revoked, new, dead)  # what was is still told
    assert revoked.revoked_at is not None
    assert file.revoke(old.id) == revoked  # again: it keeps its time
    assert dead.state(dead.created_at) is State.EXPIRED


def test_an_unknown_key_is_named_with_those_that_are_near(path: Path) -> None:
    file = KeyFile(path)
    with pytest.raises(KeyNotFound, match="there is no key '01234567'"):
        file.revoke("01234567")
    key, _ = file.create("ci", [Scope.PREDICT])
    with pytest.raises(KeyNotFound, match=f"did you mean '{key.id}'"):
        file.revoke(key.id[:-1])


def test_a_name_that_cannot_be_is_refused_before_anything_is_written(path: Path) -> None:
    with pytest.raises(InvalidParameter):
        KeyFile(path).create("two words", [Scope.PREDICT])
    assert not path.exists()


def test_only_its_owner_can_read_the_file_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        for _ in range(2):
            KeyFile(path).create("ci", [Scope.PREDICT])
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o644, 0o666])
def test_a_file_that_others_have_access_to_is_not_used(path: Path, mode: int) -> None:
    file = KeyFile(path)
    file.create("ci", [Scope.PREDICT])
    path.chmod(mode)
    with pytest.raises(KeyFileInvalid, match=r"others have access to it; run: chmod 600 keys\.json"):
        file.read()
    with pytest.raises(KeyFileInvalid):
        file.create("more", [Scope.PREDICT])
    path.chmod(0o400)
    assert len(file.read()) == 1


def one_key(path: Path) -> dict[str, object]:
    KeyFile(path).create("ci", [Scope.PREDICT])
    document: dict[str, object] = json.loads(path.read_text())["keys"][0]
    return document


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"schema_version": 2}',
        b'{"keys": [{}]}',
        b'{"keys": [], "more": 1}',
        b"[" * 100_000,
    ],
    ids=repr,
)
def test_a_damaged_file_is_not_used(path: Path, content: bytes) -> None:
    one_key(path)
    path.write_bytes(content)
    with pytest.raises(KeyFileInvalid, match=r"keys\.json, which holds the keys, is damaged \(.+\); restore it"):
        KeyFile(path).read()


def test_two_keys_of_one_id_are_damage(path: Path) -> None:
    path.parent.mkdir()
    key = one_key(path)
    path.write_text(json.dumps({"keys": [key, key]}))
    with pytest.raises(KeyFileInvalid, match="damaged"):
        KeyFile(path).read()


def test_a_file_that_is_none_is_not_used(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(KeyFileInvalid, match="cannot be read: Is a directory"):
        KeyFile(path).read()


def test_its_stamp_differs_after_every_change(path: Path) -> None:
    file = KeyFile(path)
    stamps = [file.stamp()]
    key, _ = file.create("ci", [Scope.PREDICT])
    stamps.append(file.stamp())
    file.revoke(key.id)
    stamps.append(file.stamp())
    path.chmod(0o400)
    stamps.append(file.stamp())
    assert len(set(stamps)) == 4
    assert file.stamp() == stamps[-1]


@pytest.mark.parametrize("step", ["mkdir", "lock", "open", "write", "fsync", "replace"])
def test_a_key_that_cannot_be_written_is_not_there(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    file = KeyFile(path)
    key, _ = file.create("ci", [Scope.PREDICT])

    def fail(name: str) -> None:
        if name == step:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "trace", fail)
    with pytest.raises(StorageFailed, match="the key file cannot be written: No space left on device"):
        file.create("more", [Scope.PREDICT])
    assert file.read() == (key,)
    assert os.listdir(path.parent) == ["keys.json"]


def test_nobodys_key_is_lost_when_several_make_one_at_once(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: KeyFile(path).create("ci", [Scope.PREDICT])[0].id, range(24)))
    assert sorted(key.id for key in KeyFile(path).read()) == sorted(made)


def test_it_lies_in_the_repository_unless_it_is_named(tmp_path: Path) -> None:
    open_key_file(None, tmp_path).create("ci", [Scope.PREDICT])
    assert os.listdir(tmp_path) == [".keys.json"]
    open_key_file(tmp_path / "other", tmp_path).create("ci", [Scope.PREDICT])
    assert sorted(os.listdir(tmp_path)) == [".keys.json", "other"]
