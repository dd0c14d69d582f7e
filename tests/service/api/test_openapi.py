from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema_rs
import pytest
import schemathesis

from finetune.importing import import_checkpoint
from models import version
from models.aliases import promote
from models.errors import (
    DatasetInvalid,
    DeadlineExceeded,
    Forbidden,
    GraftworkError,
    InputError,
    InvalidDocument,
    InvalidEncoding,
    InvalidInstances,
    InvalidMessage,
    InvalidTensor,
    InvalidValue,
    NotSupported,
    RateLimited,
    ShapeOverflow,
    TooManyInstances,
    Unauthorized,
    Unavailable,
    VersionNotLoaded,
)
from models.repository import ModelRepository
from models.version import Reference
from service.api import telemetry
from service.api.admin import AdminRoutes
from service.api.application import Application
from service.api.oip.metadata_routes import MetadataRoutes, MissingRoutes
from service.api.oip.repository import RepositoryRoutes
from service.api.oip.statistics import StatisticsRoutes
from service.api.openapi import MEDIA_TYPE, OpenApiRoute, openapi_document
from service.api.schemas import ALIAS, MAX_INSTANCES, NAME, REQUEST_ID
from service.api.v1 import V1Routes
from service.settings import ServerSettings
from tests.server_process import Reply, ServerProcess, ready_server
from tests.service.site import Play, Site
from tests.tiny_models import TorchEngines, picture, publish_texts

DOCUMENT = openapi_document("0.0", admin=True)
COMPONENTS = DOCUMENT["components"]


def resolve(node: Any) -> Any:
    """What a reference refers to."""
    return reduce(getitem, node["$ref"].removeprefix("#/").split("/"), DOCUMENT)


def validator(schema: Any) -> Any:
    return jsonschema_rs.Draft202012Validator({**schema, "components": COMPONENTS})


def nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every object in the document."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


# The document


def test_it_is_valid() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for schema in COMPONENTS["schemas"].values():
        jsonschema_rs.Draft202012Validator(schema | {"components": COMPONENTS})  # refuses what is no schema
    for node in nodes(DOCUMENT):
        assert "$ref" not in node or resolve(node)  # or it raises


def test_a_document_that_is_not_valid_is_noticed() -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict({**DOCUMENT, "info": {}}).validate()


def test_it_has_every_route_and_no_other(play: Play) -> None:
    documented = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}

    async def story(site: Site) -> None:
        routes = site.application._routes()
        mounted = {(route.path_format, method) for route in routes for method in (route.methods or ())}
        assert mounted - {(path, "HEAD") for path, _ in mounted} == documented

    play(story, workers=0, admin=True)


def test_routes_for_operators_are_there_where_they_are_asked_for(play: Play) -> None:
    changing = {path for path, item in DOCUMENT["paths"].items() if "`admin`" in str(item) and path.startswith("/v1")}
    assert len(changing) == 4
    assert set(openapi_document("0.0")["paths"]) == set(DOCUMENT["paths"]) - changing

    async def story(site: Site) -> None:
        assert not changing & {route.path_format for route in site.application._routes()}

    play(story, workers=0)


def test_it_has_every_error_that_a_prediction_may_end_with() -> None:
    def leaves(kind: type[GraftworkError]) -> set[type[GraftworkError]]:
        return set().union(*map(leaves, kind.__subclasses__())) if kind.__subclasses__() else {kind}

    every = leaves(InputError) | leaves(Unavailable) | {DeadlineExceeded, VersionNotLoaded, GraftworkError}
    every -= {InvalidDocument, InvalidMessage}  # that is what operators send, and what gRPC has
    of_instances, of_tensors = {InvalidInstances, TooManyInstances}, {ShapeOverflow, InvalidValue, InvalidEncoding}
    for path, kinds in [
        ("/v1/models/{name}:predict", every - of_tensors),
        ("/v2/models/{name}/infer", (every - of_instances) | {InvalidTensor, NotSupported}),
    ]:
        responses = DOCUMENT["paths"][path]["post"]["responses"]
        for kind in kinds:
            assert kind.code in codes(responses[str(kind.status)]), kind
        assert DatasetInvalid.code not in str(responses)


def codes(response: Mapping[str, Any]) -> list[str]:
    (content,) = response["content"].values()
    _, detail = content["schema"]["allOf"]
    members = detail["properties"]
    if "error" in members:
        return members["error"]["pattern"].removeprefix("^(").removesuffix("): ").split("|")
    found: list[str] = members["code"]["enum"]
    return found


def test_it_says_which_routes_need_which_key() -> None:
    needed = {}
    oip = (MetadataRoutes, RepositoryRoutes, StatisticsRoutes, MissingRoutes)
    for owner in (Application, V1Routes, OpenApiRoute, *oip, AdminRoutes):
        for member in vars(owner).values():
            for declaration in getattr(member, "__declarations__", ()):
                for path in declaration.paths:
                    needed[re.sub(r":\w+}", "}", path), declaration.method.lower()] = declaration.scope
    for (path, method), scope in needed.items():
        operation = DOCUMENT["paths"][path][method]
        assert ("security" in operation) is (scope is not None), path
        assert scope is None or f"`{scope}`" in operation["description"]
        for kind in (Unauthorized, Forbidden, RateLimited):
            found = operation["responses"].get(str(kind.status))
            assert (found is not None and kind.code in codes(found)) is (scope is not None)


def test_its_limits_are_those_of_the_server() -> None:
    assert ServerSettings(repository=Path()).max_instances == MAX_INSTANCES
    assert NAME["pattern"] == f"^{version._NAME.pattern}$"
    assert ALIAS["pattern"] == f"^{version._ALIAS.pattern}$"
    assert REQUEST_ID["pattern"] == f"^{telemetry._REQUEST_ID.pattern.decode()}$"
    assert re.fullmatch(version.NUMBER, str(COMPONENTS["parameters"]["number"]["schema"]["maximum"]))


def test_examples_are_what_their_schemas_say() -> None:
    seen = 0
    for node in nodes(DOCUMENT):
        if isinstance(node.get("examples"), list):
            examples, schema = node["examples"], node
        elif isinstance(node.get("examples"), dict) and "schema" in node:
            examples, schema = [example["value"] for example in node["examples"].values()], node["schema"]
        else:
            continue
        for example in examples:
            validator(schema).validate(example)
            seen += 1
    assert seen > 10


# Its route


def test_it_is_served_to_this_machine_only(play: Play) -> None:
    async def local(site: Site) -> None:
        first, again = await site.get("/openapi.json"), await site.get("/openapi.json")
        assert (first.status, first.headers["content-type"], first.json()) == (200, MEDIA_TYPE, openapi_document("0"))
        assert again.body == first.body

    async def public(site: Site) -> None:
        assert (await site.get("/openapi.json")).json()["code"] == "route_not_found"

    play(local, workers=0)
    play(public, workers=0, host="0.0.0.0")


# Its examples, sent to a real server


@dataclass(frozen=True, kw_only=True)
class Example:
    """A request that is made of the examples of one name."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None
    answer: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.headers.get('Content-Type', '')}"


def examples() -> Iterator[Example]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if "`admin`" in operation.get("description", ""):  # they change what the others ask: see test_admin
                continue
            parameters = [resolve(reference) for reference in operation["parameters"]]
            for kind in ("texts", "pairs", "images"):
                target, headers = place(path, parameters, kind)
                answer = operation["responses"].get("200", {})
                for media_type, body in bodies(operation, kind):
                    yield Example(
                        method=method.upper(),
                        target=target,
                        headers=headers | ({"Content-Type": media_type} if media_type else {}),
                        body=body,
                        answer=answer,
                    )


def place(path: str, parameters: list[Mapping[str, Any]], kind: str) -> tuple[str, dict[str, str]]:
    """Path, query and headers with the examples in them."""
    query, headers = {}, {}
    for parameter in parameters:
        if kind not in parameter["examples"]:
            assert not parameter.get("required")
            continue
        value = parameter["examples"][kind]["value"]
        text = value if isinstance(value, str) else json.dumps(value)
        match parameter["in"]:
            case "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(text, safe="/"))
            case "query":
                query[parameter["name"]] = text
            case "header":
                headers[parameter["name"]] = text
    return path + ("?" + urlencode(query) if query else ""), headers


def bodies(operation: Mapping[str, Any], kind: str) -> Iterator[tuple[str, bytes | None]]:
    if "requestBody" not in operation:
        yield "", None
        return
    for media_type, content in operation["requestBody"]["content"].items():
        if kind in content.get("examples", {}):
            value = content["examples"][kind]["value"]
            if media_type == "multipart/form-data":
                part = '--limit\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
                form = "".join(part.format(*each) for each in value.items()) + "--limit--\r\n"
                yield f"{media_type}; boundary=limit", form.encode()
            else:
                yield media_type, (value if media_type == "text/plain" else json.dumps(value)).encode()
        elif kind == "images" and not content:  # bytes as they are, which a document cannot hold
            file_format = media_type.removeprefix("image/") if media_type.startswith("image/") else "png"
            yield media_type, picture(1, file_format=file_format)


@pytest.fixture(scope="module")
def documented_server(
    tmp_path_factory: pytest.TempPathFactory, tiny_vision: str, tiny_text: str
) -> Iterator[ServerProcess]:
    """A server of the models that the examples ask."""
    repository = ModelRepository(tmp_path_factory.mktemp("documented") / "repository")
    import_checkpoint(repository, tiny_vision, "flowers", TorchEngines())
    publish_texts(repository, tiny_text, "intents", ("lost_card", "arrival"), seed=1)
    publish_texts(repository, tiny_text, "duplicates", ("yes", "no"), seed=1, pair="separate")
    for name in ("flowers", "intents", "duplicates"):
        promote(repository, Reference(name=name, number=1), "champion")
    with ready_server(repository.root) as server:
        yield server


def test_the_server_takes_every_example(documented_server: ServerProcess) -> None:
    sent = 0
    for example in examples():
        reply = documented_server.request(example.method, example.target, example.body, example.headers)
        if not example.answer:  # a part of a protocol that is left out
            assert (reply.status, reply.code) == (501, "not_supported"), example
            continue
        assert reply.status == 200, (example, reply.body)
        assert reply.headers["x-request-id"] == example.headers.get("X-Request-Id", reply.headers["x-request-id"])
        check_answer(reply, example)
        sent += 1
    assert sent > 30


def check_answer(reply: Reply, example: Example) -> None:
    media_type = reply.headers["content-type"].partition(";")[0]
    content = example.answer["content"][media_type]
    if media_type == "application/octet-stream":
        assert example.headers["Content-Type"] == media_type
    elif media_type != "text/plain":
        validator(content["schema"]).validate(reply.json())
