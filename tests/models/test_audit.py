from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models import storage
from models.audit import AuditLog, local_user
from models.errors import VersionInUse


def entries(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / ".audit.jsonl").read_text().splitlines()]


def test_an_action_is_one_line(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with AuditLog(tmp_path / "new").recording("key:0123abcd", "models.promote", request_id="r-1") as action:
        action.target = "flowers:3"
    (entry,) = entries(tmp_path / "new")
    when = datetime.fromisoformat(entry.pop("when"))
    assert abs((when - before).total_seconds()) < 10
    assert entry == {
        "who": "key:0123abcd",
        "what": "models.promote",
        "target": "flowers:3",
        "result": "ok",
        "request_id": "r-1",
    }


def test_an_action_that_fails_is_recorded_with_the_code_of_its_error(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path)
    for error in (VersionInUse("it is champion"), ZeroDivisionError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), audit.recording("me", "models.delete", target="flowers:3"):
            raise error
    assert [entry["result"] for entry in entries(tmp_path)] == ["version_in_use", "internal", "internal"]
    assert "champion" not in (tmp_path / ".audit.jsonl").read_text()


def test_what_fails_makes_no_repository(tmp_path: Path) -> None:
    with pytest.raises(VersionInUse), AuditLog(tmp_path / "new").recording("me", "models.delete"):
        raise VersionInUse("it is champion")
    assert not (tmp_path / "new").exists()


def test_nothing_that_a_caller_sends_forges_or_swells_a_line(tmp_path: Path) -> None:
    evil = 'a"\n{"who": "root"}\r\u2028\x1b[2J\x7f\x00\udc80é'
    with AuditLog(tmp_path).recording(evil, "x" * 10_000, target=evil * 1000, request_id=None):
        pass
    data = (tmp_path / ".audit.jsonl").read_bytes()
    assert data.count(b"\n") == 1
    assert len(data) < 10_000
    assert all(32 <= byte < 127 for byte in data.removesuffix(b"\n"))
    (entry,) = entries(tmp_path)
    assert entry["who"] == evil
    assert entry["target"] == (evil * 1000)[:256]


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with AuditLog(tmp_path).recording("me", "x"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".audit.jsonl").stat().st_mode) == 0o600


def test_lines_of_many_do_not_mix(tmp_path: Path) -> None:
    def record(number: int) -> None:
        with AuditLog(tmp_path).recording("me", "x", target=str(number) * 200):
            pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(record, range(100)))
    assert sorted(entry["target"] for entry in entries(tmp_path)) == sorted((str(n) * 200)[:256] for n in range(100))


@pytest.mark.parametrize("step", ["mkdir", "open", "write", "fsync"])
def test_an_action_that_cannot_be_recorded_is_done_and_an_error_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    def fail(name: str) -> None:
        if name == step:
            raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(storage, "trace", fail)
    with AuditLog(tmp_path).recording("me", "models.promote", target="flowers:3"):
        done = True
    assert done
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "Read-only file system" in record.message
    assert "flowers:3" in record.message


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".audit.jsonl").symlink_to(tmp_path / "precious")
    with AuditLog(tmp_path).recording("me", "x"):
        pass
    assert not (tmp_path / "precious").exists()
    assert "cannot be written" in caplog.text


def test_who_runs_a_command_is_named_or_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_user().startswith("local:")
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    assert local_user() == f"local:{2**31 - 7}"


def test_a_line_that_waits_for_another_one_does_not_hold_up_an_event_loop(tmp_path: Path) -> None:
    async def act() -> None:
        async with AuditLog(tmp_path).recording_beside("me", "models.load", target="flowers"):
            pass

    async def story() -> None:
        with (tmp_path / ".audit.jsonl").open("ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            action = asyncio.create_task(act())
            for _ in range(10):
                await asyncio.sleep(0)  # or the lock would never be given back
            assert not action.done()
            fcntl.flock(other, fcntl.LOCK_UN)
            await action

    asyncio.run(story())
    (entry,) = entries(tmp_path)
    assert (entry["what"], entry["target"], entry["result"]) == ("models.load", "flowers", "ok")


@pytest.mark.parametrize(("error", "result"), [(VersionInUse("no"), "version_in_use"), (OSError("no"), "internal")])
def test_beside_an_event_loop_the_result_is_recorded_too(tmp_path: Path, error: Exception, result: str) -> None:
    async def story() -> None:
        with pytest.raises(type(error)):
            async with AuditLog(tmp_path).recording_beside("me", "x"):
                raise error

    asyncio.run(story())
    assert entries(tmp_path)[0]["result"] == result
