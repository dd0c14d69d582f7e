"""Who may pass, asked through the whole application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from service.api.application import Application
from service.api.declaration import route
from service.api.telemetry import RECORD
from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.server_process import Reply, json_body, samples
from tests.service.site import Client, Play, Site

PREDICT = "/v1/models/letters:predict"
OPEN = [
    *("/health/live", "/health/ready", "/health", "/v2/health/live", "/v2/health/ready"),
    *("/docs", "/docs/init.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"),
]
NEEDS = {
    Scope.METADATA: [
        *("/v1/models", "/v1/models/letters", "/v1/models/letters/metadata", "/info", "/openapi.json"),
        *("/v2/models/stats", "/v2/models/letters/stats", "/v2/models/letters/versions/1/stats"),
    ],
    Scope.METRICS: ["/metrics"],
}


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def guarded(play: Play, file: KeyFile, tmp_path: Path) -> Play:
    """A site that asks for keys."""

    def run(story: Any, **options: Any) -> None:
        play(story, keys=tmp_path / "keys.json", **options)

    return run


def secret(file: KeyFile, *scopes: Scope, **options: Any) -> str:
    return file.create("test", scopes or [Scope.PREDICT], **options)[1]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def predict(site: Site, headers: Mapping[str, str]) -> Reply:
    return await site.request("POST", PREDICT, json_body(["17"]), headers=headers)


async def refusals(site: Site, headers: Mapping[str, str]) -> dict[tuple[str, ...], float]:
    reply = await site.request("GET", "/metrics", headers=headers)
    return samples(reply.body, "graftwork_refused_requests_total")


def test_without_keys_whatever_is_shown_is_ignored(guarded: Play) -> None:
    async def story(site: Site) -> None:
        for headers in ({}, bearer("sk-anything"), {"x-api-key": "x"}, {"authorization": "Basic QQ=="}):
            assert (await predict(site, headers)).status == 200
            for path in [*OPEN, *NEEDS[Scope.METADATA], *NEEDS[Scope.METRICS]]:
                assert (await site.request("GET", path, headers=headers)).status == 200

    guarded(story)


def test_each_scope_opens_its_routes_and_no_other(guarded: Play, file: KeyFile) -> None:
    keys = {scope: secret(file, scope) for scope in Scope}

    async def story(site: Site) -> None:
        for path in OPEN:
            assert (await site.get(path)).status == 200
        for scope, key in keys.items():
            reply = await predict(site, bearer(key))
            assert reply.status == (200 if scope is Scope.PREDICT else 403), scope
            for needed, paths in NEEDS.items():
                for path in paths:
                    for method in ("GET", "HEAD"):
                        reply = await site.request(method, path, headers=bearer(key))
                        assert reply.status == (200 if scope is needed else 403), (scope, path)
        everything = {"x-api-key": secret(file, *Scope)}
        await site.application._keyring.refresh()
        assert (await predict(site, everything)).status == 200
        assert (await site.request("GET", "/metrics", headers=everything)).status == 200

    guarded(story)


def test_a_key_is_asked_for_before_anything_else_is(guarded: Play, file: KeyFile) -> None:
    """Neither the body nor the model is looked at: whoever has no key learns nothing, and costs little."""
    key = secret(file, Scope.METRICS)

    async def story(site: Site) -> None:
        async def receive() -> Any:
            raise AssertionError("the body was read")

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        for name in ("letters", "nobody", "%00", "a" * 300):
            scope = {
                "type": "http",
                "method": "POST",
                "path": f"/v1/models/{name}:predict",
                "query_string": b"top_k=nonsense",
                "headers": [(b"content-length", b"999999999999"), (b"content-encoding", b"gzip")],
            }
            await site.application.telemetry(scope, receive, send)
        assert [m["status"] for m in sent if m["type"] == "http.response.start"] == [401] * 4
        assert len({body_without_id(m["body"]) for m in sent if m["type"] == "http.response.body"}) == 1
        assert (await refusals(site, bearer(key))) == {("_unknown", "unauthorized"): 4}

    guarded(story)


def body_without_id(body: bytes) -> str:
    return str({name: value for name, value in json.loads(body).items() if name != "request_id"})


def test_a_refused_prediction_is_counted_once_and_logged_with_its_key(
    guarded: Play, file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    made, key = file.create("test", [Scope.METRICS])
    caplog.set_level("INFO", "graftwork.access")

    async def story(site: Site) -> None:
        assert (await predict(site, {})).status == 401
        assert (await predict(site, bearer(key))).status == 403
        metrics = await site.request("GET", "/metrics", headers=bearer(key))
        assert samples(metrics.body, "graftwork_received_requests_total") == {(): 2}
        counted = samples(metrics.body, "graftwork_requests_total").items()
        assert {key: count for key, count in counted if count} == {("_unknown", "client_error", "_unknown"): 2}
        assert samples(metrics.body, "graftwork_refused_requests_total") == {
            ("_unknown", "unauthorized"): 1,
            (made.id, "forbidden"): 1,
        }

    guarded(story, workers=0)
    lines = [record.fields for record in caplog.records if record.name == "graftwork.access"]  # type: ignore[attr-defined]
    assert [(line["key"], line["code"]) for line in lines][:2] == [(None, "unauthorized"), (made.id, "forbidden")]
    assert lines[-1]["key"] == made.id


def test_a_key_over_its_rate_is_told_when_to_come_again(guarded: Play, file: KeyFile) -> None:
    limited = secret(file, Scope.PREDICT, Scope.METADATA, requests_per_second=0.25)
    free = secret(file, Scope.PREDICT)

    async def story(site: Site) -> None:
        assert (await site.request("GET", "/v1/models", headers=bearer(limited))).status == 200
        reply = await predict(site, bearer(limited))
        assert (reply.status, reply.json()["code"], reply.headers["retry-after"]) == (429, "rate_limited", "4")
        assert (await predict(site, bearer(free))).status == 200  # it is that key, and no other
        for _ in range(3):
            assert (await site.request("GET", "/health/live", headers=bearer(limited))).status == 200

    guarded(story)


def test_a_revoked_key_ends_what_it_asks_next_and_the_last_one_closes_all(guarded: Play, file: KeyFile) -> None:
    made, key = file.create("test", [Scope.PREDICT])

    async def story(site: Site) -> None:
        assert (await predict(site, bearer(key))).status == 200
        file.revoke(made.id)
        async with asyncio.timeout(5):
            while (await predict(site, bearer(key))).status == 200:
                await asyncio.sleep(0.02)
        for headers in ({}, bearer(key)):
            assert (await predict(site, headers)).status == 401
            assert (await site.request("GET", "/metrics", headers=headers)).status == 401

    guarded(story)


def test_the_document_is_served_on_any_address_to_who_may_read_it(guarded: Play, file: KeyFile) -> None:
    key = secret(file, Scope.METADATA)

    async def story(site: Site) -> None:
        assert (await site.request("GET", "/openapi.json", headers=bearer(key))).status == 200
        assert (await site.get("/openapi.json")).status == 401

    guarded(story, workers=0, host="0.0.0.0")


def test_what_is_not_there_is_no_secret(guarded: Play, file: KeyFile) -> None:
    secret(file)

    async def story(site: Site) -> None:
        assert (await site.get("/nowhere")).status == 404
        reply = await site.request("DELETE", "/v1/models")
        assert (reply.status, set(reply.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
        assert (await site.get(PREDICT)).status == 405

    guarded(story, workers=0)


# Routes that change the server


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What an admin route was asked, added to the application for the test."""
    asked: list[str] = []

    @route("POST", "/v1/stop", scope=Scope.ADMIN)
    @route("DELETE", "/v1/stop", scope=Scope.ADMIN)
    async def stop(self: Application, request: Request) -> Response:
        asked.append(f"{request.method} {request.scope[RECORD].who}")
        return Response(b"{}", media_type="application/json")

    monkeypatch.setattr(Application, "stop", stop, raising=False)
    return asked


JSON = {"host": "127.0.0.1:8000", "content-type": "application/json", "content-length": "2"}


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 200, None),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200, None),
        ({"origin": "http://evil.example"}, 403, "cross_site"),
        ({"sec-fetch-site": "cross-site"}, 403, "cross_site"),
        ({"host": "evil.example:8000"}, 403, "cross_site"),
        ({"content-type": "text/plain"}, 415, "unsupported_media_type"),
        ({"content-type": "text/plain", "origin": "http://evil.example"}, 403, "cross_site"),
    ],
    ids=str,
)
def test_no_page_of_another_site_changes_the_server(
    guarded: Play,
    file: KeyFile,
    stopped: Sequence[str],
    closed: bool,
    headers: Mapping[str, str],
    status: int,
    code: str | None,
) -> None:
    """H14: whether or not the browser has a key."""
    key = bearer(secret(file, Scope.ADMIN)) if closed else {}
    who = f"key:{file.read()[0].id}" if closed else "anyone"

    async def story(site: Site) -> None:
        reply = await site.request("POST", "/v1/stop", b"{}", headers={**JSON, **headers, **key})
        assert reply.status == status
        assert status == 200 or reply.json()["code"] == code
        assert "access-control-allow-origin" not in reply.headers

    guarded(story, workers=0)
    assert stopped == ([f"POST {who}"] if status == 200 else [])


def test_who_may_not_change_the_server_is_told_so(guarded: Play, file: KeyFile, stopped: Sequence[str]) -> None:
    key = secret(file, Scope.PREDICT, Scope.METADATA, Scope.METRICS)
    admin = secret(file, Scope.ADMIN)

    async def story(site: Site) -> None:
        for method in ("POST", "DELETE"):
            assert (await site.request(method, "/v1/stop", headers=JSON)).status == 401
            reply = await site.request(method, "/v1/stop", headers={**JSON, **bearer(key)})
            assert (reply.status, reply.json()["code"]) == (403, "forbidden")
            assert (await site.request(method, "/v1/stop", headers={**JSON, **bearer(admin)})).status == 200
        reply = await site.request("GET", "/v1/stop", headers={**JSON, **bearer(admin)})
        assert (reply.status, set(reply.headers["allow"].split(", "))) == (405, {"POST", "DELETE"})

    guarded(story, workers=0)
    assert [asked.split()[0] for asked in stopped] == ["POST", "DELETE"]


def test_a_client_that_is_refused_is_let_go(guarded: Play, file: KeyFile) -> None:
    """Nothing waits for it any more."""
    secret(file)

    async def story(site: Site) -> None:
        client = Client()
        reply = await site.request("POST", PREDICT, json_body(["17"]), client=client)
        assert reply.status == 401
        assert client.callback is None

    guarded(story)
