"""Triton's model repository extension, asked through the whole application."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.audit import FILE_NAME
from models.repository import ModelRepository
from service.api.oip import model_control
from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.server_process import Reply
from tests.service.site import Play, Site

INDEX = "/v2/repository/index"
HOST = {"host": "127.0.0.1:8000"}
READY = {"version": "1", "state": "READY", "reason": ""}
UNLOADED = {"version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
TO_LOAD = "'letters' is not loaded; load it: POST /v2/repository/models/letters/load"


@pytest.fixture
def explicit(play: Play, texts_on_disk: ModelRepository) -> Play:
    """A site whose models, ``letters`` and ``moods``, are loaded by their names."""

    def run(story: Any, **options: Any) -> None:
        play(story, repository=texts_on_disk.root, model_control="explicit", **options)

    return run


async def ask(site: Site, model: str, verb: str, body: bytes = b"{}", **headers: str) -> Reply:
    return await site.request(
        "POST", f"/v2/repository/models/{model}/{verb}", *([body] if body else []), headers=HOST | headers
    )


async def index(site: Site, body: bytes = b"") -> list[dict[str, str]]:
    reply = await site.request("POST", INDEX, body)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    rows: list[dict[str, str]] = reply.json()
    return rows


def audited(repository: ModelRepository) -> list[tuple[str, ...]]:
    file = repository.root / FILE_NAME
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [(line["who"], line["what"], line["target"], line["result"], line["request_id"]) for line in lines]


def test_a_model_is_listed_loaded_asked_and_unloaded(explicit: Play, texts_on_disk: ModelRepository) -> None:
    async def story(site: Site) -> None:
        assert await index(site) == [{"name": "letters", **UNLOADED}, {"name": "moods", **UNLOADED}]
        refused = await site.predict("letters", ["17"])
        assert (refused.status, refused.code, refused.json()["detail"]) == (404, "version_not_loaded", TO_LOAD)

        loaded = await ask(site, "letters", "load", **{"x-request-id": "first"})
        assert (loaded.status, loaded.json(), loaded.headers["content-type"]) == (200, {}, "application/json")
        assert (await site.predict("letters", ["17"])).status == 200  # without waiting for it
        assert await index(site) == [{"name": "letters", **READY}, {"name": "moods", **UNLOADED}]
        assert await index(site, b'{"ready": true}') == [{"name": "letters", **READY}]
        assert (await site.predict("moods", ["17"])).status == 404

        unloaded = await ask(site, "letters", "unload")
        assert (unloaded.status, unloaded.json()) == (200, {})
        assert (await site.predict("letters", ["17"])).json()["detail"] == TO_LOAD
        assert await index(site, b'{"ready": true}') == []
        assert (await ask(site, "letters", "unload")).status == 200
        assert (await ask(site, "letters", "load")).status == 200
        assert (await site.predict("letters", ["17"])).status == 200
        assert (await site.get("/health/ready")).status == 200

    explicit(story)
    first, *others = audited(texts_on_disk)
    assert first == ("anyone", "models.load", "letters", "ok", "first")
    assert [line[1:4] for line in others] == [
        ("models.unload", "letters", "ok"),
        ("models.unload", "letters", "ok"),
        ("models.load", "letters", "ok"),
    ]


def test_the_index_has_every_state(explicit: Play, texts_on_disk: ModelRepository) -> None:
    async def story(site: Site) -> None:
        await ask(site, "letters", "load")
        site.engine.gate.clear()
        asking = asyncio.create_task(site.predict("letters", ["17"]))
        await site.until("graftwork_in_flight_rows", value=1)
        await ask(site, "letters", "unload")
        assert (await index(site))[0]["state"] == "UNLOADING"
        site.engine.gate.set()
        assert (await asking).status == 200
        assert await index(site) == [{"name": "letters", **UNLOADED}, {"name": "moods", **UNLOADED}]

        shutil.copytree(
            texts_on_disk.root / "moods", texts_on_disk.root / "odd"
        )  # its manifest is that of another model
        texts_on_disk.announce()
        failed = await ask(site, "odd", "load")
        assert (failed.status, failed.code) == (422, "version_corrupt")
        (row,) = [row for row in await index(site) if row["name"] == "odd"]
        assert row["state"] == "UNAVAILABLE"
        assert row["reason"] in failed.json()["error"]
        assert audited(texts_on_disk)[-1][1:4] == ("models.load", "odd", "version_corrupt")

        site.stop_workers()
        await site.until("graftwork_workers", value=0)
        waiting = asyncio.create_task(ask(site, "letters", "load"))
        while (await index(site))[0]["state"] != "LOADING":
            await asyncio.sleep(0)
        await site.start_worker()
        assert (await waiting).status == 200

    explicit(story)


def test_a_server_begins_with_what_it_was_given(explicit: Play) -> None:
    async def story(site: Site) -> None:
        assert [row["state"] for row in await index(site)] == ["UNAVAILABLE", "READY"]
        assert (await site.predict("moods", ["17"])).status == 200

    explicit(story, load_models=("moods",))


@pytest.mark.parametrize(
    ("verb", "body", "status", "code"),
    [
        ("load", b"", 200, None),
        ("load", b'{"parameters": {}}', 200, None),
        ("load", b'{"parameters": {"config": "{}"}}', 501, "not_supported"),
        ("load", b'{"parameters": {"file:1/model.onnx": "QQ=="}}', 501, "not_supported"),
        (
            "load",
            b'{"parameters": {"config": "{}", "file:1/model.onnx": "' + b"A" * 5000 + b'"}}',
            501,
            "not_supported",
        ),
        ("load", b'{"parameters": {"precision": "int8"}}', 400, "invalid_parameter"),
        ("load", b'{"parameters": []}', 422, "invalid_document"),
        ("load", b"[]", 422, "invalid_document"),
        ("load", b"{", 400, "invalid_json"),
        ("load", b"\xff", 400, "invalid_utf8"),
        ("unload", b"", 200, None),
        ("unload", b'{"parameters": {"unload_dependents": true}}', 200, None),
        ("unload", b'{"parameters": {"unload_dependants": true}}', 400, "invalid_parameter"),
        ("unload", b" " * 5000, 413, "body_too_large"),
    ],
)
def test_what_may_be_said_of_a_load(explicit: Play, verb: str, body: bytes, status: int, code: str | None) -> None:
    async def story(site: Site) -> None:
        reply = await ask(site, "letters", verb, body)
        assert (reply.status, None if status == 200 else reply.code) == (status, code)
        is_loaded = status == 200 and verb == "load"
        assert ((await index(site))[0]["state"] == "READY") is is_loaded

    explicit(story)


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("lettres", 404, "model_not_found"), ("%2e", 400, "invalid_parameter"), (".audit", 400, "invalid_parameter")],
)
def test_a_name_that_is_none(
    explicit: Play, texts_on_disk: ModelRepository, verb: str, name: str, status: int, code: str
) -> None:
    async def story(site: Site) -> None:
        reply = await ask(site, name, verb)
        assert (reply.status, reply.code) == (status, code)
        assert status == 400 or "did you mean 'letters'?" in reply.json()["error"]

    explicit(story)
    assert [line[3] for line in audited(texts_on_disk)] == (["model_not_found"] if status == 404 else [])


@pytest.mark.parametrize(
    ("body", "status"), [(b"{}", 200), (b'{"ready": false}', 200), (b'{"ready": "yes"}', 422), (b"nonsense", 400)]
)
def test_what_may_be_said_of_the_index(explicit: Play, body: bytes, status: int) -> None:
    async def story(site: Site) -> None:
        reply = await site.request("POST", INDEX, body)
        assert reply.status == status
        assert list(reply.json()[0] if status == 200 else reply.json()) in (
            ["name", "version", "state", "reason"],
            ["error"],
        )

    explicit(story)


def test_without_being_asked_for_nothing_is_loaded_or_unloaded(play: Play, texts_on_disk: ModelRepository) -> None:
    async def story(site: Site) -> None:
        for verb in ("load", "unload"):
            reply = await ask(site, "letters", verb)
            assert (reply.status, reply.code) == (501, "not_supported")
            assert "graftwork serve --model-control explicit" in reply.json()["error"]
        assert await index(site) == [{"name": "letters", **READY}, {"name": "moods", **READY}]
        assert (await site.predict("letters", ["17"])).status == 200

    play(story, repository=texts_on_disk.root)
    assert audited(texts_on_disk) == []  # what there is not is no action


def test_a_load_that_never_gets_memory_is_given_up(explicit: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_control, "LOAD_SECONDS", 0.05)

    async def story(site: Site) -> None:
        while not await index(site):
            await asyncio.sleep(0.002)
        reply = await ask(site, "letters", "load")
        assert (reply.status, reply.code) == (504, "deadline_exceeded")
        assert (await index(site))[0]["state"] == "UNAVAILABLE"

    explicit(story, workers=0)


def test_a_key_for_predictions_may_neither_list_nor_load(explicit: Play, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    keys = {scope: file.create("test", [scope])[1] for scope in Scope}

    async def story(site: Site) -> None:
        for scope, key in keys.items():
            headers = {"authorization": f"Bearer {key}"}
            listed = await site.request("POST", INDEX, headers=headers)
            assert listed.status == (200 if scope is Scope.METADATA else 403)
            for verb in ("load", "unload"):
                reply = await ask(site, "letters", verb, **headers)
                assert reply.status == (200 if scope is Scope.ADMIN else 403), scope
        assert (await ask(site, "letters", "load")).status == 401

    explicit(story, keys=tmp_path / "keys.json")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"content-type": "application/json"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"host": "rebound.example"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": ""}, 415),
    ],
)
def test_a_page_of_another_site_loads_nothing(explicit: Play, headers: Mapping[str, str], status: int) -> None:
    """What `tritonclient` sends has no type; what a page can send without one has an origin."""

    async def story(site: Site) -> None:
        assert (await ask(site, "letters", "load", **headers)).status == status
        assert ((await index(site))[0]["state"] == "READY") is (status == 200)

    explicit(story)


def test_the_index_is_what_grpc_has(explicit: Play) -> None:
    pytest.importorskip("tritonclient", reason="needs the extra: graftwork[triton]")
    from google.protobuf.json_format import MessageToDict, ParseDict
    from tritonclient.grpc.service_pb2 import RepositoryIndexResponse

    async def story(site: Site) -> None:
        rows = site.application._model_control.index()
        message = ParseDict({"models": rows}, RepositoryIndexResponse())
        assert [each.state for each in message.models] == ["READY", "UNAVAILABLE"]
        assert MessageToDict(message)["models"][1] == {"name": "moods", **UNLOADED}

    explicit(story, load_models=("letters",))


def test_any_order_of_loads_and_unloads_under_requests(explicit: Play) -> None:
    """Row G5, in small: 32 at once; each gets its answer or is told why not, and the server is ready after it."""

    async def story(site: Site) -> None:
        replies: list[tuple[str, Reply]] = []
        changing = 4

        async def change(number: int) -> None:
            nonlocal changing
            order = random.Random(number)
            for _ in range(25):
                act = order.choice(("load", "load", "unload"))
                replies.append((act, await ask(site, "letters", act)))
                replies.append(("predict", await site.predict("letters", [str(number)])))
            changing -= 1

        async def predict(number: int) -> None:
            while changing:
                replies.append(("predict", await site.predict("letters", [str(number)])))
                await asyncio.sleep(0.001)  # a refusal takes no time at all

        await asyncio.gather(*map(change, range(4)), *map(predict, range(4, 32)))
        allowed = {
            "predict": {(200, None), (404, "version_not_loaded"), (503, "not_ready")},
            "load": {(200, None), (409, "conflict")},
            "unload": {(200, None)},
        }
        seen: dict[str, set[tuple[int, str | None]]] = {act: set() for act in allowed}
        for act, reply in replies:
            seen[act].add((reply.status, None if reply.status == 200 else reply.code))
        assert all(seen[act] <= allowed[act] for act in allowed), seen
        assert {(200, None), (404, "version_not_loaded")} <= seen["predict"]
        assert (await ask(site, "letters", "load")).status == 200
        assert (await site.predict("letters", ["17"])).status == 200
        assert (await site.get("/health/ready")).status == 200
        assert await site.metric("graftwork_in_flight_rows") == {(): 0}
        await ask(site, "letters", "unload")
        assert await site.metric("graftwork_backbone_bytes") == {(): 0}

    explicit(story, workers=2)
