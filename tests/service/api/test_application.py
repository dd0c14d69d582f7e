from __future__ import annotations

import asyncio
import gc
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.service.site import Play, Site

GETS = [
    "/v1/models",
    "/v1/models/letters",
    "/v1/models/letters/metadata",
    "/health/live",
    "/health/ready",
    "/health",
    "/info",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/stats",
    "/v2/models/letters/stats",
    "/v2/models/letters/versions/1/stats",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/init.js",
    "/docs/swagger-ui.css",
    "/docs/swagger-ui-bundle.js",
    "/v2",
    "/v2/models/letters",
    "/v2/models/letters/config",
    "/v2/models/letters/ready",
    "/v2/models/letters/versions/1",
    "/v2/models/letters/versions/1/config",
    "/v2/models/letters/versions/1/ready",
]
POSTS = [
    "/v1/models/letters:predict",
    "/v1/models/letters/versions/1:predict",
    "/v1/models/letters/labels/champion:predict",
    "/v2/repository/index",
    "/v2/repository/models/letters/load",
    "/v2/repository/models/letters/unload",
    "/v2/models/letters/infer",
    "/v2/models/letters/versions/1/infer",
    "/embed",
    "/predict",
    "/rerank",
    "/similarity",
    "/",
]


def test_every_route_answers_its_methods_and_names_them_to_others(play: Play) -> None:
    async def story(site: Site) -> None:
        for path in GETS:
            for method in ("GET", "HEAD"):
                assert (await site.request(method, path)).status == 200, path
        for paths, allowed in [(GETS, {"GET", "HEAD"}), (POSTS, {"POST"})]:
            for path in paths:
                for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"} - allowed:
                    reply = await site.request(method, path)
                    assert (reply.status, reply.code) == (405, "method_not_allowed"), (method, path)
                    assert set(reply.headers["allow"].split(", ")) == allowed

    play(story)


@pytest.mark.parametrize(
    "path",
    [
        "/engine",
        "/embed_all",
        "/embed/",
        "/docs/",
        "/redoc",
        "/v1",
        "/v1/models/",
        "//",
        "/v1/models/a/b",
    ],
)
def test_there_is_nothing_else(play: Play, path: str) -> None:
    async def story(site: Site) -> None:
        for method in ("GET", "POST"):
            reply = await site.request(method, path, headers={"host": "evil.example"})
            assert (reply.status, reply.json()["code"]) == (404, "route_not_found")
            assert b"evil.example" not in reply.body
            assert "location" not in reply.headers

    play(story, workers=0)


def test_errors_are_problem_json_with_the_request_id(play: Play) -> None:
    async def story(site: Site) -> None:
        for method, path in [("GET", "/nowhere"), ("PUT", "/metrics"), ("POST", "/v1/models/nobody:predict")]:
            reply = await site.request(method, path, headers={"x-request-id": "mine"})
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.headers["x-request-id"] == "mine"
            document = reply.json()
            assert list(document) == ["type", "title", "status", "code", "detail", "request_id"]
            assert (document["status"], document["request_id"]) == (reply.status, "mine")

    play(story, workers=0)


def test_an_error_that_nobody_foresaw_tells_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(site: Site) -> None:
        def explode(*args: object, **kwargs: object) -> None:
            raise ZeroDivisionError("/secret/path")

        monkeypatch.setattr(site.application._catalog, "use", explode)
        reply = await site.predict("letters", ["1"], **{"x-request-id": "mine"})
        assert (reply.status, reply.json()["code"], reply.json()["request_id"]) == (500, "internal", "mine")
        assert reply.headers["x-request-id"] == "mine"
        assert b"secret" not in reply.body
        assert b"ZeroDivision" not in reply.body
        assert await site.outcomes() == {("_unknown", "failed", "_unknown"): 1}
        assert (await site.get("/health/live")).json() == {"live": True}

    play(story)


def test_health_follows_the_workers(play: Play) -> None:
    async def story(site: Site) -> None:
        assert (await site.get("/health/live")).json() == {"live": True}
        waiting = await site.get("/health/ready")
        assert (waiting.status, waiting.json()["code"]) == (503, "not_ready")
        assert "retry-after" in waiting.headers
        assert await site.metric("graftwork_ready") == {(): 0}
        await site.start_worker()
        assert (await site.get("/health/ready")).json() == {"ready": True}
        assert await site.metric("graftwork_ready") == {(): 1}
        assert await site.metric("graftwork_workers") == {(): 1}

    play(story, workers=0)


def test_metrics_are_in_the_format_of_prometheus(play: Play) -> None:
    async def story(site: Site) -> None:
        reply = await site.get("/metrics")
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert (await site.metric("graftwork_build_info")) == {("0",): 1}

    play(story, workers=0)


def test_metrics_say_what_there_is_room_for(play: Play, models_on_disk: Path) -> None:
    async def story(site: Site) -> None:
        async def value(name: str) -> float:
            return (await site.metric(f"graftwork_{name}"))[()]

        assert await value("configured_workers") == await value("workers") == 2
        assert await value("in_flight_limit_rows") == 10
        assert await value("in_flight_limit_bytes") == 1000
        size = await value("repository_disk_size_bytes")
        assert size == shutil.disk_usage(models_on_disk).total
        assert 0 < await value("repository_disk_free_bytes") < size

    play(story, workers=2, max_rows_in_flight=10, max_bytes_in_flight=1000)


def test_workers_are_let_go_without_complaint(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def story(site: Site) -> None:
        assert (await site.predict("letters", ["1"])).status == 200

    play(story, workers=2)
    assert [record for record in caplog.records if record.levelname == "ERROR" and record.name == "asyncio"] == []


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        (b'{"instances": ["17"]}', 200, {}),
        (b'{"instances": ["17"]}', 504, {"x-request-timeout": "0.05"}),
        (b'{"instances": ["17"', 400, {}),
        (b'{"instances": [[]]}', 422, {}),
        (b'{"instances": ["blank"]}', 422, {}),
        (b'{"instances": ["?"]}', 500, {}),
        (b'{"instances": [' + b'"17", ' * 64 + b'"17"]}', 413, {}),
    ],
)
def test_nothing_holds_a_body_that_was_answered(
    play: Play, body: bytes, status: int, headers: Mapping[str, str]
) -> None:
    """Not even until the next garbage collection, which counts objects, not bytes."""

    async def story(site: Site) -> None:
        if status == 504:
            site.engine.gate.clear()
        before = sys.getrefcount(body)
        asking = asyncio.create_task(site.request("POST", POSTS[0], body, headers=headers))  # a task of its own
        assert (await asking).status == status
        assert sys.getrefcount(body) == before

    gc.disable()
    try:
        play(story)
    finally:
        gc.enable()
