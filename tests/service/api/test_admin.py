"""What an operator asks for, where the disk does not take it."""

from __future__ import annotations

import asyncio
import errno
import json

import pytest

from models import storage
from service.api import admin
from tests.service.site import Play, Site


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.ESTALE])
def test_l16_a_repository_that_cannot_be_written_is_said_and_serving_goes_on(
    play: Play, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(step: str) -> None:
        raise OSError(number, "no")

    async def story(site: Site) -> None:
        monkeypatch.setattr(storage, "trace", refuse)
        changes = [
            ("PUT", "labels/champion", {"version": 1}),
            ("DELETE", "versions/1", None),
            ("PUT", "keep", {"keep": "all"}),
        ]
        for method, path, document in changes:
            body = b"" if document is None else json.dumps(document).encode()
            headers = {"host": "127.0.0.1"} | ({} if document is None else {"content-type": "application/json"})
            reply = await site.request(method, f"/v1/models/letters/{path}", body, headers=headers)
            assert (reply.status, reply.json()["code"]) == (507, "storage_failed"), reply.body
        assert (await site.predict("letters", ["1"])).status == 200
        assert (await site.get("/health/ready")).status == 200

    play(story, admin=True)


def test_a_version_that_never_gets_memory_is_given_up(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "LOAD_SECONDS", 0.01)

    async def story(site: Site) -> None:
        async def never(entry: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(site.application._catalog, "load", never)
        headers = {"host": "127.0.0.1", "content-type": "application/json"}
        path = "/v1/models/letters/labels/champion"
        reply = await site.request("PUT", path, b'{"version": 1}', headers=headers)
        assert (reply.status, reply.json()["code"]) == (504, "deadline_exceeded")

    play(story, admin=True)
