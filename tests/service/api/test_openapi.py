from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from models import version
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
from service.api import telemetry
from service.api.admin import AdminRoutes
from service.api.application import Application
from service.api.docs import DocsRoutes
from service.api.model_listing import ModelRoutes
from service.api.oip.metadata_routes import MetadataRoutes, MissingRoutes
from service.api.oip.repository import RepositoryRoutes
from service.api.oip.statistics import StatisticsRoutes
from service.api.openapi import MEDIA_TYPE, OpenApiRoute, openapi_document
from service.api.schemas import ALIAS, MAX_INSTANCES, NAME, REQUEST_ID
from service.api.tei.info import InfoRoute
from service.settings import ServerSettings
from tests.service.api.described import COMPONENTS, DOCUMENT, nodes, resolve, validator
from tests.service.site import Play, Site

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
    detail = content["schema"]["allOf"][1]
    members = detail["properties"]
    if "properties" in members.get("error", {}):
        members = members["error"]["properties"]
    if "error" in members:
        return members["error"]["pattern"].removeprefix("^(").removesuffix("): ").split("|")
    found: list[str] = members["code"]["enum"]
    return found


def test_every_error_has_an_example() -> None:
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            for status in operation["responses"].keys() - {"200"}:
                (content,) = operation["responses"][status]["content"].values()
                assert "example" in content, (operation["operationId"], status)


def test_it_says_which_routes_need_which_key() -> None:
    needed = {}
    oip = (MetadataRoutes, RepositoryRoutes, StatisticsRoutes, MissingRoutes)
    for owner in (Application, ModelRoutes, InfoRoute, OpenApiRoute, DocsRoutes, *oip, AdminRoutes):
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
        elif "example" in node and "schema" in node:
            examples, schema = [node["example"]], node["schema"]
        else:
            continue
        for example in examples:
            validator(schema).validate(example)
            seen += 1
    assert seen > 300


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
