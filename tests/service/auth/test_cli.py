from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from graftwork import app
from models.audit import local_user
from models.errors import GraftworkError, InvalidParameter, KeyFileInvalid, KeyNotFound
from service.auth.key import digest
from service.auth.key_file import KeyFile


def keys(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments, "--repository", str(tmp_path)])


def create(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    done = keys(tmp_path, "create", "--name", "ci", "--scope", "predict", "--json", *arguments)
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def audited(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / ".audit.jsonl").read_text().splitlines()]


def test_the_secret_alone_is_on_stdout_so_that_a_script_can_take_it(tmp_path: Path) -> None:
    done = keys(tmp_path, "create", "--name", "ci", "--scope", "predict", "--scope", "metadata", "--rate", "50")
    secret = done.stdout.removesuffix("\n")
    (key,) = KeyFile(tmp_path / ".keys.json").read()
    assert key.sha256 == digest(secret.encode()).hex()
    assert done.stderr == f"key {key.id} (ci) allows predict, metadata; its secret is not shown again\n"
    assert key.requests_per_second == 50


def test_a_key_lives_through_its_states(tmp_path: Path) -> None:
    assert "make one: graftwork keys create" in keys(tmp_path, "list").stdout
    made = create(tmp_path, "--expires", "90d", "--rate", "0.5")
    secret = made.pop("secret")
    assert secret.startswith(f"gw_{made['id']}_")
    assert json.loads(keys(tmp_path, "list", "--json").stdout) == {"keys": [made]}
    header, _, row = keys(tmp_path, "list").stdout.splitlines()
    assert header.split() == ["key", "name", "state", "scopes", "rate", "created", "expires"]
    assert row.split()[:5] == [made["id"], "ci", "active", "predict", "0.5/s"]
    revoked = keys(tmp_path, "revoke", made["id"])
    assert revoked.stdout == f"key {made['id']} (ci) is revoked\n"
    (row,) = json.loads(keys(tmp_path, "list", "--json").stdout)["keys"]
    assert row["state"] == "revoked"
    assert row["revoked_at"] is not None
    for output in (keys(tmp_path, "list").output, revoked.output):
        assert secret[12:] not in output


def test_a_secret_that_leaked_can_be_given_in_place_of_its_id(tmp_path: Path) -> None:
    made = create(tmp_path)
    assert json.loads(keys(tmp_path, "revoke", made["secret"], "--json").stdout)["id"] == made["id"]
    for name in (".audit.jsonl", ".keys.json"):
        assert made["secret"][12:] not in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("create", "--name", "two words", "--scope", "predict"), InvalidParameter),
        (("create", "--name", "ci", "--scope", "predict", "--expires", "soon"), InvalidParameter),
        (("revoke", "01234567"), KeyNotFound),
    ],
)
def test_what_cannot_be_done_is_an_error(
    tmp_path: Path, arguments: tuple[str, ...], error: type[GraftworkError]
) -> None:
    assert isinstance(keys(tmp_path, *arguments).exception, error)


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--name", "ci"),
        ("create", "--scope", "predict"),
        ("create", "--name", "ci", "--scope", "everything"),
        ("create", "--name", "ci", "--scope", "predict", "--rate", "0"),
        ("revoke",),
    ],
)
def test_what_makes_no_sense_ends_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert keys(tmp_path, *arguments).exit_code == 2


def test_the_file_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = create(tmp_path, "--keys", str(tmp_path / "elsewhere" / "keys.json"))
    assert not (tmp_path / ".keys.json").exists()
    monkeypatch.setenv("GRAFTWORK_KEYS", str(tmp_path / "elsewhere" / "keys.json"))
    (row,) = json.loads(keys(tmp_path, "list", "--json").stdout)["keys"]
    assert row["id"] == made["id"]


def test_who_made_and_revoked_which_key_is_recorded(tmp_path: Path) -> None:
    made = create(tmp_path)
    keys(tmp_path, "revoke", made["id"])
    keys(tmp_path, "revoke", "01234567")
    (tmp_path / ".keys.json").chmod(0o644)
    assert isinstance(keys(tmp_path, "revoke", made["id"]).exception, KeyFileInvalid)
    assert [(entry["who"], entry["what"], entry["target"], entry["result"]) for entry in audited(tmp_path)] == [
        (local_user(), "keys.create", f"{made['id']} ci", "ok"),
        (local_user(), "keys.revoke", made["id"], "ok"),
        (local_user(), "keys.revoke", "01234567", "key_not_found"),
        (local_user(), "keys.revoke", made["id"], "key_file_invalid"),
    ]
