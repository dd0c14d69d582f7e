"""An operator changes what is served, over HTTP, while it is served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from models.aliases import promote
from models.repository import ModelRepository
from models.version import Reference
from service.api.openapi import openapi_document
from tests.processes import wait_for
from tests.server_process import Reply, ServerProcess, ready_server
from tests.tiny_models import publish_texts

DOCUMENT = openapi_document("0.0", admin=True)
LABELS = ("consonant", "vowel")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Iterator[ServerProcess]:
    """A server that takes an operator's requests, with three versions of ``letters``."""
    repository = ModelRepository(tmp_path_factory.mktemp("admin") / "repository")
    for seed in (1, 2, 3):
        publish_texts(repository, tiny_text, "letters", LABELS, seed=seed)
    with ready_server(repository.root, "--admin") as server:
        yield server


@pytest.fixture
def repository(server: ServerProcess) -> ModelRepository:
    """That of the server, whose champion is version 2, after version 1."""
    repository = ModelRepository(server.repository)
    for number in (1, 2):
        promote(repository, Reference(name="letters", number=number))
    repository.change_deployment("letters", lambda before: before.model_copy(update={"keep": "latest:2"}))
    wait_for(lambda: answering(server) == 2, 30, server.text)
    return repository


def ask(server: ServerProcess, method: str, path: str, document: object = None, **headers: str) -> Reply:
    body = None if document is None else json.dumps(document).encode()
    typed = {} if body is None else {"Content-Type": "application/json"}
    return server.request(method, f"/v1/models/letters{path}", body, typed | headers)


def answering(server: ServerProcess) -> int:
    """The version that answers whoever names none."""
    return int(server.predict("letters", ["a"]).json()["version"])


def champion(repository: ModelRepository) -> int | None:
    return repository.deployment("letters").aliases.get("champion")


def audited(repository: ModelRepository) -> Mapping[str, Any]:
    """The last line of the audit log."""
    last: Mapping[str, Any] = json.loads((repository.root / ".audit.jsonl").read_text().splitlines()[-1])
    return last


def check_answer(reply: Reply, path: str, method: str) -> None:
    """It is 200, and what the OpenAPI document says."""
    assert reply.status == 200, reply.body
    content = DOCUMENT["paths"][f"/v1/models/{{name}}{path}"][method]["responses"]["200"]["content"]
    schema = {**content["application/json"]["schema"], "components": DOCUMENT["components"]}
    jsonschema_rs.Draft202012Validator(schema).validate(reply.json())


def test_a_promotion_is_served_when_it_is_answered(server: ServerProcess, repository: ModelRepository) -> None:
    reply = ask(server, "PUT", "/labels/champion", {"version": 3, "expect": 2}, **{"X-Request-Id": "move"})
    assert answering(server) == 3  # without waiting for it
    check_answer(reply, "/labels/{alias}", "put")
    assert reply.json() == {"model": "letters", "alias": "champion", "version": 3, "before": 2}
    assert champion(repository) == 3
    line = audited(repository)
    assert (line["who"], line["what"], line["target"]) == ("anyone", "models.promote", "letters@champion = 3")
    assert (line["result"], line["request_id"]) == ("ok", "move")

    reply = ask(server, "POST", "/labels/champion:rollback", {"expect": 3})
    assert answering(server) == 2
    check_answer(reply, "/labels/{alias}:rollback", "post")
    assert ask(server, "POST", "/labels/champion:rollback", {}).json()["version"] == 1
    assert answering(server) == 1
    nowhere = ask(server, "POST", "/labels/champion:rollback", {})
    assert (nowhere.status, nowhere.json()["code"]) == (409, "conflict")


def test_a_version_that_was_not_loaded_is_loaded_first(server: ServerProcess, repository: ModelRepository) -> None:
    wait_for(lambda: versions(server)[1] == "unloaded", 30, server.text)
    refused = ask(server, "POST", "/versions/1:predict", {"instances": ["a"]})
    assert (refused.status, refused.json()["code"]) == (404, "version_not_loaded")
    assert ask(server, "PUT", "/labels/champion", {"version": 1}).status == 200
    assert answering(server) == 1
    assert versions(server) == {1: "ready", 2: "ready", 3: "ready"}


def versions(server: ServerProcess) -> dict[int, str]:
    listed = server.request("GET", "/v1/models/letters").json()["versions"]
    return {entry["version"]: entry["state"] for entry in listed}


def test_who_was_not_quick_enough_is_told_so(server: ServerProcess, repository: ModelRepository) -> None:
    for reply in (
        ask(server, "PUT", "/labels/champion", {"version": 3, "expect": 1}),
        ask(server, "POST", "/labels/champion:rollback", {"expect": 1}),
        ask(server, "DELETE", "/labels/champion?expect=unset"),
    ):
        assert (reply.status, reply.json()["code"]) == (409, "conflict")
        assert "letters@champion is 2, and not " in reply.json()["detail"]
        assert audited(repository)["result"] == "conflict"
    assert champion(repository) == answering(server) == 2


def test_the_rest_of_what_an_operator_does(server: ServerProcess, repository: ModelRepository) -> None:
    in_use = ask(server, "DELETE", "/versions/2")
    assert (in_use.status, in_use.json()["code"]) == (409, "version_in_use")
    check_answer(ask(server, "PUT", "/keep", {"keep": "latest:1"}), "/keep", "put")
    wait_for(lambda: versions(server) == {1: "unloaded", 2: "ready", 3: "ready"}, 30, server.text)
    check_answer(ask(server, "DELETE", "/labels/champion?expect=2"), "/labels/{alias}", "delete")
    assert answering(server) == 3
    number = publish_texts(
        repository, repository.read("letters", 3).manifest.backbone.source, "letters", LABELS, seed=9
    ).number
    wait_for(lambda: answering(server) == number, 30, server.text)
    check_answer(ask(server, "DELETE", f"/versions/{number}"), "/versions/{number}", "delete")
    wait_for(lambda: server.predict("letters", ["a"]).status == 200, 30, server.text)  # its successor was not loaded
    assert answering(server) == 3


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_utf8"),
        (b"[" * 4000, "invalid_json"),
        (b" " * 5000, "body_too_large"),
        (b'{"version": 3, "version": 1}', "invalid_json"),
        (b'{"version": NaN}', "invalid_json"),
        (b"[]", "invalid_document"),
        (b"{}", "invalid_document"),
        (b'{"version": 0}', "invalid_document"),
        (b'{"version": "3"}', "invalid_document"),
        (b'{"version": 3.0}', "invalid_document"),
        (b'{"version": true}', "invalid_document"),
        (b'{"version": 3, "expected": 2}', "invalid_document"),
        (b'{"version": 3, "expect": "newest"}', "invalid_document"),
        (b'{"version": 99}', "version_not_found"),
    ],
)
def test_a_document_that_asks_for_nothing_sensible_changes_nothing(
    server: ServerProcess, repository: ModelRepository, body: bytes, code: str
) -> None:
    reply = server.request("PUT", "/v1/models/letters/labels/champion", body, {"Content-Type": "application/json"})
    assert reply.json()["code"] == code
    assert champion(repository) == 2


# A web page in the operator's browser (row H14)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "rebound.example"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    server: ServerProcess, repository: ModelRepository, headers: Mapping[str, str], status: int
) -> None:
    reply = ask(server, "PUT", "/labels/champion", {"version": 3}, **headers)
    assert reply.status == status
    assert "access-control-allow-origin" not in reply.headers
    assert champion(repository) == 2


def test_without_being_asked_for_there_is_no_such_route(tmp_path: Path, tiny_text: str) -> None:
    repository = ModelRepository(tmp_path / "repository")
    publish_texts(repository, tiny_text, "letters", LABELS, seed=1)
    with ready_server(repository.root) as server:
        for method, path in (("PUT", "labels/champion"), ("DELETE", "versions/1"), ("PUT", "keep")):
            reply = server.request(method, f"/v1/models/letters/{path}", b"{}", {"Content-Type": "application/json"})
            assert (reply.status, reply.json()["code"]) == (404, "route_not_found")


# A broken version never disturbs the one that serves (row L11)


def test_a_broken_version_is_not_promoted(server: ServerProcess, repository: ModelRepository) -> None:
    number = max(repository.numbers("letters")) + 1
    broken = repository.root / "letters" / str(number)
    shutil.copytree(repository.root / "letters" / "3", broken.with_name(".staging-broken"))
    head = broken.with_name(".staging-broken") / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-1] + bytes([head.read_bytes()[-1] ^ 1]))
    manifest = broken.with_name(".staging-broken") / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "number": number}))
    broken.with_name(".staging-broken").rename(broken)
    repository.announce()
    reply = ask(server, "PUT", "/labels/champion", {"version": number})
    assert (reply.status, reply.json()["code"]) == (409, "promotion_refused")
    assert "head.safetensors is damaged" in reply.json()["detail"]
    assert champion(repository) == answering(server) == 2
    assert audited(repository)["result"] == "promotion_refused"
    repository.delete(Reference(name="letters", number=number))
